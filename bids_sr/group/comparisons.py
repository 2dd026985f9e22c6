"""Group tests of methods against their references, one row per comparison.

There are paired tests, equivalence tests and corrections for multiple comparisons.

The participant is the unit. Comparisons of one method on one question form a family (placebos one
of their own) within which p values are corrected by Holm's procedure; false discovery rates are
over all comparisons of a metric, Friedman's test over all series of a question. One comparison a
task was fixed beforehand, see `primary`; all others are exploratory.
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
from bids_sr.evaluation.negative_controls import PLACEBOS
from bids_sr.group import paired_tests
from bids_sr.group.paired_tests import ALPHA, benjamini_hochberg, hodges_lehmann, holm
from bids_sr.group.values import QUESTION, of_people, of_question, wide
from bids_sr.io.arrays import Float
from bids_sr.metrics.number_text import p_value
from bids_sr.metrics.registry import LOWER, NEITHER, ONE, statistic
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, PLAIN, kind_of, same_name
from bids_sr.sr.method import offered_methods

_SHARE_OF_GAP = 0.1
SETTLED = {1: "better", -1: "worse"}
_UNSETTLED = {1: "larger", -1: "smaller"}
SAME, UNDECIDED, NONE = "same", "unclear", "not comparable"
PRIMARY, EXPLORATORY = "primary", "exploratory"
_STRONGEST = "strongest"
_ACCURACY = {"statistic": "ev", "band": "beyond", "region": "brain"}
"""What the primary comparison is about."""
_TRUTHS = tuple(each.name for each in STRONGEST["function"] if each.statistic == "ev")
"""References of the primary comparison, the stronger first."""
_POWER = 0.8
_EFFICIENCY = 3 / math.pi
_LEAST = 6
_MOST = 100_000
BELOW = (
    "the method is below the strongest reference, but this does not demonstrate a loss of "
    "accuracy, because the strongest reference is the largest of several noisy values"
)


def references(series: str, known: Sequence[str], methods: Sequence[str]) -> dict[str, str]:
    """Return references of a series among the known ones, each with its role.

    A method is compared with everything that is not itself; a baseline against the acquired series
    alone, which shows what the finer grid does without any method.
    """
    if series not in methods:
        return {name: "acquired" for name in ACQUIRED if name in known}
    placebos = [name for name, placebo in PLACEBOS.items() if placebo.method == series]
    found: dict[str, str] = {name: kind_of(name) for name in (*ACQUIRED, *BASELINES, *CONTROLS)}
    found |= {name: "method" for name in methods if name != series}
    found |= {same_name(series): "control"} | dict.fromkeys(placebos, "placebo")
    return {name: role for name, role in found.items() if name in known}


def _as_tested(name: str, values: Float) -> Float:
    """Return a statistic (n,) as compared: |value - 1| if near 1 is better, else unchanged."""
    return np.abs(values - 1) if statistic(name).better == ONE else values


def margin_of(name: str, values: Mapping[str, Float], asked: float | None) -> float:
    """Return the equivalence margin: the requested one, else a tenth of the B-spline-measured gap.

    A requested margin is a pure number; the gap is that from B-spline to measured.

    The gap is the median over participants and involves no method under test. NaN where nothing
    was measured, or where there is no gap to speak of: the distance to a perfect 1 would be no
    yardstick, as nothing that is measured comes near it, and real gains would pass as none.

    `values`: the values of all participants (n,) by series; those that are not finite do not
    count.
    """
    if asked is not None and statistic(name).unit == "1":
        return asked
    if MEASURED not in values or "bspline" not in values:
        return math.nan
    truth, spline = (_as_tested(name, values[series]) for series in (MEASURED, "bspline"))
    with np.errstate(invalid="ignore"):
        _, gap, _ = paired_tests.quartiles(truth - spline)
    direction = statistic(name).better
    gap = -gap if direction in (LOWER, ONE) else abs(gap) if direction == NEITHER else gap
    return _SHARE_OF_GAP * gap if gap > 0 else math.nan


def compare(
    values: pd.DataFrame, methods: Sequence[str], margin: float | None = None
) -> pd.DataFrame:
    """All exploratory comparisons of the methods under test, corrected and evaluated.

    `values`: as of `bids_sr.group.values.Joined`. A row each, with the columns that
    `bids_sr.group.tables.COLUMN_TEXT` describes and ``lower_of_series``: lower end of
    the interval of the series' own explained variance.
    """
    groups = values[QUESTION].groupby(QUESTION, sort=False)
    questions = (values.loc[own.index] for _, own in groups)
    table = _table([row for own in questions for row in _of_question(own, methods, margin)])
    table = _evaluated(table, [*QUESTION, "series", table["role"] == "placebo"], EXPLORATORY)
    tested = table["p_wilcoxon"].where(table["n"] > 1)
    metric = [table[name] for name in ("table", "statistic", "band", "reference", "threshold")]
    rates = tested.groupby(metric, observed=True).transform(benjamini_hochberg)
    return table.assign(p_fdr=rates)


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Comparisons as a table that has all columns, whatever the rows lack."""
    least = (*QUESTION, "series", "minus", "role", "n", "p_wilcoxon", "p_equivalence", "n_needed")
    return pd.DataFrame(
        list(rows), columns=list(dict.fromkeys((*least, *chain.from_iterable(rows))))
    )


def _of_question(
    table: pd.DataFrame, methods: Sequence[str], asked: float | None
) -> Iterator[dict[str, Any]]:
    """All comparisons on one question, not corrected."""
    question = table[QUESTION].iloc[0].to_dict()
    values = dict(zip(table["series"], of_people(table).to_numpy(), strict=True))
    margin = margin_of(question["statistic"], values, asked)
    tested = [name for name in (*ACQUIRED, *BASELINES, *CONTROLS, *methods) if name in values]
    p_friedman = paired_tests.friedman([values[name] for name in tested])
    for name in (each for each in (*BASELINES, *methods) if each in values):
        for other, role in references(name, list(values), methods).items():
            statistics = _paired(values[name], values[other], question["statistic"], margin)
            yield (
                question
                | {"series": name, "minus": other, "role": role, "p_friedman": p_friedman}
                | statistics
            )


def _paired(own_values: Float, other: Float, name: str, margin: float) -> dict[str, Any]:
    """Compare the participants' values (n,) with those of a reference, uncorrected.

    Undefined ones are infinite, missing ones NaN.
    """
    known = np.isfinite(own_values) & np.isfinite(other)
    n, there = int(known.sum()), int((~np.isnan(own_values) & ~np.isnan(other)).sum())
    own_values = own_values[known]
    other = other[known]
    statistics: dict[str, Any] = {
        "better": statistic(name).better,
        "n": n,
        "n_undefined": there - n,
        "n_above": 0,
    }
    for whose, values in (("series", own_values), ("minus", other)):
        first, median, third = paired_tests.quartiles(values)
        statistics |= {f"median_{whose}": median, f"q1_{whose}": first, f"q3_{whose}": third}
    statistics |= {
        "margin": margin,
        "p_wilcoxon": math.nan,
        "effect_size": math.nan,
        "difference": math.nan,
    }
    if n:
        d = paired_tests.differences(_as_tested(name, own_values), _as_tested(name, other))
        statistics |= paired_tests.signed_rank(d) | hodges_lehmann(d) | paired_tests.paired_t(d)
        statistics |= {
            "n_above": int((d > 0).sum()),
            "p_equivalence": paired_tests.equivalence(d, margin),
        }
        statistics["lower_of_series"] = (
            hodges_lehmann(own_values)["lower"] if name == "ev" else math.nan
        )
    return statistics


def _evaluated(table: pd.DataFrame, family: Sequence[str | pd.Series], part: str) -> pd.DataFrame:
    """Comparisons with p values corrected within their families, a word and a note."""
    if table.empty:
        return table.assign(part=part, p_holm=math.nan, word="", note="")
    tested = table.assign(p=table["p_wilcoxon"].where(table["n"] > 1)).groupby(
        family, observed=True, sort=False
    )
    table = table.assign(
        part=part,
        family=tested["p"].transform("count"),
        p_holm=tested["p"].transform(holm),
        p_equivalence_holm=tested["p_equivalence"].transform(holm),
    )
    words = [_worded(row) for row in table.itertuples()]
    return table.assign(word=[word for word, _ in words], note=[note for _, note in words])


def _worded(row: Any) -> tuple[str, str]:
    """Return the word and note of a comparison.

    The word tells a difference that is significant and beyond the margin, sameness, or neither.

    A difference that is significant and reliably smaller than the margin counts as the same. A
    primary comparison has no margin and is better or unclear, never worse, see `primary`.
    """
    notes = (
        [f"{row.n_undefined} participant(s) were excluded, because the value is not defined"]
        if row.n_undefined
        else []
    )
    if row.n < 2:
        return NONE, "; ".join(
            [*notes, f"only {row.n} participant(s) have a value for both series"]
        )
    if row.method == "identical" and row.part != PRIMARY:
        return SAME, "; ".join([*notes, "both series are identical in all participants"])
    significant = row.p_holm < ALPHA
    below = row.part == PRIMARY and not row.effect_size > 0
    word = UNDECIDED
    if row.p_equivalence_holm < ALPHA:
        word = SAME
        if significant:
            notes.append(
                "the difference is statistically significant but smaller than the equivalence "
                "margin"
            )
    elif significant and not below:
        sign = 1 if row.effect_size > 0 else -1
        good = -sign if row.better in (LOWER, ONE) else sign
        word = _UNSETTLED[sign] if row.better == NEITHER else SETTLED[good]
    else:
        notes += [BELOW] if significant else []
        notes += filter(None, [attainable_text(row.n_nonzero, row.p_smallest, row.family)])
    return word, "; ".join(notes)


def attainable_text(n: float, p_smallest: float, family: float = 1) -> str:
    """Explain why no difference could be significant; empty where one could.

    The text, without a period, gives the number of differences and the smallest attainable p.

    `p_smallest`: what the signed-rank test could at best reach.

    >>> attainable_text(5, 2**-4)
    'with 5 non-zero differences, the smallest attainable p value is .0625'
    >>> attainable_text(6, 2**-5, 5).removeprefix("with 6 non-zero differences, ")
    'the smallest attainable p value is .156 (corrected for 5 comparisons)'
    """
    count = 1 if p_smallest >= ALPHA else int(family)  # already too few for a single comparison
    smallest = min(1.0, p_smallest * count)
    if smallest < ALPHA:
        return ""
    text = (
        f"with {n:.0f} non-zero difference{'s' * (n != 1)}, the smallest attainable p value is "
        f"{p_value(smallest, '.3g')}"
    )
    return f"{text} (corrected for {count} comparisons)" if count > 1 else text


def _paired_power(effect: float, n: npt.ArrayLike) -> Float:
    """Return the power of the two-sided paired t test of n differences.

    Their mean is `effect` standard deviations.
    """
    dof = np.asarray(n) - 1
    shift = effect * np.sqrt(n)
    limit = special.stdtrit(dof, 1 - ALPHA / 2)
    return special.nctdtr(dof, shift, -limit) + 1 - special.nctdtr(dof, shift, limit)


def _participants_needed(differences: npt.ArrayLike) -> int | None:
    """Return the number of participants the signed-rank test needs for 80 % power.

    The differences (n,) are taken as observed.

    That of the paired t test with the observed mean and standard deviation, divided by the
    efficiency of the signed-rank test beside it where differences are normal, 3/pi (Hodges and
    Lehmann 1956); never fewer than six, the least with which that test reaches p < .05. An effect
    seen in few participants is uncertain, and so is this number. None for fewer than two
    differences, for a mean that is not above 0 (more participants would show no gain), and where
    more than `MOST` would be needed.
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2 or not d.mean() > 0:
        return None
    sd = float(d.std(ddof=1))
    effect = float(d.mean()) / sd if sd > 0 else math.inf
    # beyond what the noncentral distribution is computed for; one more than the least is enough
    if effect >= 20:
        return _LEAST
    for counts in (np.arange(2, 1000), np.arange(1000, _MOST)):
        enough = counts[_paired_power(effect, counts) >= _POWER]
        if len(enough):
            return max(_LEAST, math.ceil(enough[0] / _EFFICIENCY))
    return None


def on_accuracy(rows: pd.DataFrame) -> pd.Series:
    """Which rows are about what the primary comparison is about."""
    about = [rows[name] == level for name, level in _ACCURACY.items()]
    return np.logical_and.reduce([*about, rows["reference"].isin(_TRUTHS)])


def primary_method(default: str, methods: Sequence[str]) -> str:
    """Return the method of the primary comparison.

    It is fixed before any value is seen: the default method if it was run, else the only method
    that was run. If several others were run, there is a choice, and the default method stays: it
    has no values, and nothing was prespecified.

    `default`: method of the program that runs unless others are named. `methods`: methods under
    test, see `bids_sr.group.values.Joined`; series of other programs do not count.
    """
    run = [name for name in methods if name in offered_methods()]
    return run[0] if len(run) == 1 else default


def primary(values: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return each task's prespecified comparison.

    It is the method minus each participant's strongest reference.

    Participants without any reference are left out. Where several tasks have a primary comparison,
    these are corrected by Holm's procedure; one is not.

    Columns as of `compare`, and of each comparison the participants, their differences and their
    strongest references (``rivals``).
    """
    rows = []
    for _, of_task in values[on_accuracy(values)].groupby(["task", "variant"], sort=False):
        defined = np.isfinite(of_people(of_task)).any(axis=1)
        there = of_task.loc[(of_task["series"] == method) & defined, QUESTION]
        if len(there):
            rows += _primary_of(
                of_question(of_task, min((row for _, row in there.iterrows()), key=_rank)), method
            )
    found = _table(rows)
    return _evaluated(found, [found["role"]], PRIMARY)


def _rank(question: pd.Series) -> tuple[int, bool, float, str]:
    """Place of a question among those that a primary comparison can be about."""
    single = question["contrast"] != "all"
    return _TRUTHS.index(question["reference"]), single, question["fwhm_mm"], question["contrast"]


def _primary_of(of_method: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    """The primary comparison on one question, not corrected; none where nobody has a reference."""
    table = wide(of_method)
    names = [
        name
        for name in dict.fromkeys((*BASELINES, *CONTROLS, *PLAIN))
        if name in table and name != method
    ]
    rivals = table[names].where(np.isfinite(table[names]))
    strongest = rivals.max(axis=1)
    question = of_method[QUESTION].iloc[0].to_dict()
    statistics = _paired(
        table[method].to_numpy(), strongest.to_numpy(), question["statistic"], math.nan
    )
    if not statistics["n"]:
        return []
    entered = np.isfinite(table[method]) & strongest.notna()
    own_values, two = (
        _as_tested(question["statistic"], each[entered].to_numpy())
        for each in (table[method], strongest)
    )
    d = paired_tests.differences(own_values, two)
    return [
        question
        | statistics
        | {
            "series": method,
            "minus": _STRONGEST,
            "role": _STRONGEST,
            "n_needed": _participants_needed(d),
            "participants": list(table.index[entered]),
            "differences": d.tolist(),
            "rivals": rivals[entered].idxmax(axis=1).tolist(),
        }
    ]
