"""Large effects of a contrast from rows of the evaluation, with what is explained without them."""

from data.rows import make_detail_row

from bids_sr.evaluation.large_effects import LargeEffects
from bids_sr.evaluation.large_effects_results import collect_large_effects

EFFECTS = LargeEffects(
    median=1.64,
    p95=5.27,
    n=152,
    n_active=1940,
    detail_share=0.49,
    dark_share=0.25,
    other_dark_share=0.12,
)
ROWS = [
    *EFFECTS.list_rows("sbl", "all", 0.0),
    *(
        make_detail_row("sbl", value, region, reference=reference, contrast="allWithoutFace")
        for region, reference, value in (
            ("acquired40", "oneLevelDown", 0.53),
            ("otherEffect", "oneLevelDown", 0.48),
            ("acquired40", "measured", 0.52),
            ("otherEffect", "measured", 0.46),
            ("acquired40", "truth", 0.5),
        )
    ),
    make_detail_row("sbl", 0.1, "otherEffect", contrast="allWithoutFace", fwhm_mm=5.0),
    make_detail_row("sbl", 0.1, "otherEffect", contrast="all"),
    make_detail_row("srgan", 0.1, "otherEffect", contrast="allWithoutFace"),
]


def test_explained_variances_are_of_the_tested_contrast_and_effects_of_its_map():
    result = collect_large_effects(ROWS, "sbl", "allWithoutFace", "all")
    assert result.effects == EFFECTS
    assert {name: tuple(row.value for row in rows) for name, rows in result.explained.items()} == {
        "oneLevelDown": (0.53, 0.48),
        "measured": (0.52, 0.46),
    }
    assert collect_large_effects(ROWS, "sbl", "allWithoutFace", "face") is None
