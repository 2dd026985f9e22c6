"""Confounds of a BOLD run: head motion, signal changes, tissue signals, noise components."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from bids_sr.glm.streamed_fit import StreamedFit, divide_into_batches
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.reproducible_numbers import fix_signs

ColumnDescriptions = dict[str, dict[str, object]]
"""Description, unit and further metadata of each column, by its name."""

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0
_BALL_RADIUS_MM = 80.0  # mm, radius of the ball of `rms_displacement`, as in FSL
_ROWS_PER_SLAB = 4  # rows of a slice per slab: a few MB for 900 volumes
# smallest number of voxels of a tissue mask for which the probability limit is not lowered
_MIN_TISSUE_VOXELS = 20
_PROBABILITY_LIMITS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
_VARIABLE_PERCENTILE = 98  # of the temporal variance, smallest variance of tCompCor voxels
_IQR_PER_SD = 1.3489795  # interquartile range of a normal distribution with SD 1
# residual relative to the norm of a time series; float32 rounding leaves smaller residuals in
# constant voxels
_MIN_RESIDUAL = 1e-6
_MIN_EIGENVALUE = 1e-9  # relative to the largest; smaller eigenvalues are rounding errors


def describe_regressor(text: str) -> dict[str, object]:
    """Return the description of a column without unit."""
    return {"Description": text, "Units": "arbitrary"}


def indicate_volume(volume: int, n_volumes: int) -> Float:
    """Return a column (n_volumes,) that is 1 in one volume, counted from 0, and 0 elsewhere."""
    return (np.arange(n_volumes) == volume).astype(np.float64)


def prepend_dummies(values: Array, n_dummy: int) -> Float:
    """Return a column with 0 in the non-steady-state volumes, followed by the values (T,)."""
    return np.concatenate([np.zeros(n_dummy), values])


def framewise_displacement(params: Array) -> Float:
    """Return framewise displacement (mm), (T,); the first value is NaN.

    Framewise displacement is the sum of absolute changes of the motion parameters (T, 6; mm, rad).
    Rotations are converted to displacements on a sphere of 50 mm. Source: power2012.
    """
    change = np.abs(np.diff(np.asarray(params, dtype=np.float64), axis=0))
    change[:, 3:] *= HEAD_RADIUS_MM
    return np.concatenate([[np.nan], change.sum(axis=1)])


def rms_displacement(matrices: Array, center: Array) -> Float:
    """Return RMS displacement (mm) from the previous volume in a ball of 80 mm; first value NaN.

    Source: jenkinson2002. The published formula is the mean over the ball in closed form.
    `matrices` transform points of the boldref to each volume (T, 4, 4; RAS mm), and `center` is
    the center of the ball (3,; RAS mm).
    """
    change = np.linalg.inv(matrices[1:]) @ matrices[:-1]
    rotation_change = change[:, :3, :3] - np.eye(3)
    shift = rotation_change @ np.asarray(center, dtype=np.float64) + change[:, :3, 3]
    power = (shift**2).sum(axis=1) + (rotation_change**2).sum(axis=(1, 2)) * _BALL_RADIUS_MM**2 / 5
    return np.concatenate([[np.nan], np.sqrt(power)])


def derivative(values: Array) -> Float:
    """Return backward differences; the first value is NaN."""
    values = np.asarray(values, dtype=np.float64)
    return np.concatenate([[np.nan], np.diff(values)])


def _compute_first_autocorrelation(series: Array) -> Float:
    """Return the lag-one autocorrelation (N,) of time series (N, T); 0 for constant series."""
    centered = series - series.mean(axis=1, keepdims=True)
    power = (centered**2).sum(axis=1)
    return (centered[:, 1:] * centered[:, :-1]).sum(axis=1) / np.where(power > 0, power, 1.0)


def _compute_robust_sd(series: Array) -> Float:
    """Return the standard deviation (N,) of time series (N, T), estimated from quartiles."""
    high, low = np.percentile(series, [75, 25], axis=1)
    return (high - low) / _IQR_PER_SD


def dvars(volumes: Iterable[Array], mask: MaskArray) -> Float:
    """Return DVARS in the mask (signal units), (T,); the first value is NaN.

    DVARS is the root mean square change from the previous volume. Source: power2012.
    """
    values: list[float] = []
    previous: Array | None = None
    for volume in volumes:
        current = volume[mask].astype(np.float64)
        values.append(
            np.nan if previous is None else float(np.sqrt(((current - previous) ** 2).mean()))
        )
        previous = current
    return np.array(values)


def compute_expected_change(slabs: Iterable[Array]) -> float:
    """Return the expected change between volumes of a stationary series (signal units).

    The value is the mean over voxels of sqrt(2 (1 - ar1)) · SD, with a robust standard deviation
    and the lag-one autocorrelation. Source: nichols2017, standardized DVARS. `slabs` are time
    series of some voxels, one voxel per row (N, T). NaN if there are no voxels.
    """
    total, n_voxels = 0.0, 0
    for series in slabs:
        ar1, sd = _compute_first_autocorrelation(series), _compute_robust_sd(series)
        total += float((np.sqrt(2 * (1 - ar1)) * sd).sum())
        n_voxels += len(series)
    return total / n_voxels if n_voxels else np.nan


def tissue_masks(tpms: Sequence[Array], mask: MaskArray) -> dict[str, MaskArray]:
    """Return masks of CSF and white matter in the brain, and of their deep parts, by name.

    The masks `deep_csf`, `deep_white_matter` and, for both tissues, `deep` exclude voxels next to
    gray matter. Low-resolution grids have few pure voxels. If a mask has fewer than 20 voxels, the
    probability limit is lowered in steps, and deep voxels may be next to gray matter. Masks may be
    empty.

    `tpms` are the probabilities of gray matter, white matter and CSF, in this order, and all maps
    are (X, Y, Z).
    """
    gray_matter, white_matter, csf = (
        np.asarray(probability, dtype=np.float64) for probability in tpms
    )
    deep_region = mask & ~ndimage.binary_dilation(gray_matter > 0.5)
    either_tissue = np.maximum(white_matter, csf)
    sum_of_tissues = white_matter + csf
    return {
        "csf": _select_pure_voxels(csf, mask),
        "white_matter": _select_pure_voxels(white_matter, mask),
        "deep_csf": _select_deep_voxels(csf, deep_region, csf, mask),
        "deep_white_matter": _select_deep_voxels(white_matter, deep_region, white_matter, mask),
        "deep": _select_deep_voxels(either_tissue, deep_region, sum_of_tissues, mask),
    }


def _select_pure_voxels(probability: Array, region: MaskArray) -> MaskArray:
    """Return the voxels of a region with a high tissue probability, if possible at least 20."""
    pure_voxels = np.zeros_like(region)
    for limit in _PROBABILITY_LIMITS:
        pure_voxels = (probability >= limit) & region
        if pure_voxels.sum() >= _MIN_TISSUE_VOXELS:
            break
    return pure_voxels


def _select_deep_voxels(
    probability: Array, deep_region: MaskArray, brain_probability: Array, mask: MaskArray
) -> MaskArray:
    """Return pure voxels of the deep region or, if there are too few, of the brain mask.

    `probability` is the tissue probability in the deep region, and `brain_probability` in the
    brain.
    """
    deep_voxels = _select_pure_voxels(probability, deep_region)
    if deep_voxels.sum() >= _MIN_TISSUE_VOXELS:
        return deep_voxels
    return _select_pure_voxels(brain_probability, mask)


class _PrincipalComponents(NamedTuple):
    """Temporal principal components of voxels, the strongest first.

    `components` (T, C) have unit length and a positive largest entry. `singular_values` (C,) are
    singular values of the series scaled to unit standard deviation, and `fractions` (C,) fractions
    of variance.
    """

    components: Float
    singular_values: Float
    fractions: Float


def principal_components(slabs: Iterable[Array], basis: Float) -> _PrincipalComponents:
    """Return the temporal principal components of many voxels, the strongest first.

    Voxels are processed in slabs and never held in memory together. Source: behzadi2007,
    anatomical CompCor. `slabs` are time series of some voxels (N, T). The orthonormal columns of
    `basis` (T, K: constant, slow cosines, trend) are regressed out first. There are as many
    components as the rank of the voxels.
    """
    gram = np.zeros((len(basis), len(basis)))
    for series in slabs:
        residual = series - (series @ basis) @ basis.T
        residual_norm = np.linalg.norm(residual, axis=1, keepdims=True)
        series_norm = np.maximum(np.linalg.norm(series, axis=1), 1e-30)
        varies = residual_norm[:, 0] > _MIN_RESIDUAL * series_norm
        scaled = residual[varies] / residual_norm[varies]
        gram += scaled.T @ scaled
    eigenvalues, eigenvectors = np.linalg.eigh(gram)
    descending = np.argsort(eigenvalues)[::-1]
    smallest = _MIN_EIGENVALUE * max(float(eigenvalues.max()), 1e-300)
    nonzero = descending[eigenvalues[descending] > smallest]
    components = fix_signs(eigenvectors[:, nonzero])
    singular_values = np.sqrt(len(gram) * np.maximum(eigenvalues[nonzero], 0))
    total = float(np.trace(gram)) or 1.0
    return _PrincipalComponents(components, singular_values, eigenvalues[nonzero] / total)


def iterate_slabs(reader: SeriesReader, mask: MaskArray, first: int) -> Iterator[Array]:
    """Yield time series (N, T - first) of mask voxels, float64, some rows of a slice at a time.

    `first` is the first volume, counted from 0. Rows of a slice without mask voxels are not read.
    """
    for z in range(reader.shape[2]):
        filled_rows = np.flatnonzero(mask[:, :, z].any(axis=0))
        if not len(filled_rows):
            continue
        begin, end = filled_rows[0] // _ROWS_PER_SLAB * _ROWS_PER_SLAB, filled_rows[-1] + 1
        slab = reader.slab(z, z + 1, rows=slice(begin, end), volumes=slice(first, None))[:, :, 0]
        for y in range(begin, end, _ROWS_PER_SLAB):
            slab_mask = mask[:, y : min(y + _ROWS_PER_SLAB, end), z]
            if slab_mask.any():
                rows = slab[:, y - begin : y - begin + _ROWS_PER_SLAB]
                yield rows[slab_mask].astype(np.float64)


def select_most_variable(reader: SeriesReader, mask: MaskArray, first: int) -> MaskArray:
    """Return the 2 % of mask voxels with the largest variance around a parabola, in one pass.

    `first` is the first volume, counted from 0. Source: behzadi2007, tCompCor.
    """
    n_steady = reader.shape[3] - first
    trends = np.linalg.qr(np.vander(np.linspace(-1, 1, n_steady), 3))[0]
    fit = StreamedFit(trends, reader.volume(first)[mask].astype(np.float64))
    for batch in divide_into_batches(reader.volumes(start=first)):
        fit.add(np.stack([volume[mask] for volume in batch]))
    variance = fit.residual_variance(1)
    variable_voxels = np.zeros_like(mask)
    variable_voxels[mask] = variance >= np.percentile(variance, _VARIABLE_PERCENTILE)
    return variable_voxels


def mean_signals(
    reader: SeriesReader, masks: dict[str, MaskArray]
) -> tuple[dict[str, Float], Float]:
    """Return the mean signal of each mask, and DVARS in the first mask, in one pass.

    `masks` are nonempty voxel sets (X, Y, Z, boolean) by name.
    """
    means: dict[str, list[float]] = {name: [] for name in masks}
    # The means are added while `dvars` reads the volumes.
    changes = dvars(_add_means(reader, masks, means), next(iter(masks.values())))
    return {name: np.array(values) for name, values in means.items()}, changes


def _add_means(
    reader: SeriesReader, masks: Mapping[str, MaskArray], means: Mapping[str, list[float]]
) -> Iterator[Array]:
    """Yield the volumes of a series, and append their mean in each mask to `means`."""
    for volume in reader.volumes():
        for name, mask in masks.items():
            means[name].append(float(volume[mask].mean(dtype=np.float64)))
        yield volume


def motion_table(params: Array, residual: Array) -> pd.DataFrame:
    """Return the six motion parameters (T, 6; mm, rad) and the residual (T,) as a table."""
    table = pd.DataFrame(np.asarray(params), columns=list(MOTION))
    return table.assign(residual=np.asarray(residual))


def motion_columns(motion: pd.DataFrame) -> dict[str, Float]:
    """Return the six motion parameters, their backward differences and FD, by column name."""
    columns: dict[str, Float] = {}
    for name in MOTION:
        values = motion[name].to_numpy(dtype=np.float64)
        columns[name] = values
        columns[f"{name}_derivative1"] = derivative(values)
    columns["framewise_displacement"] = framewise_displacement(
        np.stack([columns[name] for name in MOTION], axis=1)
    )
    return columns


def is_complete(values: pd.Series) -> bool:
    """Return True if a confound has a number in every volume after the first.

    Derivatives are undefined in the first volume.
    """
    return bool(np.isfinite(values.to_numpy(dtype=np.float64)[1:]).all())
