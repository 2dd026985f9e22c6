"""Confounds of a BOLD run: head motion, signal changes, tissue signals, noise components."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.glm.drift import CUTOFF_S
from bids_sr.glm.streamed_median import streamed_median
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.reproducible_numbers import fix_signs

ColumnDescriptions = dict[str, dict[str, object]]
"""Description, unit and further metadata of each column, by its name."""

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0
_BALL_RADIUS_MM = 80.0  # mm, radius of the ball of `rms_displacement`, as in FSL
_VOXELS_PER_SLAB = 2000  # 14 MB for 900 volumes (float64)
# smallest number of voxels of a tissue mask for which the probability limit is not lowered
_MIN_TISSUE_VOXELS = 20
_PROBABILITY_LIMITS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
_VARIABLE_PERCENTILE = 98  # of temporal SD, smallest SD of tCompCor voxels
_IQR_PER_SD = 1.349  # interquartile range of a normal distribution with SD 1, as in nipype
_SCALED_MEDIAN = 1000.0  # median of the series after scaling, in the computation of DVARS
# residual SD relative to the largest value of a time series; rounding leaves smaller residuals in
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
    Rotations are converted to displacements on a sphere of 50 mm. Source: power2012. Equal to
    nipype's ``FramewiseDisplacement`` (`benchmarks/confounds.py`), whose import would take .6 s in
    the dry run.
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


@frozen
class SignalChanges:
    """Signal changes in the brain mask.

    `dvars` and `std_dvars` (T,) have the definitions of nipype's ``compute_dvars``, with NaN in
    the first volume. `most_variable` (X, Y, Z) are the voxels of tCompCor.
    """

    dvars: Float
    std_dvars: Float
    most_variable: MaskArray


def measure_changes(reader: SeriesReader, mask: MaskArray, n_dummy: int) -> SignalChanges:
    """Return signal changes in the mask, in slabs.

    Source: power2012, DVARS; nichols2017, standardized DVARS; behzadi2007, tCompCor. As in nipype
    and fMRIPrep, voxels with equal quartiles are excluded from DVARS, and all volumes are included
    in its standardization. The voxels of tCompCor are the 2 % with the largest standard deviation
    around a parabola in the steady state.
    """
    from nipype.algorithms.confounds import regress_poly

    power, expected_sum, n_varying = np.zeros(reader.shape[3] - 1), 0.0, 0
    deviations = []
    for series in iterate_slabs(reader, mask, 0):
        deviations.append(regress_poly(2, series[:, n_dummy:])[0].std(axis=1))
        lower, upper = np.percentile(series, [25, 75], axis=1, method="lower")
        varies = upper > lower
        varying = series[varies].astype(np.float64)
        n_varying += len(varying)
        power += (np.diff(varying, axis=1) ** 2).sum(axis=0)
        sd = (upper - lower)[varies] / _IQR_PER_SD
        expected_sum += float((np.sqrt(2 * (1 - first_autocorrelation(varying))) * sd).sum())
    most_variable = np.zeros_like(mask)
    deviation = np.concatenate(deviations)
    by_slice = mask.transpose(2, 0, 1)
    most_variable.transpose(2, 0, 1)[by_slice] = deviation >= np.percentile(
        deviation, _VARIABLE_PERCENTILE
    )
    median = streamed_median(lambda: iterate_slabs(reader, mask, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.concatenate([[np.nan], np.sqrt(power / n_varying)])
        return SignalChanges(
            dvars=change * (_SCALED_MEDIAN / median if median > 0 else np.nan),
            std_dvars=change * n_varying / expected_sum,
            most_variable=most_variable,
        )


def first_autocorrelation(series: Array) -> Float:
    """Return the first coefficient (N,) of an autoregression of time series (N, T).

    Equal to ``AR_est_YW`` of nitime, which needs 6 s for 130,000 series of 300 volumes.
    """
    centered = series - series.mean(axis=1, keepdims=True)
    lagged_product = np.einsum("nt,nt->n", centered[:, 1:], centered[:, :-1])
    return lagged_product / np.einsum("nt,nt->n", centered, centered)


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


def principal_components(slabs: Iterable[Array], tr: float) -> _PrincipalComponents:
    """Return the temporal principal components of many voxels, the strongest first.

    Definitions are as in nipype's ``compute_noise_components``, which holds several copies of the
    series in memory. Here, slabs are summed to a matrix of volumes x volumes. Constant voxels are
    excluded, whereas nipype scales their rounding errors to a standard deviation of 1. Source:
    behzadi2007, anatomical CompCor.

    `slabs` are time series of some voxels (N, T), and `tr` is in s. There are as many components
    as the rank of the voxels.
    """
    gram = np.asarray(sum(_multiply_volumes(series, tr) for series in slabs))
    eigenvalues, eigenvectors = np.linalg.eigh(gram)
    descending = np.argsort(eigenvalues)[::-1]
    smallest = _MIN_EIGENVALUE * max(float(eigenvalues.max()), 1e-300)
    nonzero = descending[eigenvalues[descending] > smallest]
    components = fix_signs(eigenvectors[:, nonzero])
    total = float(np.trace(gram)) or 1.0
    return _PrincipalComponents(
        components, np.sqrt(eigenvalues[nonzero]), eigenvalues[nonzero] / total
    )


def _multiply_volumes(series: Array, tr: float) -> Float:
    """Return inner products of volumes (T, T), after high-pass filtering and scaling to SD 1."""
    from nipype.algorithms.confounds import cosine_filter

    residual = cosine_filter(series, tr, CUTOFF_S)[0]
    sd = residual.std(axis=1)
    varies = sd > _MIN_RESIDUAL * np.abs(series).max(axis=1)
    scaled = residual[varies] / sd[varies, None]
    return scaled.T @ scaled


def iterate_slabs(reader: SeriesReader, mask: MaskArray, first: int) -> Iterator[Array]:
    """Yield time series (N, T - first) of mask voxels, at most 2000 of a slice at a time.

    The order is by slice, then by the first and second axis. `first` is the first volume, counted
    from 0. Rows of a slice without mask voxels are not read.
    """
    for z in range(reader.shape[2]):
        filled_rows = np.flatnonzero(mask[:, :, z].any(axis=0))
        if not len(filled_rows):
            continue
        rows = slice(filled_rows[0], filled_rows[-1] + 1)
        slab = reader.slab(z, z + 1, rows=rows, volumes=slice(first, None))[:, :, 0]
        voxels = np.argwhere(mask[:, rows, z])
        for begin in range(0, len(voxels), _VOXELS_PER_SLAB):
            yield slab[tuple(voxels[begin : begin + _VOXELS_PER_SLAB].T)]


def mean_signals(reader: SeriesReader, masks: Mapping[str, MaskArray]) -> dict[str, Float]:
    """Return the mean signal (T,) of each mask (X, Y, Z; nonempty), in one pass."""
    means = [
        [float(volume[mask].mean(dtype=np.float64)) for mask in masks.values()]
        for volume in reader.volumes()
    ]
    return dict(zip(masks, np.array(means).T, strict=True))


def motion_table(params: Array, residual: Array) -> pd.DataFrame:
    """Return the six motion parameters (T, 6; mm, rad) and the residual (T,) as a table."""
    table = pd.DataFrame(np.asarray(params), columns=list(MOTION))
    return table.assign(residual=np.asarray(residual))


def motion_columns(motion: pd.DataFrame) -> pd.DataFrame:
    """Return the six motion parameters, their backward differences and FD, without nipype."""
    six = motion[list(MOTION)].astype(np.float64)
    return six.join(six.diff().add_suffix("_derivative1")).assign(
        framewise_displacement=framewise_displacement(six.to_numpy())
    )


def is_complete(values: pd.Series) -> bool:
    """Return True if a confound has a number in every volume after the first.

    Derivatives are undefined in the first volume.
    """
    return bool(np.isfinite(values.to_numpy(dtype=np.float64)[1:]).all())
