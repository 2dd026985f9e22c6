"""The one comparison of the group that is fixed beforehand, and how many participants it would need.

Primary: the default method less the strongest baseline in explained variance beyond the acquired Nyquist limit, over
the brain, contrast ``all`` where there is one (else the first by name), least smoothing; against the measured series
where participants have one, else against known activation. The strongest baseline is the one of the highest median,
which only makes the test harder. It is one test of a task, so nothing is corrected. Without a truth there is no
primary comparison: repeatability is no evidence of truth. All other comparisons are exploratory.

How many participants would be needed for 80 % power is worked out for the paired t test from the observed mean and
standard deviation of the differences, and divided by the efficiency of the signed-rank test beside it where differences
are normal, 3/pi (Hodges and Lehmann 1956); never fewer than six, the least with which that test reaches p < .05. An
effect that was seen in few participants is itself uncertain, and with it this number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.stats.group.group_tests import Comparison
from bids_sr.stats.group.metric_tables import Question
from bids_sr.stats.group.paired_tests import ALPHA

MEASURES = (("split_ev_beyond", "measured"), ("truth_ev_beyond", "truth"))
POWER = 0.8
EFFICIENCY = 3 / math.pi
LEAST = 6
MOST = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Primary:
    """The primary comparison of one task."""

    comparison: Comparison  # method less strongest baseline; its p value is that of the signed-rank test, not corrected
    better: bool  # whether p < .05 in favor of the method
    # participants for 80 % power if the effect is as observed; None where that is more than 100,000 or not known
    needed: int | None


def paired_power(effect: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test with n differences of a mean of `effect` standard deviations."""
    limit = stats.t.isf(alpha / 2, n - 1)
    shift = effect * math.sqrt(n)
    return float(special.nctdtr(n - 1, shift, -limit) + 1 - special.nctdtr(n - 1, shift, limit))


def participants_needed(differences: npt.ArrayLike, power: float = POWER) -> int | None:
    """Participants that the signed-rank test needs, see the module's text.

    Parameters
    ----------
    differences : (n,) observed, one a participant
    power : to reach

    Returns
    -------
    None for fewer than two differences, for a mean of 0, and where more than `MOST` would be needed
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2 or d.mean() == 0:
        return None
    sd = float(d.std(ddof=1))
    effect = abs(float(d.mean())) / sd if sd > 0 else math.inf
    low, high = 2, 4
    if effect >= 20:  # beyond what the noncentral distribution is computed for; one more than the least is enough
        return LEAST
    while paired_power(effect, high) < power:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if paired_power(effect, middle) < power else (low, middle)
    return max(LEAST, math.ceil(high / EFFICIENCY))


def primary_comparisons(comparisons: Sequence[Comparison], method: str) -> list[Primary]:
    """The primary comparison of every task (and variant of its runs) that has one.

    Parameters
    ----------
    comparisons : all of them
    method : the default one, fixed beforehand
    """
    own = [each for each in comparisons if (each.series, each.role) == (method, "baseline") and each.n > 0]
    found = []
    for task in dict.fromkeys((each.question.task, each.question.variant) for each in own):
        some = [each for each in own if (each.question.task, each.question.variant) == task and _asked(each.question)]
        if not some:
            continue
        question = min((each.question for each in some), key=_rank)
        rivals = [each for each in some if each.question == question]
        strongest = max(rivals, key=lambda each: each.other.median)
        test = strongest.test
        good = test is not None and strongest.n > 1 and test.p_value < ALPHA and test.effect_size > 0
        found.append(
            Primary(comparison=strongest, better=good, needed=participants_needed(strongest.differences))
        )  # fmt: skip
    return found


def _asked(question: Question) -> bool:
    return (question.measure, question.against) in MEASURES and question.region == "brain"


def _rank(question: Question) -> tuple[int, bool, float, str]:
    at = MEASURES.index((question.measure, question.against))
    return at, question.contrast != "all", question.fwhm_mm, question.contrast


def marked(comparisons: Sequence[Comparison], primary: Sequence[Primary]) -> list[Comparison]:
    """The comparisons, the primary ones marked as such with the participants they need."""
    needed = {id(each.comparison): each.needed for each in primary}
    return [
        replace(each, primary=True, needed=needed[id(each)]) if id(each) in needed else each for each in comparisons
    ]
