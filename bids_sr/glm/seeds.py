"""Seed-based connectivity: seeds replace the conditions of a task in runs without events.

The time series of a seed in the acquired series is the regressor for all series of the run. Maps
of correlation and of the linear model are then computed as for a task, and all controls of the
evaluation apply. Halves of a run consist of segments; the regressor of a segment is the seed's
time series within it, minus its mean.

Source: seed-correlation maps of TV self-supervision, section 3.3. That paper correlates
band-passed residuals. Here, seeds are regressors in a model with motion and drift, the same model
as for runs with events.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.smoothing import smooth

_SEGMENT_S = 30.0  # s, about the length of a task block
_MAX_SEGMENTS, MIN_SEGMENTS = 20, 4
_MIN_RUN_S, _MIN_VOLUMES = 90.0, 40  # s and number of volumes of a run with segments
# volumes per regressor, if possible and at least
_VOLUMES_PER_REGRESSOR, _MIN_VOLUMES_PER_REGRESSOR = 5, 3


def seed_voxels(
    mask: MaskArray,
    affine: Float,
    center_mm: Sequence[float],
    radius_mm: float,
    *,
    nearest: bool = False,
) -> MaskArray:
    """Return the mask voxels whose centers are within the radius of a seed.

    If there are no such voxels, the nearest voxel is returned if it is within the length of a
    voxel diagonal.

    Parameters
    ----------
    mask : MaskArray
        Brain (X, Y, Z).
    affine : Float
        Voxel-to-RAS-mm matrix (4, 4).
    center_mm : Sequence[float]
        Center of the seed (RAS mm of the mask).
    radius_mm : float
        Radius of the sphere (mm).
    nearest : bool, optional
        Whether the nearest voxel is accepted at any distance.

    Returns
    -------
    MaskArray
        Voxels of the seed (3D, boolean), at least one.

    Raises
    ------
    ValueError
        If the seed is outside the mask.
    """
    indices = np.argwhere(mask)
    if not len(indices):
        raise ValueError("the brain mask is empty")
    distances = np.linalg.norm(apply_affine(affine, indices) - center_mm, axis=1)
    diagonal = float(np.linalg.norm(affine[:3, :3].sum(axis=1)))
    is_selected = distances <= radius_mm + 1e-6
    if not is_selected.any() and (nearest or distances.min() <= diagonal):
        is_selected = distances == distances.min()
    if not is_selected.any():
        limit_mm = max(radius_mm, diagonal)
        raise ValueError(f"the brain mask contains no voxels within {limit_mm:.3g} mm of the seed")
    seed = np.zeros(mask.shape, dtype=bool)
    seed[tuple(indices[is_selected].T)] = True
    return seed


def regress_out(
    table: pd.DataFrame, nuisance: Float, n_dummy: int = 0, censored: Sequence[int] = ()
) -> pd.DataFrame:
    """Subtract the least-squares fit of nuisance regressors from time series.

    The standard deviation of the residuals is then the amplitude of the fluctuations that are
    mapped, and effects are signal changes per standard deviation of a seed. t does not change,
    because the model contains the same regressors.

    `table` has one row per volume, and `nuisance` one row per volume after the dummies and one
    column per regressor, including a constant. In the result, `n_dummy` dummy volumes and
    `censored` volumes, counted from 0, are NaN.
    """
    residuals = table.astype(np.float64)
    values = residuals.iloc[n_dummy:].to_numpy()
    residuals.iloc[:n_dummy] = np.nan
    residuals.iloc[n_dummy:] = values - nuisance @ np.linalg.lstsq(nuisance, values, rcond=None)[0]
    residuals.iloc[list(censored)] = np.nan
    return residuals


def seed_series(
    reader: SeriesReader, seeds: Mapping[str, MaskArray], n_dummy: int = 0
) -> pd.DataFrame:
    """Return mean time series of seeds by name, one row per volume.

    The series is (X, Y, Z, T), and the voxels of a seed (X, Y, Z). The first `n_dummy` volumes are
    NaN.
    """
    return smoothed_seed_series(reader, seeds, (0.0,), n_dummy)[0.0]


def smoothed_seed_series(
    reader: SeriesReader,
    seeds: Mapping[str, MaskArray],
    smoothing: Sequence[float],
    n_dummy: int = 0,
) -> dict[float, pd.DataFrame]:
    """Return mean time series of seeds in smoothed volumes, by smoothing width.

    Volumes are smoothed in the same way as for maps. The series is read once. `smoothing` are the
    widths of the Gaussian (FWHM, mm); 0 for no smoothing. The series is (X, Y, Z, T), and the
    voxels of a seed (X, Y, Z). There must be at least one seed. The first `n_dummy` volumes are
    NaN.
    """
    boxes = {name: bounding_box(voxels) for name, voxels in seeds.items()}
    values = {width: np.full((reader.shape[3], len(seeds)), np.nan) for width in smoothing}
    for row, volume in enumerate(reader.volumes(n_dummy), n_dummy):
        for width, table in values.items():
            table[row] = [
                _compute_seed_mean(volume, voxels, boxes[name], reader.zooms, width)
                for name, voxels in seeds.items()
            ]
    return {width: pd.DataFrame(table, columns=list(seeds)) for width, table in values.items()}


def _compute_seed_mean(
    volume: Real,
    voxels: MaskArray,
    box: tuple[slice, slice, slice],
    zooms: Sequence[float],
    fwhm_mm: float,
) -> float:
    """Return the mean of a smoothed volume over the voxels of a seed, all inside the box."""
    return float(smooth(volume, zooms, fwhm_mm, box)[voxels[box]].mean(dtype=np.float64))


def segment_count(n_rows: int, n_seeds: int, tr: float) -> int:
    """Return the number of segments of a run: an even number of at least four, about 30 s each.

    The number is limited so that the model keeps enough volumes per regressor. It is 0 if the run
    is shorter than 90 s, or has fewer than 40 volumes or fewer than three volumes per regressor
    with the smallest number of segments.
    """
    min_volumes = max(_MIN_VOLUMES, _MIN_VOLUMES_PER_REGRESSOR * MIN_SEGMENTS * n_seeds)
    if n_rows * tr < _MIN_RUN_S or n_rows < min_volumes:
        return 0
    max_segments = min(
        n_rows * tr / _SEGMENT_S,
        n_rows / (_VOLUMES_PER_REGRESSOR * max(n_seeds, 1)),
        _MAX_SEGMENTS,
    )
    return max(MIN_SEGMENTS, int(max_segments) // 2 * 2)


def segment_regressor(regressor: Float, tr: float, start: float, length: float) -> Float:
    """Return a regressor within one segment, with the segment's mean subtracted and 0 elsewhere.

    `regressor` is the time series of a seed (T,), including dummies; NaN in censored volumes
    becomes 0. `tr`, `start` and `length` of the segment are in s.
    """
    first, stop = round(start / tr), round((start + length) / tr)
    values_in_segment = np.zeros_like(regressor)
    values = regressor[first:stop]
    is_known = ~np.isnan(values)
    if is_known.any():
        values_in_segment[first:stop] = np.where(is_known, values - values[is_known].mean(), 0)
    return values_in_segment
