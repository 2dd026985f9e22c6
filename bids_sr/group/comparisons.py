"""Group tests of methods against their references, one row per comparison.

Tests are paired over participants: difference, equivalence, and Friedman's test over all series of
a question. Holm's procedure corrects p values within families. A family contains the comparisons
of one method on one question; comparisons with placebos are a separate family. False discovery
rates are computed over all comparisons of a metric. One comparison per task is prespecified, see
`compare_primary`; all others are exploratory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bids_sr.evaluation.evidence import STRONGEST
from bids_sr.evaluation.negative_controls import NEGATIVE_CONTROLS
from bids_sr.glm.contrasts import rank_contrast
from bids_sr.group import values as group_values
from bids_sr.group.values import (
    QUESTION,
    participant_columns,
    participants_by_series,
    question_rows,
)
from bids_sr.io.arrays import Float
from bids_sr.metrics.number_text import p_value
from bids_sr.metrics.registry import LOWER, NEITHER, ONE, statistic
from bids_sr.series import (
    ACQUIRED,
    BASELINES,
    CONTROLS,
    MEASURED,
    SIMPLE_BASELINES,
    get_kind,
    same_name,
)
from bids_sr.sr.method import method_names_without_controls
from bids_sr.statistics import paired_tests, wilcoxon
from bids_sr.statistics.multiple_comparisons import benjamini_hochberg, holm
from bids_sr.statistics.wilcoxon import ALPHA, hodges_lehmann

_SHARE_OF_GAP = 0.1  # equivalence margin, relative to the gap between B-spline and measured
SIGNIFICANT_WORDS = {1: "better", -1: "worse"}
_NEUTRAL_WORDS = {1: "larger", -1: "smaller"}
SAME, UNDECIDED, NOT_COMPARABLE = "same", "unclear", "not comparable"
PRIMARY, EXPLORATORY = "primary", "exploratory"
_STRONGEST = "strongest"
_ACCURACY = {"statistic": "ev", "band": "beyond", "region": "brain"}
"""Statistic, band and region of the primary comparison."""
_REFERENCES = tuple(item.name for item in STRONGEST["function"] if item.statistic == "ev")
"""References of the primary comparison, the strongest first."""
_POWER = 0.8
# efficiency of the signed-rank test relative to the t test for normal differences (Hodges and
# Lehmann 1956)
_EFFICIENCY = 3 / math.pi
_MIN_PARTICIPANTS = 6  # smallest sample with which the signed-rank test can reach p < .05
_MAX_PARTICIPANTS = 100_000
_MAX_EFFECT = 20  # standard deviations, far above the effect that needs the smallest sample
BELOW_STRONGEST_NOTE = (
    "the method is below the strongest reference, but this does not demonstrate a loss of "
    "accuracy, because the strongest reference is the largest of several noisy values"
)


def references(series: str, available: Sequence[str], methods: Sequence[str]) -> dict[str, str]:
    """Return the series that a series is compared with, and their roles.

    A method is compared with acquired series, baselines, controls, other methods and its placebos.
    A baseline is only compared with the acquired series, which isolates the effect of the denser
    grid.
    """
    if series not in methods:
        return {name: "acquired" for name in ACQUIRED if name in available}
    placebos = [name for name, placebo in NEGATIVE_CONTROLS.items() if placebo.method == series]
    roles: dict[str, str] = {name: get_kind(name) for name in (*ACQUIRED, *BASELINES, *CONTROLS)}
    roles |= {name: "method" for name in methods if name != series}
    roles |= {same_name(series): "control"} | dict.fromkeys(placebos, "placebo")
    return {name: role for name, role in roles.items() if name in available}


def _transform_values(name: str, values: Float) -> Float:
    """Return values (n,) in the form that tests compare: |value - 1| if the optimum is 1."""
    return np.abs(values - 1) if statistic(name).better == ONE else values


def get_margin(name: str, values: Mapping[str, Float], requested: float | None) -> float:
    """Return the equivalence margin of a statistic.

    A requested margin applies only to statistics that are pure numbers. Otherwise, the margin is a
    tenth of the gap between the B-spline series and the measured series. The gap is the median
    over participants and does not involve any method under test. A margin relative to a perfect
    value of 1 would be too wide: measured series do not come near 1, and real gains would count as
    equivalent.

    Parameters
    ----------
    name : str
        Statistic.
    values : Mapping[str, Float]
        Values of all participants (n,) by series; non-finite values are ignored.
    requested : float or None
        Requested margin.

    Returns
    -------
    float
        Margin in the unit of the statistic; NaN if nothing was measured or the gap is not
        positive.
    """
    if requested is not None and statistic(name).unit == "1":
        return requested
    if MEASURED not in values or "bspline" not in values:
        return math.nan
    reference, spline = (
        _transform_values(name, values[series]) for series in (MEASURED, "bspline")
    )
    with np.errstate(invalid="ignore"):
        _, median_difference, _ = group_values.quartiles(reference - spline)
    direction = statistic(name).better
    gap = -median_difference if direction in (LOWER, ONE) else median_difference
    if direction == NEITHER:
        gap = abs(median_difference)
    return _SHARE_OF_GAP * gap if gap > 0 else math.nan


def compare(
    values: pd.DataFrame, methods: Sequence[str], margin: float | None = None
) -> pd.DataFrame:
    """Run all exploratory comparisons of the methods under test, with corrections and verdicts.

    Parameters
    ----------
    values : pd.DataFrame
        Values of a `bids_sr.group.values.JoinedTables`.
    methods : Sequence[str]
        Methods under test.
    margin : float, optional
        Requested equivalence margin, see `get_margin`.

    Returns
    -------
    pd.DataFrame
        One row per comparison, with the columns described in `bids_sr.group.tables.COLUMN_TEXT`
        and ``lower_of_series``, the lower limit of the confidence interval of the series'
        explained variance.
    """
    rows: list[dict[str, Any]] = []
    for _, question in values[QUESTION].groupby(QUESTION, sort=False):
        rows += _compare_question(values.loc[question.index], methods, margin)
    table = _make_table(rows)
    table = _add_verdicts(table, [*QUESTION, "series", table["role"] == "placebo"], EXPLORATORY)
    p_values = table["p_wilcoxon"].where(table["n"] > 1)
    metric = [table[name] for name in ("table", "statistic", "band", "reference", "threshold")]
    false_discovery_rates = p_values.groupby(metric, observed=True).transform(benjamini_hochberg)
    return table.assign(p_fdr=false_discovery_rates)


def _make_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return comparisons as a table that always has all columns."""
    required = (
        *QUESTION,
        "series",
        "minus",
        "role",
        "n",
        "p_wilcoxon",
        "p_equivalence",
        "n_needed",
    )
    return pd.DataFrame(
        list(rows), columns=list(dict.fromkeys((*required, *chain.from_iterable(rows))))
    )


def _compare_question(
    table: pd.DataFrame, methods: Sequence[str], requested_margin: float | None
) -> Iterator[dict[str, Any]]:
    """Yield all comparisons of one quantity (a question) between series, without correction."""
    question = table[QUESTION].iloc[0].to_dict()
    values = dict(zip(table["series"], participant_columns(table).to_numpy(), strict=True))
    margin = get_margin(question["statistic"], values, requested_margin)
    series_names = [
        name for name in (*ACQUIRED, *BASELINES, *CONTROLS, *methods) if name in values
    ]
    p_friedman = paired_tests.friedman([values[name] for name in series_names])
    for series in (name for name in (*BASELINES, *methods) if name in values):
        for reference, role in references(series, list(values), methods).items():
            statistics = _compare_pairs(
                values[series], values[reference], question["statistic"], margin
            )
            yield (
                question
                | {"series": series, "minus": reference, "role": role, "p_friedman": p_friedman}
                | statistics
            )


def _compare_pairs(
    series_values: Float, reference_values: Float, name: str, margin: float
) -> dict[str, Any]:
    """Compare the participants' values (n,) with the values of a reference, without correction.

    Undefined values are infinite, missing values are NaN.
    """
    defined = np.isfinite(series_values) & np.isfinite(reference_values)
    n = int(defined.sum())
    n_present = int((~np.isnan(series_values) & ~np.isnan(reference_values)).sum())
    series_values = series_values[defined]
    reference_values = reference_values[defined]
    statistics: dict[str, Any] = {
        "better": statistic(name).better,
        "n": n,
        "n_undefined": n_present - n,
        "n_above": 0,
    }
    for role, values in (("series", series_values), ("minus", reference_values)):
        first, median, third = group_values.quartiles(values)
        statistics |= {f"median_{role}": median, f"q1_{role}": first, f"q3_{role}": third}
    statistics |= {
        "margin": margin,
        "p_wilcoxon": math.nan,
        "effect_size": math.nan,
        "difference": math.nan,
    }
    if n:
        differences = paired_tests.differences(
            _transform_values(name, series_values), _transform_values(name, reference_values)
        )
        statistics |= (
            wilcoxon.signed_rank(differences)
            | hodges_lehmann(differences)
            | paired_tests.paired_t(differences)
        )
        statistics |= {
            "n_above": int((differences > 0).sum()),
            "p_equivalence": paired_tests.equivalence(differences, margin),
            "lower_of_series": (
                hodges_lehmann(series_values)["lower"] if name == "ev" else math.nan
            ),
        }
    return statistics


def _add_verdicts(
    table: pd.DataFrame, family: Sequence[str | pd.Series], part: str
) -> pd.DataFrame:
    """Add corrected p values, verdicts and notes to comparisons.

    P values are corrected within each `family` of rows.
    """
    if table.empty:
        return table.assign(part=part, p_holm=math.nan, word="", note="")
    families = table.assign(p=table["p_wilcoxon"].where(table["n"] > 1)).groupby(
        family, observed=True, sort=False
    )
    table = table.assign(
        part=part,
        family=families["p"].transform("count"),
        p_holm=families["p"].transform(holm),
        p_equivalence_holm=families["p_equivalence"].transform(holm),
    )
    verdicts = [_decide(row) for row in table.itertuples()]
    return table.assign(
        word=[decision for decision, _ in verdicts], note=[note for _, note in verdicts]
    )


def _decide(row: Any) -> tuple[str, str]:
    """Return the verdict on a comparison as a word or phrase, and a note.

    The verdict is the direction of a significant difference, *same*, *unclear*, or *not
    comparable* with fewer than two participants. A significant difference counts as *same* if it
    is reliably smaller than the margin. A primary comparison has no margin and is *better* or
    *unclear*, never *worse*, see `compare_primary`.
    """
    notes = (
        [f"{row.n_undefined} participant(s) were excluded, because the value is not defined"]
        if row.n_undefined
        else []
    )
    if row.n < 2:
        return NOT_COMPARABLE, "; ".join(
            [*notes, f"only {row.n} participant(s) have a value for both series"]
        )
    if row.method == "identical" and row.part != PRIMARY:
        return SAME, "; ".join([*notes, "both series are identical in all participants"])
    is_significant = row.p_holm < ALPHA
    is_below_strongest = row.part == PRIMARY and not row.effect_size > 0
    decision = UNDECIDED
    if row.p_equivalence_holm < ALPHA:
        decision = SAME
        if is_significant:
            notes.append(
                "the difference is statistically significant but smaller than the equivalence "
                "margin"
            )
    elif is_significant and not is_below_strongest:
        sign = 1 if row.effect_size > 0 else -1
        if row.better == NEITHER:
            decision = _NEUTRAL_WORDS[sign]
        else:
            decision = SIGNIFICANT_WORDS[-sign if row.better in (LOWER, ONE) else sign]
    else:
        if is_significant:
            notes.append(BELOW_STRONGEST_NOTE)
        if text := attainable_text(row.n_nonzero, row.p_smallest, row.family):
            notes.append(text)
    return decision, "; ".join(notes)


def attainable_text(n: float, p_smallest: float, family: float = 1) -> str:
    """Explain why no difference could be significant, "" if one could.

    Parameters
    ----------
    n : float
        Number of non-zero differences.
    p_smallest : float
        Smallest p value that the signed-rank test can reach with n differences.
    family : float
        Number of comparisons in the correction.

    Returns
    -------
    str
        Text without a final period.

    >>> attainable_text(5, 2**-4)
    'with 5 non-zero differences, the smallest attainable p value is .0625'
    >>> attainable_text(6, 2**-5, 5).removeprefix("with 6 non-zero differences, ")
    'the smallest attainable p value is .156 (corrected for 5 comparisons)'
    """
    # without correction if the differences are too few for a single comparison
    n_comparisons = 1 if p_smallest >= ALPHA else int(family)
    p_attainable = min(1.0, p_smallest * n_comparisons)
    if p_attainable < ALPHA:
        return ""
    text = (
        f"with {n:.0f} non-zero {'difference' if n == 1 else 'differences'}, the smallest"
        f" attainable p value is {p_value(p_attainable, '.3g')}"
    )
    return f"{text} (corrected for {n_comparisons} comparisons)" if n_comparisons > 1 else text


def _compute_power(effect: float, n: npt.ArrayLike) -> Float:
    """Return the power of the two-sided paired t test for n differences.

    `effect` is the mean of the differences in standard deviations.
    """
    dof = np.asarray(n) - 1
    noncentrality = effect * np.sqrt(n)
    critical_t = special.stdtrit(dof, 1 - ALPHA / 2)
    return (
        special.nctdtr(dof, noncentrality, -critical_t)
        + 1
        - special.nctdtr(dof, noncentrality, critical_t)
    )


def _compute_participants_needed(differences: npt.ArrayLike) -> int | None:
    """Return the number of participants that the signed-rank test needs for 80 % power.

    The number is computed for a paired t test with the observed mean and standard deviation of the
    differences (n,), and divided by the efficiency of the signed-rank test for normal differences,
    3/pi (Hodges and Lehmann 1956). It is at least six, because the signed-rank test cannot reach p
    < .05 with fewer participants. An effect estimated in few participants is uncertain, and so is
    this number.

    Returns
    -------
    int or None
        None if there are fewer than two differences, if their mean is not positive (more
        participants would not show a gain), or if more than `_MAX_PARTICIPANTS` would be needed.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not values.mean() > 0:
        return None
    sd = float(values.std(ddof=1))
    effect = float(values.mean()) / sd if sd > 0 else math.inf
    # Effects this large need only the smallest sample, so their power is not computed.
    if effect >= _MAX_EFFECT:
        return _MIN_PARTICIPANTS
    for counts in (np.arange(2, 1000), np.arange(1000, _MAX_PARTICIPANTS)):
        sufficient = counts[_compute_power(effect, counts) >= _POWER]
        if len(sufficient):
            return max(_MIN_PARTICIPANTS, math.ceil(sufficient[0] / _EFFICIENCY))
    return None


def is_primary_metric(rows: pd.DataFrame) -> pd.Series:
    """Return which rows have the metric of the primary comparison and one of its references."""
    matches = [rows[name] == level for name, level in _ACCURACY.items()]
    return np.logical_and.reduce([*matches, rows["reference"].isin(_REFERENCES)])


def primary_method(default: str, methods: Sequence[str]) -> str:
    """Return the method of the primary comparison.

    The choice does not depend on any result. If only one of the program's methods was run, it is
    the primary method; otherwise, the default method is. The default is returned even if it was
    not run, because no other method was prespecified.

    Parameters
    ----------
    default : str
        Method that the program runs unless others are requested.
    methods : Sequence[str]
        Methods under test, see `bids_sr.group.values.JoinedTables`; series of other programs are
        ignored.
    """
    run = [name for name in methods if name in method_names_without_controls()]
    return run[0] if len(run) == 1 else default


def compare_primary(values: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the prespecified comparison of each task: a method minus its strongest competitor.

    The strongest reference is determined per participant; participants without any reference are
    excluded. Holm's procedure is applied if several tasks have a primary comparison.

    Returns
    -------
    pd.DataFrame
        Columns of `compare`, and for each comparison the participants, their differences and their
        strongest references (``rivals``).
    """
    rows = []
    primary_values = values[is_primary_metric(values)]
    for _, task_values in primary_values.groupby(["task", "variant"], sort=False):
        is_defined = np.isfinite(participant_columns(task_values)).any(axis=1)
        questions = task_values.loc[(task_values["series"] == method) & is_defined, QUESTION]
        if len(questions):
            question = min((row for _, row in questions.iterrows()), key=_question_rank)
            rows += _compare_with_strongest(question_rows(task_values, question), method)
    comparisons = _make_table(rows)
    return _add_verdicts(comparisons, [comparisons["role"]], PRIMARY)


def _question_rank(question: pd.Series) -> tuple[int, int, float, str]:
    """Return the sort key of a question, the quantity that a comparison is about.

    The primary comparison of a task is on the question with the smallest key.
    """
    return (
        _REFERENCES.index(question["reference"]),
        rank_contrast(question["contrast"]),
        question["fwhm_mm"],
        question["contrast"],
    )


def _compare_with_strongest(question_values: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    """Compare a method with the strongest reference of each participant, without correction.

    Returns
    -------
    list[dict[str, Any]]
        One row; [] if no participant has values of the method and a reference.
    """
    table = participants_by_series(question_values)
    reference_names = [
        name
        for name in dict.fromkeys((*BASELINES, *CONTROLS, *SIMPLE_BASELINES))
        if name in table and name != method
    ]
    reference_values = table[reference_names].where(np.isfinite(table[reference_names]))
    strongest = reference_values.max(axis=1)
    question = question_values[QUESTION].iloc[0].to_dict()
    statistics = _compare_pairs(
        table[method].to_numpy(), strongest.to_numpy(), question["statistic"], math.nan
    )
    if not statistics["n"]:
        return []
    is_included = np.isfinite(table[method]) & strongest.notna()
    differences = paired_tests.differences(
        *(
            _transform_values(question["statistic"], column[is_included].to_numpy())
            for column in (table[method], strongest)
        )
    )
    return [
        question
        | statistics
        | {
            "series": method,
            "minus": _STRONGEST,
            "role": _STRONGEST,
            "n_needed": _compute_participants_needed(differences),
            "participants": list(table.index[is_included]),
            "differences": differences.tolist(),
            "rivals": reference_values[is_included].idxmax(axis=1).tolist(),
        }
    ]
