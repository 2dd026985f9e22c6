"""Activation maps of one series: correlation and general linear model, in bounded memory.

The same code, model, mask and scale serve every series (raw, baselines, methods), so that a
difference between their maps is a difference between the series. Detrending and low-pass belong to
the correlation; the linear model gets the unfiltered series, with drift and motion as regressors.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Float32, Mask, Real, parts_of
from bids_sr.io.nifti import SeriesReader
from bids_sr.stats.glm.confounds import slow_cosines
from bids_sr.stats.glm.design import MOTION, Design, build_design, contrast_vector
from bids_sr.stats.glm.linear_model import ContrastModel
from bids_sr.stats.glm.noise import estimate_noise
from bids_sr.stats.glm.regressors import Regressors
from bids_sr.stats.glm.time_series import (
    BLOCK_BYTES,
    FLAT,
    VoxelTimeSeries,
    extract_time_series,
)

_LOGGER = logging.getLogger(__name__)


_Filter = tuple[Float, Float | None]


def _temporal_filter(n: int, tr: float, low_pass: float | None) -> _Filter:
    """Return linear detrending and a low-pass for n samples, tr seconds apart.

    Two sets of time series: constant and slope (T, 2), and the cosines kept (T, K), detrended, or
    None where nothing is filtered out. A low-pass of None, 0 or at or above the Nyquist frequency
    (Hz) is detrending alone; ValueError where it leaves no cosine, as the run is shorter than half
    a period.

    They come before the correlation with the task, the activation map of the paper. Source:
    STSS-SRfMRI (stss-srfmri), equation 1, on vectors without their mean: of raw signals the
    equation is nearly constant, as all of them are mostly mean. The paper names no cut-off of the
    low-pass; 0.1 Hz is ours: the canonical response passes little above it, and respiration lies
    above it. It is the projection on cosines (DCT-II) up to the cut-off: no phase, no start-up,
    the same at both ends. The task's time series is detrended and filtered alike. Blocks of other
    conditions stay in the time series, as in the paper; only the GLM takes them out.
    """
    slope = np.arange(n) - (n - 1) / 2
    trend = np.column_stack([np.full(n, n**-0.5), slope / np.linalg.norm(slope)])
    if not low_pass or low_pass >= 0.5 / tr:
        return trend, None
    band = np.sqrt(2 / n) * slow_cosines(n, tr, low_pass)[:, 1:]
    if band.shape[1] < 2:
        raise ValueError(f"a low-pass of {low_pass} Hz leaves nothing of {n * tr:.0f} s")
    return trend, band - trend @ (trend.T @ band)


def _filtered(signals: Float, temporal: _Filter) -> Float:
    """Filtered time series (T, N), or what they are in units of the band's cosines, (K, N)."""
    trend, band = temporal
    if band is None:
        return signals - trend @ (trend.T @ signals)
    return band.astype(signals.dtype).T @ signals


def _cross_correlation(signals: Real, tasks: Float, temporal: _Filter) -> Float:
    """Return CC = x·y / (|x| |y|), (C, N), of filtered signals (T, N) and tasks (T, C).

    It is 0 where a voxel does not vary.

    `signals`: time series, one voxel a column (T, N). `tasks`: predicted time series, one contrast
    a column (T, C). Correlations from -1 to 1, one contrast a row.
    """
    # less the first volume, as single precision is enough for what changes
    x, y = (_filtered(values - values[0], temporal) for values in (tasks, signals))
    x_norm, y_norm = np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)
    flat = y_norm <= FLAT * np.sqrt(len(signals)) * np.abs(signals).max(axis=0, initial=0.0)
    scale = x_norm[:, None] * np.where(flat, 1.0, y_norm)[None, :]
    out = np.divide(x.T @ y, scale, out=np.zeros_like(scale), where=scale > 0)
    out[:, flat] = 0.0
    return np.clip(out, -1.0, 1.0)


_STATS: Mapping[str, tuple[str, ...]] = {"cc": ("cc",), "glm": ("effect", "variance", "t", "z")}


@frozen
class ActivationSettings:
    """Settings of activation maps: the linear model of a run, the same for all of its series.

    They also say what is mapped.

    `slice_time_ref`: moment within a TR to which slice timing was corrected, and whether it was.
    `block_bytes`: memory for a block of voxels; no result depends on it. `low_pass`: hz,
    correlation only; None: none.
    """

    tr: float
    n_dummy: int = 0
    smoothing: tuple[float, ...] = (0.0,)
    high_pass: float = 1 / 128
    slice_time_ref: float = 0.5
    has_stc: bool = False
    confound_names: tuple[str, ...] = MOTION
    block_bytes: int = BLOCK_BYTES
    kinds: tuple[Literal["cc", "glm"], ...] = ("cc", "glm")
    low_pass: float | None = 0.1

    def design(self, events: Regressors, n_volumes: int, confounds: pd.DataFrame | None) -> Design:
        """See `build_design`."""
        design = build_design(
            events,
            n_volumes=n_volumes,
            tr=self.tr,
            n_dummy=self.n_dummy,
            slice_time_ref=self.slice_time_ref,
            has_stc=self.has_stc,
            high_pass=self.high_pass,
            confounds=confounds,
            confound_names=self.confound_names,
        )
        if silent := sorted(set(events.conditions) - set(design.conditions)):
            _LOGGER.warning("no event of %s lies inside the run: not modeled", ", ".join(silent))
        return design


class _MapsInMask(Mapping[tuple[str, str], Float32]):
    """Maps by (contrast, stat), of which the voxels in the mask are held.

    Each is put on its grid whenever it is asked for.
    """

    def __init__(self, values: Mapping[str, Float32], names: Sequence[str], mask: Mask) -> None:
        self._values, self._mask = values, mask
        self._rows = {(name, stat): row for row, name in enumerate(names) for stat in values}

    def __getitem__(self, key: tuple[str, str]) -> Float32:
        whole = np.zeros(self._mask.shape, dtype=np.float32)
        whole[self._mask] = self._values[key[1]][self._rows[key]]
        return whole

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@frozen
class ActivationMaps:
    """Maps by (contrast, stat), each (X, Y, Z) float32 and 0 outside the mask.

    The stat is cc, effect, variance, t or z. Maps are made anew whenever they are looked up.

    `noise_order`: lags of the noise model (0: white), None where there is no linear model.
    """

    maps: Mapping[tuple[str, str], Float32]
    design: Design
    noise_order: int | None = None


def _fit(
    signals: VoxelTimeSeries,
    design: Design,
    vectors: Float,
    settings: ActivationSettings,
    mask: Mask,
    zooms: Sequence[float],
) -> tuple[dict[str, Float32], int | None]:
    """Values by stat, (contrasts, voxels) float32; order of noise."""
    stats = [stat for kind in settings.kinds for stat in _STATS[kind]]
    values = {stat: np.zeros((len(vectors), signals.n_voxels), dtype=np.float32) for stat in stats}
    temporal = (
        _temporal_filter(signals.n_times, settings.tr, settings.low_pass)
        if "cc" in settings.kinds
        else None
    )
    tasks = design.matrix @ vectors.T
    model, noise_order = None, None
    if "glm" in settings.kinds:
        noise = estimate_noise(signals.blocks(settings.block_bytes), design.matrix, mask, zooms)
        model, noise_order = (
            ContrastModel(design.matrix, vectors, noise, rank=design.rank),
            noise.order,
        )
    for voxels, block in signals.blocks(settings.block_bytes):
        if temporal is not None:
            for part in parts_of(block.shape[1]):
                at = slice(voxels.start + part.start, voxels.start + part.stop)
                values["cc"][:, at] = _cross_correlation(block[:, part], tasks, temporal)
        if model is not None:
            fitted = model.fit(block, voxels)
            for stat in _STATS["glm"]:
                values[stat][:, voxels] = fitted[stat]
    return values, noise_order


def map_activation(
    reader: SeriesReader,
    mask: Mask,
    events: Regressors,
    contrasts: Mapping[str, Mapping[str, float]],
    settings: ActivationSettings,
    *,
    scratch: Path,
    confounds: pd.DataFrame | None = None,
    seen: Callable[[list[Float32]], None] | None = None,
) -> dict[float, ActivationMaps]:
    """Return maps of all contrasts of one series, by smoothing (FWHM, mm).

    The series is read once.

    Parameters
    ----------
    reader : SeriesReader
        The series in BOLD signal units, dummies included.
    mask : Mask
        (X, Y, Z) on the series' grid.
    events : Regressors
        Events, or seeds in their place.
    contrasts : Mapping[str, Mapping[str, float]]
        Weights of conditions (at rest: seeds) by contrast.
    settings : ActivationSettings
        Settings of the correlation and of the linear model.
    scratch : Path
        Folder of scratch files (4 bytes · volumes · mask voxels for each width), removed at the
        end.
    confounds : pd.DataFrame | None, optional
        One row a volume.
    seen : Callable[[list[Float32]], None] | None, optional
        What else is done with the volumes that are read, some at a time.

    Returns
    -------
    dict[float, ActivationMaps]
        Maps of the kinds asked for, with the design.

    Raises
    ------
    DesignError : see `build_design` and `contrast_vector`; ValueError : the mask is empty or lies
        on another grid
    """
    design = settings.design(events, reader.shape[3], confounds)
    vectors = np.array(
        [contrast_vector(design, name, weights) for name, weights in contrasts.items()]
    )
    mask = np.asarray(mask, dtype=bool)
    found: dict[float, ActivationMaps] = {}
    with extract_time_series(
        reader,
        mask,
        scratch,
        smoothing=settings.smoothing,
        start=settings.n_dummy,
        seen=seen,
    ) as signals:
        for width, each in signals.items():
            values, noise_order = _fit(each, design, vectors, settings, mask, reader.zooms)
            maps = _MapsInMask(values, list(contrasts), mask)
            found[width] = ActivationMaps(maps=maps, design=design, noise_order=noise_order)
    return found
