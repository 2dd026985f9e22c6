"""First lines of the group's page: are super-resolved maps more accurate, by how much, in how many participants.

All of it is read from the primary comparison, so that it cannot say anything else.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bids_sr.metrics.long_tables import MISSING
from bids_sr.reports.markup import joined, render
from bids_sr.reports.text.group_verdicts import p_text, where_text
from bids_sr.reports.text.overview_text import MARKS, Number
from bids_sr.stats.group.group_tests import SETTLED, Comparison
from bids_sr.stats.group.paired_tests import ALPHA
from bids_sr.stats.group.primary_comparison import BELOW

NOT_ASSESSED = "Accuracy not assessed: no reference data"
MEASURE = "explained variance beyond the acquired Nyquist limit"


def group_answer_html(primary: Sequence[Comparison], tasks: Mapping[str, Mapping[str, int]]) -> Markup:
    """An answer for each task: sentence, three numbers, and what it rests on; those without a truth say so.

    Parameters
    ----------
    primary : the primary comparisons
    tasks : participants of all tasks, with the number of their runs; empty: only the tasks of the comparisons
    """
    parts = [_answer(each, tasks.get(each.question.task, {})) for each in primary]
    lacking = [task for task in tasks if task not in {each.question.task for each in primary}]
    mark, kind = MARKS["not assessed"]
    if lacking or not primary:
        which = f" (task {', '.join(lacking)})" if lacking and (len(tasks) > 1) else ""
        evidence = "Split-half reproducibility, where available, is among the exploratory comparisons; it is not "
        evidence += "evidence of accuracy"
        parts.append(render("group_answer", "", mark, kind, f"{NOT_ASSESSED}{which}.", evidence, []))
    return joined(parts)


def people_text(people: Mapping[str, int]) -> list[str]:
    """Participants, with the number of their runs where it is not one.

    >>> people_text({"sub-01": 1, "sub-02": 2})
    ['sub-01', 'sub-02 (2 runs)']
    """
    return [who if runs == 1 else f"{who} ({runs} runs)" for who, runs in people.items()]


def _answer(each: Comparison, people: Mapping[str, int]) -> Markup:
    mark, kind = MARKS[status(each)]
    without = people_text({who: runs for who, runs in people.items() if who not in each.participants})
    evidence = {"measured": "high-resolution BOLD measured in the other half of the blocks"}
    rests_on = evidence.get(each.question.against, "known (simulated) truth")
    header = f"{where_text(each.question)} · n = {each.n}"
    told = f"Evidence: {rests_on}" + (f". No such value: {', '.join(without)}" if without else "")
    return render("group_answer", header, mark, kind, primary_sentence(each), told, primary_numbers(each))


def status(each: Comparison) -> str:
    """Status of a primary comparison, as that of a run: more accurate, not more accurate, or not assessed."""
    if each.n < 2 or each.test is None or each.estimate is None:
        return "not assessed"
    if each.word == SETTLED[1] and each.level is not None and each.level.lower > 0:
        return "more accurate"
    return "not more accurate" if each.test.smallest_p * each.family < ALPHA else "not assessed"


def primary_sentence(each: Comparison) -> str:
    """Whether the finer map is truer, by how much and in how many participants, as plain text."""
    estimate, test = each.estimate, each.test
    task = f"task {each.question.task}" + (f", {each.question.variant}" if each.question.variant != MISSING else "")
    if estimate is None or test is None or each.n < 2:
        return f"Accuracy could be assessed in {each.n} participant, too few for a test over participants ({task})."
    level = f"{100 * min(estimate.level, 0.95):.0f} % interval"
    ends = f"{_signed(estimate.value)} [{_signed(estimate.lower)}, {_signed(estimate.upper)}]"
    many = f"{each.ahead} of {each.n} participants"
    corrected = f"corrected for {each.family} tasks" if each.family > 1 else "not corrected"
    size = (
        f"{ends} ({level}) in {MEASURE}, above it in {many}; {p_text(each.p_holm)}, exact "
        f"signed-rank test of one prespecified comparison, {corrected}"
    )
    if status(each) == "more accurate":
        return f"The finer map of {each.series} is more accurate than every reference of the participant: {size}."
    if each.word == SETTLED[1]:
        return (
            f"{each.series} is above every reference of the participant, but is not shown to explain any variance: "
            f"{size}."
        )
    if BELOW in each.note:
        return (
            f"The finer map of {each.series} is not more accurate than the participant's strongest reference: {size}."
        )
    return (
        f"The finer map of {each.series} does not differ detectably from the participant's strongest reference: {size}."
    )


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def primary_numbers(each: Comparison) -> list[Number]:
    """Difference, participants above, and participants needed."""
    if each.estimate is None or each.test is None:
        return []
    medians = f"median {each.own.median:.3f}, strongest reference {each.other.median:.3f}".replace("-", "−")
    difference = Number(
        value=_signed(each.estimate.value),
        label=f"{each.series} minus the participant's strongest reference, {MEASURE}", note=medians,
    )  # fmt: skip
    above = Number(value=f"{each.ahead} of {each.n}", label="participants above their strongest reference",
                   note=each.note or "each reference series counts")  # fmt: skip
    if each.n < 2:
        return [difference, above]
    if each.needed is None:
        needed = Number(value="–", label="participants for 80 % power",
                        note="with the observed effect, no number of participants would show a gain")  # fmt: skip
    else:
        needed = Number(value=str(each.needed), label="participants for 80 % power",
                        note="assuming the observed effect; uncertain with few participants")  # fmt: skip
    return [difference, above, needed]
