"""Table of contrasts on the first screen of a run: what may be interpreted, and why."""

import math

from data.page import Page
from data.rows import TESTED, judge_rows, make_measured_rows, make_row, make_tested_rows

from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.report.overview import RunFacts, overview_html

SELF_TEST = {"from_mm": [12, 12, 3.3], "to_mm": [6, 6, 3.3]}
RUN = RunFacts(
    entities={"subject": "01", "task": "localizer"},
    acquired_mm=(6, 6, 3.3),
    super_resolved_mm=(3, 3, 3.3),
    displacement=[math.nan, 0.1],
)
MEASURED = {
    "all": ((0.52, 0.02), (0.35, 0.08)),
    "scene": ((0.37, 0.1), (-0.11, 0.2)),
    "face": ((-0.03, 0.1), (-0.2, 0.1)),
    "bodyMinusOthers": ((0.49, 0.1), (-0.67, 0.2)),
}
TITLE = "What you may interpret"


def render_page(rows) -> Page:
    verdict = judge_rows(rows, ["sbl"], self_test_facts=SELF_TEST)
    html = overview_html(verdict.to_json(), verdict.evidence, [*rows, *verdict.rows], {}, RUN)
    return Page(html)


def read_table(page: Page) -> tuple[list[str], dict[str, list[str]]]:
    """Return the heads of the columns, and the cells by contrast."""
    heads, *lines = page.table(TITLE)
    assert {len(line) for line in lines} == {len(heads)}
    return heads, {first: cells for first, *cells in lines}


def test_each_contrast_has_its_tested_detail_with_interval_state_and_counts():
    page = render_page(make_tested_rows())
    heads, rows = read_table(page)
    assert list(rows) == list(TESTED)
    assert heads[1:3] == [
        f"{region} explained when halved" for region in ("active voxels", "whole brain")
    ]
    assert heads[4:] == ["sign reliable voxels of significant", "size known voxels"]
    assert rows["all"][:2] == ["recovered 54 % (42 to 66)", "recovered 40 % (28 to 52)"]
    assert rows["all"][2] == "Detail in the whole brain"
    (table,) = page.all("table")
    bold = [cell.text for cell in table.all("strong")]
    assert bold[:3] == rows["all"][:3]
    assert not {"100 of 200", "40", "none", "not testable"} & set(bold)
    assert rows["bodyMinusOthers"][1] == "not supported: −96 % (below −100 to −56)"
    assert rows["bodyMinusOthers"][2] == "Detail in active voxels, not elsewhere"
    assert rows["scene"][2].startswith("Nothing finer than 6 mm")
    # Only recovered contrasts have sign reliable voxels, although the rows have them for all.
    assert {name: tuple(cells[3:]) for name, cells in rows.items()} == {
        "all": ("100 of 200", "40"),
        "body": ("100 of 200", "40"),
        "house": ("100 of 200", "40"),
        "scene": ("none", "none"),
        "face": ("not testable", "not testable"),
        "bodyMinusOthers": ("100 of 200", "40"),
        "sceneMinusOthers": ("none", "none"),
        "toolMinusOthers": ("not testable", "not testable"),
    }
    assert "9 %" in page.text, "of the significant voxels have an expected wrong sign"
    assert "Not testable: face" in page.text


def test_a_recovered_contrast_without_sign_reliable_voxels_has_a_reason():
    estimates = {"all": ((0.5, 0.1), (0.5, 0.1))}
    page = render_page(make_tested_rows(estimates, coverage=0.61, with_masks=False))
    assert read_table(page)[1]["all"][3:] == ["none", "none"]
    assert "“all” has no sign reliable voxels" in page.text
    assert "61 %" in page.text


def test_measured_values_decide_and_the_test_is_secondary():
    tested = {name: TESTED[name] for name in MEASURED}
    page = render_page([*make_tested_rows(tested), *make_measured_rows(MEASURED)])
    heads, rows = read_table(page)
    assert heads[1:3] == ["active voxels measured", "whole brain measured"]
    assert heads[6:] == [
        f"{region} test without the reference" for region in ("active voxels", "whole brain")
    ]
    assert rows["scene"] == [
        "recovered 37 % (27 to 47)",
        "not supported: −11 % (−31 to 9)",
        "Detail in active voxels, not elsewhere",
        "100 of 200",
        "40",
        "not supported: −12 % (−32 to 8)",
        "not supported: −10 % (−29 to 9)",
    ]
    assert rows["all"][5:] == ["recovered 54 % (42 to 66)", "recovered 40 % (28 to 52)"]
    assert rows["face"][3] == "none"


def test_measured_values_without_a_test_have_no_columns_of_the_test():
    untested = make_tested_rows(dict.fromkeys(MEASURED), with_masks=False)
    heads, rows = read_table(render_page([*untested, *make_measured_rows(MEASURED)]))
    assert heads[4:] == ["sign reliable voxels of significant", "size known voxels"]
    assert rows["all"][:2] == ["recovered 52 % (50 to 54)", "recovered 35 % (27 to 43)"]
    assert rows["all"][3] == "not testable"
    heads, rows = read_table(render_page(make_measured_rows(MEASURED)))
    assert len(heads) == 4


def test_single_splits_are_noted_only_with_tested_intervals():
    blocks = list(iterate_block_counts("sbl", {"scene": 2}, {"scene": {"scene": 1.0}}))
    assert "single split" in render_page([*make_tested_rows(), *blocks]).text
    untested = make_tested_rows(dict.fromkeys(MEASURED), reliable=False)
    measured = [*untested, *make_measured_rows(MEASURED), *blocks]
    assert "single split" not in render_page(measured).text


def test_a_method_that_lost_the_activation_has_no_table():
    lost = [
        make_row("sbl", "acquired_slope", 0.03, contrast="all"),
        make_row("sbl", "acquired_r", 0.12, contrast="all"),
        make_row("sbl", "flag_lost_activation", 1.0),
    ]
    assert not render_page([*make_tested_rows(), *lost]).tables
