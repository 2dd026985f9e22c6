"""Table of contrasts on the first screen of a run."""

import math
import re
from html.parser import HTMLParser

import pytest
from data.rows import TESTED, judge_rows, make_measured_rows, make_tested_rows

from bids_sr.metrics.rows import MetricRow
from bids_sr.report.overview import RunFacts, overview_html

ONE_LEVEL = {
    "from_mm": [12, 12, 3.3],
    "to_mm": [6, 6, 3.3],
    "series": {"srgan": {"reason": "no network was trained for this resolution"}},
}
RUN = RunFacts(
    entities={"subject": "01", "task": "localizerOfHigherVisualAreas", "run": "2"},
    acquired_mm=(6, 6, 3.3),
    super_resolved_mm=(3, 3, 3.3),
    displacement=[math.nan, *[0.1] * 135],
    described="simulated 6 mm: 3 mm data, k-space cropped",
    only_run=True,
)
MEASURED = {
    "all": ((0.52, 0.02), (0.35, 0.08)),
    "scene": ((0.37, 0.1), (0.11, 0.2)),
    "face": ((0.03, 0.1), (-0.2, 0.1)),
    "bodyMinusOthers": ((0.49, 0.1), (-0.67, 0.2)),
}


def render_page(rows, methods=("sbl",), displacement=RUN.displacement):
    verdict = judge_rows(rows, methods, displacement=displacement, self_test_facts=ONE_LEVEL)
    html = overview_html(verdict.to_json(), verdict.evidence, [*rows, *verdict.rows], {}, RUN)
    return str(html).replace("\N{NO-BREAK SPACE}", " ")


class _Cells(HTMLParser):
    """Cells of the table of contrasts, row by row."""

    def __init__(self, html):
        super().__init__()
        self.rows = []
        (table,) = re.findall(r"<table class='metrics contrasts'>.*?</table>", html, re.DOTALL)
        self.feed(table)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()


def read_table(html):
    heads, *rows = _Cells(html).rows
    assert {len(row) for row in rows} == {len(heads)}
    return heads, {row[0]: row[1:] for row in rows}


def count_words_above_table(html):
    above = re.sub(r"<[^>]*>", " ", html[: html.index("<table")])
    return sum(any(map(str.isalnum, word)) for word in above.split())


def test_every_contrast_has_a_row_without_scrolling():
    html = render_page(make_tested_rows())
    heads, rows = read_table(html)
    assert list(rows) == list(TESTED)
    assert heads == [
        "contrast",
        "active voxels tested",
        "whole brain tested",
        "what you may interpret",
        "reliable voxels of significant",
    ]
    assert rows["all"] == [
        "recovered 54 % (42 to 66)",
        "recovered 40 % (28 to 52)",
        "Detail in the whole brain",
        "100 of 200",
    ]
    assert rows["bodyMinusOthers"][1:] == [
        "not supported: −96 % (below −100 to −56)",
        "Detail in active voxels, not elsewhere",
        "100 of 200",
    ]
    assert "class='wide'" not in html
    assert "Not testable: face (active voxels and whole brain), because" in html


def test_only_recovered_contrasts_have_reliable_voxels():
    """The rows contain reliable voxels of all contrasts, as in files of an earlier version."""
    _, rows = read_table(render_page(make_tested_rows()))
    assert {name: cells[-1] for name, cells in rows.items()} == {
        "all": "100 of 200",
        "body": "100 of 200",
        "house": "100 of 200",
        "scene": "none",
        "face": "not testable",
        "bodyMinusOthers": "100 of 200",
        "sceneMinusOthers": "none",
        "toolMinusOthers": "not testable",
    }


def test_a_recovered_contrast_without_reliable_voxels_has_a_reason():
    estimates = {"all": ((0.5, 0.1), (0.5, 0.1))}
    html = render_page(make_tested_rows(estimates, coverage=0.61, reliable=False))
    assert read_table(html)[1]["all"][-1] == "none"
    assert "“all” has no reliable voxels, because" in html
    assert "in only 61 % of the voxels" in html


def test_measured_values_decide_and_the_test_is_secondary():
    tested = {name: TESTED[name] for name in MEASURED}
    html = render_page([*make_tested_rows(tested), *make_measured_rows(MEASURED)])
    heads, rows = read_table(html)
    assert heads[1:3] == ["active voxels measured", "whole brain measured"]
    assert heads[-1] == "whole brain test without the reference"
    assert rows["scene"][:3] == [
        "recovered 37 % (27 to 47)",
        "not supported: 11 % (−9 to 31)",
        "Detail in active voxels, not elsewhere",
    ]
    assert rows["scene"][-2] == "not supported: 12 % (−8 to 32)"
    assert rows["face"][2:4] == ["Nothing finer than 6 mm: not supported", "none"]
    untested = dict.fromkeys(MEASURED)
    heads, rows = read_table(
        render_page([*make_tested_rows(untested), *make_measured_rows(MEASURED)])
    )
    assert heads[-1] == "reliable voxels of significant"


def test_a_lost_or_unapplied_method_has_no_table():
    lost = [
        MetricRow(series="sbl", statistic=statistic, value=value, contrast="all")
        for statistic, value in (("acquired_slope", 0.03), ("acquired_r", 0.12))
    ]
    lost.append(MetricRow(series="sbl", statistic="flag_lost_activation", value=1.0))
    assert "<table" not in render_page([*make_tested_rows(), *lost])


@pytest.mark.parametrize("is_measured", [False, True])
@pytest.mark.parametrize("methods", [("sbl",), ("srgan", "sbl")])
def test_at_most_120_words_precede_the_table(is_measured, methods):
    long_names = {f"{name}OfTheCondition{k}": TESTED[name] for k in range(3) for name in TESTED}
    rows = make_tested_rows({**TESTED, **long_names})
    if is_measured:
        for series, change in (("sbl", 0.0), ("srgan", -0.5), ("bspline", -0.3)):
            changed = {
                name: tuple((value + change, half) for value, half in estimates)
                for name, estimates in MEASURED.items()
            }
            rows += make_measured_rows(changed, series=series)
    moving = [math.nan, *[1.2] * 100, *[0.1] * 35]
    for displacement in (RUN.displacement, moving):
        n_words = count_words_above_table(render_page(rows, methods, displacement))
        assert n_words <= 120
