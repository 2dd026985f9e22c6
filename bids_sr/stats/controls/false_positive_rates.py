"""False-positive rates of the linear model in series without signal, and the threshold that such series set.

Series without signal are those of `bids_sr.stats.controls.permutations`. Tests are one-sided, for activation. Half a
turn more for every phase changes the sign of a shuffle and is as likely: both tails count for the voxel-wise rate
(mean), and both give a maximum.

Shuffles set a threshold of their own, too: the z that the largest of all voxels passes in 5 % of them (maximum
statistic; Nichols and Holmes 2002), which holds whatever the model of the noise is worth. Where only a part of the mask
is tested, it is that of maxima passed in 5 % times that part, by a Gumbel distribution through their mean and standard
deviation (as Winkler et al. 2016 fit tails); as neighbors are alike, that is on the safe side.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from bids_sr.io.array_types import Float, Mask
from bids_sr.io.nifti import SeriesReader
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.stats.controls.permutations import filtered, noise_source, random_events, random_phases, shuffled_blocks
from bids_sr.stats.glm.design import Design, DesignError, conditions_of, contrast_vector
from bids_sr.stats.glm.linear_model import ContrastModel
from bids_sr.stats.glm.noise import estimate_noise
from bids_sr.stats.glm.statmaps import ModelSettings
from bids_sr.stats.glm.time_series import extract_time_series

Blocks = Callable[[], Iterator[tuple[slice, Any]]]
_FAMILY = 0.05  # error rate over all voxels
_DRAWS = 50  # of onsets, until the model can be estimated
_RESAMPLES = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class NullSettings(ModelSettings):
    """How a series without signal is made and tested."""

    n_shuffles: int = 100  # draws of phases and onsets
    seed: int = 0  # of these draws, and of the voxels
    # at most so many voxels of the mask, drawn at random, are tested; the family of the corrected test is these voxels.
    # 0: all
    max_voxels: int = 20_000
    p: float = 0.001  # of the voxel-wise test, one-sided


@dataclass(frozen=True, kw_only=True, slots=True)
class NullRates:
    """What the shuffles gave."""

    rates: Float  # (shuffles,) share of voxels beyond p
    any_corrected: Mask  # (shuffles,) whether any voxel is beyond p < .05, Bonferroni over the voxels tested
    maxima: Float  # (2 · shuffles,) largest z of all voxels tested, and of the same with the opposite sign
    observed: Float  # (voxels tested,) z of the run itself, all conditions against rest
    n_voxels: int  # voxels tested
    n_mask: int  # voxels in the mask
    p: float  # nominal rate

    @property
    def threshold(self) -> float:
        """z that no voxel of the mask passes by chance in 95 % of runs; see `familywise_threshold`."""
        return familywise_threshold(self.maxima, self.n_voxels / self.n_mask)


def _average(design: Design, names: Sequence[str]) -> Float:
    """Weights (columns,) of the mean of all conditions against rest."""
    return contrast_vector(design, "all", {name: 1.0 / len(names) for name in names})


def _drawn_design(
    events: pd.DataFrame, n_volumes: int, settings: NullSettings, confounds: pd.DataFrame | None,
    rng: np.random.Generator, phases: npt.NDArray[np.complex128],
) -> tuple[Design, Float]:  # fmt: skip
    """Design of random onsets, drawn until it can be estimated, and the mean of all conditions against rest.

    Confounds and drift get the phases of the time series.
    """
    start, end = settings.n_dummy * settings.tr, n_volumes * settings.tr
    names = conditions_of(events)

    def drawn() -> tuple[Design, Float]:
        design = settings.design(random_events(events, start, end, rng), n_volumes, confounds)
        return (turned := _turned(design, phases)), _average(turned, names)

    for _ in range(_DRAWS - 1):
        with suppress(DesignError):
            return drawn()
    return drawn()


def _fitted(blocks: Blocks, design: Design, vector: Float, mask: Mask, zooms: Sequence[float], level: Float) -> Float:
    """z (N,) of one contrast; `blocks` gives the blocks of time series, and gives them anew when it is called again."""
    noise = estimate_noise(blocks(), design.matrix, mask, zooms, level=level)
    model = ContrastModel(design.matrix, vector[None], noise, rank=design.rank)
    return np.concatenate([model.fit(block, voxels).z[0] for voxels, block in blocks()])


def _turned(design: Design, phases: npt.NDArray[np.complex128]) -> Design:
    """A design with new phases for all but its conditions."""
    count = len(design.conditions)
    matrix = np.hstack([design.matrix[:, :count], filtered(design.matrix[:, count:], phases)])
    return replace(design, matrix=matrix, rank=int(np.linalg.matrix_rank(matrix)))


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
    reader: SeriesReader, mask: Mask, events: pd.DataFrame, settings: NullSettings, *,
    scratch: str | os.PathLike[str], confounds: pd.DataFrame | None = None,
) -> NullRates:  # fmt: skip
    """Rates of false activity of one series over shuffles.

    Parameters
    ----------
    reader, mask : the series in BOLD signal units, dummies included; (X, Y, Z) on its grid
    events : as `bids_sr.stats.glm.design.read_events` gives them
    scratch : name of a scratch file (4 bytes · volumes · voxels tested), removed at the end
    confounds : one row a volume

    Raises
    ------
    DesignError : see `build_design`; also where no draw of onsets gives a model that can be estimated
    ValueError : the mask is empty, lies on another grid, or holds no voxel that varies

    Notes
    -----
    A shuffle costs one fit of the tested voxels; a hundred shuffles of 9,000 voxels and 60 volumes take some 20 s.
    """
    n_volumes, mask = reader.shape[3], np.asarray(mask, dtype=bool)
    part = _tested(mask, settings)
    with extract_time_series(reader, part, scratch, fwhm_mm=settings.fwhm_mm, start=settings.n_dummy) as signals:
        design = settings.design(events, n_volumes, confounds)
        source = noise_source(signals, design, settings.block_bytes)

        def measured() -> Iterator[tuple[slice, Any]]:
            return signals.blocks(settings.block_bytes)

        observed = _fitted(measured, design, _average(design, design.conditions), part, reader.zooms, source.level)
        rates, corrected, maxima = [], [], []
        for shuffle in range(settings.n_shuffles):
            rng = np.random.default_rng([settings.seed, 0, shuffle])
            phases = random_phases(signals.n_times, rng)
            step = int(rng.integers(signals.n_voxels // 4, 3 * signals.n_voxels // 4 + 1))
            drawn, vector = _drawn_design(events, n_volumes, settings, confounds, rng, phases)
            shuffled = partial(shuffled_blocks, signals, source, settings.block_bytes, phases, step)
            z = _fitted(shuffled, drawn, vector, part, reader.zooms, source.level)
            rates.append(float((np.abs(z) > -special.ndtri(settings.p)).mean()) / 2)
            corrected.append(bool(z.max() > -special.ndtri(0.05 / len(z))))
            maxima += [float(z.max()), float(-z.min())]
        return NullRates(
            rates=np.array(rates), any_corrected=np.array(corrected), maxima=np.array(maxima), observed=observed,
            n_voxels=signals.n_voxels, n_mask=int(mask.sum()), p=settings.p,
        )  # fmt: skip


def familywise_threshold(maxima: Float, part: float = 1.0) -> float:
    """Value that the largest of all voxels passes with a probability of .05, from maxima (M,) of runs without signal.

    With all voxels (a `part` of 1), the smallest maximum that fewer than 5 % of M + 1 reach, the run itself counted
    among them; NaN where M is below 19. Where the maxima are of a part, the tail is a Gumbel distribution's.
    """
    place = int(np.floor(_FAMILY * (len(maxima) + 1) + 1e-9))
    if place < 1:
        return float("nan")
    if part < 1:
        scale = float(maxima.std(ddof=1)) * np.sqrt(6) / np.pi
        return float(stats.gumbel_r.isf(_FAMILY * part, maxima.mean() - np.euler_gamma * scale, scale))
    return float(np.sort(maxima)[-place])


def mean_interval(rates: Float, seed: int) -> tuple[float, float]:
    """95 % interval of a mean over shuffles by the bootstrap (bias-corrected and accelerated, as rates are skewed).

    Where no shuffle has any voxel, the upper end is that of the share of shuffles that have one (no rate exceeds it);
    where all rates are alike otherwise, or there is one shuffle, there is no interval (NaN).
    """
    if len(rates) > 1 and not rates.any():
        return share_interval(0, len(rates))
    if len(rates) < 2 or np.ptp(rates) == 0:
        return float("nan"), float("nan")
    drawn = stats.bootstrap(
        (rates,), np.mean, n_resamples=_RESAMPLES, method="BCa", rng=np.random.default_rng([seed, 2])
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Exact 95 % interval of a share (Clopper and Pearson)."""
    found = stats.binomtest(count, n).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def null_rows(found: NullRates, series: str, *, fwhm_mm: float = 0.0, seed: int = 0) -> list[MetricRow]:
    """Rows of the evaluation: rate with its interval, what the test promises, share of shuffles with any finding."""
    n, any_found = len(found.rates), int(found.any_corrected.sum())
    common: dict[str, Any] = {"series": series, "fwhm_mm": fwhm_mm, "contrast": "all", "region": "brain"}
    lower, upper = mean_interval(found.rates, seed)
    low, high = share_interval(any_found, n)
    return [
        MetricRow(**common, measure="null_rate", value=float(found.rates.mean()), lower=lower, upper=upper, n=n),
        MetricRow(**common, measure="null_nominal", value=found.p),
        MetricRow(**common, measure="null_fwe", value=any_found / n, lower=low, upper=high, n=n),
        MetricRow(**common, measure="null_threshold", value=found.threshold, n=n),
        MetricRow(**common, measure="null_peak", value=float(found.observed.max())),
        MetricRow(
            **common, measure="null_active", value=float((found.observed > found.threshold).sum()), n=found.n_voxels
        ),
    ]
