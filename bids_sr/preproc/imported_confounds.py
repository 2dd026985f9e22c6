"""Import of confounds from fMRIPrep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bids_sr.io.atomic_files import read_json
from bids_sr.io.confound_names import (
    MOTION_PARAMETERS,
    NONSTEADY,
    ColumnDescriptions,
    describe_columns,
    find_renamed_columns,
)
from bids_sr.io.tables import read_frame
from bids_sr.preproc.confound_table import censor_outliers, mark_nonsteady
from bids_sr.preproc.head_motion import motion_columns
from bids_sr.preproc.model_confounds import is_complete


def import_confound_columns(
    path: Path, *, n_dummy: int, origin: str, outliers: Mapping[int, str] | None = None
) -> tuple[pd.DataFrame, ColumnDescriptions]:
    """Return all columns of fMRIPrep's confounds table with their JSON descriptions.

    Combined aCompCor components (white matter and cerebrospinal fluid) precede the components of
    single tissues, so that the linear model takes the first components of the table.
    Non-steady-state columns are replaced according to `n_dummy`: `--dummy-scans` takes precedence
    over the table. Text columns are dropped, and missing motion columns are computed; see
    `convert_to_numbers`.

    Parameters
    ----------
    path : Path
        Confounds table; its JSON sidecar lists the mask of each aCompCor component.
    n_dummy : int
        Number of volumes at the start that are not in the steady state.
    origin : str
        Program and version, for the descriptions.
    outliers : Mapping[int, str] | None, optional
        Volumes that are excluded from models by an additional column, with the reason.

    Returns
    -------
    tuple[pd.DataFrame, ColumnDescriptions]
        Confounds, one row per volume, and the description of each column.

    Raises
    ------
    ValueError
        If a column of head motion is missing.
    """
    frame = read_confounds(path)
    missing_names = [name for name in MOTION_PARAMETERS if name not in frame]
    if missing_names:
        raise ValueError(
            f"{path}: the confounds table lacks required columns: {', '.join(missing_names)}"
        )
    imported, computed, _ = convert_to_numbers(frame)
    sidecar = read_json(path.with_suffix(".json"))
    entries = {name: entry for name, entry in sidecar.items() if isinstance(entry, dict)}
    components = _sort_components(
        [name for name in imported if name.startswith("a_comp_cor_")], entries
    )
    other_columns = [
        name for name in imported if name not in components and not name.startswith(NONSTEADY)
    ]
    steady_table = imported[[*other_columns, *components]]
    table, descriptions = mark_nonsteady(
        steady_table, _describe_imported(steady_table, entries, origin), n_dummy
    )
    for name, description in descriptions.items():
        description["Origin"] = (
            f"computed by bids-sr from the head motion of {origin}" if name in computed else origin
        )
    return censor_outliers(table, descriptions, outliers or {})


def read_confounds(path: Path) -> pd.DataFrame:
    """Return a confounds table of fMRIPrep, one row per volume, with the names since version 1.2.

    The errors are as in `read_frame`.
    """
    return rename_old_columns(read_frame(path))


def rename_old_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a confounds table with the names that its columns have since fMRIPrep 1.2."""
    return frame.rename(columns=find_renamed_columns(map(str, frame.columns)))


class _NumericConfounds(NamedTuple):
    """Confounds as numbers, NaN for missing values, with all motion columns.

    `computed` are the names of computed motion columns, and `dropped` the names of dropped text
    columns.
    """

    table: pd.DataFrame
    computed: list[str]
    dropped: list[str]


def convert_to_numbers(frame: pd.DataFrame) -> _NumericConfounds:
    """Return a confounds table of another program as numbers, with all motion columns.

    Every evaluation uses the derivatives of the six motion parameters and framewise displacement.
    If such a column is missing or has missing values after the first volume, it is computed from
    the six parameters, which must be complete.
    """
    columns, text_columns = dict[str, pd.Series](), list[str]()
    for name, values in frame.items():
        numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
        if numbers.isna().equals(values.isna()):
            columns[str(name)] = numbers
        else:
            text_columns.append(str(name))
    table = pd.DataFrame(columns, index=frame.index)
    computed = []
    for name, values in motion_columns(table).items():
        if name not in MOTION_PARAMETERS and not (name in table and is_complete(table[name])):
            table[name] = values
            computed.append(name)
    dropped = [name for name in text_columns if name not in computed]
    return _NumericConfounds(table, computed, dropped)


def _sort_components(names: Sequence[str], entries: Mapping[str, dict[str, object]]) -> list[str]:
    """Sort aCompCor components by number, combined components first.

    fMRIPrep 20 numbers the components of CSF, white matter and both in this order; the first
    combined component may then have the number 98.
    """
    masks = {name: entries.get(name, {}).get("Mask", "combined") for name in names}
    return sorted(
        names, key=lambda name: (masks[name] != "combined", int(name.rpartition("_")[2]))
    )


def _describe_imported(
    table: pd.DataFrame, entries: Mapping[str, dict[str, object]], origin: str
) -> ColumnDescriptions:
    """Return the descriptions of imported columns; entries of the sidecar take precedence.

    Motion parameters are always described here. `origin` is as in `import_confound_columns`.
    """
    common_descriptions = describe_columns(table)
    descriptions: ColumnDescriptions = {
        name: {**common_descriptions.get(name, {}), **entries.get(name, {})} for name in table
    }
    for name, description in descriptions.items():
        description.setdefault("Description", f"{name}, taken from {origin}")
        description.setdefault("Units", "arbitrary")
    for name in MOTION_PARAMETERS:
        kind, axis = name.split("_")
        movement = f"rotation about {axis}" if kind == "rot" else f"translation along {axis}"
        descriptions[name]["Description"] = f"Head motion: {movement}, taken from {origin}"
    return descriptions
