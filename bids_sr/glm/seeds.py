"""Seed-based connectivity: the seeds of a run without events replace the conditions of a task.

A seed's time series, read once from the acquired series, is the regressor of all series of the
run; their maps are then maps of correlation and of a linear model as those of a task, and every
control of the evaluation holds for them too. Halves of the run are made of segments: a segment's
regressor is the seed within it, its own mean taken off.

Source: seed-correlation maps of TV self-supervision, section 3.3. The choice of seeds as
regressors of one model beside motion and drift, instead of band-passed residuals, is ours: it is
the model that runs with events get.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Float, Mask
from bids_sr.io.nifti import SeriesReader

_SEGMENT_S = 30.0  # about the length of a block of a task
MOST_SEGMENTS, LEAST_SEGMENTS = 20, 4
LEAST_S, LEAST_ROWS = 90.0, 40
_ROWS_PER_REGRESSOR = 5


def seed_voxels(
    mask: Mask,
    affine: Float,
    center_mm: Sequence[float],
    radius_mm: float,
    *,
    nearest: bool = False,
) -> Mask:
    """Return the mask voxels whose centers lie within the radius of a seed.

    If no voxel lies there, it is the nearest voxel within a voxel's diagonal.

    Parameters
    ----------
    mask : Mask
        (X, Y, Z) brain.
    affine : Float
        (4, 4) voxel to RAS mm.
    center_mm : Sequence[float]
        Of the seed, RAS mm of the mask.
    radius_mm : float
        Radius of the sphere (mm).
    nearest : bool, optional
        Whether the nearest voxel is taken at any distance.

    Returns
    -------
    Mask
        Voxels of the seed (3D, boolean), one at least.

    Raises
    ------
    ValueError : the seed lies outside the mask
    """
    at = np.argwhere(mask)
    if not len(at):
        raise ValueError("the brain mask is empty")
    away = np.linalg.norm(apply_affine(affine, at) - center_mm, axis=1)
    diagonal = float(np.linalg.norm(affine[:3, :3].sum(axis=1)))
    chosen = away <= radius_mm + 1e-6
    if not chosen.any() and (nearest or away.min() <= diagonal):
        chosen = away == away.min()
    if not chosen.any():
        limit = max(radius_mm, diagonal)
        raise ValueError(f"the brain mask contains no voxels within {limit:.3g} mm of the seed")
    out = np.zeros(mask.shape, dtype=bool)
    out[tuple(at[chosen].T)] = True
    return out


def without(
    table: pd.DataFrame, nuisance: Float, n_dummy: int = 0, censored: Sequence[int] = ()
) -> pd.DataFrame:
    """Subtract from time series what nuisance regressors explain of them.

    Dummy and censored volumes are NaN; the latter are counted from 0.

    Their standard deviation is then that of what the maps are about, and effects are changes of
    the signal per standard deviation of a seed's own fluctuation; t does not change, as the model
    has the same regressors. `nuisance` is (rows after the dummies, regressors), a constant among
    them.

    Residuals in a table of the same shape.
    """
    out = table.astype(np.float64)
    values = out.iloc[n_dummy:].to_numpy()
    out.iloc[:n_dummy] = np.nan
    out.iloc[n_dummy:] = values - nuisance @ np.linalg.lstsq(nuisance, values, rcond=None)[0]
    out.iloc[list(censored)] = np.nan
    return out


def seed_series(reader: SeriesReader, seeds: Mapping[str, Mask], n_dummy: int = 0) -> pd.DataFrame:
    """Return mean time series of seeds (X, Y, Z) by name, one row per volume.

    Dummy volumes are NaN.

    `seeds`: voxels of each seed (3D, boolean) by name. `ValueError`: no seed lies in the field of
    view.
    """
    flat = {name: np.flatnonzero(voxels) for name, voxels in seeds.items()}
    values = np.full((reader.shape[3], len(flat)), np.nan)
    for row, volume in enumerate(reader.volumes(n_dummy), n_dummy):
        signal = volume.ravel()
        values[row] = [float(signal[voxels].mean(dtype=np.float64)) for voxels in flat.values()]
    return pd.DataFrame(values, columns=list(flat))


def segment_count(n_rows: int, n_seeds: int, tr: float) -> int:
    """Return the number of segments of a run: some 30 s each, even, and four or more.

    There are few enough of them for the model.

    0 for less than 90 s, or fewer volumes than 40 or three times the regressors of the fewest
    segments.
    """
    if n_rows * tr < LEAST_S or n_rows < max(LEAST_ROWS, 3 * LEAST_SEGMENTS * n_seeds):
        return 0
    count = min(
        n_rows * tr / _SEGMENT_S, n_rows / (_ROWS_PER_REGRESSOR * max(n_seeds, 1)), MOST_SEGMENTS
    )
    return max(LEAST_SEGMENTS, int(count) // 2 * 2)


def within(regressor: Float, tr: float, start: float, length: float) -> Float:
    """A regressor within one segment, the mean of the segment taken off, and 0 outside it.

    `regressor`: time series of a seed (T,), dummies included; NaN in censored volumes, which are 0
    in the result.
    """
    first, last = round(start / tr), round((start + length) / tr)
    out = np.zeros_like(regressor)
    values = regressor[first:last]
    known = ~np.isnan(values)
    if known.any():
        out[first:last] = np.where(known, values - values[known].mean(), 0)
    return out
