"""Confounds table of a BOLD run, with the names, definitions and descriptions of fMRIPrep.

Programs that read the table of fMRIPrep can therefore read this table unchanged. Expansions and
motion outliers are computed by niworkflows (ExpandModel, SpikeRegressors), and polynomials and
cosines by nipype. DVARS and CompCor have nipype's definitions but are computed in slabs: for a
series of 84 x 84 x 56 x 300 values, both libraries need 1.5 GB and 21 s, and this table .2 GB and
2.8 s. DVARS is summed in double precision; nipype's single precision changes it by up to 5e-5.
`rmsd` and the least number of five components are ours.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.confound_names import (
    COSINE,
    EXPANDED_SIGNALS,
    EXPANSIONS,
    MOTION_PARAMETERS,
    NOISE_MASKS,
    NONSTEADY,
    ColumnDescriptions,
    describe_columns,
    describe_regressor,
)
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.drift import CUTOFF_S
from bids_sr.preproc.head_motion import framewise_displacement, rms_displacement
from bids_sr.preproc.streamed_median import streamed_median
from bids_sr.preproc.temporal_regressors import censor_columns, indicate_volume, prepend_dummies
from bids_sr.spatial.reproducible_numbers import fix_signs

_MIN_COMPONENTS = 5  # components per mask, the number that XCP-D and the linear model read
# column of the mean signal of each tissue mask of `tissue_masks`
_COLUMN_OF_TISSUE = {"csf": "csf", "white_matter": "white_matter", "deep": "csf_wm"}
# fraction of variance that the components of a mask explain together, unless all are requested
_EXPLAINED_FRACTION = 0.5
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


def build_confound_table(
    reader: SeriesReader,
    mask: MaskArray,
    motion: pd.DataFrame,
    matrices: Array,
    *,
    tpms: Sequence[Array] | None = None,
    n_dummy: int = 0,
    fd_mm: float = 0.5,
    std_dvars: float = 1.5,
    all_components: bool = False,
    outliers: Mapping[int, str] | None = None,
) -> tuple[pd.DataFrame, ColumnDescriptions]:
    """Return the confounds table of a motion-corrected series, with column descriptions.

    Parameters
    ----------
    reader : SeriesReader
        Motion-corrected series (uncompressed).
    mask : MaskArray
        Brain on the grid of the series.
    motion : pd.DataFrame
        Motion parameters, one row per volume, with the columns MOTION_PARAMETERS (mm, rad).
    matrices : Array
        Transforms of points of the boldref to each volume (T, 4, 4; RAS mm).
    tpms : Sequence[Array] | None, optional
        Probabilities of gray matter, white matter and cerebrospinal fluid on the grid; None to
        omit tissue signals and aCompCor.
    n_dummy : int, optional
        Number of volumes at the start that are not in the steady state.
    fd_mm, std_dvars : float, optional
        Thresholds of framewise displacement (mm) and standardized DVARS. A volume above either
        threshold has a motion-outlier column.
    all_components : bool, optional
        Whether all CompCor components are included; otherwise the first components that explain
        half of the variance, but at least five.
    outliers : Mapping[int, str] | None, optional
        Volumes that were replaced by interpolation, with the reason. Each has a motion-outlier
        column and a column that excludes it from models.

    Returns
    -------
    tuple[pd.DataFrame, ColumnDescriptions]
        Table, one row per volume, NaN if a value is undefined; and descriptions by column.
    """
    n_volumes = reader.shape[3]
    masks = {} if tpms is None else tissue_masks(tpms, mask)
    tissues = {name: tissue_mask for name, tissue_mask in masks.items() if tissue_mask.any()}
    tissue_signals = {
        column: tissues[name] for name, column in _COLUMN_OF_TISSUE.items() if name in tissues
    }
    signals = mean_signals(reader, {"global_signal": mask, **tissue_signals})
    changes = measure_changes(reader, mask, n_dummy)
    center = reader.affine[:3] @ [*((np.array(reader.shape[:3]) - 1) / 2), 1]
    six = motion[list(MOTION_PARAMETERS)].astype(np.float64).reset_index(drop=True)
    summary = pd.DataFrame(
        {
            **signals,
            "dvars": changes.dvars,
            "std_dvars": changes.std_dvars,
            "framewise_displacement": framewise_displacement(six.to_numpy()),
            "rmsd": rms_displacement(np.asarray(matrices), center),
        }
    )
    table = _expand_signals(summary.join(six))
    regressors: dict[str, _Regressor] = {}
    if n_volumes - n_dummy > 2:
        regressors |= _make_drift_regressors(n_volumes, n_dummy, reader.tr)
        noise_masks = {**tissues, "most_variable": changes.most_variable}
        for prefix, (name, *_) in NOISE_MASKS.items():
            if name in noise_masks:
                regressors |= _compute_components(
                    reader, prefix, noise_masks[name], n_dummy, all_components=all_components
                )
    regressors |= _mark_outliers(table, fd_mm, std_dvars, outliers or {})
    values = pd.DataFrame(
        {name: regressor.values for name, regressor in regressors.items()}, index=table.index
    )
    descriptions = describe_columns(table) | {
        name: regressor.description for name, regressor in regressors.items()
    }
    marked = mark_nonsteady(pd.concat([table, values], axis=1), descriptions, n_dummy)
    return censor_outliers(*marked, outliers or {})


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


def _select_pure_voxels(probability: Array, region: MaskArray) -> MaskArray:
    """Return the voxels of a region with a high tissue probability, if possible at least 20."""
    pure_voxels = np.zeros_like(region)
    for limit in _PROBABILITY_LIMITS:
        pure_voxels = (probability >= limit) & region
        if pure_voxels.sum() >= _MIN_TISSUE_VOXELS:
            break
    return pure_voxels


def mean_signals(reader: SeriesReader, masks: Mapping[str, MaskArray]) -> dict[str, Float]:
    """Return the mean signal (T,) of each mask (X, Y, Z; nonempty), in one pass."""
    means = [
        [float(volume[mask].mean(dtype=np.float64)) for mask in masks.values()]
        for volume in reader.volumes()
    ]
    return dict(zip(masks, np.array(means).T, strict=True))


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


def _expand_signals(table: pd.DataFrame) -> pd.DataFrame:
    """Add squares, backward differences and squared differences of motion and mean signals.

    They follow their signal in a fixed order, whereas niworkflows orders them at random.
    """
    from niworkflows.interfaces.confounds import parse_formula

    names = " + ".join(name for name in (*MOTION_PARAMETERS, *EXPANDED_SIGNALS) if name in table)
    _, expanded = parse_formula(f"(dd1({names}))^^2 + others", table)
    return expanded.filter([f"{name}{suffix}" for name in table for suffix in EXPANSIONS])


class _Regressor(NamedTuple):
    """Values of a column (T,), and its description."""

    values: Array
    description: dict[str, object]


def _make_drift_regressors(n_volumes: int, n_dummy: int, tr: float) -> dict[str, _Regressor]:
    """Return the unit-length cosines removed before CompCor, 0 in non-steady-state volumes."""
    from nipype.algorithms.confounds import cosine_filter

    regressors: dict[str, _Regressor] = {}
    _, cosines = cosine_filter(np.zeros((1, n_volumes - n_dummy)), tr, CUTOFF_S)
    for k, values in enumerate(cosines.T):
        period_s = 2 * (n_volumes - n_dummy) * tr / (k + 1)
        description = describe_regressor(
            f"Discrete cosine regressor with a period of {period_s:.4g} s, removed before "
            "CompCor; 0 in non-steady-state volumes"
        )
        regressors[f"{COSINE}{k:02d}"] = _Regressor(prepend_dummies(values, n_dummy), description)
    return regressors


def _compute_components(
    reader: SeriesReader,
    prefix: str,
    voxels: MaskArray,
    n_dummy: int,
    *,
    all_components: bool,
) -> dict[str, _Regressor]:
    """Return the components of a mask, 0 in non-steady-state volumes.

    `prefix` is their name without number.
    """
    components, singular_values, fractions = principal_components(
        iterate_slabs(reader, voxels, n_dummy), reader.tr
    )
    cumulative_fractions = np.cumsum(fractions)
    n_components = len(fractions)
    if not all_components:
        n_required = int(np.searchsorted(cumulative_fractions, _EXPLAINED_FRACTION)) + 1
        n_components = min(max(n_required, _MIN_COMPONENTS), n_components)
    _, mask_name, location = NOISE_MASKS[prefix]
    method = "aCompCor" if mask_name else "tCompCor"
    regressors: dict[str, _Regressor] = {}
    for k in range(n_components):
        description: dict[str, object] = {
            **describe_regressor(
                f"Component {k} of {method}, computed from {location} "
                f"({int(voxels.sum())} voxels) after high-pass filtering (cut-off period "
                f"{CUTOFF_S:g} s); 0 in non-steady-state volumes"
            ),
            "Method": method,
            **({"Mask": mask_name} if mask_name else {}),
            "Retained": True,
            "SingularValue": float(singular_values[k]),
            "VarianceExplained": float(fractions[k]),
            "CumulativeVarianceExplained": float(cumulative_fractions[k]),
        }
        values = prepend_dummies(components[:, k], n_dummy)
        regressors[f"{prefix}{k:02d}"] = _Regressor(values, description)
    return regressors


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
        slab = reader.slab(z, rows=rows, volumes=slice(first, None))[:, :, 0]
        voxels = np.argwhere(mask[:, rows, z])
        for begin in range(0, len(voxels), _VOXELS_PER_SLAB):
            yield slab[tuple(voxels[begin : begin + _VOXELS_PER_SLAB].T)]


def _mark_outliers(
    table: pd.DataFrame, fd_mm: float, std_dvars: float, replaced: Mapping[int, str]
) -> dict[str, _Regressor]:
    """Return one column per outlier volume, 1 in this volume, else 0.

    A volume is an outlier if its framewise displacement or its standardized DVARS exceeds the
    threshold, or if it is one of the volumes that were replaced.
    """
    from niworkflows.interfaces.confounds import spike_regressors

    spikes = spike_regressors(
        table.assign(replaced=table.index.isin(list(replaced))),
        {
            "framewise_displacement": (">", fd_mm),
            "std_dvars": (">", std_dvars),
            "replaced": (">", 0),
        },
        concatenate=False,
    )
    regressors: dict[str, _Regressor] = {}
    for name, values in spikes.items():
        volume = int(values.argmax())
        reason = replaced.get(
            volume,
            f"framewise displacement exceeds {fd_mm:g} mm in this volume, or std_dvars exceeds "
            f"{std_dvars:g}",
        )
        description = describe_regressor(f"1 in volume {volume} and 0 elsewhere; {reason}")
        regressors[str(name)] = _Regressor(values.to_numpy(), description)
    return regressors


def mark_nonsteady(
    table: pd.DataFrame, column_descriptions: ColumnDescriptions, n_dummy: int
) -> tuple[pd.DataFrame, ColumnDescriptions]:
    """Add a column for each non-steady-state volume, and its description."""
    names = [f"{NONSTEADY}{k:02d}" for k in range(n_dummy)]
    columns = {name: indicate_volume(k, len(table)) for k, name in enumerate(names)}
    descriptions = {
        name: describe_regressor(
            f"1 in volume {k} and 0 elsewhere; the volume was acquired before the steady "
            "state was reached"
        )
        for k, name in enumerate(names)
    }
    return table.assign(**columns), {**column_descriptions, **descriptions}


def censor_outliers(
    table: pd.DataFrame, column_descriptions: ColumnDescriptions, outliers: Mapping[int, str]
) -> tuple[pd.DataFrame, ColumnDescriptions]:
    """Add a column that excludes a volume from models for each outlier, and its description.

    `outliers` are volumes that do not show the head as the other volumes do, with the reason.
    """
    columns, descriptions = censor_columns(outliers, len(table))
    return table.assign(**columns), {**column_descriptions, **descriptions}
