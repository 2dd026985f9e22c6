"""Confounds that fMRIPrep has made, taken over as they are."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.io.atomic_files import read_json
from bids_sr.stats.glm.confound_table import Described, describe, mark_nonsteady
from bids_sr.stats.glm.confounds import MOTION


def take_over(path: Path, *, n_dummy: int, origin: str) -> tuple[pd.DataFrame, Described]:
    """Return all columns of fMRIPrep's table under their own names, with their JSON descriptions.

    Components of anatomical CompCor in white matter and cerebrospinal fluid together stand before
    those of one tissue, so that the first of the table are those that enter the linear model.
    Volumes that are not steady are those of this run: `--dummy-scans` wins over the table. Returns
    what `confound_table.gather` returns; ValueError where a column of head motion is missing.

    Parameters
    ----------
    path : Path
        The table; the JSON beside it tells of which mask each component of aCompCor is.
    n_dummy : int
        Number of volumes at the start that are not in the steady state.
    origin : str
        Program and version, for the descriptions.

    Returns
    -------
    tuple[pd.DataFrame, Described]
        Confounds, one row a volume, and a description of each column.

    Raises
    ------
    ValueError
        A column of head motion is missing.
    """
    theirs = pd.read_csv(path, sep="\t", na_values="n/a")
    missing = [name for name in MOTION if name not in theirs]
    if missing:
        raise ValueError(f"{path}: the table has no column {', '.join(missing)}")
    told = read_json(path.with_suffix(".json"))
    said = {name: about for name, about in told.items() if isinstance(about, dict)}
    components = _in_order(
        [name for name in theirs if re.fullmatch(r"a_comp_cor_\d+", name)], said
    )
    others = [
        name
        for name in theirs
        if name not in components and not name.startswith("non_steady_state_outlier")
    ]
    table = theirs[[*others, *components]].astype(np.float64)
    # theirs is of a series scaled to a median of 1000
    known = describe(name for name in others if name != "dvars")
    described: Described = {name: {**known.get(name, {}), **said.get(name, {})} for name in table}
    for name, about in described.items():
        about.setdefault("Description", f"{name} of {origin}")
        about.setdefault("Units", "arbitrary")
    for name in MOTION:
        what = (
            f"rotation about {name[-1]}"
            if name.startswith("rot")
            else f"translation along {name[-1]}"
        )
        described[name]["Description"] = f"Head motion: {what} of {origin}"
    mark_nonsteady(table, described, n_dummy)
    for about in described.values():
        about["Origin"] = origin
    return table, described


def _in_order(found: Sequence[str], said: Mapping[str, dict[str, object]]) -> list[str]:
    """Components of aCompCor by their numbers, those of both tissues together first.

    fMRIPrep 20 counts CSF, white matter, both: there the first of them may be the 98th.
    """
    masks = {name: said.get(name, {}).get("Mask", "combined") for name in found}
    return sorted(
        found, key=lambda name: (masks[name] != "combined", int(name.rpartition("_")[2]))
    )
