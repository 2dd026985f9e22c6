"""Confounds table of a BOLD run, named, defined and described as in fMRIPrep.

Readers of fMRIPrep's table can thus take it as it is.

ExpandModel and SpikeRegressors of niworkflows, and CompCor of nipype, define the columns; tests
hold each column to theirs. Their code is not called: CompCor holds the whole series and a
decomposition of its voxels in memory, where here slabs add up to one matrix of volumes by volumes,
and the expansion is a difference and a square.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from bids_sr.glm.confounds import (
    HEAD_RADIUS_MM,
    MOTION,
    derivative,
    expected_change,
    mean_signals,
    most_variable,
    motion_columns,
    principal_components,
    rms_displacement,
    slabs_of,
    tissue_masks,
)
from bids_sr.glm.drift import CUTOFF_S, drift_basis, slow_cosines
from bids_sr.io.arrays import Array, Float, Mask
from bids_sr.io.nifti import SeriesReader

Described = dict[str, dict[str, object]]
"""Description, unit and what else is known of each column, by its name."""

_AT_LEAST = 5  # components of each mask: XCP-D reads as many, and the linear model
_SIGNALS = ("global_signal", "csf", "white_matter")
"""Mean signals that are expanded as head motion is."""
# of the variance that the components of a mask explain together, unless all are asked for
_SHARE = 0.5


_Noise = tuple[str, str, dict[str, object], Mask]
"""Mask whose components are taken: the prefix of their names, where it lies, what the sidecar says
of it, and its voxels.
"""


def gather(
    reader: SeriesReader,
    mask: Mask,
    motion: pd.DataFrame,
    matrices: Array,
    *,
    tpms: Sequence[Array] | None = None,
    n_dummy: int = 0,
    fd_mm: float = 0.5,
    std_dvars: float = 1.5,
    all_components: bool = False,
) -> tuple[pd.DataFrame, Described]:
    """Return confounds table of a motion-corrected series and the description of its columns.

    Parameters
    ----------
    reader : SeriesReader
        Motion-corrected series (uncompressed).
    mask : Mask
        Brain, on its grid.
    motion : pd.DataFrame
        One row a volume with the columns MOTION (mm, rad).
    matrices : Array
        (T, 4, 4), one a volume; take a point of the reference to where it lies in the volume (RAS
        mm).
    tpms : Sequence[Array] | None, optional
        Gray matter, white matter, cerebrospinal fluid on the grid; None leaves tissue signals and
        aCompCor out.
    n_dummy : int, optional
        Volumes at the start that are not steady.
    fd_mm, std_dvars : float, optional
        A volume above one of them is a motion outlier, with a column of its own.
    all_components : bool, optional
        Every component of CompCor, instead of those that explain half of the variance.

    Returns
    -------
    tuple[pd.DataFrame, Described]
        (table, one row a volume, NaN where a column is not defined; descriptions by column).

    Raises
    ------
    ValueError : rows and volumes differ in number, or the mask is empty
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
        {name: each for name, each in tissue_masks(tpms, mask).items() if each.any()}
        if tpms is not None
        else {}
    )
    averaged = {"csf": "csf", "white_matter": "white_matter", "deep": "csf_wm"}
    signals, change = mean_signals(
        reader,
        {
            "global_signal": mask,
            **{averaged[k]: each for k, each in tissues.items() if k in averaged},
        },
    )
    center = reader.affine[:3] @ [*((np.array(reader.shape[:3]) - 1) / 2), 1]
    columns: dict[str, Float] = {**signals, "dvars": change}
    columns["std_dvars"] = change / expected_change(slabs_of(reader, mask, n_dummy))
    columns |= motion_columns(motion) | {"rmsd": rms_displacement(np.asarray(matrices), center)}
    columns |= _expansions(columns)
    described = describe(columns)
    if volumes - n_dummy > 2:
        columns |= _drifts(volumes, n_dummy, reader.tr, described)
        for noise in _noises(reader, mask, tissues, n_dummy):
            columns |= _components(reader, noise, n_dummy, described, all_of_them=all_components)
    columns |= _outliers(columns, described, fd_mm, std_dvars)
    table = pd.DataFrame(columns)
    mark_nonsteady(table, described, n_dummy)
    return table, described


def _expansions(columns: Mapping[str, Array]) -> dict[str, Float]:
    """Return squares, differences and squared differences of motion and mean signals.

    Differences are backward. What is absent of the head motion and mean signals is left out.
    """
    out: dict[str, Float] = {}
    for name in (*MOTION, *_SIGNALS):
        if name in columns:
            change = derivative(columns[name])
            out |= {
                f"{name}_derivative1": change,
                f"{name}_power2": np.asarray(columns[name]) ** 2,
            }
            out[f"{name}_derivative1_power2"] = change**2
    return out


def _outliers(
    columns: Mapping[str, Array], described: Described, fd_mm: float, std_dvars: float
) -> dict[str, Float]:
    """Return one column per outlier volume (1 there, else 0); add their descriptions.

    An outlier moved or changed too much.
    """
    far = columns["framewise_displacement"] > fd_mm
    changed = columns["std_dvars"] > std_dvars
    out: dict[str, Float] = {}
    for k, volume in enumerate(np.flatnonzero(far | changed)):
        name = f"motion_outlier{k:02d}"
        out[name] = (np.arange(len(far)) == volume).astype(np.float64)
        described[name] = {
            "Description": (
                f"1 in volume {volume} and 0 elsewhere; framewise displacement exceeds "
                f"{fd_mm:g} mm in this volume, or std_dvars exceeds {std_dvars:g}"
            ),
            "Units": "arbitrary",
        }
    return out


def mark_nonsteady(table: pd.DataFrame, described: Described, n_dummy: int) -> None:
    """Add a column for each volume that is not in steady state, and its description."""
    for k in range(n_dummy):
        name = f"non_steady_state_outlier{k:02d}"
        table[name] = (np.arange(len(table)) == k).astype(np.float64)
        described[name] = {
            "Description": (
                f"1 in volume {k} and 0 elsewhere; the volume was acquired before the steady "
                "state was reached"
            ),
            "Units": "arbitrary",
        }


def _drifts(volumes: int, n_dummy: int, tr: float, described: Described) -> dict[str, Float]:
    """Return the unit-length cosines removed before CompCor, 0 in non-steady-state volumes."""
    out: dict[str, Float] = {}
    cosines = slow_cosines(volumes - n_dummy, tr)[:, 1:]
    for k, values in enumerate((cosines / np.linalg.norm(cosines, axis=0)).T):
        period = 2 * (volumes - n_dummy) * tr / (k + 1)
        out[f"cosine{k:02d}"] = np.concatenate([np.zeros(n_dummy), values])
        described[f"cosine{k:02d}"] = {
            "Description": (
                f"Discrete cosine regressor with a period of {period:.4g} s, removed before "
                "CompCor; 0 in non-steady-state volumes"
            ),
            "Units": "arbitrary",
        }
    return out


def _noises(
    reader: SeriesReader, mask: Mask, tissues: Mapping[str, Mask], n_dummy: int
) -> Iterator[_Noise]:
    """Masks of CompCor that have voxels: deep in the tissues, and what fluctuates most."""
    deep = {
        "deep": ("a", "combined", "voxels deep inside white matter and cerebrospinal fluid"),
        "deep_white_matter": ("w", "WM", "voxels deep inside white matter"),
        "deep_csf": ("c", "CSF", "voxels deep inside cerebrospinal fluid"),
    }
    for name, (prefix, mask_name, where) in deep.items():
        if name in tissues:
            yield prefix, where, {"Method": "aCompCor", "Mask": mask_name}, tissues[name]
    most = most_variable(reader, mask, n_dummy)
    yield "t", "the voxels with the highest temporal variance", {"Method": "tCompCor"}, most


def _components(
    reader: SeriesReader, noise: _Noise, n_dummy: int, described: Described, *, all_of_them: bool
) -> dict[str, Float]:
    """Return a mask's components, 0 in non-steady-state volumes; add their descriptions."""
    prefix, where, about, mask = noise
    basis = drift_basis(reader.shape[3] - n_dummy, reader.tr)
    components, singular, share = principal_components(slabs_of(reader, mask, n_dummy), basis)
    explained = np.cumsum(share)
    enough = max(int(np.searchsorted(explained, _SHARE)) + 1, _AT_LEAST)
    out: dict[str, Float] = {}
    for k in range(len(share) if all_of_them else min(enough, len(share))):
        name = f"{prefix}_comp_cor_{k:02d}"
        out[name] = np.concatenate([np.zeros(n_dummy), components[:, k]])
        described[name] = {
            "Description": (
                f"Component {k} of {about['Method']}, computed from {where} ({int(mask.sum())} "
                f"voxels) after high-pass filtering (cut-off period {CUTOFF_S:g} s); 0 in "
                "non-steady-state volumes"
            ),
            "Units": "arbitrary",
            **about,
            "Retained": True,
            "SingularValue": float(singular[k]),
            "VarianceExplained": float(share[k]),
            "CumulativeVarianceExplained": float(explained[k]),
        }
    return out


def describe(columns: Iterable[str]) -> Described:
    """Description and unit of the columns that do not depend on the data.

    `columns`: names of columns; those that are not known are left out.
    """
    axes = {"x": "left to right", "y": "posterior to anterior", "z": "inferior to superior"}
    signal = "scanner intensity units"
    fixed = {
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
    for axis, way in axes.items():
        fixed[f"trans_{axis}"] = (
            f"Translation of the head's center relative to the boldref, from {way} (RAS+)",
            "mm",
        )
        fixed[f"rot_{axis}"] = (
            (
                f"Right-handed rotation of the head relative to the boldref about the {way} "
                "axis through the head's center (component of the rotation vector)"
            ),
            "rad",
        )
    for name in (*MOTION, *_SIGNALS):
        unit = fixed[name][1]
        fixed[f"{name}_derivative1"] = (
            f"Change in {name} from the previous volume",
            f"{unit} per volume",
        )
        fixed[f"{name}_power2"] = (f"Square of {name}", f"({unit})^2")
        fixed[f"{name}_derivative1_power2"] = (
            f"Square of {name}_derivative1",
            f"({unit} per volume)^2",
        )
    means = {*_SIGNALS, "csf_wm"}
    return {
        name: {
            "Description": fixed[name][0],
            "Units": fixed[name][1],
            **({"Method": "Mean"} if name in means else {}),
        }
        for name in columns
        if name in fixed
    }
