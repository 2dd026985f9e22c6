"""The group's tables: the long one of all values, and that of all comparisons."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.io.atomic_files import whole_file, write_json, write_whole
from bids_sr.metrics.long_tables import COLUMNS, MISSING, columns_json
from bids_sr.stats.group import comparisons, group_values
from bids_sr.stats.group.group_values import QUESTION, Joined

_P = "p value, two-sided"
_TEXT = {
    "task": "Label of the task",
    "variant": ("Other entities in the names of the runs; n/a where there are none"),
    "table": "The participants' table that the values come from",
    "series": "The series under test",
    "minus": "The series that it is compared with, and that is subtracted",
    "role": (
        "Of the series in minus: acquired, baseline, control, method or placebo; strongest:"
        " the largest value of each participant among baselines, denoising controls and simple"
        " arithmetic"
    ),
    "better": (
        "What is better: higher, lower, near 1, or neither (a difference is no merit by itself)"
    ),
    "n": ("Participants that enter, one value each; runs were combined by fixed effects"),
    "n_undefined": ("Participants left out because a value is not defined (an empty region)"),
    "n_above": "Participants whose difference (series - minus) is above 0",
    **{
        f"{part}_{whose}": f"{words} of the {text} over participants"
        for whose, text in (("series", "series"), ("minus", "series in minus"))
        for part, words in (
            ("median", "Median"),
            ("q1", "First quartile"),
            ("q3", "Third quartile"),
        )
    },
    "difference": (
        "Hodges-Lehmann estimate of series - minus; distances from 1 where that counts"
    ),
    "lower": "Lower end of its exact interval from the signed-rank test",
    "upper": "Upper end of its interval",
    "level": (
        "Confidence of the interval; below .95 where there are too few participants for that"
    ),
    "effect_size": "Matched-pairs rank-biserial correlation, -1 to 1",
    "w_plus": "Sum of the ranks of the positive differences (Wilcoxon)",
    "n_nonzero": ("Differences that are not zero; the others do not enter the signed-rank test"),
    "method": (
        "How its p value was computed: exact, normal, or identical (all differences are zero)"
    ),
    "p_wilcoxon": f"{_P}, Wilcoxon signed-rank test, not corrected",
    "p_smallest": ("Smallest p value that this test could have reached with so many differences"),
    "family": ("Comparisons corrected together: one series and question, placebos apart"),
    "p_holm": "p_wilcoxon corrected within the family (Holm)",
    "p_fdr": ("False discovery rate over all comparisons of the measure (Benjamini and Hochberg)"),
    "t": "Paired t; n/a where the differences do not vary",
    "dof": "Its degrees of freedom",
    "p_t": f"{_P}, paired t test, not corrected",
    "p_friedman": (
        "p value of Friedman's test over all series of this question, of participants that"
        " have them all"
    ),
    "margin": (
        "Margin of equivalence: --margin for pure numbers, else a tenth of the median gap"
        " between bspline and measured; n/a without a gap"
    ),
    "p_equivalence": ("p value of two one-sided paired t tests within the margin, not corrected"),
    "p_equivalence_holm": "The same, corrected within the family (Holm)",
    "word": (
        "better, worse, larger, smaller: p_holm < .05; same: p_equivalence_holm < .05 or all"
        " identical; unclear: neither; not comparable: fewer than two participants"
    ),
    "part": (
        "primary: the one comparison of a task that was fixed beforehand (default method minus"
        " each participant's strongest reference, explained variance beyond the acquired"
        " Nyquist limit), which is corrected for the number of tasks alone; exploratory: every"
        " other"
    ),
    "n_needed": (
        "Participants for 80 % power of the primary comparison if its effect is as observed"
    ),
    "note": "What else must be known",
}
COLUMN_TEXT: Mapping[str, Mapping[str, object]] = {
    name: {"Description": _TEXT[name]} if name in _TEXT else COLUMNS[name]
    for name in dict.fromkeys([*QUESTION, *_TEXT])
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
        That of the primary comparisons, fixed beforehand.
    margin : float, optional
        Of equivalence, see `bids_sr.stats.group.comparisons.margin_of`.

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
        found = _all_comparisons(joined, method, margin)
    metrics = {**group_values.COLUMN_TEXT, **columns_json(joined.statistics)}
    for table, text in (("group_metrics", metrics), ("group_stats", COLUMN_TEXT)):
        write_json(output_dir / f"{table}{_COLUMNS_OF}.json", text)
        # of 0.2.0 and before, inherited by BIDS
        (output_dir / f"{table}.json").unlink(missing_ok=True)
    write_whole(output_dir / "group_stats.tsv", _stats_text(found))
    return joined, found


def _all_comparisons(joined: Joined, method: str, margin: float | None = None) -> pd.DataFrame:
    """The primary comparisons of a method, then the exploratory ones of all.

    Parameters
    ----------
    joined : Joined
        Values of all participants, and the methods under test.
    method : str
        Series of the primary comparisons, fixed beforehand.
    margin : float | None, optional
        Margin of equivalence; None: a tenth of the gap between B-spline and measured.

    Returns
    -------
    pd.DataFrame
        Comparisons, one a row.
    """
    found = comparisons.compare(joined.values, joined.methods, margin)
    first = comparisons.primary(joined.values, method)
    return pd.concat([first, found], ignore_index=True) if len(first) else found


def _stats_text(found: pd.DataFrame) -> str:
    """Comparisons as the text of ``group_stats.tsv``."""
    table = found.reindex(columns=list(COLUMN_TEXT)).replace(
        {"": None, np.inf: np.nan, -np.inf: np.nan}
    )
    whole = table.astype(dict.fromkeys(("n_nonzero", "n_needed"), "Int64"))
    return whole.to_csv(sep="\t", index=False, na_rep=MISSING, float_format="%.6g")
