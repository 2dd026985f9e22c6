"""Text and plain values on large effects, with the explained variance without them."""

from dataclasses import replace

import pytest
from data.rows import make_detail_row

from bids_sr.evaluation.large_effects import LargeEffects
from bids_sr.evaluation.large_effects_text import describe_large_effects, plain_large_effects

EFFECTS = LargeEffects(
    median=1.64,
    p95=5.27,
    n=152,
    n_active=1940,
    detail_share=0.49,
    tsnr=23.4,
    other_tsnr=69.6,
    dark_share=0.25,
    other_dark_share=0.12,
)
TESTED = [
    make_detail_row("sbl", value, region, half_width=half, reference="oneLevelDown")
    for region, value, half in (("acquired40", 0.53, 0.13), ("otherEffect", 0.48, 0.14))
]
MEASURED = [
    make_detail_row("sbl", value, region)
    for region, value in (("acquired40", 0.52), ("otherEffect", 0.46))
]


def test_the_text_has_counts_shares_and_explained_variances_with_intervals():
    text = describe_large_effects("hand", EFFECTS, TESTED)
    for part in ("1.6 %", "5.3 %", "152 of 1,940", "49 %", "23", "70", "48 % (34 to 62)"):
        assert part in text
    assert "53 % (40 to 66)" in text
    assert "46 %" not in text
    both = describe_large_effects("hand", EFFECTS, [*MEASURED, *TESTED])
    assert both.startswith(text)
    assert "46 % (45 to 47)" in both


def test_only_dark_voxels_are_probably_in_veins():
    text = describe_large_effects("hand", EFFECTS, TESTED)
    assert "38 of them (25 %)" in text
    assert "veins" in text
    assert "12 %" in text, "other voxels that are as dark"
    bright = replace(EFFECTS, dark_share=0.0)
    assert "veins" not in describe_large_effects("hand", bright, TESTED)
    none = replace(EFFECTS, n=0)
    text = describe_large_effects("hand", none, TESTED)
    assert "veins" not in text
    assert "48 %" not in text


def test_plain_values_have_the_explained_variance_without_large_effects_by_reference():
    facts = plain_large_effects(EFFECTS, [*MEASURED, *TESTED])
    assert facts.pop("without_large") == {
        "oneLevelDown": pytest.approx({"explained_variance": 0.48, "lower": 0.34, "upper": 0.62}),
        "measured": pytest.approx({"explained_variance": 0.46, "lower": 0.45, "upper": 0.47}),
    }
    assert facts == {
        "above_percent": 5,
        "voxels": 152,
        "active_voxels": 1940,
        "dark_voxels": 38,
        "effect_median": 1.64,
        "effect_p95": 5.27,
        "detail_share": 0.49,
        "tsnr_median": 23.4,
        "other_tsnr_median": 69.6,
        "dark_share": 0.25,
        "other_dark_share": 0.12,
    }
    none = replace(EFFECTS, n=0, tsnr=float("nan"))
    facts = plain_large_effects(none, TESTED[:1])
    assert (facts["tsnr_median"], facts["without_large"]) == (None, {})
