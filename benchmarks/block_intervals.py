"""Coverage of the intervals from resampled blocks, in simulated runs with a measured series.

python benchmarks/block_intervals.py [RUNS]

A run has 2, 3, 6 or 12 blocks per half and condition, in one condition or in the difference of
two, and 300 voxels. Measured effects of blocks are a true map and noise with 1 or 3 times its
standard deviation; the map has the same amplitude in all blocks, or amplitudes with a standard
deviation of .3. The series has .6 of the map, a wrong pattern and its own noise, and the series
that it is compared with .2 of the map. RUNS (150) runs of each kind have the same maps and other
noise.

An interval covers if it contains the mean of the values of all runs of a kind. Halves are compared
over all balanced splits, as in the brain, and in the two directions of a fixed split, as in voxels
that are active in a measured half.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from _table import keep
from numpy.typing import NDArray

from bids_sr.evaluation.agreement import (
    BlockComparison,
    ComparedVoxels,
    Reference,
    compare_splits,
    compare_sums,
    interval,
    resample_blocks,
)
from bids_sr.glm.blocks import MIN_BLOCKS, TaskBlock
from bids_sr.glm.halves import average_splits, half_weights

Array = NDArray[Any]
N_VOXELS = 300
BLOCKS_PER_HALF = (2, 3, 6, 12)
CONTRASTS = ({"a": 1.0}, {"a": 1.0, "b": -1.0})
NOISE = (1.0, 3.0)
AMPLITUDE_SD = (0.0, 0.3)
N_BOOT = 400
MIN_DEFINED = 0.5  # smallest fraction of runs with a value, for coverage in a kind of runs


@dataclass(frozen=True)
class Kind:
    """Kind of simulated runs, see the docstring of this module."""

    contrast: dict[str, float]
    blocks_per_half: int
    noise: float
    amplitude_sd: float

    @property
    def blocks(self) -> tuple[TaskBlock, ...]:
        """Blocks of all conditions; halves alternate."""
        return tuple(
            TaskBlock(condition=condition, events=(), half=k % 2)
            for k in range(2 * self.blocks_per_half)
            for condition in self.contrast
        )

    def simulate(self, rng: np.random.Generator, maps: dict[str, Array]) -> dict[str, Array]:
        """Return block effects (voxels, B) of the measured and of two other series."""
        conditions = [block.condition for block in self.blocks]
        amplitudes = 1 + self.amplitude_sd * rng.normal(size=len(conditions))
        true = np.stack([maps[name] for name in conditions], axis=-1) * amplitudes
        noise = rng.normal(size=(3, *true.shape))
        return {
            "measured": true + self.noise * noise[0],
            "series": 0.6 * true + maps["wrong"][:, None] + noise[1],
            "other": 0.2 * true + 0.5 * noise[2],
        }

    def compare(self, seed: int) -> dict[str, list[BlockComparison]]:
        """Return the comparisons by kind of split."""
        blocks = self.blocks
        splits = average_splits(blocks, self.contrast)
        halves = half_weights(blocks, self.contrast)
        assert splits is not None
        assert halves is not None
        whole = halves.sum(axis=0, keepdims=True)
        run = resample_blocks(blocks, whole, N_BOOT, seed, "c", min_blocks=2 * MIN_BLOCKS)
        fixed = resample_blocks(blocks, halves, N_BOOT, seed, "c")
        return {
            "all balanced splits": [compare_splits("c", splits, run)],
            "fixed split": [
                compare_sums("c", (half, fixed), (other_half, fixed), other_target=half)
                for half, other_half in (halves, halves[::-1])
            ],
        }


def iterate_values(kind: Kind, n_runs: int) -> Iterator[dict[str, Any]]:
    """Yield the values and intervals of all runs of a kind."""
    maps_rng = np.random.default_rng(0)
    maps = {name: maps_rng.normal(size=N_VOXELS) for name in ("a", "b", "wrong")}
    maps["wrong"] *= 0.5
    for seed in range(n_runs):
        series = kind.simulate(np.random.default_rng(seed), maps)
        for split, comparisons in kind.compare(seed).items():
            voxels = ComparedVoxels(
                name="brain", voxels=np.ones(N_VOXELS, dtype=bool), comparisons=comparisons
            )
            reference = Reference(
                name="measured",
                targets={"all": series["measured"]},
                regions=[voxels],
                block_counts={},
            )
            scores, other_scores = (
                reference.scores({"all": series[name]}) for name in ("series", "other")
            )
            for key, values in scores.items():
                both = values.mean(axis=0), other_scores[key].mean(axis=0)
                for quantity, samples in (
                    ("correlation" if key.statistic == "r" else "other statistics", both[0]),
                    ("differences", both[0] - both[1]),
                ):
                    lower, upper = interval(samples)
                    yield {
                        "split": split,
                        "quantity": quantity,
                        "statistic": key.statistic,
                        "value": samples[0],
                        "lower": lower,
                        "upper": upper,
                    }


def measure_coverage(values: pd.DataFrame) -> float:
    """Return the fraction of intervals (%) that contain the mean of the values."""
    mean = values["value"].mean()
    return 100 * float(((values["lower"] <= mean) & (mean <= values["upper"])).mean())


def main(n_runs: int) -> None:
    """Simulate runs of all kinds, and store the range of coverage over kinds and statistics."""
    parts = []
    for index, settings in enumerate(product(CONTRASTS, BLOCKS_PER_HALF, NOISE, AMPLITUDE_SD)):
        kind = Kind(*settings)
        part = pd.DataFrame(iterate_values(kind, n_runs))
        parts.append(part.assign(kind=index, blocks_per_half=kind.blocks_per_half))
    values = pd.concat(parts)
    keys = ["split", "quantity", "blocks_per_half"]
    rows = []
    for key, group in values.groupby(keys):
        coverages = [
            measure_coverage(part.dropna())
            for _, part in group.groupby(["kind", "statistic"])
            if part["value"].notna().mean() > MIN_DEFINED
        ]
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "smallest": round(min(coverages)),
                "mean": round(float(np.mean(coverages))),
                "largest": round(max(coverages)),
                "n/a": f"{100 * group['value'].isna().mean():.0f} %",
            }
        )
    keep("block_intervals", "Coverage (%) of 95 % intervals from resampled blocks", rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)
