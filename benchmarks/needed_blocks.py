"""Check the number of blocks that a run is said to need for its detail to be recovered.

python benchmarks/needed_blocks.py DRAWS SEED [SEED ...]

DRAWS is the folder of `drawn_worlds.py`. A stored draw has the block effects of a simulated run at
half the resolution. From the mean and the covariance of its blocks, runs with any number of blocks
are simulated: the mean is the effect, weakened by a random factor, and the blocks have normal
noise with the covariance of the draw. t of a simulated run is the weakened t of the draw, scaled
to the number of blocks, with the noise of the simulated blocks. The error of the
super-resolved detail is multiplied by a factor, so that its explained variance in voxels that are
active without this noise is the assumed value.

For each of three contrasts, pilot runs with few blocks are simulated until `PILOTS` of them have
a number of blocks. A run with this number is then simulated, and the rule is applied to it. The
stated number is right if 65 to 90 % of these runs are recovered.
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

from bids_sr.evaluation.detail_support import SMOOTHNESS, ContrastSupport, classify_detail
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.needed_blocks import ASSUMED_VARIANCE, estimate_needed_blocks
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.tested_detail import ContrastSplits, HalfResolutionData, score_detail
from bids_sr.glm.blocks import TaskBlock
from bids_sr.glm.halves import balance_splits
from bids_sr.metrics.rows import MetricRow, metric_rows
from bids_sr.spatial.nyquist import beyond_nyquist

NAME = "stimulus"
CONTRASTS = (("A", "mixed"), ("B2", "foci of 4 mm"), ("C", "vessels"))
"""Person and kind of activity of each contrast."""
SLICES = 12
PILOTS = 40
"""Pilot runs with a number of blocks, per contrast."""
MAX_PILOTS = 250
PILOT_BLOCKS = (4, 6, 8, 12)
STRENGTHS = (0.25, 0.6)
"""Range of the factor of the effect."""


@dataclass(frozen=True)
class SimulatedContrast:
    """Contrast from which runs with any number of blocks can be simulated.

    `reconstructed` and `acquired` are the mean effects, and `reconstructed_noise` and
    `acquired_noise` deviations whose sum of squares is the variance of a block (x, y, z, B). `t`
    is the t map of `n_blocks` blocks, and `smoothness` the smoothness of the run.
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
        """Return the super-resolved effect with the assumed explained variance in some voxels.

        The error of its detail is multiplied by a factor. None is returned if there are hardly any
        voxels.
        """
        if np.count_nonzero(active) < 2:
            return None
        estimate, target = self._details
        error = estimate - target
        energies = [
            float(np.square(values[active] - values[active].mean()).sum())
            for values in (error, target)
        ]
        factor = math.sqrt((1 - ASSUMED_VARIANCE) * energies[1] / energies[0])
        return np.asarray(self.reconstructed + (factor - 1) * error)

    @cached_property
    def _details(self) -> tuple[Array, Array]:
        """Detail of the super-resolved and of the acquired effect (x, y, z)."""
        return beyond_nyquist(self.reconstructed, FACTOR), beyond_nyquist(self.acquired, FACTOR)


def read_contrast(file: Path) -> SimulatedContrast:
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
        needed = estimate_needed_blocks(rows, METHOD, classify(rows))
        if needed is None:
            others["recovered"] += 1
        elif needed.needed is None:
            others[shorten(needed.reason)] += 1
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


def shorten(reason: str) -> str:
    """Return the kind of a reason without its numbers."""
    kinds = {
        "there are only": "too few active voxels",
        "more than": "too many blocks",
        "the test found": "not supported",
        "the acquired effect has no": "no reproducible detail",
        "the active voxels lie": "few parts",
    }
    return next(
        (kind for start, kind in kinds.items() if reason.startswith(start)), "unknown interval"
    )


def main() -> int:
    """Measure all contrasts, and write the table."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, seeds = Path(sys.argv[1]), sys.argv[2:]
    rows = []
    for person, world in CONTRASTS:
        files = [
            folder / f"{person}_{SLICES}_{seed}_{world.replace(' ', '-')}.npz" for seed in seeds
        ]
        contrasts = [read_contrast(file) for file in files]
        rng = np.random.default_rng([*map(int, seeds), *world.encode()])
        rows.append({"person": person, "activity": world} | measure(contrasts, rng))
        print(rows[-1], flush=True)
    total, n_recovered = (sum(row[name] for row in rows) for name in ("runs", "recovered"))
    keep(
        "needed_blocks",
        f"Recovered runs with the stated number of blocks, draws of seeds {', '.join(seeds)}",
        rows,
        remarks=[
            f"All: {n_recovered} of {total} ({100 * n_recovered / total:.0f} %). Pilot runs have"
            f" {', '.join(map(str, PILOT_BLOCKS))} blocks and the effect of a draw times"
            f" {STRENGTHS[0]:g} to {STRENGTHS[1]:g}. The explained variance of the detail in"
            f" active voxels is {ASSUMED_VARIANCE:g}.",
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
