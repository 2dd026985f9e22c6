"""Reports of the estimators: one self-contained page each."""

from __future__ import annotations

import html
import json
import os
import re
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from bids_sr.io import atomic_files
from bids_sr.io.volume import Volume
from bids_sr.reports.figures.evaluation_figures import agreement_figure, of_halves
from bids_sr.reports.figures.map_figures import series_figure, variance_figure
from bids_sr.reports.figures.svg_files import svg_text
from bids_sr.reports.text.evaluation_text import compared_html
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler
from bids_sr.sr.resolution.operators import to_volume
from bids_sr.sr.variance.upsampler import onto_grid
from bids_sr.stats.evaluation.compared_verdict import ComparedVerdict
from bids_sr.stats.evaluation.verdict_text import verdict_line
from bids_sr.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bids_sr.api.fitted_run import FittedRun
    from bids_sr.metrics.long_tables import MetricRow
    from bids_sr.stats.evaluation.verdict import Verdict

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body{{font:15px/1.5 system-ui,sans-serif;color:#1f2933;background:#fff;
max-width:62rem;margin:1.5rem auto;padding:0 1rem}}
.lead{{border-left:4px solid {color};padding:.3rem .8rem;background:#f4f7f9}}
svg{{width:100%;height:auto}} table{{border-collapse:collapse}}
td,th{{padding:.15rem .6rem;text-align:left}}
pre{{white-space:pre-wrap;background:#f4f7f9;padding:.6rem}}
footer{{color:#5b6770;font-size:.85em}}
</style></head><body><h1>{title}</h1>{body}
<footer>bids-sr {version}; for research, not for clinical use</footer>
</body></html>"""
_GOOD, _DOUBT = "#009e73", "#d55e00"


class HtmlReport:
    """Self-contained HTML page with nilearn's report methods, shown in a frame in notebooks.

    Examples
    --------
    >>> HtmlReport("<p>a page</p>")._repr_html_()
    '<iframe srcdoc="&lt;p&gt;a page&lt;/p&gt;" width="100%" ...></iframe>'
    """

    def __init__(self, html: str) -> None:
        self.html = html

    def __str__(self) -> str:
        return self.html

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" width="100%" height="600"'
            ' frameborder="0"></iframe>'
        )

    def save_as_html(self, file_name: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        atomic_files.write_whole(Path(file_name), self.html)

    def open_in_browser(self) -> None:
        """Write the page to a file of the temporary directory, which stays, and show it."""
        import webbrowser

        path = Path(tempfile.mkdtemp(prefix="bids-sr-")) / "report.html"
        self.save_as_html(path)
        webbrowser.open(path.as_uri())


def page(title: str, contents: Sequence[tuple[str, Sequence[str]]], *, doubt: bool) -> HtmlReport:
    """A page of a lead and parts for each run."""
    body = Markup("")
    for k, (lead, parts) in enumerate(contents, 1):
        head = Markup("<h2>Run {}</h2>").format(k) if len(contents) > 1 else Markup("")
        body += head + Markup('<p class="lead">{}</p>').format(lead) + Markup("").join(parts)
    page = _PAGE.format(
        title=escape(title), body=body, version=__version__, color=_DOUBT if doubt else _GOOD
    )
    return HtmlReport(page)


def _drawn(figure: Figure, caption: str) -> Markup:
    """A figure in line; ids are its own, so that several stand on one page."""
    text = svg_text(figure)
    text = text[text.index("<svg") :]
    own = f"f{zlib.crc32(text.encode()):08x}-"
    text = re.sub(r'( id="|url\(#|xlink:href="#)', lambda found: found[1] + own, text)
    head = f'<svg role="img" aria-label="{escape(caption)}"'
    return Markup(
        f"<figure>{text.replace('<svg', head, 1)}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _folded(title: str, text: str) -> Markup:
    return Markup("<details><summary>{}</summary><pre>{}</pre></details>").format(title, text)


def resolved(fitted: FittedRun) -> tuple[str, list[Markup]]:
    """Return the lead and parts of one super-resolved run.

    They tell whether the method was applied and show a volume beside the B-spline's, the map and
    the facts.
    """
    run, factor, name = fitted._run, fitted.factor_, fitted.method
    brain = run.fine_brain(factor)
    shape, affine = brain.data.shape, brain.affine
    volume, pose = fitted._example
    upsampler = fitted._upsampler()
    fine, static = upsampler(volume, pose), upsampler.added(0)
    fine = fine if static is None else fine + static
    spline = make_upsampler("bspline", UpsamplerInputs(factor=factor))(volume, pose)
    shown = {
        label: Volume(np.asarray(data, np.float32), grid)
        for label, data, grid in (
            ("acquired", volume, run.boldref.affine),
            ("bspline", spline, affine),
            (name, fine, affine),
        )
    }
    parts = [
        _drawn(
            series_figure(shown, brain, mask=brain),
            "One volume as acquired, by cubic B-spline and by the method; below, the difference",
        )
    ]
    if fitted.applied_ and fitted.model_ is not None and fitted.model_.card.trained_on == "series":
        maps = onto_grid(fitted.model_.generator.state_dict()["weight"], shape)
        weight = np.asarray(to_volume(maps.square().sum(0).sqrt()))
        drawn = variance_figure(brain.like(weight), brain, brain.like(np.asarray(spline)))
        parts.append(_drawn(drawn, "Where the run fluctuates"))
    parts.append(_folded("Parameters", repr(fitted)))
    parts.append(_folded("Measured on the way", json.dumps(fitted.facts_, indent=2, default=str)))
    voxel = " x ".join(f"{z:.3g}" for z in np.linalg.norm(affine[:3, :3], axis=0))
    lead = f"{name}: {run.brain.data.shape} to {shape} voxels, {voxel} mm. "
    if not fitted.applied_:
        lead += f"Not applied: {fitted.facts_['held_out']['model']}. "
    return lead + "This page does not assess accuracy: see bids_sr.Evaluator.", parts


def evaluated(
    rows: Sequence[MetricRow],
    verdict: Verdict,
    contrasts: Sequence[str],
    table: pd.DataFrame,
    compared: Sequence[ComparedVerdict] = (),
) -> tuple[str, list[Markup]]:
    """Return the lead and parts of one evaluated run: verdict, agreement and table.

    The agreement of all series is that in the first contrast.
    """
    contrast = "all" if "all" in contrasts else contrasts[0]
    told = verdict.to_json() | {"compared": [each.to_json() for each in compared]}
    parts = [compared_html(told)]
    if any(row.statistic == "ev" and row.contrast == contrast for row in of_halves(rows)):
        caption = (
            f"Agreement with the measured halves, contrast {contrast}, 95 % intervals over blocks"
        )
        parts.append(_drawn(agreement_figure(rows, statistic="ev", contrast=contrast), caption))
    for head, lines in (
        ("Evidence", [s.text for s in verdict.sentences]),
        ("Limitations", verdict.limits),
    ):
        items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
        if lines:
            parts.append(Markup("<h2>{}</h2><ul>{}</ul>").format(head, items))
    parts.append(
        _folded(f"Table ({len(rows)} rows)", table.to_csv(sep="\t", index=False, na_rep="n/a"))
    )
    return verdict_line(told), parts
