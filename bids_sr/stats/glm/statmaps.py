"""Activation maps of one series: correlation, general linear model, slow fluctuations; in bounded memory.

The same code, model, mask and scale serve every series (raw, baselines, methods), so that a difference between their
maps is a difference between the series. Detrending and low-pass belong to the correlation; the linear model gets the
unfiltered series, with drift and motion as regressors.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.io.nifti import SeriesReader
from bids_sr.stats.glm.design import MOTION, Design, build_design, contrast_vector
from bids_sr.stats.glm.linear_model import ContrastModel
from bids_sr.stats.glm.noise import estimate_noise
from bids_sr.stats.glm.regressors import Regressors
from bids_sr.stats.glm.time_series import BLOCK_BYTES, FLAT, VoxelTimeSeries, extract_time_series

LOGGER = logging.getLogger(__name__)


@frozen
class TemporalFilter:
    """Linear detrending, then a low-pass, as two sets of orthonormal time series.

    They come before the correlation with the task, the activation map of the paper. Source: STSS-SRfMRI
    (stss-srfmri), equation 1, on vectors without their mean: of raw signals the equation is nearly constant, as all of
    them are mostly mean. The paper names no cut-off of the low-pass; 0.1 Hz is ours: the canonical response passes
    little above it, and respiration lies above it. It is the projection on cosines (DCT-II) up to the cut-off: no
    phase, no start-up, the same at both ends. The task's time series is detrended and filtered alike. Blocks of other
    conditions stay in the time series, as in the paper; only the GLM takes them out.
    """

    trend: Float  # (T, 2) constant and slope
    band: Float | None  # (T, K) cosines kept, already without trend, or None where nothing is filtered out

    def coefficients(self, signals: Float) -> Float:
        """Filtered time series (T, N), or what they are in units of the band's cosines, (K, N)."""
        rest = signals - self.trend @ (self.trend.T @ signals)
        return rest if self.band is None else self.band.T @ rest


def temporal_filter(n: int, tr: float, low_pass: float | None) -> TemporalFilter:
    """Build the filter for n samples, tr seconds apart.

    A low-pass of None, 0 or at or above the Nyquist frequency (Hz) is detrending alone; ValueError where it leaves no
    cosine, as the run is shorter than half a period.
    """
    slope = np.arange(n) - (n - 1) / 2
    trend = np.column_stack([np.full(n, n**-0.5), slope / np.linalg.norm(slope)])
    if not low_pass or low_pass >= 0.5 / tr:
        return TemporalFilter(trend=trend, band=None)
    count = int(np.floor(2 * n * tr * low_pass))
    if count < 2:
        raise ValueError(f"a low-pass of {low_pass} Hz leaves nothing of {n * tr:.0f} s")
    phase = np.pi / n * (np.arange(n) + 0.5)[:, None] * np.arange(1, count + 1)
    band = np.sqrt(2 / n) * np.cos(phase)
    return TemporalFilter(trend=trend, band=band)


def cross_correlation(signals: Float, tasks: Float, temporal: TemporalFilter) -> Float:
    """CC = x·y / (|x| |y|) of filtered signals (T, N) and tasks (T, C), (C, N); 0 where a voxel does not vary."""
    x, y = (temporal.coefficients(np.asarray(values, dtype=np.float64)) for values in (tasks, signals))
    x_norm, y_norm = np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)
    flat = y_norm <= FLAT * np.sqrt(len(signals)) * np.abs(signals).max(axis=0, initial=0.0)
    scale = x_norm[:, None] * np.where(flat, 1.0, y_norm)[None, :]
    out = np.divide(x.T @ y, scale, out=np.zeros_like(scale), where=scale > 0)
    out[:, flat] = 0.0
    return np.clip(out, -1.0, 1.0)


Band = tuple[float, float]  # Hz


@frozen
class Amplitudes:
    """ALFF in the unit of the series and fALFF, (X, Y, Z) float32, 0 outside the mask; r of the ALFF of two halves."""

    alff: Float32
    falff: Float32
    half_r: float


def cosines_within(n: int, tr: float, band: Band) -> Float:
    """Orthonormal cosines (n, K) of n samples, tr s apart, from the lower to the upper frequency (Hz) of a band.

    ValueError where no cosine lies in it: the run is shorter than half a period, or its volumes are too far apart.
    """
    upper = min(band[1], 0.5 / tr)
    numbers = np.arange(max(1, math.ceil(2 * n * tr * band[0] - 1e-9)), math.floor(2 * n * tr * upper + 1e-9) + 1)
    numbers = numbers[numbers < n]
    if not len(numbers):
        raise ValueError(f"{n} volumes, {tr:g} s apart, hold nothing between {band[0]:g} and {band[1]:g} Hz")
    phase = np.pi / n * (np.arange(n) + 0.5)[:, None] * numbers
    return np.asarray(np.sqrt(2 / n) * np.cos(phase))


@frozen
class AmplitudeModel:
    """What is taken out of time series, and where their amplitude is looked for.

    ALFF is the standard deviation within a band, fALFF that over the standard deviation at all frequencies, of time
    series without drift and confounds (Zang et al. 2007; Zou et al. 2008, here as standard deviations). Thermal noise
    has its share of the band: a noisier series has more ALFF, not more brain activity, and anatomy alone makes the two
    halves of a run alike.
    """

    nuisance: Float  # (T, P) orthonormal, what is taken out
    whole: Float  # (T, K) cosines of the band
    halves: tuple[Float, Float]  # (T/2, K') those of each half of the run

    def fit(self, block: Float32) -> Float:
        """ALFF, fALFF and the ALFF of both halves of time series (T, N), (4, N); 0 where nothing varies."""
        signals = block.astype(np.float64)
        rest = signals - self.nuisance @ (self.nuisance.T @ signals)
        own, every = _spread(rest, self.whole), np.sqrt(np.mean(rest**2, axis=0))
        middle = len(self.halves[0])
        share = np.divide(own, every, out=np.zeros_like(own), where=every > 1e-6 * np.abs(signals).max(axis=0))
        return np.stack([own, share, _spread(rest[:middle], self.halves[0]), _spread(rest[middle:], self.halves[1])])


def _spread(signals: Float, cosines: Float) -> Float:
    return np.asarray(np.sqrt(((cosines.T @ signals) ** 2).sum(axis=0) / len(signals)))


def amplitude_model(nuisance: Float, tr: float, band: Band) -> AmplitudeModel:
    """The model of a run; `nuisance` (T, P) are drift, confounds and a constant. ValueError as `cosines_within`."""
    count = len(nuisance)
    basis, sizes, _ = np.linalg.svd(nuisance, full_matrices=False)
    return AmplitudeModel(
        nuisance=basis[:, sizes > 1e-9 * sizes[0]],
        whole=cosines_within(count, tr, band),
        halves=(cosines_within(count // 2, tr, band), cosines_within(count - count // 2, tr, band)),
    )


STATS: Mapping[str, tuple[str, ...]] = {"cc": ("cc",), "glm": ("effect", "variance", "t", "z")}


@frozen
class ActivationSettings:
    """How maps are made: the linear model of a run, the same for all of its series, and what is mapped."""

    tr: float  # s
    n_dummy: int = 0  # volumes at the start that are left out
    fwhm_mm: float = 0.0  # Gaussian smoothing before the statistics (mm)
    high_pass: float = 1 / 128  # Hz, cosine drift; 0: straight line
    # moment within a TR to which slice timing was corrected, and whether it was
    slice_time_ref: float = 0.5
    has_stc: bool = False
    hrf: str = "spm"  # or glover
    confound_names: tuple[str, ...] = MOTION  # columns of the confounds that enter the linear model
    block_bytes: int = BLOCK_BYTES  # memory for a block of voxels; no result depends on it
    kinds: tuple[Literal["cc", "glm"], ...] = ("cc", "glm")
    low_pass: float | None = 0.1  # Hz, correlation only; None: none
    band: Band | None = None  # Hz, of the amplitude of fluctuations; None: it is not mapped

    def design(self, events: Regressors, n_volumes: int, confounds: pd.DataFrame | None) -> Design:
        """See `build_design`."""
        design = build_design(
            events, n_volumes=n_volumes, tr=self.tr, n_dummy=self.n_dummy, slice_time_ref=self.slice_time_ref,
            has_stc=self.has_stc, high_pass=self.high_pass, hrf=self.hrf, confounds=confounds,
            confound_names=self.confound_names,
        )  # fmt: skip
        if silent := sorted(set(events.conditions) - set(design.conditions)):
            LOGGER.warning("no event of %s lies inside the run: not modeled", ", ".join(silent))
        return design


@frozen
class ActivationMaps:
    """Maps by (contrast, stat), each (X, Y, Z) float32 and 0 outside the mask; stat is cc, effect, variance, t or z."""

    maps: Mapping[tuple[str, str], Float32]
    design: Design
    noise_order: int | None = None  # lags of the noise model (0: white), None where there is no linear model
    amplitudes: Amplitudes | None = None  # of slow fluctuations, where they were asked for


def _fit(
    signals: VoxelTimeSeries, design: Design, vectors: Float, settings: ActivationSettings,
    mask: Mask, zooms: Sequence[float], slow: AmplitudeModel | None,
) -> tuple[dict[str, Float32], Float32, int | None]:  # fmt: skip
    """Values by stat, (contrasts, voxels) float32; amplitudes, (4, voxels) as `AmplitudeModel.fit`; order of noise."""
    amplitudes = np.zeros((4, signals.n_voxels), dtype=np.float32)
    stats = [stat for kind in settings.kinds for stat in STATS[kind]]
    values = {stat: np.zeros((len(vectors), signals.n_voxels), dtype=np.float32) for stat in stats}
    temporal = temporal_filter(signals.n_times, settings.tr, settings.low_pass) if "cc" in settings.kinds else None
    tasks = design.matrix @ vectors.T
    model, noise_order = None, None
    if "glm" in settings.kinds:
        noise = estimate_noise(signals.blocks(settings.block_bytes), design.matrix, mask, zooms)
        model, noise_order = ContrastModel(design.matrix, vectors, noise, rank=design.rank), noise.order
    for voxels, block in signals.blocks(settings.block_bytes):
        if temporal is not None:
            values["cc"][:, voxels] = cross_correlation(block.astype(np.float64), tasks, temporal)
        if model is not None:
            fitted = model.fit(block, voxels)
            for stat in STATS["glm"]:
                values[stat][:, voxels] = fitted[stat]
        if slow is not None:
            amplitudes[:, voxels] = slow.fit(block)
    return values, amplitudes, noise_order


def _amplitudes(values: Float32, mask: Mask) -> Amplitudes:
    """Amplitudes of voxels, (4, voxels), as maps."""
    maps = np.zeros((2, *mask.shape), dtype=np.float32)
    maps[:, mask] = values[:2]
    varied = min(float(values[2].std()), float(values[3].std())) > 0
    return Amplitudes(
        alff=maps[0], falff=maps[1], half_r=float(np.corrcoef(values[2], values[3])[0, 1]) if varied else math.nan
    )


def map_activation(
    reader: SeriesReader, mask: Mask, events: Regressors, contrasts: Mapping[str, Mapping[str, float]],
    settings: ActivationSettings, *, scratch: Path, confounds: pd.DataFrame | None = None,
) -> ActivationMaps:  # fmt: skip
    """Maps of all contrasts of one series.

    Parameters
    ----------
    reader : the series in BOLD signal units, dummies included
    mask : (X, Y, Z) on the series' grid
    events : events, or seeds in their place
    scratch : name of a scratch file (4 bytes · volumes · mask voxels), removed at the end
    confounds : one row a volume

    Raises
    ------
    DesignError : see `build_design` and `contrast_vector`; ValueError : the mask is empty or lies on another grid
    """
    design = settings.design(events, reader.shape[3], confounds)
    vectors = np.array([contrast_vector(design, name, weights) for name, weights in contrasts.items()])
    mask = np.asarray(mask, dtype=bool)
    slow = None
    if settings.band is not None:
        slow = amplitude_model(design.matrix[:, len(design.conditions) :], settings.tr, settings.band)
    with extract_time_series(reader, mask, scratch, fwhm_mm=settings.fwhm_mm, start=settings.n_dummy) as signals:
        values, amplitudes, noise_order = _fit(signals, design, vectors, settings, mask, reader.zooms, slow)
    maps: dict[tuple[str, str], Float32] = {}
    for index, name in enumerate(contrasts):
        for stat, found in values.items():
            maps[name, stat] = np.zeros(mask.shape, dtype=np.float32)
            maps[name, stat][mask] = found[index]
    slow_maps = None if slow is None else _amplitudes(amplitudes, mask)
    return ActivationMaps(maps=maps, design=design, noise_order=noise_order, amplitudes=slow_maps)
