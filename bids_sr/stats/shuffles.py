"""How often the linear model finds activity in a series without any: the run's own noise, its order in time undone.

One shuffle takes the courses apart from what the run's model explains (task, confounds, drift), gives every frequency
of the remainder a new phase, the same in all voxels, and asks the same model about onsets drawn at random. Phases that
are the same everywhere keep the power spectrum of each voxel and the covariance of any two, so that smooth series stay
smooth and broad networks broad; what is lost is any tie to the task. Shuffles of one run share its noise: the unit of
the interval is the shuffle, never the voxel.

The model takes its share of the noise away, most of it at the frequencies of the task and of slow head motion, and the
shuffled courses go through a model of the same size again. Left alone they would be too quiet just there. So

- confounds and drift get the phases of the courses. What they took away is then theirs in the shuffle too, and no
  degree of freedom is taken twice;
- the part that lay in the task is filled in. Raising what is left at these frequencies would not do: it is the sine
  where the task was the cosine, one course for all voxels, and every shuffle would have too much or too little of it.
  What fills the gap are shares of a quarter turn of the task (as much noise, at the same frequencies, and nothing of
  the response) from another voxel, in units of the standard deviation of either. They come from voxels equally far
  apart in the order of the mask, so that neighbors get what belongs to neighbors. No model of the spectrum is needed.

On noise of known autocorrelation the rate is then that of fresh noise, .88 to 1.09 of it (`benchmarks/shuffles.py`).

Tests are one-sided, for activation, as the regions of the report are. Half a turn more for every phase changes the sign
of a shuffle and is as likely: both are counted for the voxel-wise rate, which is the mean of both tails.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from bids_sr.spatial.nifti import SeriesReader
from bids_sr.stats.crosscorr import FLAT
from bids_sr.stats.design import MOTION, Design, DesignError, build_design, contrast_vector
from bids_sr.stats.effective import orthonormal
from bids_sr.stats.evaluation import EvalRow
from bids_sr.stats.glm import ContrastModel
from bids_sr.stats.timecourse import BLOCK_BYTES, VoxelCourses, extract_courses

Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_LEAST_LEFT = 1e-3  # of a unit vector; less is rounding
_DRAWS = 50  # of onsets, until the model can be estimated
_RESAMPLES = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class NullSettings:
    """How a series without signal is made and tested; all but the first four as in `ActivationSettings`.

    Attributes
    ----------
    n_shuffles : draws of phases and onsets
    seed : of these draws, and of the voxels
    max_voxels : at most so many voxels of the mask, drawn at random, are tested; the family of the corrected test is
        these voxels. 0: all
    p : of the voxel-wise test, one-sided
    tr : s
    n_dummy : volumes at the start that are left out
    fwhm_mm : Gaussian smoothing before the statistics (mm)
    high_pass : Hz; 0: straight line
    slice_time_ref, has_stc : moment within a TR to which slice timing was corrected, and whether it was
    hrf : "spm" or "glover"
    confound_names : columns of the confounds that enter the model
    block_bytes : memory for a block of voxels; no result depends on it
    """

    n_shuffles: int = 100
    seed: int = 0
    max_voxels: int = 20_000
    p: float = 0.001
    tr: float
    n_dummy: int = 0
    fwhm_mm: float = 0.0
    high_pass: float = 1 / 128
    slice_time_ref: float = 0.5
    has_stc: bool = False
    hrf: str = "spm"
    confound_names: tuple[str, ...] = MOTION
    block_bytes: int = BLOCK_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class NullRates:
    """What the shuffles gave.

    Attributes
    ----------
    rates : (shuffles,) share of voxels beyond p
    any_corrected : (shuffles,) whether any voxel is beyond p < .05, Bonferroni over the voxels tested
    n_voxels : voxels tested
    n_mask : voxels in the mask
    p : nominal rate
    """

    rates: Float
    any_corrected: Mask
    n_voxels: int
    n_mask: int
    p: float


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
    """The same events in another order at onsets drawn uniformly among all that keep them apart.

    Parameters
    ----------
    events : onset (s), duration (s), trial_type
    start, end : window (s); what an event does outside it is cut off. Events that overlap are moved together

    Returns
    -------
    Events in order of time, none beyond the window, none on another unless it was so before.
    """
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


def filtered(courses: Float, factors: npt.NDArray[Any]) -> Float:
    """Courses (T, N) whose frequencies are multiplied by factors (T // 2 + 1,), the same in every column."""
    return np.fft.irfft(factors[:, None] * np.fft.rfft(courses, axis=0), n=len(courses), axis=0)


def quarter_turn(n: int) -> npt.NDArray[np.complex128]:
    """Factors for `filtered` that turn every cosine of n samples into its sine; mean and Nyquist stay as they are."""
    factors = np.full(n // 2 + 1, 1j)
    factors[0] = 1.0
    if n % 2 == 0:
        factors[-1] = 1.0
    return factors


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSpace:
    """Where the noise of a run lies, seen from its model.

    Attributes
    ----------
    basis : (T, rank) orthonormal basis of task, drift and confounds, which are taken away
    task : (T, K) orthonormal basis of what the task has beyond drift and confounds
    beside : (T, K) orthonormal, as near to a quarter turn of `task` as a direction outside the model can be
    """

    basis: Float
    task: Float
    beside: Float

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

    def residuals(self, courses: npt.NDArray[np.floating]) -> Float:
        """Courses (T, N) without what the basis explains."""
        rest = courses.astype(np.float64)
        rest -= self.basis @ (self.basis.T @ rest)
        return rest


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSource:
    """What makes noise without signal of a run's courses.

    Attributes
    ----------
    space : of the run's noise
    shares : (K, N) of all N voxels in `space.beside`, in units of the standard deviation of each voxel's residuals
    """

    space: NoiseSpace
    shares: Float

    def shuffled(
        self, courses: npt.NDArray[np.floating], voxels: slice, phases: npt.NDArray[np.complex128], step: int
    ) -> Float:
        """Noise of courses (T, n) of some of the voxels.

        Parameters
        ----------
        phases : (T // 2 + 1,), the same for all voxels
        step : how much further on in the order of voxels lies the one that fills the gap of the task
        """
        rest = self.space.residuals(courses)
        lenders = (np.arange(voxels.start, voxels.stop) + step) % self.shares.shape[1]
        rest += self.space.task @ (self.shares[:, lenders] * rest.std(axis=0))
        return filtered(rest, phases)


def noise_source(courses: VoxelCourses, design: Design, block_bytes: int) -> NoiseSource:
    """The source for the courses of a run and its model."""
    space = NoiseSpace.of(design)
    shares, any_varies = [], False
    for _, block in courses.blocks(block_bytes):
        residuals = space.residuals(block)
        spread = residuals.std(axis=0)
        varies = spread > FLAT * np.abs(block).max(axis=0, initial=0.0)
        shares.append(np.divide(space.beside.T @ residuals, spread, out=np.zeros((space.beside.shape[1], len(spread))),
                                where=varies))  # fmt: skip
        any_varies = any_varies or bool(varies.any())
    if not any_varies:
        raise ValueError("no voxel of the mask varies over time")
    return NoiseSource(space=space, shares=np.concatenate(shares, axis=1))


def _drawn_model(
    events: pd.DataFrame, n_volumes: int, settings: NullSettings, confounds: pd.DataFrame | None,
    rng: np.random.Generator, phases: npt.NDArray[np.complex128],
) -> ContrastModel:  # fmt: skip
    """Model of random onsets, with the mean of all conditions against rest as its contrast.

    Confounds and drift get the phases of the courses.
    """
    start, end = settings.n_dummy * settings.tr, n_volumes * settings.tr
    names = sorted(events["trial_type"].unique())
    for draw in range(_DRAWS):
        try:
            design = _turned(_design(random_events(events, start, end, rng), n_volumes, settings, confounds), phases)
            vector = contrast_vector(design, "all", {name: 1.0 / len(names) for name in names})
        except DesignError:
            if draw == _DRAWS - 1:
                raise
        else:
            return ContrastModel(design.matrix, vector[None], rank=design.rank)
    raise AssertionError("unreachable: the last draw returns or raises")


def _turned(design: Design, phases: npt.NDArray[np.complex128]) -> Design:
    """A design with new phases for all but its conditions."""
    count = len(design.conditions)
    matrix = np.hstack([design.matrix[:, :count], filtered(design.matrix[:, count:], phases)])
    return replace(design, matrix=matrix, rank=int(np.linalg.matrix_rank(matrix)))


def _design(events: pd.DataFrame, n_volumes: int, settings: NullSettings, confounds: pd.DataFrame | None) -> Design:
    return build_design(
        events, n_volumes=n_volumes, tr=settings.tr, n_dummy=settings.n_dummy,
        slice_time_ref=settings.slice_time_ref, has_stc=settings.has_stc, high_pass=settings.high_pass,
        hrf=settings.hrf, confounds=confounds, confound_names=settings.confound_names,
    )  # fmt: skip


def _tested(mask: Mask, settings: NullSettings) -> Mask:
    """The mask, or a random part of it."""
    inside = np.flatnonzero(mask)
    if not settings.max_voxels or len(inside) <= settings.max_voxels:
        return mask
    kept = np.random.default_rng([settings.seed, 1]).choice(inside, settings.max_voxels, replace=False)
    part = np.zeros(mask.shape, dtype=bool)
    part.ravel()[kept] = True
    return part


def null_rates(
    reader: SeriesReader,
    mask: Mask,
    events: pd.DataFrame,
    settings: NullSettings,
    *,
    scratch: str | os.PathLike[str],
    confounds: pd.DataFrame | None = None,
) -> NullRates:
    """Rates of false activity of one series over shuffles.

    Parameters
    ----------
    reader : the series in BOLD signal units, dummies included
    mask : (X, Y, Z) on the series' grid
    events : as `bids_sr.stats.design.read_events` gives them
    settings : how
    scratch : name of a scratch file (4 bytes · volumes · voxels tested), removed at the end
    confounds : one row a volume

    Notes
    -----
    A shuffle costs one fit of the tested voxels; a hundred shuffles of 9,000 voxels and 60 volumes take some 20 s.

    Raises
    ------
    DesignError : see `build_design`; also where no draw of onsets gives a model that can be estimated
    ValueError : the mask is empty, lies on another grid, or holds no voxel that varies
    """
    n_volumes, mask = reader.shape[3], np.asarray(mask, dtype=bool)
    part = _tested(mask, settings)
    with extract_courses(reader, part, scratch, fwhm_mm=settings.fwhm_mm, start=settings.n_dummy) as courses:
        source = noise_source(courses, _design(events, n_volumes, settings, confounds), settings.block_bytes)
        rates, corrected = [], []
        for shuffle in range(settings.n_shuffles):
            rng = np.random.default_rng([settings.seed, 0, shuffle])
            phases = random_phases(courses.n_times, rng)
            step = int(rng.integers(courses.n_voxels // 4, 3 * courses.n_voxels // 4 + 1))
            model = _drawn_model(events, n_volumes, settings, confounds, rng, phases)
            z = np.concatenate([
                model.fit(source.shuffled(block, voxels, phases, step)).z[0]
                for voxels, block in courses.blocks(settings.block_bytes)
            ])  # fmt: skip
            rates.append(float((np.abs(z) > -special.ndtri(settings.p)).mean()) / 2)
            corrected.append(bool(z.max() > -special.ndtri(0.05 / len(z))))
        return NullRates(
            rates=np.array(rates), any_corrected=np.array(corrected), n_voxels=courses.n_voxels,
            n_mask=int(mask.sum()), p=settings.p,
        )  # fmt: skip


def mean_interval(rates: Float, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a mean over shuffles by the bootstrap (bias-corrected and accelerated, as rates are skewed).

    Where no shuffle has any voxel, the upper end is that of the share of shuffles that have one (no rate exceeds it);
    where all rates are alike otherwise, or there is one shuffle, there is no interval (NaN).
    """
    if len(rates) > 1 and not rates.any():
        return share_interval(0, len(rates), level)
    if len(rates) < 2 or np.ptp(rates) == 0:
        return float("nan"), float("nan")
    found = stats.bootstrap(
        (rates,), np.mean, confidence_level=level, n_resamples=_RESAMPLES, method="BCa",
        rng=np.random.default_rng([seed, 2]),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def share_interval(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson)."""
    found = stats.binomtest(count, n).proportion_ci(confidence_level=level, method="exact")
    return float(found.low), float(found.high)


def null_rows(found: NullRates, series: str, *, fwhm_mm: float = 0.0, seed: int = 0) -> list[EvalRow]:
    """Rows of the evaluation: rate with its interval, what the test promises, share of shuffles with any finding."""
    n, any_found = len(found.rates), int(found.any_corrected.sum())
    common: dict[str, Any] = {"series": series, "fwhm_mm": fwhm_mm, "contrast": "all", "region": "brain"}
    lower, upper = mean_interval(found.rates, seed)
    low, high = share_interval(any_found, n)
    return [
        EvalRow(**common, measure="null_rate", value=float(found.rates.mean()), lower=lower, upper=upper, n=n),
        EvalRow(**common, measure="null_nominal", value=found.p),
        EvalRow(**common, measure="null_fwe", value=any_found / n, lower=low, upper=high, n=n),
    ]
