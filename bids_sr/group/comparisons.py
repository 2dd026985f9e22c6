"""Group tests of methods against their references, one row per comparison.

Tests are paired over participants: difference, equivalence, and Friedman's test over all series of
a question. Holm's procedure corrects p values within families. A family contains the comparisons
of one method on one question. False discovery rates are computed over all comparisons of a metric.
One comparison per task is prespecified, see `compare_primary`; all others are exploratory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bids_sr.evaluation.evidence import MARGIN_SHARE, STRONGEST
from bids_sr.evaluation.statistics.comparisons import (
    PairedComparison,
    compare_pairs,
    compute_differences,
)
from bids_sr.evaluation.statistics.decisions import decide_all
from bids_sr.evaluation.statistics.multiple_comparisons import benjamini_hochberg
from bids_sr.evaluation.statistics.summaries import quartiles
from bids_sr.evaluation.statistics.wilcoxon import ALPHA, hodges_lehmann
from bids_sr.group.values import (
    QUESTION,
    EvidenceContrasts,
    participant_columns,
    participants_by_series,
    question_rows,
    rank_question,
)
from bids_sr.io.arrays import Float
from bids_sr.io.metric_registry import LOWER, NEITHER, ONE, statistic
from bids_sr.io.series import (
    ACQUIRED_NAMES,
    BASELINES,
    CONTROLS,
    MEASURED,
    REFERENCE_NAMES,
    get_kind,
)

PRIMARY, EXPLORATORY = "primary", "exploratory"
_STRONGEST = "strongest"
# statistic, band and region of the primary comparison
_ACCURACY = {"statistic": "ev", "band": "beyond", "region": "brain"}
# references of the primary comparison, the strongest first
_REFERENCES = tuple(item.name for item in STRONGEST["function"] if item.statistic == "ev")
_POWER = 0.8
# efficiency of the signed-rank test relative to the t test for normal differences (Hodges and
# Lehmann 1956)
_EFFICIENCY = 3 / math.pi
_MIN_PARTICIPANTS = 6  # smallest sample with which the signed-rank test can reach p < .05
_MAX_PARTICIPANTS = 100_000
_LARGE_EFFECT = 2.0  # standard deviations, an effect that needs only the smallest sample
_LEAST_N = 2  # participants, smallest sample whose p value is corrected
# values of `QUESTION` by column, and other cells that do not depend on the comparison
_Question = dict[str, Any]


def compare(
    values: pd.DataFrame, methods: Sequence[str], requested_margin: float | None = None
) -> pd.DataFrame:
    """Run all exploratory comparisons of the methods under test, with corrections and decisions.

    `values` are values of `bids_sr.group.values.JoinedTables`, and `requested_margin` is the
    equivalence margin of the settings (`get_margin`). Columns are ``stats`` of ``columns.json``
    and ``lower_of_series``, the lower limit of the confidence interval of the series' explained
    variance.
    """
    questions: list[_Question] = []
    comparisons: list[PairedComparison] = []
    for _, question in values[QUESTION].groupby(QUESTION, sort=False):
        for cells, comparison in _compare_question(
            values.loc[question.index], methods, requested_margin
        ):
            questions.append(cells)
            comparisons.append(comparison)
    families = [
        (*(cells[name] for name in QUESTION), comparison.series)
        for cells, comparison in zip(questions, comparisons, strict=True)
    ]
    table = _make_table(questions, comparisons, families, EXPLORATORY)
    p_values = table["p_wilcoxon"].where(table["n"] >= _LEAST_N)
    metric = [table[name] for name in ("table", "statistic", "band", "reference", "threshold")]
    false_discovery_rates = p_values.groupby(metric, observed=True).transform(benjamini_hochberg)
    return table.assign(p_fdr=false_discovery_rates)


def _compare_question(
    table: pd.DataFrame, methods: Sequence[str], requested_margin: float | None
) -> Iterator[tuple[_Question, PairedComparison]]:
    """Yield all comparisons of one quantity (a question) between series, without correction."""
    question = table[QUESTION].iloc[0].to_dict()
    name = question["statistic"]
    values = dict(zip(table["series"], participant_columns(table).to_numpy(), strict=True))
    series_names = [series for series in (*REFERENCE_NAMES, *methods) if series in values]
    p_friedman = _test_all_series(np.array([values[series] for series in series_names]))
    roles = {
        (series, reference): role
        for series in (*BASELINES, *methods)
        if series in values
        for reference, role in references(series, list(values), methods).items()
    }
    margin = get_margin(name, values, requested_margin)
    for comparison in compare_pairs(values, roles, margin=margin, optimum=_get_optimum(name)):
        pair = comparison.series, comparison.minus
        limit = _limit_of_series(name, values[pair[0]], values[pair[1]])
        yield {**question, **limit, "role": roles[pair], "p_friedman": p_friedman}, comparison


def _test_all_series(values: Float) -> float:
    """Return Friedman's p value for differences between series, (series, participants).

    Participants with a non-finite value are excluded. The p value is computed from the chi-square
    distribution, a rough approximation for fewer than about ten participants. It is NaN if there
    are fewer than two series or participants, or if all values of each participant are equal.
    """
    values = values[:, np.isfinite(values).all(axis=0)]
    if min(values.shape) < 2 or (values == values[0]).all():
        return math.nan
    if len(values) == 2:  # not supported by scipy; Friedman's test is then the sign test
        above, below = (values[0] > values[1]).sum(), (values[0] < values[1]).sum()
        return float(stats.chisquare([above, below]).pvalue)
    return float(stats.friedmanchisquare(*values).pvalue)


def references(series: str, available: Sequence[str], methods: Sequence[str]) -> dict[str, str]:
    """Return the series that a series is compared with, and their roles.

    A method is compared with acquired series, baselines, controls, and other methods.
    A baseline is only compared with the acquired series, which isolates the effect of the denser
    grid.
    """
    if series not in methods:
        return {name: "acquired" for name in ACQUIRED_NAMES if name in available}
    roles: dict[str, str] = {name: get_kind(name) for name in REFERENCE_NAMES}
    roles |= {name: "method" for name in methods if name != series}
    return {name: role for name, role in roles.items() if name in available}


def get_margin(name: str, values: Mapping[str, Float], requested_margin: float | None) -> float:
    """Return the equivalence margin of a statistic.

    A requested margin applies only to statistics that are pure numbers. Otherwise, the margin is a
    tenth of the gap between the B-spline series and the measured series. The gap is the median
    over participants and does not involve any method under test. A margin relative to a perfect
    value of 1 would be too wide: measured series do not come near 1, and real gains would count as
    equivalent.

    `values` are the values of all participants (n,) by series; non-finite values are ignored. The
    margin has the unit of the statistic, and is NaN if nothing was measured or the gap is not
    positive.
    """
    if requested_margin is not None and statistic(name).unit == "1":
        return requested_margin
    if MEASURED not in values or "bspline" not in values:
        return math.nan
    is_defined = np.isfinite(values[MEASURED]) & np.isfinite(values["bspline"])
    measured, spline = values[MEASURED][is_defined], values["bspline"][is_defined]
    if (optimum := _get_optimum(name)) is not None:
        measured, spline = np.abs(measured - optimum), np.abs(spline - optimum)
    _, median_difference, _ = quartiles(measured - spline)
    direction = statistic(name).better
    gap = -median_difference if direction in (LOWER, ONE) else median_difference
    if direction == NEITHER:
        gap = abs(median_difference)
    return MARGIN_SHARE * gap if gap > 0 else math.nan


def compare_primary(
    values: pd.DataFrame, method: str, contrasts: EvidenceContrasts
) -> pd.DataFrame:
    """Return the prespecified comparison of each task: a method minus its strongest competitor.

    The comparison is about a contrast of the runs' evidence (`contrasts`), if it is known. The
    strongest reference is determined per participant; participants without any reference are
    excluded. Holm's procedure is applied if several tasks have a primary comparison. The columns
    are the columns of `compare`, and for each comparison the participants, their differences and
    their strongest references (``rivals``).
    """
    questions: list[_Question] = []
    comparisons: list[PairedComparison] = []
    primary_values = values[is_primary_metric(values)]
    for key, task_values in primary_values.groupby(["task", "variant"], sort=False):
        is_candidate = (task_values["series"] == method) & np.isfinite(
            participant_columns(task_values)
        ).any(axis=1)
        if key in contrasts:
            is_candidate &= task_values["contrast"].isin(contrasts[key])
        candidates = task_values.loc[is_candidate, QUESTION]
        if len(candidates):
            question = min(
                (row for _, row in candidates.iterrows()),
                key=lambda row: _question_rank(row, contrasts),
            )
            cells, comparison = _compare_with_strongest(
                question_rows(task_values, question), method
            )
            if comparison.n:
                questions.append(cells)
                comparisons.append(comparison)
    return _make_table(questions, comparisons, [()] * len(comparisons), PRIMARY)


def is_primary_metric(rows: pd.DataFrame) -> pd.Series:
    """Return which rows have the metric of the primary comparison and one of its references."""
    matches = [rows[name] == level for name, level in _ACCURACY.items()]
    return np.logical_and.reduce([*matches, rows["reference"].isin(_REFERENCES)])


def _question_rank(
    question: pd.Series, contrasts: EvidenceContrasts
) -> tuple[int, tuple[int, int], float, str]:
    """Return the sort key of a question, the quantity that a comparison is about.

    The primary comparison of a task is on the question with the smallest key.
    """
    return (
        _REFERENCES.index(question["reference"]),
        rank_question(question["task"], question["variant"], question["contrast"], contrasts),
        question["fwhm_mm"],
        question["contrast"],
    )


def _compare_with_strongest(
    question_values: pd.DataFrame, method: str
) -> tuple[_Question, PairedComparison]:
    """Compare a method with the strongest reference of each participant, without correction."""
    table = participants_by_series(question_values)
    question = question_values[QUESTION].iloc[0].to_dict()
    reference_names = [
        name for name in (*BASELINES, *CONTROLS) if name in table and name != method
    ]
    reference_values = table[reference_names].where(np.isfinite(table[reference_names]))
    strongest = reference_values.max(axis=1)
    optimum = _get_optimum(question["statistic"])
    values = {method: table[method].to_numpy(), _STRONGEST: strongest.to_numpy()}
    (comparison,) = compare_pairs(values, [(method, _STRONGEST)], optimum=optimum)
    if not comparison.n:
        return question, comparison
    is_included = np.isfinite(table[method]) & strongest.notna()
    changes = compute_differences(
        table[method][is_included].to_numpy(), strongest[is_included].to_numpy(), optimum
    )
    cells = {
        "role": _STRONGEST,
        "n_needed": _compute_participants_needed(changes),
        "participants": list(table.index[is_included]),
        "differences": changes.tolist(),
        "rivals": reference_values[is_included].idxmax(axis=1).tolist(),
    }
    limit = _limit_of_series(question["statistic"], values[method], values[_STRONGEST])
    return {**question, **limit, **cells}, comparison


def _get_optimum(name: str) -> float | None:
    """Return the best value of a statistic; None if larger or smaller values are better."""
    return 1.0 if statistic(name).better == ONE else None


def _compute_participants_needed(differences: npt.ArrayLike) -> int | None:
    """Return the number of participants that the signed-rank test needs for 80 % power.

    The number is computed for a paired t test with the observed mean and standard deviation of the
    differences (n,), and divided by the efficiency of the signed-rank test for normal differences,
    3/pi (Hodges and Lehmann 1956). It is at least six, because the signed-rank test cannot reach p
    < .05 with fewer participants. An effect estimated in few participants is uncertain, and so is
    this number. None if there are fewer than two differences, if their mean is not positive (more
    participants would not show a gain), or if more than `_MAX_PARTICIPANTS` would be needed.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not values.mean() > 0:
        return None
    sd = float(values.std(ddof=1))
    effect = float(values.mean()) / sd if sd > 0 else math.inf
    if effect >= _LARGE_EFFECT:
        return _MIN_PARTICIPANTS
    from statsmodels.stats.power import TTestPower

    count = math.ceil(TTestPower().solve_power(effect, power=_POWER, alpha=ALPHA))
    if count >= _MAX_PARTICIPANTS:
        return None
    return max(_MIN_PARTICIPANTS, math.ceil(count / _EFFICIENCY))


def _limit_of_series(name: str, values: Float, reference_values: Float) -> dict[str, float]:
    """Return the lower limit of a series' explained variance, over compared participants."""
    is_defined = np.isfinite(values) & np.isfinite(reference_values)
    has_limit = name == "ev" and is_defined.any()
    return {"lower_of_series": hodges_lehmann(values[is_defined]).lower if has_limit else math.nan}


def _make_table(
    questions: Sequence[_Question],
    comparisons: Sequence[PairedComparison],
    families: Sequence[tuple[Any, ...]],
    part: str,
) -> pd.DataFrame:
    """Return comparisons, corrected within families, as a table with decisions and notes."""
    decision_rows = decide_all(
        questions, comparisons, families, least_n=_LEAST_N, with_strongest=part == PRIMARY
    )
    rows = [{**row, "part": part} for row in decision_rows]
    # columns that an empty table requires
    required = (*QUESTION, "series", "n", "p_wilcoxon", "part")
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else list(required))


def primary_method(default: str, methods: Sequence[str]) -> str:
    """Return the method of the primary comparison.

    The choice does not depend on any result. If only one of the program's methods was run, it is
    the primary method; otherwise, the default method is. The default is returned even if it was
    not run, because no other method was prespecified. `default` is the method that the program
    runs unless others are requested, and `methods` are those that were run.
    """
    return methods[0] if len(methods) == 1 else default
