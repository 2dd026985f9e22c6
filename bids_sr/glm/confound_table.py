"""Confounds table of a BOLD run, with the names, definitions and descriptions of fMRIPrep.

Programs that read the table of fMRIPrep can therefore read this table unchanged. Columns are
defined by ExpandModel and SpikeRegressors of niworkflows and by CompCor of nipype; tests compare
each column with theirs. The code of these packages is not used, because CompCor keeps the complete
series and its decomposition in memory. Here, voxels are processed in slabs, which are summed to a
matrix of volumes x volumes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from bids_sr.glm.confounds import (
    HEAD_RADIUS_MM,
    MOTION,
    compute_expected_change,
    derivative,
    iterate_slabs,
    mean_signals,
    motion_columns,
    principal_components,
    rms_displacement,
    select_most_variable,
    tissue_masks,
)
from bids_sr.glm.drift import CUTOFF_S, drift_basis, slow_cosines
from bids_sr.glm.temporal_regressors import censor_columns
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.nifti import SeriesReader

Described = dict[str, dict[str, object]]
"""Description, unit and further metadata of each column, by its name."""

_AT_LEAST = 5  # components per mask, the number that XCP-D and the linear model read
_SIGNALS = ("global_signal", "csf", "white_matter")
"""Mean signals that are expanded in the same way as head motion."""
# fraction of variance that the components of a mask explain together, unless all are requested
_SHARE = 0.5


_NoiseSource = tuple[str, str, dict[str, object], MaskArray]
"""Mask of a component analysis.

The entries are the prefix of component names, the location in words, metadata for the sidecar, and
the voxels.
"""


def gather(
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
) -> tuple[pd.DataFrame, Described]:
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
    tuple[pd.DataFrame, Described]
        Table, one row per volume, NaN if a value is undefined; and descriptions by column.

    Raises
    ------
    ValueError
        If rows and volumes differ in number, or if the mask is empty or on another grid.
    """
    volumes = reader.shape[3]
    if (
        not volumes == len(motion) == len(matrices)
        or mask.shape != reader.shape[:3]
        or not mask.any()
    ):
        raise ValueError(
            f"{reader.path}: the inputs do not match. The series has {volumes} volumes on a "
            f"{reader.shape[:3]} grid, the motion table has {len(motion)} rows, and the mask "
            f"has {int(mask.sum())} voxels on a {mask.shape} grid."
        )
    tissues = (
        {
            name: tissue_mask
            for name, tissue_mask in tissue_masks(tpms, mask).items()
            if tissue_mask.any()
        }
        if tpms is not None
        else {}
    )
    averaged = {"csf": "csf", "white_matter": "white_matter", "deep": "csf_wm"}
    signals, change = mean_signals(
        reader,
        {
            "global_signal": mask,
            **{averaged[k]: tissue_mask for k, tissue_mask in tissues.items() if k in averaged},
        },
    )
    center = reader.affine[:3] @ [*((np.array(reader.shape[:3]) - 1) / 2), 1]
    columns: dict[str, Float] = {**signals, "dvars": change}
    columns["std_dvars"] = change / compute_expected_change(iterate_slabs(reader, mask, n_dummy))
    columns |= motion_columns(motion) | {"rmsd": rms_displacement(np.asarray(matrices), center)}
    columns |= _expansions(columns)
    descriptions = describe(columns)
    if volumes - n_dummy > 2:
        columns |= _drift_columns(volumes, n_dummy, reader.tr, descriptions)
        for noise in _compcor_masks(reader, mask, tissues, n_dummy):
            columns |= _components(
                reader, noise, n_dummy, descriptions, all_of_them=all_components
            )
    columns |= _outliers(columns, descriptions, fd_mm, std_dvars, outliers or {})
    table = pd.DataFrame(columns)
    mark_nonsteady(table, descriptions, n_dummy)
    return censor_outliers(table, descriptions, outliers or {})


def censor_outliers(
    table: pd.DataFrame, column_descriptions: Described, outliers: Mapping[int, str]
) -> tuple[pd.DataFrame, Described]:
    """Add a column that excludes a volume from models for each outlier, and its description.

    `outliers` are volumes that do not show the head as the other volumes do, with the reason.
    """
    columns, descriptions = censor_columns(outliers, len(table))
    return table.assign(**columns), {**column_descriptions, **descriptions}


def _expansions(columns: Mapping[str, Array]) -> dict[str, Float]:
    """Return squares, differences and squared differences of motion and mean signals.

    Differences are backward. Signals that are missing in `columns` are skipped.
    """
    expansions: dict[str, Float] = {}
    for name in (*MOTION, *_SIGNALS):
        if name in columns:
            change = derivative(columns[name])
            expansions |= {
                f"{name}_derivative1": change,
                f"{name}_power2": np.asarray(columns[name]) ** 2,
            }
            expansions[f"{name}_derivative1_power2"] = change**2
    return expansions


def _outliers(
    columns: Mapping[str, Array],
    descriptions: Described,
    fd_mm: float,
    std_dvars: float,
    replaced: Mapping[int, str],
) -> dict[str, Float]:
    """Return one column per outlier volume (1 in this volume, else 0), and describe them.

    A volume is an outlier if its framewise displacement or its standardized DVARS exceeds the
    threshold, or if it is one of the volumes that were replaced. Descriptions are added to
    `descriptions`.
    """
    is_outlier = columns["framewise_displacement"] > fd_mm
    is_outlier |= columns["std_dvars"] > std_dvars
    is_outlier[list(replaced)] = True
    outliers: dict[str, Float] = {}
    for k, volume in enumerate(map(int, np.flatnonzero(is_outlier))):
        name = f"motion_outlier{k:02d}"
        outliers[name] = (np.arange(len(is_outlier)) == volume).astype(np.float64)
        reason = replaced.get(
            volume,
            f"framewise displacement exceeds {fd_mm:g} mm in this volume, or std_dvars exceeds "
            f"{std_dvars:g}",
        )
        descriptions[name] = {
            "Description": f"1 in volume {volume} and 0 elsewhere; {reason}",
            "Units": "arbitrary",
        }
    return outliers


def mark_nonsteady(table: pd.DataFrame, descriptions: Described, n_dummy: int) -> None:
    """Add a column for each non-steady-state volume to the table, and its description."""
    for k in range(n_dummy):
        name = f"non_steady_state_outlier{k:02d}"
        table[name] = (np.arange(len(table)) == k).astype(np.float64)
        descriptions[name] = {
            "Description": (
                f"1 in volume {k} and 0 elsewhere; the volume was acquired before the steady "
                "state was reached"
            ),
            "Units": "arbitrary",
        }


def _drift_columns(
    volumes: int, n_dummy: int, tr: float, descriptions: Described
) -> dict[str, Float]:
    """Return the unit-length cosines removed before CompCor, 0 in non-steady-state volumes."""
    regressors: dict[str, Float] = {}
    cosines = slow_cosines(volumes - n_dummy, tr)[:, 1:]
    for k, values in enumerate((cosines / np.linalg.norm(cosines, axis=0)).T):
        period = 2 * (volumes - n_dummy) * tr / (k + 1)
        regressors[f"cosine{k:02d}"] = np.concatenate([np.zeros(n_dummy), values])
        descriptions[f"cosine{k:02d}"] = {
            "Description": (
                f"Discrete cosine regressor with a period of {period:.4g} s, removed before "
                "CompCor; 0 in non-steady-state volumes"
            ),
            "Units": "arbitrary",
        }
    return regressors


def _compcor_masks(
    reader: SeriesReader, mask: MaskArray, tissues: Mapping[str, MaskArray], n_dummy: int
) -> Iterator[_NoiseSource]:
    """Yield the nonempty masks of CompCor: deep tissue voxels, and the most variable voxels."""
    deep = {
        "deep": ("a", "combined", "voxels deep inside white matter and cerebrospinal fluid"),
        "deep_white_matter": ("w", "WM", "voxels deep inside white matter"),
        "deep_csf": ("c", "CSF", "voxels deep inside cerebrospinal fluid"),
    }
    for name, (prefix, mask_name, location) in deep.items():
        if name in tissues:
            yield prefix, location, {"Method": "aCompCor", "Mask": mask_name}, tissues[name]
    variable_voxels = select_most_variable(reader, mask, n_dummy)
    yield (
        "t",
        "the voxels with the highest temporal variance",
        {"Method": "tCompCor"},
        variable_voxels,
    )


def _components(
    reader: SeriesReader,
    noise: _NoiseSource,
    n_dummy: int,
    descriptions: Described,
    *,
    all_of_them: bool,
) -> dict[str, Float]:
    """Return the components of a mask, 0 in non-steady-state volumes, and describe them.

    Descriptions are added to `descriptions`.
    """
    prefix, index, metadata, mask = noise
    basis = drift_basis(reader.shape[3] - n_dummy, reader.tr)
    components, singular, share = principal_components(iterate_slabs(reader, mask, n_dummy), basis)
    explained = np.cumsum(share)
    n_components = max(int(np.searchsorted(explained, _SHARE)) + 1, _AT_LEAST)
    regressors: dict[str, Float] = {}
    for k in range(len(share) if all_of_them else min(n_components, len(share))):
        name = f"{prefix}_comp_cor_{k:02d}"
        regressors[name] = np.concatenate([np.zeros(n_dummy), components[:, k]])
        descriptions[name] = {
            "Description": (
                f"Component {k} of {metadata['Method']}, computed from {index} ({int(mask.sum())} "
                f"voxels) after high-pass filtering (cut-off period {CUTOFF_S:g} s); 0 in "
                "non-steady-state volumes"
            ),
            "Units": "arbitrary",
            **metadata,
            "Retained": True,
            "SingularValue": float(singular[k]),
            "VarianceExplained": float(share[k]),
            "CumulativeVarianceExplained": float(explained[k]),
        }
    return regressors


def describe(columns: Iterable[str]) -> Described:
    """Return description and unit of columns whose description does not depend on the data.

    Unknown columns are skipped.
    """
    axes = {"x": "left to right", "y": "posterior to anterior", "z": "inferior to superior"}
    signal = "scanner intensity units"
    definitions = {
        "global_signal": ("Mean signal within the brain mask", signal),
        "csf": ("Mean signal within cerebrospinal fluid", signal),
        "white_matter": ("Mean signal within white matter", signal),
        "csf_wm": ("Mean signal deep inside white matter and cerebrospinal fluid", signal),
        "dvars": (
            "Root mean square change in signal from the previous volume, computed across the "
            "brain mask",
            signal,
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
    for axis, direction in axes.items():
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
    means = {*_SIGNALS, "csf_wm"}
    return {
        name: {
            "Description": definitions[name][0],
            "Units": definitions[name][1],
            **({"Method": "Mean"} if name in means else {}),
        }
        for name in columns
        if name in definitions
    }
