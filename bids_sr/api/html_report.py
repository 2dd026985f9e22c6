"""Report of `SuperResolver`: one self-contained page."""

from __future__ import annotations

import html
import json
import os
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from bids_sr.io import atomic_files
from bids_sr.io.volume import Volume
from bids_sr.report.figures.maps import series_figure, variance_figure
from bids_sr.report.figures.svg_files import svg_text
from bids_sr.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
_GOOD_COLOR, _DOUBT_COLOR = "#009e73", "#d55e00"


class HtmlReport:
    """Self-contained HTML page with nilearn's report methods, shown in a frame in notebooks.

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
        """Write the page, atomically."""
        atomic_files.write_text(Path(file_name), self.html)

    def open_in_browser(self) -> None:
        """Write the page to a permanent temporary file, and open it in a browser."""
        import webbrowser

        path = Path(tempfile.mkdtemp(prefix="bids-sr-")) / "report.html"
        self.save_as_html(path)
        webbrowser.open(path.as_uri())


def render_page(
    title: str, contents: Sequence[tuple[str, Sequence[str]]], *, is_doubtful: bool
) -> HtmlReport:
    """Return a page with a lead and parts for each run.

    `is_doubtful` is whether the color of the leads expresses doubt.
    """
    blocks: list[Markup] = []
    for run, (lead, sections) in enumerate(contents, 1):
        if len(contents) > 1:
            blocks.append(Markup("<h2>Run {}</h2>").format(run))
        blocks += [Markup('<p class="lead">{}</p>').format(lead), Markup("").join(sections)]
    content = _PAGE.format(
        title=escape(title),
        body=Markup("").join(blocks),
        version=__version__,
        color=_DOUBT_COLOR if is_doubtful else _GOOD_COLOR,
    )
    return HtmlReport(content)


def render_resolver(
    method: str,
    volumes: Mapping[str, Volume],
    brain: Volume,
    weight: Volume | None,
    facts: Mapping[str, object],
    parameters: str,
    *,
    reason: str = "",
) -> tuple[str, list[Markup]]:
    """Return the lead and parts of the page of one super-resolved run.

    `volumes` contains one volume as acquired, from B-spline, and from the method, and `brain` is
    on the high-resolution grid. `weight` is the prior SD map; None if the method does not estimate
    it. `facts` are on registration, calibration and held-out scores. `reason` is the reason why
    the method was not applied; "" if it was applied.
    """
    sections = [
        _render_figure(
            series_figure(volumes, brain, mask=brain),
            "Top: one volume of the acquired series, the cubic B-spline interpolation and the "
            "super-resolved series. Bottom: difference from the B-spline interpolation.",
        )
    ]
    if weight is not None and not reason:
        sections.append(
            _render_figure(
                variance_figure(weight, brain, volumes["bspline"]),
                "Temporal standard deviation (SD) in the run, used as the prior of sbl",
            )
        )
    sections.append(_render_details("Parameters", parameters))
    sections.append(
        _render_details(
            "Registration, calibration and held-out scores",
            json.dumps(facts, indent=2, default=str),
        )
    )
    voxel_size = " x ".join(f"{zoom:.3g}" for zoom in brain.zooms)
    sentences = [
        f"The {method} series has {brain.data.shape} voxels (voxel size: {voxel_size} mm), and "
        f"the acquired series has {volumes['acquired'].data.shape} voxels.",
        *([f"The method was not applied to this run: {reason}."] if reason else []),
        "This page does not assess accuracy. To test which contrasts have detail that the run "
        "supports, use bids_sr.recovered_detail. To compare the series with a reference, use the "
        "program bids-sr.",
    ]
    return " ".join(sentences), sections


def _render_figure(figure: Figure, caption: str) -> Markup:
    """Return a figure as inline SVG with unique ids, so that a page can have several figures."""
    svg_file = svg_text(figure)
    svg = svg_file[svg_file.index("<svg") :]
    prefix = f"f{zlib.crc32(svg.encode()):08x}-"
    unique_svg = re.sub(r'( id="|url\(#|xlink:href="#)', lambda match: match[1] + prefix, svg)
    labeled_tag = f'<svg role="img" aria-label="{escape(caption)}"'
    return Markup(
        f"<figure>{unique_svg.replace('<svg', labeled_tag, 1)}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _render_details(title: str, text: str) -> Markup:
    """Return a text that is hidden until the title is clicked."""
    return Markup("<details><summary>{}</summary><pre>{}</pre></details>").format(title, text)
