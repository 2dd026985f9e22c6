"""Reasons of the answers of a run."""

from data.rows import (
    judge_rows,
    make_detail_row,
    make_row,
    make_tested_rows,
)

from bids_sr.evaluation.large_effects import LargeEffects
from bids_sr.report.reasons import explain_contrasts, list_reasons

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


def reasons_of(rows) -> str:
    evidence, all_rows = judge(rows)
    reference = evidence.accuracy.reference.words if evidence.accuracy else ""
    reasons = [
        *explain_contrasts(evidence.result, all_rows),
        *list_reasons(evidence.result, all_rows, evidence.self_test, reference=reference),
    ]
    return " ".join(reasons).replace("\N{NO-BREAK SPACE}", " ")


def test_a_recovered_contrast_without_sign_reliable_voxels_has_a_reason():
    estimates = {"all": ((0.5, 0.1), (0.5, 0.1))}
    rows = make_tested_rows(estimates, coverage=0.61, with_masks=False)
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
    tested_voxels = [
        make_row(
            "sbl",
            "voxels",
            n,
            region=region,
            contrast="all",
            reference="oneLevelDown",
            fwhm_mm=0.0,
        )
        for region, n in {"acquired40": 9_090, "otherEffect": 9_083}.items()
    ]
    text = reasons_of([*rows, without, *tested_voxels])
    for part in ("7 of 9,090 active voxels", "44 % [32, 56]"):
        assert part in text
    assert "of 300" not in reasons_of(make_tested_rows())


def test_a_method_that_lost_the_activation_has_no_reasons():
    lost = [
        make_row("sbl", "acquired_slope", 0.03, contrast="all"),
        make_row("sbl", "acquired_r", 0.12, contrast="all"),
        make_row("sbl", "flag_lost_activation", 1.0),
    ]
    evidence, rows = judge([*make_tested_rows(), *lost])
    assert list_reasons(evidence.result, rows, evidence.self_test) == []
