"""The comparison of the group that was fixed beforehand, and the participants that it needs.

One a task (and variant of its runs): the default method minus *each participant's strongest reference*, that is the
largest value among the baselines, the denoising controls and the simple arithmetic that the method of a run must beat
too, in explained variance beyond the acquired Nyquist limit, over the brain, contrast ``all`` where there is one (else
the first by name), least smoothing; against the measured series where participants have one, else against known
activation. Split-half reproducibility is no evidence of accuracy: without a truth there is no primary comparison.

The largest is taken within each participant, not over the group: no reference is picked by a look at the data that the
test then uses, and noise can only raise the largest of several values. So the test errs against the method. For the
same reason it never shows a loss: a method that equals all its references lies below their largest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.series import BASELINES, CONTROLS
from bids_sr.stats.evaluation.evidence import PLAIN
from bids_sr.stats.group.group_tests import NONE, SETTLED, UNDECIDED, Comparison, attainable_text, paired
from bids_sr.stats.group.metric_tables import Question, Values
from bids_sr.stats.group.paired_tests import ALPHA, holm

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
    return [*(_settled(replace(a, p_holm=b, family=family)) for a, b in zip(found, p, strict=True)), *comparisons]


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
    pair = {method: series[method], STRONGEST: {who: value for who, (value, _) in strongest.items()}}
    found = paired(question, pair, method, STRONGEST, STRONGEST, math.nan)
    return replace(
        found, primary=True, needed=participants_needed(found.differences),
        rivals=tuple(strongest[who][1] for who in found.participants),
    )  # fmt: skip


def _settled(each: Comparison) -> Comparison:
    """A primary comparison with its word: better, or undecided; never worse, see the head of this module."""
    notes = [f"not defined in {each.n_undefined} participant(s), who are left out"] if each.n_undefined else []
    if each.test is None or each.n < 2:
        return replace(each, word=NONE, note="; ".join([*notes, f"{each.n} participant(s) have both"]))
    significant = each.p_holm < ALPHA
    if significant and each.test.effect_size > 0:
        return replace(each, word=SETTLED[1], note="; ".join(notes))
    notes += [BELOW] if significant else []
    if too_few := attainable_text(each.test, each.family):
        notes.append(too_few)
    return replace(each, word=UNDECIDED, note="; ".join(notes))
