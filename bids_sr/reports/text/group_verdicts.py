"""What the group shows, in plain words: what each method is better at, the same, or worse, and how sure that is."""

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from bids_sr.frozen import frozen
from bids_sr.metrics.long_tables import MISSING
from bids_sr.reports.markup import joined, render
from bids_sr.reports.tables.evaluation_rows import series_text
from bids_sr.reports.text.overview_text import MARKS, Number
from bids_sr.stats.evaluation.evidence import PLAIN
from bids_sr.stats.group.group_tests import BELOW, MEASURES, SAME, SETTLED, UNDECIDED, Comparison, attainable_text
from bids_sr.stats.group.metric_tables import Question, Values
from bids_sr.stats.group.paired_tests import ALPHA, Interval

FUNCTION, IMAGE, SIZE = "function", "image", "size"
# Measure, what it is evidence of, and its name in a sentence; the strongest evidence first
HEADLINES: Mapping[str, tuple[str, str]] = {
    "split_ev_beyond": (FUNCTION, "explained variance of measured BOLD detail beyond the acquired Nyquist limit"),
    "truth_ev_beyond": (FUNCTION, "explained variance of true BOLD detail beyond the acquired Nyquist limit"),
    "split_r_beyond": (FUNCTION, "correlation with measured BOLD detail beyond the acquired Nyquist limit (r)"),
    "truth_r_beyond": (FUNCTION, "correlation with true BOLD detail beyond the acquired Nyquist limit (r)"),
    "truth_ev_within": (FUNCTION, "explained variance of true BOLD signal within the acquired Nyquist limit"),
    "other_ev_within": (FUNCTION, "explained variance of another run's effect within the acquired Nyquist limit"),
    "split_r_signal": (FUNCTION, "correlation with the measured effect map (r)"),
    "truth_r_effect": (FUNCTION, "correlation with the true effect map (r)"),
    "truth_ap": (FUNCTION, "detection of truly active voxels (average precision)"),
    "truth_psnr": (IMAGE, "similarity of volumes to the measured ones (PSNR)"),
    "pair_psnr": (IMAGE, "image quality on a pair that was not trained on (PSNR)"),
    "psnr": (IMAGE, "image quality (PSNR)"),
    "ssim": (IMAGE, "image quality (SSIM)"),
    "quarter_dice": (SIZE, "overlap of the two conditions"),
    "quarter_paper": (SIZE, "size of the region"),
}
CAVEATS = {SIZE: " A smaller region or overlap is not an improvement by itself."}
PRIMARY = ("brain", "active40", MISSING)


@frozen
class Finding:
    """What is said of one method on one question: its comparisons, those with placebos apart."""

    method: str
    question: Question
    comparisons: tuple[Comparison, ...]
    placebos: tuple[Comparison, ...]

    @property
    def kind(self) -> str:
        """What it is evidence of."""
        return HEADLINES[self.question.measure][0]

    @property
    def title(self) -> str:
        """The measure in words."""
        return HEADLINES[self.question.measure][1]

    def against(self, *roles: str) -> list[Comparison]:
        """Comparisons with references of these roles."""
        return [each for each in self.comparisons if each.role in roles]


def findings(comparisons: Iterable[Comparison], methods: Sequence[str]) -> list[Finding]:
    """Findings worth telling, the strongest evidence first: one contrast and the least smoothing of each measure."""
    by_question: dict[tuple[str, Question], list[Comparison]] = {}
    for each in comparisons:
        if each.series in methods and each.question.measure in HEADLINES and not each.primary:
            by_question.setdefault((each.series, each.question), []).append(each)
    told = []
    for question in sorted(_telling([question for _, question in by_question]), key=_rank):
        for method in methods:
            own = by_question.get((method, question))
            if own:
                told.append(Finding(
                    method=method, question=question,
                    comparisons=tuple(each for each in own if each.role != "placebo"),
                    placebos=tuple(each for each in own if each.role == "placebo"),
                ))  # fmt: skip
    return told


def _rank(question: Question) -> tuple[int, str, int, str]:
    return list(HEADLINES).index(question.measure), question.task, PRIMARY.index(question.region), question.contrast


def _telling(questions: Iterable[Question]) -> list[Question]:
    """Of each measure, task and region: contrast ``all`` if there is one, else the first; the least smoothing.

    Sizes are told of each condition that has a partner, as in the paper; the rest for the brain and the active region.
    """
    known = list(dict.fromkeys(questions))
    conditions = {name for q in known if q.measure == "quarter_dice" for name in q.contrast.split("+")}
    groups: dict[tuple[str, ...], list[Question]] = {}
    for each in known:
        if each.region not in PRIMARY or (each.measure == "quarter_paper" and each.contrast not in conditions):
            continue
        of_size = each.contrast if HEADLINES[each.measure][0] == SIZE else ""
        key = (each.task, each.variant, each.table, each.measure, each.against, each.region, of_size)
        groups.setdefault(key, []).append(each)
    return [min(group, key=lambda q: (q.contrast != "all", q.fwhm_mm, q.contrast)) for group in groups.values()]


def where_text(question: Question) -> str:
    """Task, region, contrast, smoothing and truth of a question."""
    parts = [f"task {question.task}"]
    parts += [part for part in (question.variant, question.region) if part != MISSING]
    parts += [question.contrast.replace("+", " and ")] if question.contrast != MISSING else []
    parts.append(f"{question.fwhm_mm:g} mm smoothing" if question.fwhm_mm else "not smoothed")
    return ", ".join(parts)


def number(value: float, *, sign: bool = False) -> str:
    """Three significant digits, a true minus, a dash where it is not defined."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    return (f"{value:+.3g}" if sign else f"{value:.3g}").replace("-", "−")


def interval_text(estimate: Interval) -> str:
    """A difference with the ends of its interval."""
    ends = f"[{number(estimate.lower, sign=True)}, {number(estimate.upper, sign=True)}]"
    return f"{number(estimate.value, sign=True)} {ends}"


def p_text(value: float) -> str:
    """A p value in words of a sentence."""
    if not math.isfinite(value):
        return "p not defined"
    return "p < .001" if value < 0.001 else f"p = {value:.3f}".replace("0.", ".", 1)


def names(comparisons: Sequence[Comparison]) -> str:
    """Their references, as a list in a sentence."""
    labels = [series_text(each.reference) for each in comparisons]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _group_text(word: str, own: Sequence[Comparison]) -> str:
    link = {"better": "better than", "worse": "worse than", "larger": "larger than", "smaller": "smaller than"}
    if word == UNDECIDED:
        return _undecided_text(own)
    text = f"{link.get(word, 'the same as')} {names(own)}"
    estimates = [each.estimate for each in own if each.estimate is not None]
    if not estimates:
        return text
    least = min(estimates, key=lambda each: abs(each.value))
    size = f"by {'at least ' if len(own) > 1 else ''}{interval_text(least)}"
    if word == SAME:
        bound = f" within ±{number(own[0].margin)}" if math.isfinite(own[0].margin) else ""
        return f"{text}{bound}"
    return f"{text} ({size}, {p_text(max(each.p_holm for each in own))})"


def _undecided_text(own: Sequence[Comparison]) -> str:
    """Comparisons that are not significant after correction: those whose interval excludes 0 with their size."""
    texts, rest = [], list(own)
    for sign, word in ((1, "above"), (-1, "below")):
        some = [each for each in own if _side(each.estimate) == sign]
        rest = [each for each in rest if each not in some]
        if some:
            least = min((each.estimate for each in some if each.estimate), key=lambda each: abs(each.value))
            most = "at least " if len(some) > 1 else ""
            texts.append(f"{word} {names(some)} by {most}{interval_text(least)}, not significant after correction")
    texts += [f"does not differ detectably from {names(rest)}"] if rest else []
    return "; ".join(texts)


def _side(estimate: Interval | None) -> int:
    """Side of 0 on which a whole interval of the usual confidence lies; 0 where it holds 0 or is of less confidence."""
    if estimate is None or estimate.level < 1 - ALPHA - 0.001:
        return 0
    return 1 if estimate.lower > 0 else -1 if estimate.upper < 0 else 0


def sentence(finding: Finding) -> str:
    """A finding as one sentence, plain text."""
    order = ("better", "worse", "larger", "smaller", SAME, UNDECIDED)
    groups = {word: [each for each in finding.comparisons if each.word == word] for word in order}
    said = [_group_text(word, own) for word, own in groups.items() if own]
    count = max((each.n for each in finding.comparisons), default=0)
    head = f"{finding.method}, {finding.title} ({where_text(finding.question)}; n = {count})"
    tail = CAVEATS.get(finding.kind, "") if said else ""
    notes = {_attainable(each) for each in finding.comparisons if each.word == UNDECIDED} - {""}
    if notes:
        tail += f" {'; '.join(sorted(notes))}."
    return f"{head}: {'; '.join(said) or 'no comparison available'}.{tail}"


def placebo_sentence(finding: Finding) -> str:
    """What of a finding is specific to the participants' own data; empty without control analyses."""
    if not finding.placebos:
        return ""
    own = [each for each in finding.placebos if each.word == "better"]
    rest = [each for each in finding.placebos if each.word != "better"]
    parts = [f"better than the control analyses {names(own)}"] if own else []
    parts += [f"does not differ detectably from the control analyses {names(rest)}"] if rest else []
    return f"{finding.method}, {finding.title} ({where_text(finding.question)}): {'; '.join(parts)}."


def verdict(told: Sequence[Finding], methods: Sequence[str]) -> list[str]:
    """What may be claimed for this group: of each task and method a line on function and one on images."""
    lines = []
    for task in dict.fromkeys((each.question.task, each.question.variant) for each in told):
        for method in methods:
            own = [f for f in told if f.method == method and (f.question.task, f.question.variant) == task]
            for kind, claim in ((FUNCTION, "is more accurate"), (IMAGE, "gives better images")):
                first = next((each for each in own if each.kind == kind), None)
                if first is not None:
                    lines.append(_claim(method, first, claim))
                elif own:
                    topic = "Accuracy" if kind == FUNCTION else "Image quality"
                    lines.append(f"{method}: {topic} not assessed: no reference data.")
    return list(dict.fromkeys(lines))  # what holds of several tasks is said once


def _claim(method: str, finding: Finding, claim: str) -> str:
    """The verdict on one method from its strongest evidence: baselines and controls decide, then other methods."""
    own = [*finding.against("acquired", "baseline", "control"), *_plain(finding)]
    what = f"{finding.title}; {where_text(finding.question)}; n = {max((each.n for each in own), default=0)}"
    by_word = {word: [each for each in own if each.word == word] for word in ("better", "worse")}
    rest = [each for each in own if each.word != "better"]
    if not own:
        text = f"{method}: no baseline for comparison ({what})"
    elif not rest and (level := own[0].level) is not None and not level.lower > 0:
        text = f"{method} is above every baseline but not shown to explain any variance ({what})"
    elif not rest:
        denoised = " and denoised B-spline" if any(each.role == "control" for each in own) else ""
        text = f"{method} {claim} than every baseline{denoised} ({what})"
    elif by_word["worse"]:
        text = f"{method} is worse than {names(by_word['worse'])} ({what})"
    elif by_word["better"]:
        text = f"{method} {claim} than {names(by_word['better'])}, not shown against {names(rest)} ({what})"
    elif too_few := next(filter(None, map(_attainable, own)), ""):
        text = f"{method}: no difference from a baseline could be significant: {too_few} ({what})"
    else:
        text = f"{method} does not differ detectably from any baseline ({what})"
    others = [each for each in finding.against("method") if each not in own]
    beside = [f"{each.word} than {series_text(each.reference)}" for each in others if each.word in by_word]
    return f"{text}{'; ' if beside else ''}{' and '.join(beside)}."


def _attainable(each: Comparison) -> str:
    """Why a comparison could not be significant; empty where it could."""
    return attainable_text(each.test, each.family) if each.test is not None and each.n > 1 else ""


def _plain(finding: Finding) -> list[Comparison]:
    """Comparisons with simple arithmetic that stands among the methods."""
    return [each for each in finding.against("method") if each.reference in PLAIN]


NOT_ASSESSED, NO_DATA = "Accuracy not assessed", "no reference data"
MEASURE = "explained variance beyond the acquired Nyquist limit"


def why_not_assessed(task: str, values: Values, idle: Sequence[tuple[str, str]], method: str) -> str:
    """Why a task has no primary comparison: no reference, or one that says nothing, or no values of the method.

    `values` and `idle` (name of the run, method) as in `bids_sr.stats.group.metric_tables.Joined`.
    """
    own = [
        (question, series) for question, series in values.items()
        if question.task == task and (question.measure, question.against) in MEASURES and question.region == "brain"
    ]  # fmt: skip
    runs = [name for name, each in idle if each == method and f"task-{task}" in name.split()]
    if not own:
        return NO_DATA
    if not any(math.isfinite(value) for _, series in own for people in series.values() for value in people.values()):
        return "the reference data show no reproducible detail beyond the acquired resolution"
    if runs:
        many = f"in {len(runs)} run{'s' if len(runs) > 1 else ''}"
        return f"{method} was not applied {many} (it fell back to zero filling)"
    if not any(method in series for _, series in own):
        return f"{method} was not run"
    return f"no value of {method} is defined over the brain"


def group_answer_html(
    primary: Sequence[Comparison], tasks: Mapping[str, Mapping[str, int]], reasons: Mapping[str, str] | None = None
) -> Markup:
    """An answer for each task: sentence, three numbers, and what it rests on; those without a truth say so.

    Parameters
    ----------
    primary : the primary comparisons
    tasks : participants of all tasks, with the number of their runs; empty: only the tasks of the comparisons
    reasons : by task, why it has no primary comparison (`why_not_assessed`); where it says nothing, no reference data
    """
    parts = [_answer(each, tasks.get(each.question.task, {})) for each in primary]
    lacking = [task for task in tasks if task not in {each.question.task for each in primary}]
    mark, kind = MARKS["not assessed"]
    by_reason: dict[str, list[str]] = {}
    for task in lacking or [""] * (not primary):
        by_reason.setdefault((reasons or {}).get(task, NO_DATA), []).append(task)
    for reason, which in by_reason.items():
        named = f" (task {', '.join(which)})" if len(tasks) > 1 else ""
        evidence = "The participants' reports show tests one level of resolution down, where these could be made"
        parts.append(render("group_answer", "", mark, kind, f"{NOT_ASSESSED}: {reason}{named}.", evidence, []))
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
    evidence = {"measured": "Compared with measured high-resolution runs (independent blocks)"}
    rests_on = evidence.get(each.question.against, "Compared with the known (simulated) truth")
    header = f"{where_text(each.question)} · n = {each.n}"
    told = rests_on + (f". Without a value: {', '.join(without)}" if without else "")
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
    level = f"{100 * min(estimate.level, 0.95):.0f} % interval over participants"
    ends = f"{_signed(estimate.value)} [{_signed(estimate.lower)}, {_signed(estimate.upper)}]"
    many = f"{each.ahead} of {each.n} participants"
    corrected = f"corrected for {each.family} tasks" if each.family > 1 else "not corrected"
    if status(each) == "more accurate":
        what = f"The finer map of {each.series} is more accurate than every reference of the participant"
    elif each.word == SETTLED[1]:
        what = f"{each.series} is above every reference of the participant, but is not shown to explain any variance"
    else:
        word = "is not more accurate than" if BELOW in each.note else "does not differ detectably from"
        what = f"The finer map of {each.series} {word} the participant's strongest reference"
    return (
        f"{what}: {ends} ({level}) in {MEASURE}, larger in {many}; {p_text(each.p_holm)}, exact "
        f"signed-rank test of one prespecified comparison, {corrected}."
    )


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def primary_numbers(each: Comparison) -> list[Number]:
    """Difference, participants above, and participants needed."""
    if each.estimate is None or each.test is None:
        return []
    medians = f"median {each.own.median:.3f}, strongest reference {each.other.median:.3f}".replace("-", "−")
    numbers = [
        Number(value=_signed(each.estimate.value), note=medians,
               label=f"{each.series} minus the participant's strongest reference, {MEASURE}"),
        Number(value=f"{each.ahead} of {each.n}", label="participants above their strongest reference",
               note=each.note or "each reference series counts"),
    ]  # fmt: skip
    if each.n > 1:
        known, value = each.needed is not None, "–" if each.needed is None else str(each.needed)
        note = "assuming the observed effect; uncertain with few participants"
        note = note if known else "with the observed effect, no number of participants would show a gain"
        numbers.append(Number(value=value, label="participants for 80 % power", note=note))
    return numbers
