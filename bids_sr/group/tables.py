"""The group's tables: one of all values, and one of all comparisons."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.boilerplate import data_of
from bids_sr.group import values as group_values
from bids_sr.group.comparisons import compare, primary, primary_method
from bids_sr.group.values import Joined
from bids_sr.io.atomic_files import whole_file, write_json, write_whole
from bids_sr.metrics.rows import COLUMNS, MISSING, columns_json

COLUMN_TEXT: Mapping[str, Mapping[str, object]] = {
    name: told or COLUMNS[name] for name, told in data_of("columns.json")["comparisons"].items()
}
"""Columns of the table of comparisons, with what the sidecar says of them."""
_COLUMNS_OF = "_columns"
"""Between the name of a table and ``.json``: as ``group_metrics.json``, participants' metrics
would inherit it.
"""


def write_tables(
    output_dir: Path, tables: pd.DataFrame, *, method: str, margin: float | None = None
) -> tuple[Joined, pd.DataFrame]:
    """Write ``group_metrics`` and ``group_stats``, and return what they hold.

    Parameters
    ----------
    output_dir : Path
        Root of the derivatives.
    tables : pandas.DataFrame
        Those of the participants.
    method : str
        Default method; the primary comparisons are of `primary_method`.
    margin : float, optional
        Of equivalence, see `bids_sr.group.comparisons.margin_of`.

    Returns
    -------
    Joined, pandas.DataFrame
        The values, and all comparisons, the primary ones first.

    Raises
    ------
    TableError
        A table cannot be joined.
    """
    with whole_file(output_dir / "group_metrics.tsv") as beside:
        with beside.open("w", encoding="utf-8") as stream:
            joined = group_values.join_tables(tables, stream)
        found = _all_comparisons(joined, primary_method(method, joined.methods), margin)
    metrics = {**group_values.COLUMN_TEXT, **columns_json(joined.statistics)}
    for table, text in (("group_metrics", metrics), ("group_stats", COLUMN_TEXT)):
        write_json(output_dir / f"{table}{_COLUMNS_OF}.json", text)
        # of 0.2.0 and before, inherited by BIDS
        (output_dir / f"{table}.json").unlink(missing_ok=True)
    write_whole(output_dir / "group_stats.tsv", _stats_text(found))
    return joined, found


def _all_comparisons(joined: Joined, method: str, margin: float | None = None) -> pd.DataFrame:
    """The primary comparisons of a method, then the exploratory ones of all.

    `margin`: margin of equivalence; None: a tenth of the gap between B-spline and measured.
    """
    found = compare(joined.values, joined.methods, margin)
    first = primary(joined.values, method)
    return pd.concat([first, found], ignore_index=True) if len(first) else found


def _stats_text(tests: pd.DataFrame) -> str:
    """Comparisons as the text of ``group_stats.tsv``."""
    table = tests.reindex(columns=list(COLUMN_TEXT)).replace(
        {"": None, np.inf: np.nan, -np.inf: np.nan}
    )
    whole = table.astype(dict.fromkeys(("n_nonzero", "n_needed"), "Int64"))
    return whole.to_csv(sep="\t", index=False, na_rep=MISSING, float_format="%.6g")
