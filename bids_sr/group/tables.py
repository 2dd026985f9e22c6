"""Group tables of all values and of all comparisons."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bids_sr.engine.metric_rows import MISSING, columns_json
from bids_sr.evaluation.statistics.comparison_table import describe_columns, write_comparisons
from bids_sr.group import values as group_values
from bids_sr.group.comparisons import compare, compare_primary, primary_method
from bids_sr.group.map_records import GroupMapRecord, input_rows
from bids_sr.group.output_files import GroupNames
from bids_sr.group.values import JoinedTables
from bids_sr.io.atomic_files import atomic_file, write_json, write_text
from bids_sr.io.frozen import frozen

# suffix before ``.json``; participants' metrics would inherit from ``group_metrics.json``
_SIDECAR_SUFFIX = "_columns"


@frozen
class GroupTables:
    """Contents of the group tables, in `comparisons` with the primary comparisons first.

    `method` is the method of the primary comparisons.
    """

    joined_tables: JoinedTables
    comparisons: pd.DataFrame
    method: str


def write_tables(
    folder: Path,
    names: GroupNames,
    tables: pd.DataFrame,
    *,
    default_method: str,
    requested_margin: float | None = None,
) -> GroupTables:
    """Write ``group_metrics`` and ``group_stats``, and return their contents.

    Parameters
    ----------
    folder : Path
        Folder of the tables.
    names : GroupNames
        Names of the files of the call.
    tables : pandas.DataFrame
        Tables of the participants, from `bids_sr.group.input_tables.find_tables`.
    default_method : str
        Default method; the method of the primary comparison is selected by `primary_method`.
    requested_margin : float, optional
        Equivalence margin, see `bids_sr.group.comparisons.get_margin`.

    Returns
    -------
    GroupTables
        Contents of the tables.

    Raises
    ------
    UsageError
        If a table cannot be joined.
    """
    with atomic_file(folder / f"{names.tables}_metrics.tsv") as temporary:
        with temporary.open("w", encoding="utf-8") as stream:
            joined_tables = group_values.join_tables(tables, stream)
        method = primary_method(default_method, joined_tables.methods)
        comparisons = compare(joined_tables.values, joined_tables.methods, requested_margin)
        primary = compare_primary(joined_tables.values, method, joined_tables.contrasts)
        if len(primary):
            comparisons = pd.concat([primary, comparisons], ignore_index=True)
    write_json(
        folder / f"{names.tables}_metrics{_SIDECAR_SUFFIX}.json",
        {**group_values.COLUMN_TEXT, **columns_json(joined_tables.statistics)},
    )
    write_comparisons(
        folder / f"{names.tables}_stats.tsv",
        folder / f"{names.tables}_stats{_SIDECAR_SUFFIX}.json",
        "stats",
        comparisons.to_dict("records"),
    )
    return GroupTables(joined_tables=joined_tables, comparisons=comparisons, method=method)


def write_inputs(
    folder: Path, names: GroupNames, records: Iterable[GroupMapRecord], output_dir: Path
) -> None:
    """Write the participants and files of all group maps, with reasons for exclusions.

    `folder`: folder of the group maps; `output_dir`: root of the files of the participants.
    """
    rows = input_rows(records, output_dir)
    # numbers of columns that some rows lack stay integers
    columns = describe_columns("group_inputs")
    table = pd.DataFrame(rows, columns=[*columns], dtype=object)
    write_json(folder / f"{names.start}_inputs{_SIDECAR_SUFFIX}.json", columns)
    write_text(
        folder / f"{names.start}_inputs.tsv", table.to_csv(sep="\t", index=False, na_rep=MISSING)
    )
