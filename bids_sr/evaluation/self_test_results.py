"""Self-test of a run at half the resolution, with the acquired volumes as the reference.

The self-test decides whether a method is applied. It does not measure accuracy, because its voxels
are larger than the acquired voxels by the factor of super-resolution. No property of a run without
a high-resolution reference was found to predict its accuracy well
(``benchmarks/results/people_word.md``).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import cast

import numpy as np

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.evidence import is_below_zero
from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import mm_text

SELF_TEST_SCORE = "tested_share"
"""Statistic of the self-test score in the table of the evaluation."""
MAX_THERMAL_NOISE = 0.0105
"""Largest thermal noise over mean signal in acquired runs (``benchmarks/FINDINGS.md``)."""
_MIN_SIZE_DIFFERENCE_MM = 1e-3


@frozen
class SelfTestResults:
    """Results of the self-test.

    `scores` are reductions of squared error relative to zero filling, by series. `reasons` are why
    series have no score. `sizes` has the voxel sizes of the self-test and of the acquisition as
    text, and `final` the voxel size after super-resolution; None if they are unknown.
    `thermal_noise` is the standard deviation over the mean signal
    of the brain; 0 if it is unknown.
    """

    scores: Mapping[str, MetricRow] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[str, str] | None = None
    final: str | None = None
    calibrated: bool = False
    calibrations: Mapping[str, str] = field(default_factory=dict)
    thermal_noise: float = 0.0

    @property
    def acquired_text(self) -> str:
        """Acquired voxel size, such as ``6 mm``; "the acquired voxels" if it is unknown."""
        return f"{self.sizes[1]} mm" if self.sizes else "the acquired voxels"

    @property
    def run_sizes(self) -> tuple[str, str] | None:
        """Voxel sizes of the run before and after super-resolution; None if they are unknown."""
        return (self.acquired_text, f"{self.final} mm") if self.final else None

    @property
    def test_text(self) -> str:
        """Test name with voxel sizes: ``self-test (12 → 6 mm)``."""
        return f"self-test{self.levels_text}"

    @property
    def levels_text(self) -> str:
        """Voxel sizes with a leading space, such as `` (12 → 6 mm)``; "" if they are unknown."""
        return f" ({self.sizes[0]} → {self.sizes[1]} mm)" if self.sizes else ""

    def is_harmful(self, method: str) -> bool:
        """Return whether a method was less accurate than zero filling."""
        return method in self.scores and is_below_zero(self.scores[method])

    def best(self, methods: Sequence[str]) -> str:
        """Return the method with the highest self-test score.

        The last method, the default, is returned if no method has a score; "" if `methods` is
        empty.
        """
        scored = [name for name in methods if name in self.scores]
        if not scored:
            return next(reversed(methods), "")
        return max(scored, key=lambda name: self.scores[name].value)


def parse_self_test(
    rows: Iterable[MetricRow], facts: Mapping[str, object] | None = None
) -> SelfTestResults:
    """Return the self-test results of a run.

    Rows of other statistics are ignored. `facts` are as in
    `bids_sr.evaluation.steps.self_test_rows.gather_self_tests`; None if there are none.
    """
    facts = facts or {}
    rows = [row for row in rows if row.statistic == SELF_TEST_SCORE and math.isfinite(row.value)]
    series = cast("Mapping[str, object]", facts.get("series", {}))
    facts_by_series = {
        name: series_facts
        for name, series_facts in series.items()
        if isinstance(series_facts, Mapping)
    }
    sizes = _describe_sizes(facts)
    return SelfTestResults(
        scores={row.series: row for row in rows},
        reasons=_select_texts(facts_by_series, "reason"),
        calibrations=_select_texts(facts_by_series, "calibration"),
        sizes=sizes[:2] if sizes else None,
        final=sizes[2] if sizes else None,
        calibrated=bool(facts.get("calibrated")),
        thermal_noise=float(cast("float", facts.get("thermal_noise", 0))),
    )


def _select_texts(facts_by_series: Mapping[str, Mapping[str, object]], key: str) -> dict[str, str]:
    """Return one text of the facts by series; series without this text are omitted."""
    return {name: str(facts[key]) for name, facts in facts_by_series.items() if facts.get(key)}


def _describe_sizes(facts: Mapping[str, object]) -> tuple[str, str, str] | None:
    """Return self-test, acquired and final voxel sizes as text, for axes with different sizes.

    None is returned if the sizes are unknown or equal.
    """
    tested_mm, acquired_mm = (
        np.array(cast("Sequence[float]", facts.get(key, ()))) for key in ("from_mm", "to_mm")
    )
    differs = np.abs(tested_mm - acquired_mm) > _MIN_SIZE_DIFFERENCE_MM
    if not differs.any():
        return None
    tested, acquired = tested_mm[differs], acquired_mm[differs]
    return _join_sizes(tested), _join_sizes(acquired), _join_sizes(acquired**2 / tested)


def _join_sizes(sizes_mm: Float) -> str:
    """Return voxel sizes as text; a single size if all axes have the same size."""
    is_isotropic = np.ptp(sizes_mm) < _MIN_SIZE_DIFFERENCE_MM
    return " × ".join(map(mm_text, sizes_mm[:1] if is_isotropic else sizes_mm))
