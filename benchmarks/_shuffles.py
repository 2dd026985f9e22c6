"""False-positive rates of the program's linear model in series without signal, and the resulting
threshold.

A shuffle separates the time series from the part that the run's model explains (task, confounds,
drift), and gives every frequency of the remainder a new phase, the same in all voxels. The same
model is then fitted with random onsets. The power spectrum of each voxel and the covariance of any
two voxels remain; any relation to the task is lost. Shuffles of one run share its noise: the unit
of the interval is the shuffle, never the voxel. Tests are one-sided, for activation. Adding half a
turn to every phase changes the sign of a shuffle and is equally likely: both tails count for the
voxel-wise rate (mean), and each gives a maximum.

The model removes a part of the noise, and the shuffled time series are fitted by a model of the
same size again. Two corrections avoid too little noise in the model's subspace. Confounds and
drift get the phases of the time series: in the shuffle, they remove the same part again. The
variance of the task is replaced by the Hilbert transform of another voxel's task fit, which has as
much noise, at the same frequencies, without the response; of the voxel's own fit, only the sine of
the task's cosine remains, one time series for all voxels. It is in units of each voxel's standard
deviation, from voxels at equal distance in the order of the mask, so that neighbors get fits of
neighbors.

On noise of known autocorrelation, the rate is then .88 to 1.09 of the rate in fresh noise
(`shuffles.py` of `archive.md`).

Shuffles also define a threshold: the z that the largest of all voxels exceeds in 5 % of them
(maximum statistic; Nichols and Holmes 2002), which holds for any quality of the noise model. If
only a part of the mask is tested, the threshold is the value that maxima exceed in 5 % times that
part, by a Gumbel distribution with their mean and standard deviation (as Winkler et al. 2016 fit
tails); because neighbors are correlated, this is conservative.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from bids_sr.frozen import frozen
from bids_sr.glm.activation_maps import ActivationSettings
from bids_sr.glm.autoregression import orthonormal
from bids_sr.glm.design import Design, build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.regressors import DesignError, Events
from bids_sr.glm.time_series import MIN_RELATIVE_CHANGE, VoxelTimeSeries, extract_time_series
from bids_sr.io.arrays import Array, Float, MaskArray, Real
from bids_sr.io.nifti import SeriesReader

_LEAST_LEFT = 1e-3  # of a unit vector; less is rounding error


def _units(events: pd.DataFrame, start: float, end: float) -> list[pd.DataFrame]:
    """Group events inside a window that overlap or touch; onsets are relative to each group's
    start.
    """
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
        inside.iloc[rows].assign(onset=inside["onset"].iloc[rows] - inside["onset"].iloc[rows[0]])
        for rows in groups
    ]


def random_events(events: Events, start: float, end: float, rng: np.random.Generator) -> Events:
    """Reorder the events at random onsets, uniformly among all that keep them apart; in order of
    time.

    Parts of events outside the window (`start` to `end`, s) are cut off; events that overlap are
    moved together.
    """
    units = _units(events.table, start, end)
    if not units:
        raise DesignError(f"no event lies between {start:g} and {end:g} s")
    units = [units[k] for k in rng.permutation(len(units))]
    lengths = np.array([float((unit["onset"] + unit["duration"]).max()) for unit in units])
    free = max(0.0, end - start - float(lengths.sum()))
    gaps = np.diff(np.sort(rng.uniform(0.0, free, len(units))), prepend=0.0)
    begins = start + np.cumsum(gaps) + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    moved = [
        unit.assign(onset=unit["onset"] + begin) for unit, begin in zip(units, begins, strict=True)
    ]
    return Events(pd.concat(moved, ignore_index=True), events.source)


def random_phases(n: int, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Draw one factor of modulus 1 for each frequency of `numpy.fft.rfft` of n samples; 1 for the
    mean, ±1 at Nyquist.
    """
    factors = np.exp(2j * np.pi * rng.uniform(size=n // 2 + 1))
    factors[0] = 1.0
    if n % 2 == 0:
        factors[-1] = 1.0 if factors[-1].real >= 0 else -1.0
    return factors


def filtered(signals: Float, factors: Array) -> Float:
    """Multiply the frequencies of time series (T, N) by factors (T // 2 + 1,), the same in every
    column.
    """
    return np.fft.irfft(factors[:, None] * np.fft.rfft(signals, axis=0), n=len(signals), axis=0)


def quarter_turn(n: int) -> npt.NDArray[np.complex128]:
    """Return factors for `filtered` that turn every cosine of n samples into its sine; mean and
    Nyquist do not change.
    """
    factors = np.full(n // 2 + 1, 1j)
    factors[0] = 1.0
    if n % 2 == 0:
        factors[-1] = 1.0
    return factors


@frozen
class NoiseSpace:
    """Subspaces of a run's noise, relative to its model."""

    basis: Float  # (T, rank) orthonormal basis of task, drift and confounds, which are removed
    task: Float  # (T, K) orthonormal basis of the task, without drift and confounds
    # (T, K) orthonormal, outside the model and as near to a quarter turn of `task` as
    # possible
    quadrature: Float

    @classmethod
    def of(cls, design: Design) -> "NoiseSpace":
        """Compute the space of a run's design; task directions that drift and confounds explain
        are left out.
        """
        count = len(design.conditions)
        nuisance, basis = orthonormal(design.matrix[:, count:]), orthonormal(design.matrix)
        columns = design.matrix[:, :count] / np.linalg.norm(design.matrix[:, :count], axis=0)
        left, sizes, _ = np.linalg.svd(
            columns - nuisance @ (nuisance.T @ columns), full_matrices=False
        )
        task = left[:, sizes > _LEAST_LEFT]
        turned = filtered(task, quarter_turn(len(task)))
        first, sizes, second = np.linalg.svd(
            turned - basis @ (basis.T @ turned), full_matrices=False
        )
        return cls(basis=basis, task=task, quadrature=(first * (sizes > _LEAST_LEFT)) @ second)

    def residuals(self, signals: Real) -> Float:
        """Return time series (T, N) without the part that the basis explains."""
        rest = signals.astype(np.float64)
        rest -= self.basis @ (self.basis.T @ rest)
        return rest


@frozen
class NoiseSource:
    """Source of noise without signal, from a run's time series."""

    space: NoiseSpace  # space of the run's noise
    # (K, N) of all N voxels in `space.quadrature`, in units of the standard deviation of each
    # voxel's residuals
    shares: Float
    level: Float  # (N,) mean signal, which shuffled time series lack

    def shuffled(
        self, signals: Real, voxels: slice, phases: npt.NDArray[np.complex128], step: int
    ) -> Float:
        """Return noise from time series (T, n) of some voxels, with common phases (T // 2 + 1,).

        The voxel `step` places further in the mask fills the gap of the task.
        """
        rest = self.space.residuals(signals)
        lenders = (np.arange(voxels.start, voxels.stop) + step) % self.shares.shape[1]
        rest += self.space.task @ (self.shares[:, lenders] * rest.std(axis=0))
        return filtered(rest, phases)


def noise_source(signals: VoxelTimeSeries, design: Design, block_bytes: int) -> NoiseSource:
    """Return the source for the time series of a run and its model."""
    space = NoiseSpace.of(design)
    shares, level, any_varies = [], [], False
    for _, block in signals.blocks(block_bytes):
        level.append(block.mean(axis=0, dtype=np.float64))
        residuals = space.residuals(block)
        spread = residuals.std(axis=0)
        varies = spread > MIN_RELATIVE_CHANGE * np.abs(block).max(axis=0, initial=0.0)
        shares.append(
            np.divide(
                space.quadrature.T @ residuals,
                spread,
                out=np.zeros((space.quadrature.shape[1], len(spread))),
                where=varies,
            )
        )
        any_varies = any_varies or bool(varies.any())
    if not any_varies:
        raise ValueError("no voxel of the mask varies over time")
    return NoiseSource(
        space=space, shares=np.concatenate(shares, axis=1), level=np.concatenate(level)
    )


def shuffled_blocks(
    signals: VoxelTimeSeries,
    source: NoiseSource,
    block_bytes: int,
    phases: npt.NDArray[np.complex128],
    step: int,
) -> Iterator[tuple[slice, Float]]:
    """Yield the blocks of one shuffle."""
    for voxels, block in signals.blocks(block_bytes):
        yield voxels, source.shuffled(block, voxels, phases, step)


Blocks = Callable[[], Iterator[tuple[slice, Real]]]
_FAMILY = 0.05  # error rate over all voxels
_DRAWS = 50  # draws of onsets, until the model can be estimated
_RESAMPLES = 5000


@frozen
class NullSettings(ActivationSettings):
    """Settings for making and testing a series without signal."""

    tr: float  # repetition time (s)
    fwhm_mm: float = 0.0
    n_shuffles: int = 100  # draws of phases and onsets
    seed: int = 0  # seed of these draws, and of the tested voxels
    # largest number of voxels of the mask that are tested, drawn at random; the corrected test
    # is over these voxels. 0: all
    max_voxels: int = 20_000
    p: float = 0.001  # level of the voxel-wise test, one-sided


@frozen
class NullRates:
    """Results of the shuffles."""

    rates: Float  # (shuffles,) fraction of voxels with a smaller p
    # (shuffles,) True if any voxel has p < .05, Bonferroni-corrected over the voxels tested
    any_corrected: MaskArray
    # (2 · shuffles,) largest z of all voxels tested, and the same for the opposite sign
    maxima: Float
    observed: Float  # (voxels tested,) z of the run itself, all conditions against rest
    n_voxels: int  # voxels tested
    n_mask: int  # voxels in the mask
    p: float  # nominal rate

    @property
    def threshold(self) -> float:
        """z that no voxel of the mask passes by chance in 95 % of runs; see
        `familywise_threshold`.
        """
        return familywise_threshold(self.maxima, self.n_voxels / self.n_mask)


def _average(design: Design, names: Sequence[str]) -> Float:
    """Return weights (columns,) of the mean of all conditions against rest."""
    return contrast_vector(design, "all", {name: 1.0 / len(names) for name in names})


def _design_of(
    events: Events, n_volumes: int, settings: NullSettings, confounds: pd.DataFrame | None
) -> Design:
    """Return the design of a run with given events."""
    return build_design(
        events,
        settings.design,
        n_volumes=n_volumes,
        tr=settings.tr,
        n_dummy=settings.n_dummy,
        confounds=confounds,
        confound_names=settings.confound_names,
    )


def _drawn_design(
    events: Events,
    n_volumes: int,
    settings: NullSettings,
    confounds: pd.DataFrame | None,
    rng: np.random.Generator,
    phases: npt.NDArray[np.complex128],
) -> tuple[Design, Float]:
    """Draw a design of random onsets that can be estimated, and the mean of all conditions against
    rest.

    Confounds and drift get the phases of the time series.
    """
    start, end = settings.n_dummy * settings.tr, n_volumes * settings.tr
    names = events.conditions

    def drawn() -> tuple[Design, Float]:
        shuffled = random_events(events, start, end, rng)
        design = _design_of(shuffled, n_volumes, settings, confounds)
        count = len(design.conditions)
        matrix = np.hstack([design.matrix[:, :count], filtered(design.matrix[:, count:], phases)])
        turned = replace(design, matrix=matrix, rank=int(np.linalg.matrix_rank(matrix)))
        return turned, _average(turned, names)

    for _ in range(_DRAWS - 1):
        with suppress(DesignError):
            return drawn()
    return drawn()


def _fitted(
    blocks: Blocks,
    design: Design,
    vector: Float,
    mask: MaskArray,
    zooms: Sequence[float],
    level: Float,
) -> Float:
    """Return z (N,) of one contrast; `blocks` is called twice and returns the blocks of time
    series.
    """
    noise = estimate_noise(blocks(), design.matrix, mask, zooms, level=level)
    model = ContrastModel(design.matrix, vector[None], noise, rank=design.rank)
    return np.concatenate([model.fit(block, voxels)["z"][0] for voxels, block in blocks()])


def _tested(mask: MaskArray, settings: NullSettings) -> MaskArray:
    """Return the mask, or a random part of it."""
    inside = np.flatnonzero(mask)
    if not settings.max_voxels or len(inside) <= settings.max_voxels:
        return mask
    indices = np.random.default_rng([settings.seed, 1]).choice(
        inside, settings.max_voxels, replace=False
    )
    part = np.zeros(mask.shape, dtype=bool)
    part.ravel()[indices] = True
    return part


def null_rates(
    reader: SeriesReader,
    mask: MaskArray,
    events: Events,
    settings: NullSettings,
    *,
    scratch: Path,
    confounds: pd.DataFrame | None = None,
) -> NullRates:
    """Compute the rates of false activity of one series over shuffles.

    Parameters
    ----------
    reader, mask : the series in BOLD signal units, dummies included; (X, Y, Z) on its grid
    scratch : folder of a scratch file (4 bytes · volumes · voxels tested), removed at the end
    confounds : one row per volume

    Raises
    ------
    DesignError : see `build_design`; also if no draw of onsets gives a model that can be
        estimated
    ValueError : the mask is empty, has another grid, or contains no voxel that varies

    Notes
    -----
    A shuffle costs one fit of the tested voxels; a hundred shuffles of 9,000 voxels and 60 volumes
    take some 20 s.
    """
    n_volumes, mask = reader.shape[3], np.asarray(mask, dtype=bool)
    part = _tested(mask, settings)
    with extract_time_series(
        reader, part, scratch, smoothing=(settings.fwhm_mm,), start=settings.n_dummy
    ) as extracted:
        signals = extracted[settings.fwhm_mm]
        design = _design_of(events, n_volumes, settings, confounds)
        source = noise_source(signals, design, settings.block_bytes)

        def measured() -> Iterator[tuple[slice, Real]]:
            return signals.blocks(settings.block_bytes)

        observed = _fitted(
            measured, design, _average(design, design.conditions), part, reader.zooms, source.level
        )
        rates, corrected, maxima = [], [], []
        for shuffle in range(settings.n_shuffles):
            rng = np.random.default_rng([settings.seed, 0, shuffle])
            phases = random_phases(signals.n_times, rng)
            step = int(rng.integers(len(signals.first) // 4, 3 * len(signals.first) // 4 + 1))
            drawn, vector = _drawn_design(events, n_volumes, settings, confounds, rng, phases)
            shuffled = partial(
                shuffled_blocks, signals, source, settings.block_bytes, phases, step
            )
            z = _fitted(shuffled, drawn, vector, part, reader.zooms, source.level)
            rates.append(float((np.abs(z) > -special.ndtri(settings.p)).mean()) / 2)
            corrected.append(bool(z.max() > -special.ndtri(0.05 / len(z))))
            maxima += [float(z.max()), float(-z.min())]
        return NullRates(
            rates=np.array(rates),
            any_corrected=np.array(corrected),
            maxima=np.array(maxima),
            observed=observed,
            n_voxels=len(signals.first),
            n_mask=int(mask.sum()),
            p=settings.p,
        )


def familywise_threshold(maxima: Float, part: float = 1.0) -> float:
    """Return the value that the largest of all voxels exceeds with a probability of .05.

    `maxima`: (M,), of runs without signal. With all voxels (a `part` of 1), it is the smallest
    maximum that fewer than 5 % of M + 1 reach, including the run itself; NaN if M is below 19. If
    the maxima are of a part, the tail is a Gumbel distribution.
    """
    place = int(np.floor(_FAMILY * (len(maxima) + 1) + 1e-9))
    if place < 1:
        return float("nan")
    if part < 1:
        scale = float(maxima.std(ddof=1)) * np.sqrt(6) / np.pi
        return float(
            stats.gumbel_r.isf(_FAMILY * part, maxima.mean() - np.euler_gamma * scale, scale)
        )
    return float(np.sort(maxima)[-place])


def mean_interval(rates: Float, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a mean over shuffles by the bootstrap.

    The interval is bias-corrected and accelerated, because rates are skewed. If no shuffle has any
    voxel, the upper end is the upper end for the fraction of shuffles with a voxel (no rate
    exceeds it); if all rates are equal otherwise, or there is only one shuffle, it is NaN.
    """
    if len(rates) > 1 and not rates.any():
        return share_interval(0, len(rates))
    if len(rates) < 2 or np.ptp(rates) == 0:
        return float("nan"), float("nan")
    drawn = stats.bootstrap(
        (rates,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng([seed, 2]),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a proportion (Clopper and Pearson)."""
    interval = stats.binomtest(count, n).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)
