"""Decision of a comparison in a word: better, worse, same or unclear, with a note."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from bids_sr.engine.number_text import p_value
from bids_sr.evaluation.statistics.comparisons import PairedComparison, correct
from bids_sr.evaluation.statistics.wilcoxon import ALPHA
from bids_sr.io.metric_registry import LOWER, NEITHER, ONE, statistic

SIGNIFICANT_WORDS = {1: "better", -1: "worse"}
NEUTRAL_WORDS = {1: "larger", -1: "smaller"}
SAME, UNDECIDED, NOT_COMPARABLE = "same", "unclear", "not comparable"
BELOW_STRONGEST_NOTE = (
    "the method is below the strongest baseline, but this does not demonstrate a loss of "
    "accuracy, because the strongest baseline is the largest of several noisy values"
)


def decide_all(
    questions: Sequence[Mapping[str, Any]],
    comparisons: Sequence[PairedComparison],
    families: Sequence[Hashable],
    *,
    least_n: int,
    with_strongest: bool = False,
) -> list[dict[str, Any]]:
    """Correct comparisons within families and return them as rows with decisions and notes.

    A question contains the first cells of the row, such as ``statistic``. See
    `bids_sr.evaluation.statistics.comparisons.correct` for `families` and `least_n`, and
    `decide` for `with_strongest`.
    """
    rows = []
    corrected = correct(comparisons, families, least_n=least_n)
    for cells, comparison in zip(questions, corrected, strict=True):
        better = statistic(cells["statistic"]).better
        word, note = decide(comparison, better, with_strongest=with_strongest)
        rows.append({**cells, **comparison.cells(), "better": better, "word": word, "note": note})
    return rows


def decide(
    comparison: PairedComparison, better: str | None, *, with_strongest: bool = False
) -> tuple[str, str]:
    """Return the decision on a corrected comparison as a word or phrase, and a note.

    The decision is the direction of a significant difference, *same*, *unclear*, or *not
    comparable* with fewer than two participants. A significant difference counts as *same* if it
    is reliably smaller than the margin. `better` is the direction of merit of the statistic
    (`bids_sr.io.metric_registry`). `with_strongest` means that the reference is the strongest of
    several series, determined per participant; the decision is then never *worse* or *same*.
    """
    notes = (
        [
            f"{comparison.n_undefined} participant(s) were excluded, because the value is not"
            " defined"
        ]
        if comparison.n_undefined
        else []
    )
    if comparison.n < 2:
        return NOT_COMPARABLE, "; ".join(
            [*notes, f"only {comparison.n} participant(s) have a value for both series"]
        )
    if comparison.method == "identical" and not with_strongest:
        return SAME, "; ".join([*notes, "both series are identical in all participants"])
    is_significant = comparison.p_holm < ALPHA
    is_below_strongest = with_strongest and not comparison.effect_size > 0
    decision = UNDECIDED
    if comparison.p_equivalence_holm < ALPHA:
        decision = SAME
        if is_significant:
            notes.append(
                "the difference is statistically significant but smaller than the equivalence "
                "margin"
            )
    elif is_significant and not is_below_strongest:
        sign = 1 if comparison.effect_size > 0 else -1
        if better == NEITHER:
            decision = NEUTRAL_WORDS[sign]
        else:
            decision = SIGNIFICANT_WORDS[-sign if better in (LOWER, ONE) else sign]
    else:
        if is_significant:
            notes.append(BELOW_STRONGEST_NOTE)
        text = attainable_text(comparison.n_nonzero, comparison.p_smallest, comparison.family)
        if text:
            notes.append(text)
    return decision, "; ".join(notes)


def attainable_text(n: float, p_smallest: float, family: float = 1) -> str:
    """Explain why no difference could be significant, "" if one could.

    `n` is the number of non-zero differences, `p_smallest` the smallest p value that the
    signed-rank test can reach with them, and `family` the number of comparisons in the correction.
    The text has no final period.

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
