"""The group report: sentences derived from comparisons, figures, and escaped input."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.group_tables import BEYOND, cohort, joined, values_of

from bids_sr.figures.canvas import FigureInputError
from bids_sr.group import (
    comparisons as group_comparisons,
    figures as group_figures,
    tables,
    verdicts as group_verdicts,
)
from bids_sr.group.input_tables import find_tables
from bids_sr.group.map_records import GroupMaps
from bids_sr.group.output_files import GroupNames
from bids_sr.group.page import GroupFigures, write_group_page
from bids_sr.group.paired_values_figure import plot_paired_values
from bids_sr.group.paper_table import paper_html, paper_sizes
from bids_sr.group.report import _METHODS_TEXT, RunsContent, _group_maps_html, describe_runs
from bids_sr.group.values import participants_by_series
from bids_sr.io.volume import Volume
from bids_sr.metrics.number_text import number, p_value
from bids_sr.report.methods_text import _missing_keys

NAMES = ("sbl", "srgan")


def make_comparisons(folder: Path, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return comparisons and values of a cohort."""
    cohort(folder, count)
    values = joined(folder).values
    return group_comparisons.compare(values, NAMES), values


def detail_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["statistic"] == BEYOND["statistic"]]


def sbl_comparisons(comparisons: pd.DataFrame) -> list[Any]:
    rows = detail_rows(comparisons)
    return list(rows[rows["series"] == "sbl"].itertuples())


def content(folder: Path, count: int, **overrides: object) -> RunsContent:
    cohort(folder, count)
    group_values = joined(folder)
    defaults = {
        "names": GroupNames(),
        "tables": find_tables(folder),
        "joined_tables": group_values,
        "comparisons": tables._list_comparisons(group_values, "sbl", None),
        "maps": GroupMaps(),
        "absent": [],
        "notes": [],
        "method": "sbl",
        "requested_margin": None,
        "about": {"Command": "bids-sr"},
    }
    return RunsContent(**{**defaults, **overrides})


def test_the_verdict_names_differences_and_their_p_values(tmp_path: Path) -> None:
    comparisons, _ = make_comparisons(tmp_path, 12)
    method_findings = group_verdicts.select_findings(comparisons, NAMES, {})
    lines = group_verdicts.list_claims(method_findings, NAMES)
    assert lines[0].startswith("sbl is more accurate than every baseline")
    assert lines[0].endswith("better than srgan.")
    assert lines[1] == "sbl: Image quality not assessed: no reference data."
    assert lines[2].startswith("srgan does not differ detectably from any baseline")
    first = group_verdicts.finding_sentence(method_findings[0])
    assert "n = 12" in first
    assert "is more accurate than bspline, zerofill, inject and srgan (by at least +0.0" in first
    assert "p = .002" in first
    assert "sblMirror" in group_verdicts.negative_control_sentence(method_findings[0])
    sizes = [
        group_verdicts.finding_sentence(finding)
        for finding in method_findings
        if finding[0].kind == group_verdicts.SIZE
    ]
    assert len(sizes) == 3
    assert all("not necessarily an improvement" in text for text in sizes)


def test_a_less_accurate_method_is_called_worse() -> None:
    values = {
        "sbl": {f"sub-{n}": 0.1 + 0.01 * n for n in range(9)},
        "bspline": {f"sub-{n}": 0.3 + 0.012 * n for n in range(9)},
    }
    comparisons = group_comparisons.compare(values_of(values), ["sbl"])
    method_findings = group_verdicts.select_findings(comparisons, ["sbl"], {})
    assert group_verdicts.list_claims(method_findings, ["sbl"])[0].startswith(
        "sbl is worse than bspline (explained variance above the acquired Nyquist frequency"
    )


def test_the_sentence_states_that_participants_are_too_few_for_significance(
    tmp_path: Path,
) -> None:
    comparisons, _ = make_comparisons(tmp_path, 3)
    text = group_verdicts.finding_sentence(
        group_verdicts.select_findings(comparisons, NAMES, {})[0]
    )
    assert "does not differ detectably from bspline" in text
    assert text.endswith(" With 3 non-zero differences, the smallest attainable p value is .25.")
    lines = group_verdicts.list_claims(
        group_verdicts.select_findings(comparisons, NAMES, {}), NAMES
    )
    assert lines[0].startswith(
        "No difference between sbl and a baseline could reach significance (with 3 non-zero"
    )


def test_the_sentence_reports_intervals_above_zero_that_are_not_significant(
    tmp_path: Path,
) -> None:
    comparisons, _ = make_comparisons(tmp_path, 6)
    text = group_verdicts.finding_sentence(
        group_verdicts.select_findings(comparisons, NAMES, {})[0]
    )
    assert "above bspline, zerofill, inject and srgan by at least +0.0" in text
    assert "not significant after correction" in text
    assert "detectably" not in text


def test_formats_of_p_values_and_numbers() -> None:
    assert [p_value(p) for p in (0.0001, 0.0312, 1.0, np.nan)] == [
        "< .001",
        ".031",
        "1.000",
        "n/a",
    ]
    assert [number(v, "+.3g") for v in (0.0, -0.5, 0.1234, np.nan)] == [
        "0",
        "−0.5",
        "+0.123",
        "n/a",
    ]


def test_all_participants_are_plotted(tmp_path: Path) -> None:
    _, values = make_comparisons(tmp_path, 5)
    fig = plot_paired_values([("", group_figures.select_series(detail_rows(values), NAMES))])
    (ax,) = fig.axes
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["bspline", "zerofill", "inject", "sbl", "srgan", "measured"]
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [len(line.get_ydata()) for line in points] == [5] * 6
    medians = participants_by_series(detail_rows(values)).median()[labels].sort_values().tolist()
    plotted_medians = sorted(
        float(line.get_ydata()[0]) for line in ax.lines if line.get_linewidth() == 2.2
    )
    assert plotted_medians == pytest.approx(medians)


def test_a_figure_of_thousands_shows_evenly_spaced_ranks(tmp_path: Path) -> None:
    (row,) = group_comparisons.compare_primary(
        make_comparisons(tmp_path, 5)[1], "sbl", {}
    ).itertuples()
    count = 2001
    row = row._replace(
        n=count,
        participants=[f"sub-{number}" for number in range(count)],
        differences=list(np.random.default_rng(0).permutation(count) / count),
        rivals=["bspline"] * count,
    )
    (ax,) = group_figures.primary_figure(row).axes
    markers = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert markers == sorted(markers, reverse=True)
    assert len(markers) == 400
    assert (markers[0], markers[-1]) == ((count - 1) / count, 0)
    assert np.diff(markers) == pytest.approx(-1 / 399, abs=1 / count)


def test_differences_show_estimate_and_interval(tmp_path: Path) -> None:
    comparisons, _ = make_comparisons(tmp_path, 8)
    rows = sbl_comparisons(comparisons)
    fig = group_figures.differences_figure(rows)
    # the first line marks 0
    ends = [list(line.get_xdata()) for line in fig.axes[0].lines if len(line.get_xdata()) == 2][1:]
    assert ends == [[row.lower, row.upper] for row in rows]
    with pytest.raises(FigureInputError):
        group_figures.differences_figure([])
    with pytest.raises(FigureInputError):
        plot_paired_values(
            [("", group_figures.select_series(values_of({"sbl": {"sub-01": np.nan}}), NAMES))]
        )


def test_the_page_has_all_sections_and_escapes_input(tmp_path: Path) -> None:
    runs_content = content(
        tmp_path,
        6,
        absent=["sub-<b>9</b>: nothing"],
        notes=["<script>alert(1)</script>"],
        about={"Command": "bids-sr <x>"},
    )
    page = write_group_page(tmp_path, describe_runs(tmp_path, runs_content))
    text = page.read_text()
    assert text.count("<script") == 1
    assert "alert(1)</script>" not in text
    assert "sub-&lt;b&gt;9" in text
    assert [re.findall(r'<section id="([a-z]+)"', text)] == [
        ["verdict", "participants", "comparisons", "maps", "paper", "methods", "about"]
    ]
    assert "The following items are not available: group maps" in text
    assert len(list((tmp_path / "group" / "figures").glob("*.svg"))) == text.count(
        'src="data:image/svg+xml'
    )


def test_published_values_are_next_to_ours(tmp_path: Path) -> None:
    text = paper_html(next(paper_sizes(make_comparisons(tmp_path, 8)[1])), NAMES)
    cells = re.findall(r"<tr>(.*?)</tr>", text)
    assert "83.37 (42.31–119.68)" in text
    assert ".490 (.361–.589)" in text
    our_row = next(row for row in cells if "<th scope='row'>sbl" in row)
    assert "73.5 (71.8–75.2)" in our_row
    assert "defined in 7 of 8" in our_row
    assert ".008" in our_row


def test_all_keys_cited_in_the_methods_are_in_the_bibliography() -> None:
    from bids_sr.boilerplate import bibliography
    from bids_sr.group.report import _MAPS_TEXT

    assert _missing_keys(_METHODS_TEXT + _MAPS_TEXT, bibliography()) == []


def is_inside(fig) -> bool:
    box, (wide, tall) = fig.get_tightbbox(), fig.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= wide and box.y1 <= tall


def test_long_labels_stay_within_the_figure(tmp_path: Path) -> None:
    comparisons, values = make_comparisons(tmp_path, 5)
    participants = [f"sub-averylongparticipantlabel{n}" for n in range(5)]
    long = {label: 0.1 * n for n, label in enumerate(participants)}
    series = group_figures.select_series(
        pd.concat([values_of({"bsplineSmooth": long, "bsplinePca": long}), detail_rows(values)]),
        NAMES,
    )
    assert is_inside(plot_paired_values([("", series), ("", series)]))
    rows = [row._replace(minus="bsplineSmooth") for row in sbl_comparisons(comparisons)]
    assert is_inside(group_figures.differences_figure(rows))
    (primary,) = group_comparisons.compare_primary(values, "sbl", {}).itertuples()
    primary = primary._replace(
        participants=participants,
        differences=np.fromiter(long.values(), float),
        rivals=["bsplineSmooth"] * 5,
    )
    assert is_inside(group_figures.primary_figure(primary))


def test_the_accuracy_of_all_participants_comes_first(tmp_path: Path) -> None:
    page = write_group_page(tmp_path, describe_runs(tmp_path, content(tmp_path, 6)))
    text = page.read_text()
    answer = text[text.index('<section id="verdict"') : text.index('<section id="participants"')]
    lines = re.findall(r"<tr>(.*?)</tr>", answer)
    assert next(line for line in lines if "sub-01" in line).startswith(
        "<th scope='row'>sub-01</th><td>0.020</td>"
    )
    assert len([line for line in lines if "sub-0" in line]) == 6
    assert text.index("Comparison with Ota et al. (2022)") < text.index('<section id="methods"')


def test_maps_of_variants_are_in_separate_figures(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    maps = []
    for variant in ("dir-AP", "dir-PA"):
        path = tmp_path / f"{variant}.nii.gz"
        nib.save(nib.Nifti1Image(rng.normal(0, 3, (12, 12, 8)).astype(np.float32), affine), path)
        maps.append(
            {
                "task": "tap",
                "variant": variant,
                "contrast": "thumb",
                "series": "bspline",
                "fwhm_mm": 0.0,
                "participants": ("01", "02", "03"),
                "z": path,
                "peak_z": 5.0,
                "peak_mm": (0.0, 0.0, 0.0),
                "active_mm3": 9.0,
                "fdr_z": 3.4,
                "fdr_mm3": 8.0,
            }
        )
    ones = np.ones((12, 12, 8))
    maps_of_group = GroupMaps(
        space="MNI",
        maps=pd.DataFrame(maps),
        background=Volume(ones, affine),
        mask=Volume(ones > 0, affine),
    )
    figures = GroupFigures(folder=tmp_path, start="group")
    text = _group_maps_html(maps_of_group, figures)
    ap, pa = sorted(tmp_path.glob("group/figures/*.svg"))
    assert ap.read_bytes() != pa.read_bytes()
    assert text.count('src="data:image/svg+xml') == 2
    assert "thumb, task tap, dir-PA" in text
    assert "FWE" not in text
    corrected = maps_of_group.maps.assign(fwe_t=[7.25, np.inf], fwe_mm3=[16.0, 0.0])
    text = _group_maps_html(replace(maps_of_group, maps=corrected), figures)
    assert "<th scope='col'>FWE .05: |t| above</th>" in text.replace('"', "'")
    assert "<td>7.25</td><td>16</td>" in text
