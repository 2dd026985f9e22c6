"""Activation maps of one series: correlation and general linear model, in bounded memory.

The same code, model, mask and scale serve every series (raw, baselines, methods), so that a
difference between their maps is a difference between the series. Detrending and low-pass belong to
the correlation; the linear model gets the unfiltered series, with drift and motion as regressors.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.cross_correlation import cross_correlation, filter_of_design, temporal_filter
from bids_sr.glm.design import Design, build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.regressors import Regressors
from bids_sr.glm.time_columns import time_column_names
from bids_sr.glm.time_series import (
    BLOCK_BYTES,
    VoxelTimeSeries,
    extract_time_series,
    places_in_volume,
)
from bids_sr.io.arrays import Float, Float32, Mask, parts_of
from bids_sr.io.nifti import SeriesReader

_LOGGER = logging.getLogger(__name__)


_CORRELATED = 512  # voxels at once, so that the tasks are seldom filtered again
_STATS: Mapping[str, tuple[str, ...]] = {"cc": ("cc",), "glm": ("effect", "variance", "t", "z")}


@frozen
class ActivationSettings:
    """Settings of activation maps: the linear model of a run, the same for all of its series.

    They also say what is mapped.

    `start_time`: moment of a volume for which its values hold (s after its start); None: the
    middle of TR. `block_bytes`: memory for a block of voxels; no result depends on it. `low_pass`:
    hz, correlation only; None: none. `correlation_confounds`: whether confounds are regressed out
    of the time series that are correlated; the linear model always has them.
    """

    tr: float
    n_dummy: int = 0
    smoothing: tuple[float, ...] = (0.0,)
    high_pass: float = 1 / 128
    start_time: float | None = None
    confound_names: tuple[str, ...] = MOTION
    block_bytes: int = BLOCK_BYTES
    kinds: tuple[Literal["cc", "glm"], ...] = ("cc", "glm")
    low_pass: float | None = 0.1
    correlation_confounds: bool = False

    def design(self, events: Regressors, n_volumes: int, confounds: pd.DataFrame | None) -> Design:
        """See `build_design`.

        `confounds`: confounds of the run, one row a volume; None: none enter the model.
        """
        design = build_design(
            events,
            n_volumes=n_volumes,
            tr=self.tr,
            n_dummy=self.n_dummy,
            start_time=self.start_time,
            high_pass=self.high_pass,
            confounds=confounds,
            confound_names=self.confound_names,
        )
        if silent := sorted(set(events.conditions) - set(design.conditions)):
            _LOGGER.warning(
                "The conditions %s have no events inside the run and are not modeled.",
                ", ".join(silent),
            )
        return design


class _MapsInMask(Mapping[tuple[str, str], Float32]):
    """Maps by (contrast, stat), of which the voxels in the mask are held.

    Each is put on its grid whenever it is asked for.
    """

    def __init__(self, values: Mapping[str, Float32], names: Sequence[str], mask: Mask) -> None:
        self._values, self._shape = values, mask.shape
        # maps have X contiguous, as in a file
        self._places = places_in_volume(mask)
        self._rows = {(name, stat): row for row, name in enumerate(names) for stat in values}

    def __getitem__(self, key: tuple[str, str]) -> Float32:
        whole = np.zeros(math.prod(self._shape), dtype=np.float32)
        whole[self._places] = self._values[key[1]][self._rows[key]]
        return whole.reshape(self._shape, order="F")

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
    values = {
        stat: np.zeros((len(vectors), len(signals.first)), dtype=np.float32) for stat in stats
    }
    temporal = None
    if "cc" in settings.kinds:
        temporal = (
            filter_of_design(design, settings.low_pass, settings.correlation_confounds)
            if time_column_names(design.columns) or settings.correlation_confounds
            else temporal_filter(signals.n_times, settings.tr, settings.low_pass)
        )
    tasks = design.matrix @ vectors.T
    model, noise_order = None, None
    if "glm" in settings.kinds:
        noise = estimate_noise(signals.blocks(settings.block_bytes), design.matrix, mask, zooms)
        model = ContrastModel(design.matrix, vectors, noise, rank=design.rank)
        noise_order = noise.order
    for voxels, block in signals.blocks(settings.block_bytes):
        if temporal is not None:
            for part in parts_of(block.shape[1], _CORRELATED):
                at = slice(voxels.start + part.start, voxels.start + part.stop)
                values["cc"][:, at] = cross_correlation(block[:, part], tasks, temporal)
        if model is not None:
            fitted = model.fit(block, voxels)
            for stat in _STATS["glm"]:
                values[stat][:, voxels] = fitted[stat]
    return values, noise_order


def map_activation(
    reader: SeriesReader,
    mask: Mask,
    events: Regressors,
    contrasts: Contrasts,
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
    contrasts : Contrasts
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
    by_width: dict[float, ActivationMaps] = {}
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
            by_width[width] = ActivationMaps(maps=maps, design=design, noise_order=noise_order)
    return by_width
