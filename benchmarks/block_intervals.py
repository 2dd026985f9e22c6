"""Coverage of the intervals from resampled blocks, in simulated runs with a measured series.

python benchmarks/block_intervals.py [RUNS]

A run has 2, 3, 6 or 12 blocks per half and condition, in one condition or in the difference of
two, and 300 voxels. Measured effects of blocks are a true map and noise with 1 or 3 times its
standard deviation; the map has the same amplitude in all blocks, or amplitudes with a standard
deviation of .3. The series has .6 of the map, a wrong pattern and its own noise, and the series
that it is compared with .2 of the map. RUNS (200) runs of each kind have the same maps and other
noise.

An interval covers if it contains the mean of the values of all runs of a kind. All voxels are
compared: in the brain over all balanced splits, and as active voxels, which all of them are, over
the two halves of a fixed split.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _table import keep
from numpy.typing import NDArray

from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.references import make_half_reference
from bids_sr.glm.block_effects import Effects, save_effects
from bids_sr.glm.blocks import TaskBlock
from bids_sr.metrics.rows import MetricRow

Array = NDArray[Any]
SHAPE = (10, 10, 3)
BLOCKS_PER_HALF = (2, 3, 6, 12)
CONTRASTS = ({"a": 1.0}, {"a": 1.0, "b": -1.0})
NOISE = (1.0, 3.0)
AMPLITUDE_SD = (0.0, 0.3)
N_BOOT = 500
SPLITS = {"brain": "all balanced splits", "active30": "fixed halves"}


@dataclass(frozen=True)
class Kind:
    """Kind of simulated runs, see the docstring of this module."""

    contrast: dict[str, float]
    blocks_per_half: int
    noise: float
    amplitude_sd: float

    @property
    def blocks(self) -> tuple[TaskBlock, ...]:
        """Blocks of the conditions in turn; halves alternate."""
        return tuple(
            TaskBlock(condition=condition, events=((20.0 * (4 * k + i), 10.0),), half=k % 2)
            for k in range(2 * self.blocks_per_half)
            for i, condition in enumerate(self.contrast)
        )

    def simulate(self, rng: np.random.Generator, maps: dict[str, Array]) -> dict[str, Array]:
        """Return block effects (X, Y, Z, B) of the measured and of two other series."""
        conditions = [block.condition for block in self.blocks]
        amplitudes = 1 + self.amplitude_sd * rng.normal(size=len(conditions))
        true = np.stack([maps[name] for name in conditions], axis=-1) * amplitudes
        noise = rng.normal(size=(3, *true.shape))
        return {
            "measured": true + self.noise * noise[0],
            "sbl": 0.6 * true + maps["wrong"][..., None] + noise[1],
            "inject": 0.2 * true + 0.5 * noise[2],
        }


def iterate_values(kind: Kind, n_runs: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the values and intervals of all runs of a kind."""
    maps_rng = np.random.default_rng(0)
    maps = {name: maps_rng.normal(size=SHAPE) for name in ("a", "b", "wrong")}
    maps["wrong"] *= 0.5
    for seed in range(n_runs):
        series = kind.simulate(np.random.default_rng(seed), maps)
        files = {
            name: write_effects(folder, name, betas, kind.blocks) for name, betas in series.items()
        }
        for row in iterate_rows(files, kind.contrast, seed):
            yield {
                "split": SPLITS[row.region],
                "statistic": row.statistic,
                "is_difference": row.minus != "n/a",
                "value": row.value,
                "lower": row.lower,
                "upper": row.upper,
            }


def write_effects(folder: Path, series: str, betas: Array, blocks: tuple[TaskBlock, ...]) -> Path:
    """Write the effects of a series, with t above every limit in the measured series."""
    n = len(blocks)
    effects = Effects(
        series=series,
        affine=np.eye(4),
        mask=np.ones(SHAPE, dtype=bool),
        betas=betas.astype(np.float32),
        mean=np.ones(SHAPE, dtype=np.float32),
        blocks=blocks,
        covariance=np.eye(n),
        leak=np.zeros((n, 1)),
        smooth_variance=np.full(SHAPE, 1e-12, dtype=np.float32),
    )
    return save_effects(effects, folder / f"{series}.npz")


def iterate_rows(
    files: dict[str, Path], contrast: dict[str, float], seed: int
) -> Iterator[MetricRow]:
    """Yield the rows of the series `sbl` in all voxels."""
    run = RunEffects(
        files=files,
        contrasts={"effect": contrast},
        mask=np.ones(SHAPE, dtype=bool),
        affine=np.eye(4),
        roi=np.zeros(SHAPE, dtype=bool),
        factor=(1.0, 1.0, 1.0),
        n_boot=N_BOOT,
        seed=seed,
    )
    for row in agreement_rows(run, make_half_reference):
        if row.series == "sbl" and row.region in SPLITS:
            yield row


def measure_coverage(values: pd.DataFrame) -> float:
    """Return the fraction of intervals that contain the mean of the values."""
    mean = values.value.mean()
    return float(((values.lower <= mean) & (mean <= values.upper)).mean())


def main(n_runs: int) -> None:
    """Simulate runs of all kinds, and store the range of coverage over kinds."""
    logging.disable()  # the region of interest is empty in each run
    parts = []
    for index, settings in enumerate(product(CONTRASTS, BLOCKS_PER_HALF, NOISE, AMPLITUDE_SD)):
        kind = Kind(*settings)
        with tempfile.TemporaryDirectory() as folder:
            part = pd.DataFrame(iterate_values(kind, n_runs, Path(folder)))
        parts.append(part.assign(kind=index, blocks_per_half=kind.blocks_per_half))
    values = pd.concat(parts)
    values["quantity"] = np.where(
        values.is_difference,
        "differences",
        np.where(values.statistic == "r", "correlation", "other statistics"),
    )
    defined = values.dropna()
    keys = ["split", "quantity", "blocks_per_half"]
    rows = []
    for key, group in defined.groupby(keys, sort=False):
        coverages = [measure_coverage(part) for _, part in group.groupby(["kind", "statistic"])]
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "coverage (%), smallest": round(100 * min(coverages), 1),
                "mean": round(100 * float(np.mean(coverages)), 1),
                "largest": round(100 * max(coverages), 1),
            }
        )
    keep("block_intervals", "Coverage of intervals from resampled blocks", rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
