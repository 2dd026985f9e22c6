"""Table of contrasts in the evidence, and the reasons of the answers."""

from data.page import Page
from data.rows import (
    TESTED,
    judge_rows,
    make_detail_row,
    make_measured_rows,
    make_row,
    make_tested_rows,
)

from bids_sr.evaluation.large_effects import LargeEffects
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.result_text import quote_contrast
from bids_sr.report.contrast_table import explain_contrasts, list_reasons, render_contrasts

SELF_TEST = {"from_mm": [12, 12, 3.3], "to_mm": [6, 6, 3.3]}
MEASURED = {
    "all": ((0.52, 0.02), (0.35, 0.08)),
    "scene": ((0.37, 0.1), (-0.11, 0.2)),
    "face": ((-0.03, 0.1), (-0.2, 0.1)),
    "bodyMinusOthers": ((0.49, 0.1), (-0.67, 0.2)),
}


def judge(rows):
    verdict = judge_rows(rows, ["sbl"], self_test_facts=SELF_TEST)
    return verdict.evidence, [*rows, *verdict.rows]


def read_table(rows) -> tuple[list[str], dict[str, list[str]]]:
    """Return the heads of the columns, and the cells by contrast."""
    evidence, all_rows = judge(rows)
    heads, *lines = Page(render_contrasts(evidence.result, all_rows)).table()
    assert {len(line) for line in lines} == {len(heads)}
    return heads, {first: cells for first, *cells in lines}


def reasons_of(rows) -> str:
    evidence, all_rows = judge(rows)
    reference = evidence.accuracy.reference.words if evidence.accuracy else ""
    reasons = [
        *explain_contrasts(evidence.result, all_rows),
        *list_reasons(evidence.result, all_rows, evidence.self_test, reference=reference),
    ]
    return " ".join(reasons).replace("\N{NO-BREAK SPACE}", " ")


def test_each_contrast_has_its_tested_detail_with_interval_and_counts():
    heads, rows = read_table(make_tested_rows())
    assert set(rows) == {quote_contrast(name) for name in TESTED}
    assert heads[1:3] == ["active voxels tested", "whole brain tested"]
    assert heads[3:] == ["sign reliable voxels of significant"]
    assert rows["“all”"][:2] == ["yes: 54 % [42, 66]", "yes: 40 % [28, 52]"]
    assert rows["body − others"][1] == "no: −96 % [below −100, −56]"
    assert rows["scene"][:2] == ["no: −12 % [−32, 8]", "no: −10 % [−29, 9]"]
    # Only recovered contrasts have sign reliable voxels, although the rows have them for all.
    assert {name: tuple(cells[2:]) for name, cells in rows.items()} == {
        "“all”": ("100 of 200",),
        "body": ("100 of 200",),
        "house": ("100 of 200",),
        "scene": ("none",),
        "face": ("not testable",),
        "body − others": ("100 of 200",),
        "scene − others": ("none",),
        "tool − others": ("not testable",),
    }


def test_reasons_name_contrasts_regions_masks_and_the_test():
    text = reasons_of(make_tested_rows())
    for part in ("Not testable: face (", "12 → 6 mm", "9 %", "100 sign reliable"):
        assert part in text
    measured = reasons_of([*make_tested_rows(), *make_measured_rows(MEASURED)])
    assert "the reference is the same run measured" in measured


def test_a_recovered_contrast_without_sign_reliable_voxels_has_a_reason():
    estimates = {"all": ((0.5, 0.1), (0.5, 0.1))}
    rows = make_tested_rows(estimates, coverage=0.61, with_masks=False)
    assert read_table(rows)[1]["“all”"][2:] == ["none"]
    assert "“all” has no sign reliable voxels" in reasons_of(rows)
    assert "61 %" in reasons_of(rows)


def test_large_effects_of_recovered_contrasts_are_described():
    effects = LargeEffects(
        median=1.0,
        p95=5.0,
        n=20,
        n_active=300,
        detail_share=0.4,
        dark_share=0.5,
        other_dark_share=0.1,
    )
    rows = [
        *make_tested_rows(),
        *effects.list_rows("sbl", "all", 0.0),
    ]
    without = make_detail_row(
        "sbl", 0.44, "otherEffect", half_width=0.12, contrast="all", reference="oneLevelDown"
    )
    text = reasons_of([*rows, without])
    for part in ("20 of 300 active voxels", "44 % [32, 56]"):
        assert part in text
    assert "of 300" not in reasons_of(make_tested_rows())


def test_measured_values_decide_and_the_test_is_secondary():
    tested = {name: TESTED[name] for name in MEASURED}
    heads, rows = read_table([*make_tested_rows(tested), *make_measured_rows(MEASURED)])
    assert heads[1:3] == ["active voxels measured", "whole brain measured"]
    assert heads[4:] == ["active voxels tested", "whole brain tested"]
    assert rows["scene"] == [
        "yes: 37 % [27, 47]",
        "no: −11 % [−31, 9]",
        "100 of 200",
        "no: −12 % [−32, 8]",
        "no: −10 % [−29, 9]",
    ]
    assert rows["face"][2] == "none"


def test_measured_values_without_a_test_have_no_columns_of_the_test():
    untested = make_tested_rows(dict.fromkeys(MEASURED), with_masks=False)
    heads, rows = read_table([*untested, *make_measured_rows(MEASURED)])
    assert heads[3:] == ["sign reliable voxels of significant"]
    assert rows["“all”"][2] == "not testable"
    heads, rows = read_table(make_measured_rows(MEASURED))
    assert len(heads) == 3


def test_single_splits_are_noted_only_with_tested_intervals():
    blocks = list(iterate_block_counts("sbl", {"scene": 2}, {"scene": {"scene": 1.0}}))
    assert "single split" in reasons_of([*make_tested_rows(), *blocks])
    measured = {name: values for name, values in MEASURED.items() if name != "face"}
    untested = make_tested_rows(dict.fromkeys(measured), with_masks=False)
    text = reasons_of([*untested, *make_measured_rows(measured), *blocks])
    assert "single split" not in text


def test_a_method_that_lost_the_activation_has_no_table():
    lost = [
        make_row("sbl", "acquired_slope", 0.03, contrast="all"),
        make_row("sbl", "acquired_r", 0.12, contrast="all"),
        make_row("sbl", "flag_lost_activation", 1.0),
    ]
    evidence, rows = judge([*make_tested_rows(), *lost])
    assert render_contrasts(evidence.result, rows) == ""
    assert list_reasons(evidence.result, rows, evidence.self_test) == []
