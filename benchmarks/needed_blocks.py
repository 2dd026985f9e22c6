"""Check the number of blocks that a run is said to need for its detail to be recovered.

python benchmarks/needed_blocks.py DRAWS SEED [SEED ...]

DRAWS is the folder of `drawn_worlds.py`. A stored draw has the block effects of a simulated run at
half the resolution. From the mean and the covariance of its blocks, runs with any number of blocks
are simulated: the mean is the effect, weakened by a random factor, and the blocks have normal
noise with the covariance of the draw. t of a simulated run is the weakened t of the draw, scaled
to the number of blocks, with the noise of the simulated blocks. The errors of both halves of the
super-resolved detail are multiplied by a factor each, so that the explained variances in voxels
that are active without this noise are the assumed values. In one more contrast, the finer half is
as drawn, and both factors are the same.

For each contrast, pilot runs with few blocks are simulated until `PILOTS` of them have a number of
blocks. A run with this number is then simulated, and the rule is applied to it. The stated number
is right if 65 to 90 % of these runs are recovered in three contrasts with assumed values.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _table import keep
from _worlds_draws import METHOD, load_draw
from _worlds_kinds import FACTOR
from _worlds_people import CONTRAST, Array
from scipy import stats

from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.evaluation.detail_support import SMOOTHNESS, ContrastSupport, classify_detail
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.needed_blocks import (
    ASSUMED_UPPER_HALF,
    ASSUMED_VARIANCE,
    estimate_needed_blocks,
)
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.tested_detail import ContrastSplits, HalfResolutionData, score_detail
from bids_sr.glm.blocks import TaskBlock
from bids_sr.glm.halves import balance_splits
from bids_sr.spatial.nyquist import beyond_nyquist

NAME = "stimulus"
CONTRASTS = (("B2", "foci of 4 mm"), ("C", "hats of 6 mm"), ("B2", "hats of 6 mm"))
"""Person and kind of activity of each contrast."""
CONTRASTS_AS_DRAWN = (("C", "vessels"),)
"""Person and kind of activity of each contrast whose finer half is as drawn."""
SLICES = 12
MIDDLE_FACTOR = (4 / 3, 4 / 3, 1.0)
"""Factor whose Nyquist frequency is in the middle of the tested frequencies."""
PILOTS = 40
"""Pilot runs with a number of blocks, per contrast."""
MAX_PILOTS = 400
PILOT_BLOCKS = (4, 6, 8, 12, 16)
STRENGTHS = (0.15, 0.6)
"""Range of the factor of the effect."""


@dataclass(frozen=True)
class SimulatedContrast:
    """Contrast from which runs with any number of blocks can be simulated.

    `reconstructed` and `acquired` are the mean effects, and `reconstructed_noise` and
    `acquired_noise` deviations whose sum of squares is the variance of a block (x, y, z, B). `t`
    is the t map of `n_blocks` blocks, and `smoothness` the smoothness of the run. `is_drawn`
    states whether the finer half of the detail is as drawn.
    """

    reconstructed: Array
    acquired: Array
    reconstructed_noise: Array
    acquired_noise: Array
    t: Array
    mask: Array
    zooms: tuple[float, ...]
    n_blocks: int
    smoothness: float
    is_drawn: bool

    def weaken(self, factor: float) -> SimulatedContrast:
        """Return the contrast with effects and t multiplied by a factor."""
        return replace(
            self,
            reconstructed=factor * self.reconstructed,
            acquired=factor * self.acquired,
            t=factor * self.t,
        )

    def simulate(self, n_blocks: int, rng: np.random.Generator) -> list[MetricRow] | None:
        """Return the metrics of a simulated run with a number of blocks.

        None is returned if hardly any voxel is active.
        """
        t = self.t * math.sqrt(n_blocks / self.n_blocks)
        reconstructed = self._adjust_detail(self.mask & (np.abs(t) > TRUE_T))
        if reconstructed is None:
            return None
        weights = rng.standard_normal((self.n_blocks, n_blocks)).astype(np.float32)
        noise = self.reconstructed_noise @ weights
        sd = np.sqrt(np.square(self.reconstructed_noise).sum(axis=-1))
        t = t + noise.mean(axis=-1) * math.sqrt(n_blocks) / np.where(sd > 0, sd, np.inf)
        data = HalfResolutionData(
            series=METHOD,
            estimates=reconstructed[..., None] + noise,
            targets=self.acquired[..., None] + self.acquired_noise @ weights,
            active_t={0.0: {NAME: t.astype(np.float32)}},
            mask=self.mask,
            zooms=self.zooms,
        )
        blocks = [
            TaskBlock(condition=NAME, events=(), half=index % 2) for index in range(n_blocks)
        ]
        splits = balance_splits(blocks, CONTRAST)
        assert splits is not None
        return [
            *score_detail(data, [ContrastSplits(name=NAME, origin=NAME, splits=splits)], FACTOR),
            *iterate_block_counts(METHOD, {NAME: n_blocks}, {NAME: CONTRAST}),
            *metric_rows(METHOD, {SMOOTHNESS: self.smoothness}, region="brain"),
        ]

    def _adjust_detail(self, active: Array) -> Array | None:
        """Return the super-resolved effect with the assumed explained variances in some voxels.

        The error of its detail is multiplied by a factor per half of the tested frequencies. If
        the finer half is as drawn, it is multiplied by one factor. None is returned if there are
        hardly any voxels.
        """
        if np.count_nonzero(active) < 2:
            return None
        errors, details = self._halves
        # products of both halves, and the energy of all detail and of its finer half
        (coarser, both), (_, finer) = _multiply(errors, active)
        energy, finer_energy = _multiply(details, active).sum(), _multiply(details, active)[1, 1]
        wrong = (1 - ASSUMED_VARIANCE) * energy
        if self.is_drawn:
            factor = finer_factor = math.sqrt(wrong / _multiply(errors, active).sum())
        else:
            finer_factor = math.sqrt((1 - ASSUMED_UPPER_HALF) * finer_energy / finer)
            product = finer_factor * both
            rest = wrong - finer_factor**2 * finer
            root = math.sqrt(max(product**2 + coarser * rest, 0.0))
            factor = (root - product) / coarser
        return np.asarray(
            self.reconstructed + (factor - 1) * errors[0] + (finer_factor - 1) * errors[1]
        )

    @cached_property
    def _halves(self) -> tuple[Array, Array]:
        """Errors and acquired detail at the lower and upper half of tested frequencies.

        Each has the shape (2, x, y, z).
        """
        estimates, targets = (
            np.stack([beyond_nyquist(effect, FACTOR), beyond_nyquist(effect, MIDDLE_FACTOR)])
            for effect in (self.reconstructed, self.acquired)
        )
        estimates[0] -= estimates[1]
        targets[0] -= targets[1]
        return estimates - targets, targets


def _multiply(maps: Array, voxels: Array) -> Array:
    """Return the products of maps (K, x, y, z) over voxels, without their means (K, K)."""
    values = maps[:, voxels].astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    return np.asarray(values @ values.T)


def read_contrast(file: Path, *, is_drawn: bool = False) -> SimulatedContrast:
    """Return the contrast of a stored draw."""
    draw = load_draw(file)
    effects, noise = [], []
    for stored in (draw.reconstructed, draw.acquired):
        blocks = stored.betas[..., [block.used for block in stored.blocks]]
        mean = blocks.mean(axis=-1)
        effects.append(mean)
        noise.append((blocks - mean[..., None]) / math.sqrt(blocks.shape[-1] - 1))
    return SimulatedContrast(
        reconstructed=effects[0],
        acquired=effects[1],
        reconstructed_noise=noise[0],
        acquired_noise=noise[1],
        t=draw.active_t,
        mask=draw.acquired.mask,
        zooms=tuple(map(float, draw.acquired.zooms)),
        n_blocks=noise[0].shape[-1],
        smoothness=draw.facts["smoothness"],
        is_drawn=is_drawn,
    )


def classify(rows: list[MetricRow]) -> ContrastSupport:
    """Apply the rule to a simulated run."""
    return classify_detail(rows, METHOD, [NAME])[NAME]


def measure(contrasts: list[SimulatedContrast], rng: np.random.Generator) -> dict[str, Any]:
    """Return how often runs with the stated number of blocks are recovered."""
    recovered, ratios = [], []
    others: Counter[str] = Counter()
    for index in range(MAX_PILOTS):
        contrast = contrasts[index % len(contrasts)].weaken(rng.uniform(*STRENGTHS))
        rows = contrast.simulate(int(rng.choice(PILOT_BLOCKS)), rng)
        if rows is None:
            others["too few active voxels"] += 1
            continue
        needed = estimate_needed_blocks(rows, classify(rows), METHOD)
        if needed is None:
            others["recovered"] += 1
        elif needed.needed is None:
            others[needed.reason] += 1
        else:
            later_rows = contrast.simulate(needed.needed, rng)
            recovered.append(bool(later_rows) and classify(later_rows).state == "recovered")
            ratios.append(needed.needed / needed.present)
        if len(recovered) == PILOTS:
            break
    n_recovered, n_runs = sum(recovered), len(recovered)
    interval = stats.binomtest(n_recovered, n_runs).proportion_ci(method="wilson")
    return {
        "draws": len(contrasts),
        "runs": n_runs,
        "recovered": n_recovered,
        "%": 100 * n_recovered / n_runs,
        "95 % interval": f"{100 * interval.low:.0f} to {100 * interval.high:.0f}",
        "needed / present": f"{np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        "pilots without a number": ", ".join(
            f"{name} {count}" for name, count in others.most_common()
        ),
    }


def main() -> int:
    """Measure all contrasts, and write the table."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, seeds = Path(sys.argv[1]), sys.argv[2:]
    rows = []
    for person, world in CONTRASTS + CONTRASTS_AS_DRAWN:
        is_drawn = (person, world) in CONTRASTS_AS_DRAWN
        files = [
            folder / f"{person}_{SLICES}_{seed}_{world.replace(' ', '-')}.npz" for seed in seeds
        ]
        contrasts = [read_contrast(file, is_drawn=is_drawn) for file in files]
        rng = np.random.default_rng([*map(int, seeds), *f"{person} {world}".encode()])
        about = {"person": person, "activity": world, "finer half": "drawn" if is_drawn else "set"}
        rows.append(about | measure(contrasts, rng))
        print(rows[-1], flush=True)
    n_assumed = len(CONTRASTS)
    total, n_recovered = (
        sum(row[name] for row in rows[:n_assumed]) for name in ("runs", "recovered")
    )
    keep(
        "needed_blocks",
        f"Recovered runs with the stated number of blocks, draws of seeds {', '.join(seeds)}",
        rows,
        remarks=[
            f"Finer half set: {n_recovered} of {total} ({100 * n_recovered / total:.0f} %). Pilot"
            f" runs have {', '.join(map(str, PILOT_BLOCKS))} blocks and the effect of a draw times"
            f" {STRENGTHS[0]:g} to {STRENGTHS[1]:g}. The explained variance of the detail in"
            f" active voxels is {ASSUMED_VARIANCE:g}, and in its finer half, if set,"
            f" {ASSUMED_UPPER_HALF:g}.",
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
