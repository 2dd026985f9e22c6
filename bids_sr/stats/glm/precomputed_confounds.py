"""Confounds that another program has made: the columns that are known here, under the names they have there.

fMRIPrep's table has a hundred columns and more, of which a linear model of a short run could bear only a few: those of
`bids_sr.stats.glm.confounds` are kept, and as many components of aCompCor as are made there.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_sr.stats.glm.confounds import MOTION, N_COMPONENTS, describe

SIGNALS = ("global_signal", "csf", "white_matter", "dvars", "std_dvars")


def take_over(path: Path, *, n_dummy: int, origin: str) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Known columns of a table of fMRIPrep, and their descriptions.

    Parameters
    ----------
    path : the table; the JSON beside it tells of which mask each component of aCompCor is
    n_dummy : volumes at the start that are not steady; marked by columns of their own
    origin : program and version, for the descriptions

    Returns
    -------
    (table, one row a volume, NaN where a column is not defined; descriptions by column)

    Raises
    ------
    ValueError : a column of head motion is missing
    """
    given = pd.read_csv(path, sep="\t", na_values="n/a")
    missing = [name for name in MOTION if name not in given]
    if missing:
        raise ValueError(f"{path}: the table has no column {', '.join(missing)}")
    names = [name for name in SIGNALS if name in given]
    names += [each for name in MOTION for each in (name, f"{name}_derivative1") if each in given]
    names += [name for name in ("framewise_displacement",) if name in given]
    components = _components(list(given.columns), path.with_suffix(".json"))
    table = given[[*names, *components]].astype(np.float64)
    described = describe(names)
    for name in MOTION:
        described[name]["Description"] = f"Head motion: {name.replace('_', ' along ', 1)} of {origin}"
        if name.startswith("rot"):
            described[name]["Description"] = f"Head motion: rotation about {name[-1]} of {origin}"
    for name in components:
        about = f"Component of anatomical CompCor, {name} of {origin}, made after removal of slow cosines"
        described[name] = {"Description": about, "Units": "arbitrary"}
    rows = np.arange(len(table))
    for k in range(n_dummy):
        name = f"non_steady_state_outlier{k:02d}"
        table[name] = (rows == k).astype(np.float64)
        described[name] = {"Description": f"1 in volume {k}, which is not in steady state", "Units": "arbitrary"}
    for name in described:
        described[name]["Origin"] = origin
    return table, described


def _components(columns: list[str], sidecar: Path) -> list[str]:
    """The first components of the mask of white matter and cerebrospinal fluid together."""
    found = sorted(name for name in columns if re.fullmatch(r"a_comp_cor_\d+", name))
    try:
        about = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = {}
    masks = {name: about[name].get("Mask", "combined") for name in found if isinstance(about.get(name), dict)}
    combined = [name for name in found if masks.get(name, "combined") == "combined"]
    return (combined or found)[:N_COMPONENTS]
