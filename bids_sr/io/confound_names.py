"""Columns of the confounds tables: names, descriptions, and names before fMRIPrep 1.2.

The names are as in fMRIPrep; `rmsd` and the columns of the temporal model
(`bids_sr.preproc.temporal_regressors`) are ours. fMRIPrep 1.2 renamed its columns to words in
lower case. Their values and units did not change: translations are in mm, rotations in rad.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence

MOTION_PARAMETERS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""Columns of head motion (mm, rad)."""
MOTION_REGRESSORS = (*MOTION_PARAMETERS, *(f"{name}_derivative1" for name in MOTION_PARAMETERS))
"""Columns of head motion in the linear models."""
EXPANDED_SIGNALS = ("global_signal", "csf", "white_matter")
"""Mean signals that are expanded in the same way as head motion."""
EXPANSIONS = ("", "_derivative1", "_power2", "_derivative1_power2")
"""Endings of head motion and mean signals, and of the columns that are computed from them."""
NOISE_MASKS = {
    "a_comp_cor_": ("deep", "combined", "voxels deep inside white matter and cerebrospinal fluid"),
    "w_comp_cor_": ("deep_white_matter", "WM", "voxels deep inside white matter"),
    "c_comp_cor_": ("deep_csf", "CSF", "voxels deep inside cerebrospinal fluid"),
    "t_comp_cor_": ("most_variable", "", "the voxels with the highest temporal variance"),
}
"""Masks of CompCor by the name of their components without number.

Values are the name of the mask here, its name in fMRIPrep, and its description.
"""
COSINE, MOTION_OUTLIER, NONSTEADY = "cosine", "motion_outlier", "non_steady_state_outlier"
CENSORED, BAND_STOP, LEGENDRE = "censored", "band_stop", "legendre"
ALTERNATING = "alternating"
TIME_PREFIXES = (CENSORED, ALTERNATING, BAND_STOP, LEGENDRE)
"""Beginnings of the columns of the temporal model."""
MOTION_SET, COMPONENTS_SET = "motion", "acompcor"
CONFOUND_SETS = (MOTION_SET, COMPONENTS_SET)
"""Names of predefined sets of confounds."""

ColumnDescriptions = dict[str, dict[str, object]]
"""Description, unit and further metadata of each column, by its name."""
# old name of each motion parameter → name since version 1.2
_OLD_MOTION = {
    "X": "trans_x",
    "Y": "trans_y",
    "Z": "trans_z",
    "RotX": "rot_x",
    "RotY": "rot_y",
    "RotZ": "rot_z",
}
_OLD_NAMES = {
    **_OLD_MOTION,
    "CSF": "csf",
    "WhiteMatter": "white_matter",
    "GlobalSignal": "global_signal",
    "FramewiseDisplacement": "framewise_displacement",
    "stdDVARS": "std_dvars",
    "non-stdDVARS": "dvars",
}
# old name of a numbered column without its number → name since version 1.2
_OLD_PREFIXES = {
    "aCompCor": "a_comp_cor_",
    "tCompCor": "t_comp_cor_",
    "Cosine": COSINE,
    "NonSteadyStateOutlier": NONSTEADY,
    "AROMAAggrComp": "aroma_motion_",
}


def list_columns(n_volumes: int, time_prefixes: Sequence[str] = ()) -> list[str]:
    """Return the names of all columns that the confounds table of a run can have.

    Numbered columns are not more than the volumes of the run. `time_prefixes` are the beginnings
    of the columns of its temporal model.
    """
    numbered = (*NOISE_MASKS, COSINE, MOTION_OUTLIER, NONSTEADY)
    return [
        *_define_columns(),
        *(f"{name}{number:02d}" for name in numbered for number in range(n_volumes)),
        *(
            name_time_column(prefix, number)
            for prefix in time_prefixes
            for number in range(n_volumes + 1)
        ),
    ]


def name_time_column(prefix: str, number: int) -> str:
    """Return the name of a column of the temporal model.

    >>> name_time_column("censored", 7), name_time_column("legendre", 2)
    ('censored0007', 'legendre02')
    """
    return f"{prefix}{number:02d}" if prefix == LEGENDRE else f"{prefix}{number:04d}"


def select_tissue_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns that are computed from tissue maps."""
    prefixes = ("csf", "white_matter", *(name for name in NOISE_MASKS if name != "t_comp_cor_"))
    return [name for name in columns if name.startswith(prefixes)]


def match_columns(columns: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Return the columns that match any of the names, which may contain wildcards, once each."""
    names = list(columns)
    return list(
        dict.fromkeys(name for pattern in patterns for name in fnmatch.filter(names, pattern))
    )


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
        if name in (*EXPANDED_SIGNALS, "csf_wm"):
            descriptions[name]["Method"] = "Mean"
    return descriptions


def _define_columns() -> dict[str, tuple[str, str]]:
    """Return definition and unit of all columns that do not depend on the data, by name."""
    definitions = {**_define_summaries(), **_define_motion()}
    for name in (*MOTION_PARAMETERS, *EXPANDED_SIGNALS):
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
                "radius of 50 mm"
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


def describe_regressor(text: str) -> dict[str, object]:
    """Return the description of a column without unit."""
    return {"Description": text, "Units": "arbitrary"}


def find_renamed_columns(columns: Iterable[str]) -> dict[str, str]:
    """Return the names since fMRIPrep 1.2 of the columns of an older table, by their old names.

    The result is empty unless the table has all six motion parameters under their old names and no
    column has a new name already.

    >>> find_renamed_columns(["X", "Y", "Z", "RotX", "RotY", "RotZ", "aCompCor03"])["aCompCor03"]
    'a_comp_cor_03'
    """
    names = list(columns)
    renamed = {name: _rename(name) for name in names}
    is_old = _OLD_MOTION.keys() <= {*names}
    has_new_names = any(name != renamed[name] and renamed[name] in names for name in names)
    if not is_old or has_new_names:
        return {}
    return {name: new_name for name, new_name in renamed.items() if name != new_name}


def _rename(name: str) -> str:
    """Return the name of a column since version 1.2."""
    match = re.fullmatch(r"([A-Za-z]+)(\d+)", name)
    if match and match[1] in _OLD_PREFIXES:
        return _OLD_PREFIXES[match[1]] + match[2]
    return _OLD_NAMES.get(name, name)
