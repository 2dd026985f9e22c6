"""Large effects of a recovered contrast, with the explained variance without them."""

import math
from collections.abc import Mapping, Sequence

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.large_effects import (
    OTHERS,
    LargeEffects,
    find_large_effects,
)
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.glm.vein_signs import LARGE_PERCENT
from bids_sr.io.frozen import frozen
from bids_sr.io.series import MEASURED


@frozen
class LargeEffectsResult:
    """Large effects of a contrast, and the explained variance with and without them.

    `explained` are the explained variances of the detail in all active voxels, and in active
    voxels without a large effect, by reference: `HALF_RESOLUTION`, `MEASURED`. It is empty if no
    effect is large in the voxels that were compared.
    """

    effects: LargeEffects
    explained: Mapping[str, tuple[MetricRow, MetricRow]]

    def to_json(self) -> dict[str, object]:
        """Return plain values; None for NaN. ``without_large`` are explained variances."""
        effects = self.effects
        values = {
            "effect_median": effects.median,
            "effect_p95": effects.p95,
            "detail_share": effects.detail_share,
            "dark_share": effects.dark_share,
            "other_dark_share": effects.other_dark_share,
        }
        return {
            "above_percent": LARGE_PERCENT,
            "voxels": effects.n,
            "active_voxels": effects.n_active,
            "dark_voxels": effects.n_dark,
            **_round_values(values),
            "without_large": {
                reference: _round_values(
                    {"explained_variance": row.value, "lower": row.lower, "upper": row.upper}
                )
                for reference, (_, row) in self.explained.items()
            },
        }


def _round_values(values: Mapping[str, float]) -> dict[str, float | None]:
    """Round values to four decimals; None for NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in values.items()}


def collect_large_effects(
    rows: Sequence[MetricRow], method: str, contrast: str, map_contrast: str
) -> LargeEffectsResult | None:
    """Return the large effects of a contrast from rows of the evaluation; None if missing.

    `method` is the super-resolved series, and `map_contrast` the contrast of the maps (see
    `bids_sr.evaluation.detail_support.ContrastResult`).
    """
    effects = find_large_effects(rows, method, map_contrast)
    if effects is None:
        return None
    by_region: dict[str, dict[str, MetricRow]] = {ACQUIRED_ACTIVE: {}, OTHERS: {}}
    for row in rows:
        cells = row.series, row.contrast, row.statistic, row.band, row.minus, row.fwhm_mm
        if cells == (method, contrast, "ev", "beyond", MISSING, 0.0) and row.region in by_region:
            by_region[row.region][row.reference] = row
    return LargeEffectsResult(
        effects=effects,
        explained={
            reference: (by_region[ACQUIRED_ACTIVE][reference], by_region[OTHERS][reference])
            for reference in (HALF_RESOLUTION, MEASURED)
            if all(reference in region_rows for region_rows in by_region.values())
        },
    )
