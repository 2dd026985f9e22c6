"""Exploratory group tests of methods against their references: paired tests, equivalence, corrections.

The participant is the unit. Comparisons of one method on one question form a family (placebos one of their own) within
which p values are corrected by Holm's procedure; false discovery rates are over all comparisons of a measure,
Friedman's test over all series of a question. One comparison a task was fixed beforehand, see `with_primary`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float
from bids_sr.metrics.measure_names import better
from bids_sr.metrics.registry import LOWER, NEITHER, ONE
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, kind_of, same_name
from bids_sr.stats.controls.negative_controls import PLACEBOS
from bids_sr.stats.evaluation.evidence import PLAIN
from bids_sr.stats.group import paired_tests
from bids_sr.stats.group.metric_tables import Question, Values
from bids_sr.stats.group.paired_tests import ALPHA, Interval, Spread, TTest, Wilcoxon, hodges_lehmann, holm, spread
from bids_sr.stats.group.people_values import aligned

SHARE_OF_GAP = 0.1

SETTLED = {1: "better", -1: "worse"}
UNSETTLED = {1: "larger", -1: "smaller"}
SAME, UNDECIDED, NONE = "same", "undecided", "not comparable"


@frozen
class Comparison:
    """One series against one reference on one question."""

    # question, series, reference: what is compared
    question: Question
    series: str
    reference: str
    role: str  # of the reference: acquired, baseline, control, method, placebo, or strongest
    # n, n_undefined: participants that enter; participants that have both series and lack one of the metrics
    n: int
    n_undefined: int
    # own, other: spread of both series over the participants that enter
    own: Spread
    other: Spread
    # margin, p_equivalence: TOST; NaN without margin
    margin: float
    p_equivalence: float = math.nan
    # test, estimate, t: of the differences own - other (of distances from 1 where that is better); None for n = 0
    test: Wilcoxon | None = None
    estimate: Interval | None = None
    t: TTest | None = None
    family: int = 1  # comparisons that are corrected together
    # p_holm, p_fdr, p_equivalence_holm: corrected
    p_holm: float = math.nan
    p_fdr: float = math.nan
    p_equivalence_holm: float = math.nan
    p_friedman: float = math.nan  # Friedman's test over all series of the question, of participants that have them all
    # Hodges-Lehmann interval of the series' own metrics, where those are explained variance
    level: Interval | None = None
    ahead: int = 0  # participants whose own value is above the reference's
    # differences, participants: of the primary one, (n,) own - other, and whose they are
    differences: tuple[float, ...] = field(default=(), repr=False)
    participants: tuple[str, ...] = field(default=(), repr=False)
    # primary, needed: whether it was fixed beforehand; then the participants for 80 % power, None if not known
    primary: bool = False
    needed: int | None = None
    rivals: tuple[str, ...] = field(default=(), repr=False)  # (n,) of the primary one: each one's strongest reference
    word: str = UNDECIDED  # better, worse, larger, smaller, same, undecided, not comparable
    note: str = ""  # what the reader must know


def references(series: str, known: Sequence[str], methods: Sequence[str]) -> list[tuple[str, str]]:
    """References of a series among the known ones, each with its role.

    A method is compared with everything that is not itself; a baseline against the acquired series alone, which shows
    what the finer grid does without any method.
    """
    first = (*ACQUIRED, *BASELINES, *CONTROLS) if series in methods else ACQUIRED
    found: list[tuple[str, str]] = [(name, kind_of(name)) for name in first if name in known]
    if series in methods:
        found += [(name, "method") for name in methods if name in known and name != series]
        found += [(name, "control") for name in (same_name(series),) if name in known]
        found += [(name, "placebo") for name, p in PLACEBOS.items() if p.method == series and name in known]
    return found


def as_tested(measure: str, values: Float) -> Float:
    """A metric (n,) as it is compared: its distance from 1 where near 1 is better, else itself."""
    return np.abs(values - 1) if better(measure) == ONE else values


def margin_of(question: Question, series: Mapping[str, Mapping[str, float]], asked: float | None, unit: str) -> float:
    """Margin of equivalence: the one asked for (pure numbers), else a tenth of the gap from B-spline to measured.

    The gap is the median over participants and involves no method under test. NaN where nothing was measured, or where
    there is no gap to speak of: the distance to a perfect 1 would be no yardstick, as nothing that is measured comes
    near it, and real gains would pass as none.
    """
    if asked is not None and unit == "1":
        return asked
    measure, direction = question.measure, better(question.measure)
    if not series.get(MEASURED) or not series.get("bspline"):
        return math.nan
    _, both = aligned([series[MEASURED], series["bspline"]])
    truth, spline = (as_tested(measure, values) for values, _ in both)
    gap = spread(truth - spline).median
    gap = -gap if direction in (LOWER, ONE) else abs(gap) if direction == NEITHER else gap
    return SHARE_OF_GAP * gap if gap > 0 else math.nan


def compare(
    values: Values, methods: Sequence[str], *, units: Mapping[str, str], margin: float | None = None
) -> list[Comparison]:
    """All comparisons of the methods under test, corrected and evaluated; for `margin` see `margin_of`."""
    found: list[Comparison] = []
    for question, series in values.items():
        bound = margin_of(question, series, margin, units.get(question.measure, ""))
        own_kinds = [name for name in (*ACQUIRED, *BASELINES, *CONTROLS, *methods) if name in series]
        p_friedman = paired_tests.friedman([values for values, _ in aligned([series[name] for name in own_kinds])[1]])
        for name in [each for each in (*BASELINES, *methods) if each in series]:
            family = [
                replace(paired(question, series, name, other, role, bound), p_friedman=p_friedman)
                for other, role in references(name, list(series), methods)
            ]
            for placebo in (False, True):
                found += _corrected([each for each in family if (each.role == "placebo") is placebo])
    return _discovery_rates(found)


def paired(
    question: Question, series: Mapping[str, Mapping[str, float]], name: str, other: str, role: str, margin: float
) -> Comparison:
    """One comparison of a series with another, not corrected yet."""
    _, ((own, has_own), (reference, has_reference)) = aligned([series[name], series[other]])
    known = np.isfinite(own) & np.isfinite(reference)
    n, n_both = int(known.sum()), int((has_own & has_reference).sum())
    own, reference = own[known], reference[known]
    result = Comparison(
        question=question, series=name, reference=other, role=role, n=n, n_undefined=n_both - n, own=spread(own),
        other=spread(reference), margin=margin,
    )  # fmt: skip
    if not n:
        return result
    d = paired_tests.differences(as_tested(question.measure, own), as_tested(question.measure, reference))
    return replace(
        result, test=paired_tests.wilcoxon(d), estimate=hodges_lehmann(d), t=paired_tests.paired_t(d),
        p_equivalence=paired_tests.equivalence(d, margin), ahead=int((d > 0).sum()),
        level=hodges_lehmann(own) if "_ev_" in question.measure else None,
    )  # fmt: skip


def _corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p values of one family and evaluate each comparison."""
    p = holm([each.test.p_value if each.test and each.n > 1 else math.nan for each in family])
    same = holm([each.p_equivalence for each in family])
    size = sum(math.isfinite(value) for value in p)
    return [
        evaluated(replace(each, p_holm=a, p_equivalence_holm=b, family=size))
        for each, a, b in zip(family, p, same, strict=True)
    ]


def evaluated(each: Comparison) -> Comparison:
    """A comparison with its word: a difference that is significant and beyond the margin, sameness, or neither.

    A difference that is significant and reliably smaller than the margin counts as the same. A primary comparison has
    no margin and is better or undecided, never worse, see `with_primary`.
    """
    notes = [f"not defined in {each.n_undefined} participant(s), who are excluded"] if each.n_undefined else []
    if each.test is None or each.n < 2:
        return replace(each, word=NONE, note="; ".join([*notes, f"{each.n} participant(s) have both"]))
    if each.test.method == "identical" and not each.primary:
        return replace(each, word=SAME, note="; ".join([*notes, "identical in all participants"]))
    significant, equal = each.p_holm < ALPHA, each.p_equivalence_holm < ALPHA
    below = each.primary and not each.test.effect_size > 0
    word = UNDECIDED
    if equal:
        word = SAME
        if significant:
            notes.append("a reliable difference, smaller than the margin")
    elif significant and not below:
        direction = better(each.question.measure)
        sign = 1 if each.test.effect_size > 0 else -1
        good = -sign if direction in (LOWER, ONE) else sign
        word = UNSETTLED[sign] if direction == NEITHER else SETTLED[good]
    else:
        notes += [BELOW] if significant else []
        notes += filter(None, [attainable_text(each.test, each.family)])
    return replace(each, word=word, note="; ".join(notes))


def attainable_text(test: Wilcoxon, family: int = 1) -> str:
    """Why no difference could be significant: differences and smallest attainable p; empty where one could.

    Examples
    --------
    >>> attainable_text(paired_tests.wilcoxon([1, 2, 3, 4, 5]))
    'n = 5 non-zero differences; smallest attainable p = .0625'
    >>> attainable_text(paired_tests.wilcoxon([1, 2, 3, 4, 5, 6]), 5)
    'n = 6 non-zero differences; smallest attainable p = .156 with 5 comparisons'
    """
    if not test.can_reach:
        family = 1  # already too few for a single comparison
    smallest = min(1.0, test.smallest_p * family)
    if smallest < ALPHA:
        return ""
    p = f"{smallest:.3g}".removeprefix("0")
    several = f" with {family} comparisons" if family > 1 else ""
    return f"n = {test.n} non-zero difference{'s' * (test.n != 1)}; smallest attainable p = {p}{several}"


def _discovery_rates(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with false discovery rates over all of a measure."""
    out = list(comparisons)
    by_measure: dict[tuple[str, str], list[int]] = {}
    for index, each in enumerate(out):
        by_measure.setdefault((each.question.table, each.question.measure), []).append(index)
    for places in by_measure.values():
        tests = [(out[i].test, out[i].n) for i in places]
        rates = paired_tests.benjamini_hochberg([test.p_value if test and n > 1 else math.nan for test, n in tests])
        for i, rate in zip(places, rates, strict=True):
            out[i] = replace(out[i], p_fdr=rate)
    return out


STRONGEST = "strongest"
MEASURES = (("split_ev_beyond", "measured"), ("truth_ev_beyond", "truth"))
POWER = 0.8
EFFICIENCY = 3 / math.pi
LEAST = 6
MOST = 100_000
BELOW = "below the strongest reference, which being the largest of several values is no loss shown"


def paired_power(effect: float, n: int) -> float:
    """Power of the two-sided paired t test with n differences of a mean of `effect` standard deviations."""
    limit = stats.t.isf(ALPHA / 2, n - 1)
    shift = effect * math.sqrt(n)
    return float(special.nctdtr(n - 1, shift, -limit) + 1 - special.nctdtr(n - 1, shift, limit))


def participants_needed(differences: npt.ArrayLike) -> int | None:
    """Participants that the signed-rank test needs for 80 % power, if the differences (n,) are as observed.

    That of the paired t test with the observed mean and standard deviation, divided by the efficiency of the
    signed-rank test beside it where differences are normal, 3/pi (Hodges and Lehmann 1956); never fewer than six, the
    least with which that test reaches p < .05. An effect seen in few participants is uncertain, and so is this number.
    None for fewer than two differences, for a mean that is not above 0 (more participants would show no gain), and
    where more than `MOST` would be needed.
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2 or not d.mean() > 0:
        return None
    sd = float(d.std(ddof=1))
    effect = float(d.mean()) / sd if sd > 0 else math.inf
    low, high = 2, 4
    if effect >= 20:  # beyond what the noncentral distribution is computed for; one more than the least is enough
        return LEAST
    while paired_power(effect, high) < POWER:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if paired_power(effect, middle) < POWER else (low, middle)
    return max(LEAST, math.ceil(high / EFFICIENCY))


def with_primary(comparisons: Sequence[Comparison], values: Values, method: str) -> list[Comparison]:
    """The primary comparison of each task that has a truth, then the exploratory comparisons as they are.

    Parameters
    ----------
    comparisons : exploratory ones
    values : combined values that they were made of
    method : the default one, fixed beforehand

    Returns
    -------
    list of Comparison
        Where several tasks have a primary comparison, these are corrected by Holm's procedure; one is not.
    """
    found = [primary_of(q, values[q], method) for q in _questions(values, method)]
    found = [each for each in found if each.n > 0]
    p = holm([each.test.p_value if each.test and each.n > 1 else math.nan for each in found])
    family = sum(math.isfinite(value) for value in p)
    return [*(evaluated(replace(a, p_holm=b, family=family)) for a, b in zip(found, p, strict=True)), *comparisons]


def _questions(values: Values, method: str) -> list[Question]:
    """The question of the primary comparison of each task and variant."""
    by_task: dict[tuple[str, str], list[Question]] = {}
    for each, series in values.items():
        told = each.region == "brain" and (each.measure, each.against) in MEASURES
        if told and any(map(math.isfinite, series.get(method, {}).values())):
            by_task.setdefault((each.task, each.variant), []).append(each)
    return [min(own, key=_rank) for own in by_task.values()]


def _rank(question: Question) -> tuple[int, bool, float, str]:
    at = MEASURES.index((question.measure, question.against))
    return at, question.contrast != "all", question.fwhm_mm, question.contrast


def primary_of(question: Question, series: Mapping[str, Mapping[str, float]], method: str) -> Comparison:
    """The method minus each participant's strongest reference, not corrected; participants without any are left out."""
    rivals = [name for name in dict.fromkeys((*BASELINES, *CONTROLS, *PLAIN)) if name in series and name != method]
    strongest: dict[str, tuple[float, str]] = {}
    for who in series[method]:
        known = [(series[name][who], name) for name in rivals if math.isfinite(series[name].get(who, math.nan))]
        if known:
            strongest[who] = max(known, key=lambda each: each[0])
    other = {who: value for who, (value, _) in strongest.items()}
    found = paired(question, {method: series[method], STRONGEST: other}, method, STRONGEST, STRONGEST, math.nan)
    entered = sorted(who for who in other if math.isfinite(series[method][who]))
    if not entered:
        return replace(found, primary=True)
    one, two = (np.array([values[who] for who in entered]) for values in (series[method], other))
    d = paired_tests.differences(as_tested(question.measure, one), as_tested(question.measure, two))
    return replace(
        found, primary=True, needed=participants_needed(d), differences=tuple(map(float, d)),
        participants=tuple(entered), rivals=tuple(strongest[who][1] for who in entered),
    )  # fmt: skip
