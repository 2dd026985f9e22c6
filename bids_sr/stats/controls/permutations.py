"""Series without signal from a run's own noise: residuals with random phases and random onsets.

One shuffle takes the time series apart from what the run's model explains (task, confounds, drift), gives every
frequency of the remainder a new phase, the same in all voxels, and asks the same model about onsets drawn at random.
The power spectrum of each voxel and the covariance of any two stay; any tie to the task is lost. Shuffles of one run
share its noise: the unit of the interval is the shuffle, never the voxel.

The model takes its share of the noise away, and the shuffled time series go through a model of the same size again. So
that they are not too quiet where the model looks,

- confounds and drift get the phases of the time series: what they took away is then theirs in the shuffle too;
- the task's variance is replaced by its Hilbert transform taken from another voxel (as much noise, at the same
frequencies, and nothing of the response; what is left of the voxel's own is the sine where the task was the cosine, one
time series for all voxels), in units of the standard deviation of either, from voxels equally far apart in the order of
the mask, so that neighbors get what belongs to neighbors.

On noise of known autocorrelation the rate is then .88 to 1.09 of that of fresh noise (`benchmarks/shuffles.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_sr.io.array_types import Array, Float, Real
from bids_sr.stats.glm.autoregression import orthonormal
from bids_sr.stats.glm.correlation import FLAT
from bids_sr.stats.glm.design import Design, DesignError
from bids_sr.stats.glm.seeds import is_time_series, shifted
from bids_sr.stats.glm.time_series import VoxelTimeSeries

_LEAST_LEFT = 1e-3  # of a unit vector; less is rounding


def _units(events: pd.DataFrame, start: float, end: float) -> list[pd.DataFrame]:
    """Events inside a window as groups that overlap or touch no other group; onsets from each group's start."""
    onset = np.maximum(events["onset"].to_numpy(dtype=float), start)
    stop = np.minimum((events["onset"] + events["duration"]).to_numpy(dtype=float), end)
    inside = events.assign(onset=onset, duration=stop - onset)[(stop >= onset) & (onset < end)]
    groups: list[list[int]] = []
    reach = -np.inf
    inside = inside.sort_values(["onset", "duration"], kind="stable").reset_index(drop=True)
    for row, (first, length) in enumerate(zip(inside["onset"], inside["duration"], strict=True)):
        if groups and first < reach - 1e-9:
            groups[-1].append(row)
        else:
            groups.append([row])
        reach = max(reach, first + length)
    return [
        inside.iloc[rows].assign(onset=inside["onset"].iloc[rows] - inside["onset"].iloc[rows[0]]) for rows in groups
    ]


def random_events(events: pd.DataFrame, start: float, end: float, rng: np.random.Generator) -> pd.DataFrame:
    """The same events in another order at onsets drawn uniformly among all that keep them apart; in order of time.

    What an event does outside the window (`start` to `end`, s) is cut off; events that overlap are moved together.
    Time series of seeds are turned round in time, so that they keep their spectrum and lose their place.
    """
    if is_time_series(events):
        return shifted(events, rng)
    units = _units(events, start, end)
    if not units:
        raise DesignError(f"no event lies between {start:g} and {end:g} s")
    units = [units[k] for k in rng.permutation(len(units))]
    lengths = np.array([float((unit["onset"] + unit["duration"]).max()) for unit in units])
    free = max(0.0, end - start - float(lengths.sum()))
    gaps = np.diff(np.sort(rng.uniform(0.0, free, len(units))), prepend=0.0)
    begins = start + np.cumsum(gaps) + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    moved = [unit.assign(onset=unit["onset"] + begin) for unit, begin in zip(units, begins, strict=True)]
    return pd.concat(moved, ignore_index=True)


def random_phases(n: int, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """One factor of modulus 1 for each frequency of `numpy.fft.rfft` of n samples; 1 for the mean, ±1 at Nyquist."""
    factors = np.exp(2j * np.pi * rng.uniform(size=n // 2 + 1))
    factors[0] = 1.0
    if n % 2 == 0:
        factors[-1] = 1.0 if factors[-1].real >= 0 else -1.0
    return factors


def filtered(signals: Float, factors: Array) -> Float:
    """Time series (T, N) whose frequencies are multiplied by factors (T // 2 + 1,), the same in every column."""
    return np.fft.irfft(factors[:, None] * np.fft.rfft(signals, axis=0), n=len(signals), axis=0)


def quarter_turn(n: int) -> npt.NDArray[np.complex128]:
    """Factors for `filtered` that turn every cosine of n samples into its sine; mean and Nyquist stay as they are."""
    factors = np.full(n // 2 + 1, 1j)
    factors[0] = 1.0
    if n % 2 == 0:
        factors[-1] = 1.0
    return factors


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSpace:
    """Where the noise of a run lies, seen from its model."""

    basis: Float  # (T, rank) orthonormal basis of task, drift and confounds, which are taken away
    task: Float  # (T, K) orthonormal basis of what the task has beyond drift and confounds
    beside: Float  # (T, K) orthonormal, as near to a quarter turn of `task` as a direction outside the model can be

    @classmethod
    def of(cls, design: Design) -> NoiseSpace:
        """The space of a run's design; directions of the task that drift and confounds explain are left out."""
        count = len(design.conditions)
        others, basis = orthonormal(design.matrix[:, count:]), orthonormal(design.matrix)
        own = design.matrix[:, :count] / np.linalg.norm(design.matrix[:, :count], axis=0)
        left, sizes, _ = np.linalg.svd(own - others @ (others.T @ own), full_matrices=False)
        task = left[:, sizes > _LEAST_LEFT]
        turned = filtered(task, quarter_turn(len(task)))
        first, sizes, second = np.linalg.svd(turned - basis @ (basis.T @ turned), full_matrices=False)
        return cls(basis=basis, task=task, beside=(first * (sizes > _LEAST_LEFT)) @ second)

    def residuals(self, signals: Real) -> Float:
        """Time series (T, N) without what the basis explains."""
        rest = signals.astype(np.float64)
        rest -= self.basis @ (self.basis.T @ rest)
        return rest


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSource:
    """What makes noise without signal of a run's time series."""

    space: NoiseSpace  # of the run's noise
    # (K, N) of all N voxels in `space.beside`, in units of the standard deviation of each voxel's residuals
    shares: Float
    level: Float  # (N,) mean signal, which shuffled time series have not

    def shuffled(self, signals: Real, voxels: slice, phases: npt.NDArray[np.complex128], step: int) -> Float:
        """Noise of time series (T, n) of some of the voxels, with phases (T // 2 + 1,) that all share.

        `step` voxels further on lies the one that fills the gap of the task.
        """
        rest = self.space.residuals(signals)
        lenders = (np.arange(voxels.start, voxels.stop) + step) % self.shares.shape[1]
        rest += self.space.task @ (self.shares[:, lenders] * rest.std(axis=0))
        return filtered(rest, phases)


def noise_source(signals: VoxelTimeSeries, design: Design, block_bytes: int) -> NoiseSource:
    """The source for the time series of a run and its model."""
    space = NoiseSpace.of(design)
    shares, level, any_varies = [], [], False
    for _, block in signals.blocks(block_bytes):
        level.append(block.mean(axis=0, dtype=np.float64))
        residuals = space.residuals(block)
        spread = residuals.std(axis=0)
        varies = spread > FLAT * np.abs(block).max(axis=0, initial=0.0)
        shares.append(np.divide(space.beside.T @ residuals, spread, out=np.zeros((space.beside.shape[1], len(spread))),
                                where=varies))  # fmt: skip
        any_varies = any_varies or bool(varies.any())
    if not any_varies:
        raise ValueError("no voxel of the mask varies over time")
    return NoiseSource(space=space, shares=np.concatenate(shares, axis=1), level=np.concatenate(level))


def shuffled_blocks(
    signals: VoxelTimeSeries, source: NoiseSource, block_bytes: int, phases: npt.NDArray[np.complex128], step: int
) -> Iterator[tuple[slice, Float]]:
    """Blocks of one shuffle."""
    for voxels, block in signals.blocks(block_bytes):
        yield voxels, source.shuffled(block, voxels, phases, step)
