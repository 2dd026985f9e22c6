"""Confounds table of a BOLD run, with the names, definitions and descriptions of fMRIPrep.

Programs that read the table of fMRIPrep can therefore read this table unchanged. Expansions and
motion outliers are computed by niworkflows (ExpandModel, SpikeRegressors), and polynomials and
cosines by nipype. DVARS and CompCor have nipype's definitions but are computed in slabs
(`glm.confounds`): for a series of 84 x 84 x 56 x 300 values, both libraries need 1.5 GB and 21 s,
and this table .2 GB and 2.8 s. DVARS is summed in double precision; nipype's single precision
changes it by up to 5e-5. `rmsd` and the least number of five components are ours.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from bids_sr.glm.confounds import (
    HEAD_RADIUS_MM,
    MOTION,
    ColumnDescriptions,
    describe_regressor,
    framewise_displacement,
    indicate_volume,
    iterate_slabs,
    mean_signals,
    measure_changes,
    prepend_dummies,
    principal_components,
    rms_displacement,
    tissue_masks,
)
from bids_sr.glm.drift import CUTOFF_S
from bids_sr.glm.temporal_regressors import censor_columns
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.nifti import SeriesReader

_MIN_COMPONENTS = 5  # components per mask, the number that XCP-D and the linear model read
_SIGNALS = ("global_signal", "csf", "white_matter")
"""Mean signals that are expanded in the same way as head motion."""
# column of the mean signal of each tissue mask of `tissue_masks`
_COLUMN_OF_TISSUE = {"csf": "csf", "white_matter": "white_matter", "deep": "csf_wm"}
# fraction of variance that the components of a mask explain together, unless all are requested
_EXPLAINED_FRACTION = 0.5
_MOST_VARIABLE = "most_variable"
_NOISE_MASKS = {
    "a": ("deep", "combined", "voxels deep inside white matter and cerebrospinal fluid"),
    "w": ("deep_white_matter", "WM", "voxels deep inside white matter"),
    "c": ("deep_csf", "CSF", "voxels deep inside cerebrospinal fluid"),
    "t": (_MOST_VARIABLE, "", "the voxels with the highest temporal variance"),
}
"""Masks of CompCor by prefix of the components: name here, name in fMRIPrep, and description."""


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
        Motion parameters, one row per volume, with the columns MOTION (mm, rad).
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

    Raises
    ------
    ValueError
        If rows and volumes differ in number, or if the mask is empty or on another grid.
    """
    _check_inputs(reader, mask, motion, matrices)
    n_volumes = reader.shape[3]
    masks = {} if tpms is None else tissue_masks(tpms, mask)
    tissues = {name: tissue_mask for name, tissue_mask in masks.items() if tissue_mask.any()}
    tissue_signals = {
        _COLUMN_OF_TISSUE[name]: tissue_mask
        for name, tissue_mask in tissues.items()
        if name in _COLUMN_OF_TISSUE
    }
    signals = mean_signals(reader, {"global_signal": mask, **tissue_signals})
    changes = measure_changes(reader, mask, n_dummy)
    center = reader.affine[:3] @ [*((np.array(reader.shape[:3]) - 1) / 2), 1]
    six = motion[list(MOTION)].astype(np.float64).reset_index(drop=True)
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
    descriptions = describe_columns(table)
    columns: dict[str, Float] = {}
    if n_volumes - n_dummy > 2:
        columns |= _make_drift_columns(n_volumes, n_dummy, reader.tr, descriptions)
        noise_masks = {**tissues, _MOST_VARIABLE: changes.most_variable}
        for prefix, (name, *_) in _NOISE_MASKS.items():
            if name in noise_masks:
                columns |= _compute_components(
                    reader,
                    prefix,
                    noise_masks[name],
                    n_dummy,
                    descriptions,
                    all_components=all_components,
                )
    spikes = _make_outlier_columns(table, descriptions, fd_mm, std_dvars, outliers or {})
    table = pd.concat([table, pd.DataFrame(columns, index=table.index), spikes], axis=1)
    mark_nonsteady(table, descriptions, n_dummy)
    return censor_outliers(table, descriptions, outliers or {})


def _check_inputs(
    reader: SeriesReader, mask: MaskArray, motion: pd.DataFrame, matrices: Array
) -> None:
    """Raise ValueError if numbers of volumes or grids differ, or if the mask is empty."""
    n_volumes = reader.shape[3]
    if (
        not n_volumes == len(motion) == len(matrices)
        or mask.shape != reader.shape[:3]
        or not mask.any()
    ):
        raise ValueError(
            f"{reader.path}: the inputs do not match. The series has {n_volumes} volumes on a "
            f"{reader.shape[:3]} grid, the motion table has {len(motion)} rows, and the mask "
            f"has {int(mask.sum())} voxels on a {mask.shape} grid."
        )


def censor_outliers(
    table: pd.DataFrame, column_descriptions: ColumnDescriptions, outliers: Mapping[int, str]
) -> tuple[pd.DataFrame, ColumnDescriptions]:
    """Add a column that excludes a volume from models for each outlier, and its description.

    `outliers` are volumes that do not show the head as the other volumes do, with the reason.
    """
    columns, descriptions = censor_columns(outliers, len(table))
    return table.assign(**columns), {**column_descriptions, **descriptions}


def _expand_signals(table: pd.DataFrame) -> pd.DataFrame:
    """Add squares, backward differences and squared differences of motion and mean signals.

    They follow their signal in a fixed order, whereas niworkflows orders them at random.
    """
    from niworkflows.interfaces.confounds import parse_formula

    names = " + ".join(name for name in (*MOTION, *_SIGNALS) if name in table)
    _, expanded = parse_formula(f"(dd1({names}))^^2 + others", table)
    suffixes = ("", "_derivative1", "_power2", "_derivative1_power2")
    return expanded.filter([f"{name}{suffix}" for name in table for suffix in suffixes])


def _make_outlier_columns(
    table: pd.DataFrame,
    descriptions: ColumnDescriptions,
    fd_mm: float,
    std_dvars: float,
    replaced: Mapping[int, str],
) -> pd.DataFrame:
    """Return one column per outlier volume (1 in this volume, else 0), and describe them.

    A volume is an outlier if its framewise displacement or its standardized DVARS exceeds the
    threshold, or if it is one of the volumes that were replaced. Descriptions are added to
    `descriptions`.
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
    for name, values in spikes.items():
        volume = int(values.argmax())
        reason = replaced.get(
            volume,
            f"framewise displacement exceeds {fd_mm:g} mm in this volume, or std_dvars exceeds "
            f"{std_dvars:g}",
        )
        descriptions[name] = describe_regressor(f"1 in volume {volume} and 0 elsewhere; {reason}")
    return spikes


def mark_nonsteady(table: pd.DataFrame, descriptions: ColumnDescriptions, n_dummy: int) -> None:
    """Add a column for each non-steady-state volume to the table, and its description."""
    for k in range(n_dummy):
        name = f"non_steady_state_outlier{k:02d}"
        table[name] = indicate_volume(k, len(table))
        descriptions[name] = describe_regressor(
            f"1 in volume {k} and 0 elsewhere; the volume was acquired before the steady "
            "state was reached"
        )


def _make_drift_columns(
    n_volumes: int, n_dummy: int, tr: float, descriptions: ColumnDescriptions
) -> dict[str, Float]:
    """Return the unit-length cosines removed before CompCor, 0 in non-steady-state volumes.

    Descriptions are added to `descriptions`.
    """
    from nipype.algorithms.confounds import cosine_filter

    regressors: dict[str, Float] = {}
    _, cosines = cosine_filter(np.zeros((1, n_volumes - n_dummy)), tr, CUTOFF_S)
    for k, values in enumerate(cosines.T):
        period_s = 2 * (n_volumes - n_dummy) * tr / (k + 1)
        name = f"cosine{k:02d}"
        regressors[name] = prepend_dummies(values, n_dummy)
        descriptions[name] = describe_regressor(
            f"Discrete cosine regressor with a period of {period_s:.4g} s, removed before "
            "CompCor; 0 in non-steady-state volumes"
        )
    return regressors


def _compute_components(
    reader: SeriesReader,
    prefix: str,
    voxels: MaskArray,
    n_dummy: int,
    descriptions: ColumnDescriptions,
    *,
    all_components: bool,
) -> dict[str, Float]:
    """Return the components of a mask, 0 in non-steady-state volumes, and describe them.

    `prefix` is the prefix of their names. Descriptions are added to `descriptions`.
    """
    components, singular_values, fractions = principal_components(
        iterate_slabs(reader, voxels, n_dummy), reader.tr
    )
    cumulative_fractions = np.cumsum(fractions)
    n_components = len(fractions)
    if not all_components:
        n_required = int(np.searchsorted(cumulative_fractions, _EXPLAINED_FRACTION)) + 1
        n_components = min(max(n_required, _MIN_COMPONENTS), n_components)
    _, mask_name, location = _NOISE_MASKS[prefix]
    method = "aCompCor" if mask_name else "tCompCor"
    regressors: dict[str, Float] = {}
    for k in range(n_components):
        name = f"{prefix}_comp_cor_{k:02d}"
        regressors[name] = prepend_dummies(components[:, k], n_dummy)
        descriptions[name] = {
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
    return regressors


def describe_columns(columns: Iterable[str]) -> ColumnDescriptions:
    """Return description and unit of columns whose description does not depend on the data.

    Unknown columns are skipped.
    """
    definitions = _define_columns()
    descriptions: ColumnDescriptions = {}
    for name in columns:
        if name not in definitions:
            continue
        text, unit = definitions[name]
        descriptions[name] = {"Description": text, "Units": unit}
        if name in (*_SIGNALS, "csf_wm"):
            descriptions[name]["Method"] = "Mean"
    return descriptions


def _define_columns() -> dict[str, tuple[str, str]]:
    """Return definition and unit of all columns that do not depend on the data, by name."""
    definitions = {**_define_summaries(), **_define_motion()}
    for name in (*MOTION, *_SIGNALS):
        unit = definitions[name][1]
        definitions[f"{name}_derivative1"] = (
            f"Change in {name} from the previous volume",
            f"{unit} per volume",
        )
        definitions[f"{name}_power2"] = (f"Square of {name}", f"({unit})^2")
        definitions[f"{name}_derivative1_power2"] = (
            f"Square of {name}_derivative1",
            f"({unit} per volume)^2",
        )
    return definitions


def _define_summaries() -> dict[str, tuple[str, str]]:
    """Return definition and unit of mean signals and of changes between volumes, by name."""
    signal_unit = "scanner intensity units"
    return {
        "global_signal": ("Mean signal within the brain mask", signal_unit),
        "csf": ("Mean signal within cerebrospinal fluid", signal_unit),
        "white_matter": ("Mean signal within white matter", signal_unit),
        "csf_wm": ("Mean signal deep inside white matter and cerebrospinal fluid", signal_unit),
        "dvars": (
            "Root mean square change in signal from the previous volume, computed across the "
            "brain mask from the series scaled to a median of 1000",
            "0.1 % of the median signal",
        ),
        "std_dvars": (
            "DVARS divided by the value that is expected for a stationary AR(1) series with "
            "the same variance",
            "arbitrary",
        ),
        "framewise_displacement": (
            (
                "Framewise displacement: sum of the absolute changes in the six head-motion "
                "parameters, with rotations converted to displacements on a sphere with a "
                f"radius of {HEAD_RADIUS_MM:g} mm"
            ),
            "mm",
        ),
        "rmsd": (
            "Root mean square displacement relative to the previous volume, within a sphere "
            "with a radius of 80 mm",
            "mm",
        ),
    }


def _define_motion() -> dict[str, tuple[str, str]]:
    """Return definition and unit of the six motion parameters, by name."""
    directions = {"x": "left to right", "y": "posterior to anterior", "z": "inferior to superior"}
    definitions = {}
    for axis, direction in directions.items():
        definitions[f"trans_{axis}"] = (
            f"Translation of the head's center relative to the boldref, from {direction} (RAS+)",
            "mm",
        )
        definitions[f"rot_{axis}"] = (
            (
                f"Right-handed rotation of the head relative to the boldref about the {direction} "
                "axis through the head's center (component of the rotation vector)"
            ),
            "rad",
        )
    return definitions
