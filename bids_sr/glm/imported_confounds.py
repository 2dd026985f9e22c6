"""Confounds that fMRIPrep has made, taken over as they are."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.glm.confound_table import Described, describe, mark_nonsteady
from bids_sr.glm.confounds import MOTION, is_complete, motion_columns
from bids_sr.io.atomic_files import read_json
from bids_sr.io.tables import read_frame


def take_over(path: Path, *, n_dummy: int, origin: str) -> tuple[pd.DataFrame, Described]:
    """Return all columns of fMRIPrep's table under their own names, with their JSON descriptions.

    Components of anatomical CompCor in white matter and cerebrospinal fluid together stand before
    those of one tissue, so that the first of the table are those that enter the linear model.
    Volumes that are not steady are those of this run: `--dummy-scans` wins over the table. Columns
    of text are left out, and motion columns that the table lacks are computed; see `as_numbers`.

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
    frame = read_frame(path)
    missing = [name for name in MOTION if name not in frame]
    if missing:
        raise ValueError(
            f"{path}: the confounds table lacks required columns: {', '.join(missing)}"
        )
    theirs, computed, _ = as_numbers(frame)
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
    table = theirs[[*others, *components]]
    # theirs is of a series scaled to a median of 1000
    known = describe(name for name in others if name != "dvars")
    described: Described = {name: {**known.get(name, {}), **said.get(name, {})} for name in table}
    for name, about in described.items():
        about.setdefault("Description", f"{name}, taken from {origin}")
        about.setdefault("Units", "arbitrary")
    for name in MOTION:
        what = (
            f"rotation about {name[-1]}"
            if name.startswith("rot")
            else f"translation along {name[-1]}"
        )
        described[name]["Description"] = f"Head motion: {what}, taken from {origin}"
    mark_nonsteady(table, described, n_dummy)
    for name, about in described.items():
        about["Origin"] = (
            f"computed by bids-sr from the head motion of {origin}" if name in computed else origin
        )
    return table, described


def as_numbers(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return a confounds table of another program in numbers, with every motion column.

    The derivatives of the six motion parameters and framewise displacement are part of every
    evaluation. If the table has no such column, or one without a number in some volume after the
    first, it is computed from the six parameters, which have to be complete.

    Parameters
    ----------
    frame : pd.DataFrame
        Table as read, one row per volume.

    Returns
    -------
    tuple[pd.DataFrame, list[str], list[str]]
        Table with missing values as NaN, names of the motion columns that were computed, and names
        of the columns of text, which the table lacks.
    """
    columns, text = dict[str, pd.Series](), list[str]()
    for name, values in frame.items():
        numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
        if numbers.isna().equals(values.isna()):
            columns[str(name)] = numbers
        else:
            text.append(str(name))
    table = pd.DataFrame(columns, index=frame.index)
    computed = []
    for name, values in motion_columns(table).items():
        if name not in MOTION and not (name in table and is_complete(table[name])):
            table[name] = values
            computed.append(name)
    return table, computed, [name for name in text if name not in computed]


def _in_order(names: Sequence[str], said: Mapping[str, dict[str, object]]) -> list[str]:
    """Components of aCompCor by their numbers, those of both tissues together first.

    fMRIPrep 20 counts CSF, white matter, both: there the first of them may be the 98th.
    """
    masks = {name: said.get(name, {}).get("Mask", "combined") for name in names}
    return sorted(
        names, key=lambda name: (masks[name] != "combined", int(name.rpartition("_")[2]))
    )
