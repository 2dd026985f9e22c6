"""Self-test of a run at half the resolution, where the acquired volumes are the reference.

It decides whether a method is applied. It is no measurement of accuracy: it is made at voxels
twice as large as acquired (or by whatever factor), and nothing that a run tells without its
reference was found to tell much from little (``benchmarks/results/people_word.md``). Where
there is no reference, what measured runs had is told, as a range.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple, cast

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.grids import mm_text
from bids_sr.metrics.rows import MetricRow

TESTED = "tested_share"
CALIBRATED = (
    "The estimate was calibrated with a high-resolution run. The alignment of this run was tested"
    " at the acquired resolution, by predicting the highest acquired spatial frequencies. The"
    " self-test does not detect a calibration run that is shifted by one voxel."
)
NOT_ACCURACY = (
    "The self-test only determines whether a method is applied. Its score is the reduction in"
    " squared error (including thermal noise) relative to zero filling, which does not measure the"
    " accuracy of an activation map."
)
MOST_THERMAL_NOISE = 0.0105
"""Over the mean signal, of runs as they were acquired (``benchmarks/results/gate.md``)."""
_SAME_MM = 1e-3


class _Earlier(NamedTuple):
    """Ranges of `sbl`'s explained variance beyond the acquired Nyquist limit in measured runs."""

    # in voxels active in the acquired run, and over the brain
    active: str
    brain: str
    where: str  # over what these are


EARLIER: Mapping[bool, _Earlier] = {
    False: _Earlier(
        active="46 to 63 %", brain="−65 to 43 %", where="4 runs of 3 participants, all contrasts"
    ),
    True: _Earlier(
        active="64 to 87 %",
        brain="54 to 64 %",
        where="4 runs of 3 participants, contrast of all events",
    ),
}
"""Without and with a calibration (``benchmarks/results``: people_runs, people_contrasts)."""
UNCALIBRATED = "47 to 54 %"
"""In the same voxels, without a calibration in the contrast and the runs that stand for those with
one.
"""


@frozen
class OneLevelDown:
    """What was tested one level down: shares of the squared error of zero filling.

    `sizes`: voxel sizes one level down and as acquired, in words; None where they are not known.
    `calibrated`: whether a calibration run made the map. `thermal_noise`: standard deviation over
    the mean signal of the brain; 0 where it is not known.
    """

    tested: Mapping[str, MetricRow] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[str, str] | None = None
    calibrated: bool = False
    calibrations: Mapping[str, str] = field(default_factory=dict)
    thermal_noise: float = 0.0

    @property
    def acquired_text(self) -> str:
        """Voxel size of the run, such as ``6 mm``; in words if it is not known."""
        return f"{self.sizes[1]} mm" if self.sizes else "the acquired voxels"

    @property
    def where_text(self) -> str:
        """Name of the test with its voxel sizes: ``in the self-test (12 → 6 mm)``."""
        return f"in the {self.test_text}"

    @property
    def test_text(self) -> str:
        """Name of the test with its voxel sizes: ``self-test (12 → 6 mm)``."""
        levels = f" ({self.sizes[0]} → {self.sizes[1]} mm)" if self.sizes else ""
        return f"self-test{levels}"

    def best(self, methods: Sequence[str]) -> str:
        """Method with the largest tested share; the last (the default) where none was tested.

        Name of the series; empty without any method.
        """
        known = [name for name in methods if name in self.tested]
        return (
            max(known, key=lambda name: self.tested[name].value)
            if known
            else next(reversed(methods), "")
        )


def _sizes(facts: Mapping[str, object]) -> tuple[str, str] | None:
    """Voxel sizes one level down and as acquired, of the axes that differ."""
    start, to = (
        np.array(cast("Sequence[float]", facts.get(key, ()))) for key in ("from_mm", "to_mm")
    )
    apart = np.abs(start - to) > _SAME_MM
    if not apart.any():
        return None
    acquired, two = (
        " × ".join(map(mm_text, each[:1] if np.ptp(each) < _SAME_MM else each))
        for each in (start[apart], to[apart])
    )
    return acquired, two


def one_level_down(
    rows: Iterable[MetricRow], facts: Mapping[str, object] | None = None
) -> OneLevelDown | None:
    """Return the rows and facts of a run's test one level down, or None without either.

    `facts`: content of ``one_level_down.json`` by key; None without such a file.
    """
    facts = facts or {}
    rows = [row for row in rows if row.statistic == TESTED and math.isfinite(row.value)]
    series = cast("Mapping[str, object]", facts.get("series", {}))
    said = {name: each for name, each in series.items() if isinstance(each, Mapping)}
    if not rows and not said:
        return None
    return OneLevelDown(
        tested={row.series: row for row in rows},
        reasons={name: str(each["reason"]) for name, each in said.items() if each.get("reason")},
        calibrations={
            name: str(each["calibration"])
            for name, each in said.items()
            if each.get("calibration")
        },
        sizes=_sizes(facts),
        calibrated=bool(facts.get("calibrated")),
        thermal_noise=float(cast("float", facts.get("thermal_noise", 0))),
    )
