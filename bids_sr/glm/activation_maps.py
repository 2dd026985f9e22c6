"""Activation maps of one series: correlation and general linear model, with limited memory.

Code, model, mask and scale are the same for every series (acquired, baselines, methods).
Differences between maps are therefore due to the series only. Detrending and the low-pass filter
only apply to the correlation; the linear model fits the unfiltered series with drift and motion
regressors.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.cross_correlation import cross_correlation, filter_of_design, temporal_filter
from bids_sr.glm.design import Design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.time_series import VoxelTimeSeries, extract_time_series, positions_in_volume
from bids_sr.io.arrays import Float, Float32, MaskArray, iterate_parts
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.temporal_regressors import time_column_names

_VOXELS_PER_BATCH = 512  # voxels per correlation; the task regressors are filtered once per batch
_STATS: Mapping[str, tuple[str, ...]] = {"cc": ("cc",), "glm": ("effect", "variance", "t", "z")}


@frozen
class ActivationSettings:
    """Settings of activation maps: kinds of maps, and the filter of the correlation.

    `low_pass` is the cut-off for the correlation (Hz); None to disable the filter. With
    `correlation_confounds`, confounds are regressed out of time series before the correlation; the
    linear model always includes them.
    """

    kinds: Sequence[Literal["cc", "glm"]] = ("cc", "glm")
    low_pass: float | None = None
    correlation_confounds: bool = False


@frozen
class ActivationMaps:
    """Activation maps of one series at one smoothing width.

    `maps` are (X, Y, Z) float32 by (contrast, stat) and 0 outside the mask; stat is cc, effect,
    variance, t or z. Effects are in signal units unless `in_percent` was called. Maps are
    regenerated whenever they are looked up. `noise_memory_s` is the longest lag of the noise model
    (s; 0 for white noise); None if there is no linear model.
    """

    maps: Mapping[tuple[str, str], Float32]
    design: Design
    noise_memory_s: float | None = None

    def in_percent(self, mean_signal: float) -> "ActivationMaps":
        """Return these maps with effects in percent of a signal, and variances in its square.

        The statistics t, z and cc do not change.
        """
        factor = 100 / mean_signal
        return replace(
            self,
            maps=_ScaledMaps(self.maps, {"effect": factor, "variance": factor**2}),
        )


def map_activation(
    reader: SeriesReader,
    mask: MaskArray,
    designs: Mapping[float, Design],
    contrasts: Contrasts,
    settings: ActivationSettings,
    *,
    scratch: Path,
    inspect_volumes: Callable[[list[Float32]], None] | None = None,
) -> dict[float, ActivationMaps]:
    """Return maps of all contrasts of one series, by smoothing width (FWHM, mm).

    The series is read once, and the maps are computed in a single thread.

    Parameters
    ----------
    reader : SeriesReader
        Series in BOLD signal units, including dummies.
    mask : MaskArray
        Brain on the series' grid (X, Y, Z).
    designs : Mapping[float, Design]
        Model of the series by smoothing width. Designs differ if they contain seeds that were
        smoothed like the maps.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    settings : ActivationSettings
        Kinds of maps, and the filter of the correlation.
    scratch : Path
        Folder of scratch files (4 bytes · volumes · mask voxels per width), which are removed at
        the end.
    inspect_volumes : Callable[[list[Float32]], None] | None, optional
        Function that is called with each batch of volumes that are read.

    Returns
    -------
    dict[float, ActivationMaps]
        Maps of the requested kinds, with the design.

    Raises
    ------
    DesignError
        If a contrast is not estimable, see `contrast_vector`.
    ValueError
        If the mask is empty or on another grid.
    """
    vectors = {
        width: np.array([contrast_vector(design, *contrast) for contrast in contrasts.items()])
        for width, design in designs.items()
    }
    mask = np.asarray(mask, dtype=bool)
    maps_by_width: dict[float, ActivationMaps] = {}
    with (
        threadpool_limits(1),
        extract_time_series(
            reader,
            mask,
            scratch,
            smoothing=tuple(designs),
            start=next(iter(designs.values())).n_dummy,
            inspect_volumes=inspect_volumes,
        ) as signals,
    ):
        for width, time_series in signals.items():
            values, noise_memory_s = _fit_maps(
                time_series, designs[width], vectors[width], settings, mask, reader.zooms
            )
            maps_by_width[width] = ActivationMaps(
                maps=_MapsInMask(values, list(contrasts), mask),
                design=designs[width],
                noise_memory_s=noise_memory_s,
            )
    return maps_by_width


def _fit_maps(
    signals: VoxelTimeSeries,
    design: Design,
    vectors: Float,
    settings: ActivationSettings,
    mask: MaskArray,
    zooms: Sequence[float],
) -> tuple[dict[str, Float32], float | None]:
    """Compute the maps of one series.

    `vectors` are weights of the contrasts over the columns of the design (C, columns). `mask` is
    the brain (X, Y, Z), and `zooms` the voxel size (mm). Returns values in the N mask voxels by
    stat, (C, N) float32, and the longest lag of the noise model (s), which is None if there is no
    linear model.
    """
    stats = [stat for kind in settings.kinds for stat in _STATS[kind]]
    values = {
        stat: np.zeros((len(vectors), len(signals.first)), dtype=np.float32) for stat in stats
    }
    temporal = _make_filter(design, settings, signals.n_times) if "cc" in settings.kinds else None
    tasks = design.matrix @ vectors.T
    contrast_model, noise_memory_s = None, None
    if "glm" in settings.kinds:
        noise = estimate_noise(signals.blocks(), design.matrix, mask, zooms, design.tr)
        contrast_model = ContrastModel(design.matrix, vectors, noise, rank=design.rank)
        noise_memory_s = noise.n_lags * design.tr
    for voxels, block in signals.blocks():
        if temporal is not None:
            for batch in iterate_parts(block.shape[1], _VOXELS_PER_BATCH):
                columns = slice(voxels.start + batch.start, voxels.start + batch.stop)
                values["cc"][:, columns] = cross_correlation(block[:, batch], tasks, temporal)
        if contrast_model is not None:
            estimates = contrast_model.fit(block, voxels)
            for stat in _STATS["glm"]:
                values[stat][:, voxels] = estimates[stat]
    return values, noise_memory_s


def _make_filter(
    design: Design, settings: ActivationSettings, n_times: int
) -> tuple[Float, Float | None]:
    """Return the temporal filter of the correlation for a run with `n_times` steady volumes."""
    if time_column_names(design.columns) or settings.correlation_confounds:
        return filter_of_design(
            design, settings.low_pass, with_confounds=settings.correlation_confounds
        )
    return temporal_filter(n_times, design.tr, settings.low_pass)


class _MapsInMask(Mapping[tuple[str, str], Float32]):
    """Maps by (contrast, stat), with only mask voxels in memory.

    Looking up a map creates the whole image, with 0 outside the mask.
    """

    def __init__(
        self, values: Mapping[str, Float32], names: Sequence[str], mask: MaskArray
    ) -> None:
        self._values, self._shape = values, mask.shape
        # X is contiguous in memory, as in image files.
        self._positions = positions_in_volume(mask)
        self._rows = {(name, stat): row for row, name in enumerate(names) for stat in values}

    def __getitem__(self, key: tuple[str, str]) -> Float32:
        volume = np.zeros(math.prod(self._shape), dtype=np.float32)
        _, stat = key
        volume[self._positions] = self._values[stat][self._rows[key]]
        return volume.reshape(self._shape, order="F")

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class _ScaledMaps(Mapping[tuple[str, str], Float32]):
    """Maps by (contrast, stat), multiplied by the factor of their statistic when looked up."""

    def __init__(
        self, maps: Mapping[tuple[str, str], Float32], factors: Mapping[str, float]
    ) -> None:
        self._maps, self._factors = maps, factors

    def __getitem__(self, key: tuple[str, str]) -> Float32:
        volume, (_, stat) = self._maps[key], key
        return volume * np.float32(self._factors[stat]) if stat in self._factors else volume

    def __contains__(self, key: object) -> bool:
        return key in self._maps

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)
