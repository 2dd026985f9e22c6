"""Names of columns in the confounds tables of fMRIPrep before version 1.2.

Version 1.2 renamed the columns to words in lower case. Their values and units did not change:
translations are in mm, rotations in rad.
"""

import re
from collections.abc import Iterable

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
    "Cosine": "cosine",
    "NonSteadyStateOutlier": "non_steady_state_outlier",
    "AROMAAggrComp": "aroma_motion_",
}


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
