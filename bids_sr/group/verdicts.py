"""Group results in plain words: where each method is better, equal or worse, how surely.

Comparisons are rows of the table that `bids_sr.group.comparisons` writes; a finding is all
rows of one method on one question.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE, APPLIED
from bids_sr.evaluation.words import (
    DECISIONS,
    MARKS,
    against,
    capital,
    measure_text,
    names,
    region_text,
)
from bids_sr.group.comparisons import (
    BELOW,
    EXPLORATORY,
    PRIMARY,
    SAME,
    SETTLED,
    UNDECIDED,
    attainable_text,
    on_accuracy,
)
from bids_sr.group.paired_tests import ALPHA
from bids_sr.group.values import QUESTION, of_people
from bids_sr.metrics.number_text import estimate, number, p_value
from bids_sr.metrics.rows import MISSING
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import joined, render
from bids_sr.report.overview import Card
from bids_sr.series import PLAIN
from bids_sr.sr.method import offered_methods

ComparisonRow = Any
"""A comparison, by the names of its columns."""
FUNCTION, IMAGE, SIZE = "function", "image", "size"
_METRIC = ["statistic", "band", "reference", "threshold"]
# What can be told, and what it is evidence of; the strongest evidence first
_EVIDENCE = (
    pd.DataFrame(
        [
            (statistic, band, reference, "quarter" if kind == SIZE else MISSING, kind)
            for kind, statistic, band, references in (
                (FUNCTION, "ev", "beyond", ("measured", "truth")),
                (FUNCTION, "r", "beyond", ("measured", "truth", "measuredMap")),
                (FUNCTION, "ev", "within", ("truth", "otherRun")),
                (FUNCTION, "r", "all", ("measured", "truth", "measuredMap")),
                (FUNCTION, "average_precision", MISSING, ("truth",)),
                (IMAGE, "psnr", MISSING, ("measured", "heldOut", MISSING)),
                (IMAGE, "ssim", MISSING, (MISSING,)),
                (SIZE, "dice", MISSING, (MISSING,)),
                (SIZE, "size_acquired_voxels", MISSING, (MISSING,)),
            )
            for reference in references
        ],
        columns=[*_METRIC, "kind"],
    )
    .rename_axis("strength")
    .reset_index()
)
_CLAIMS = {
    FUNCTION: ("is more accurate", "Accuracy"),
    IMAGE: ("has better image quality", "Image quality"),
}
"""What a method does that is better, and what is not assessed, by kind of evidence."""
_REGIONS = ("brain", ACQUIRED_ACTIVE, MISSING)


def findings(comparisons: pd.DataFrame, methods: Sequence[str]) -> list[list[ComparisonRow]]:
    """Return the findings worth reporting, strongest evidence first.

    There is one contrast and the least smoothing for each metric.

    Sizes are told of each condition that has a partner, as in the paper; the rest for the brain
    and the active region.

    The rows of each finding; ``kind`` says what it is evidence of.
    """
    exploratory = comparisons[
        comparisons["series"].isin(methods) & (comparisons["part"] == EXPLORATORY)
    ]
    exploratory = exploratory.assign(at=exploratory.index).merge(_EVIDENCE, on=_METRIC)
    partnered = {
        each for pair in paired_conditions(comparisons["contrast"]).values() for each in pair
    }
    alone = (exploratory["statistic"] == "size_acquired_voxels") & ~exploratory["contrast"].isin(
        partnered
    )
    exploratory = exploratory[exploratory["region"].isin(_REGIONS) & ~alone]
    exploratory = exploratory.assign(
        single=exploratory["contrast"] != "all",
        of_size=exploratory["contrast"].where(exploratory["kind"] == SIZE, ""),
        place=exploratory["region"].map(_REGIONS.index),
        under_test=exploratory["series"].map(list(methods).index),
        question=exploratory.groupby(QUESTION, sort=False).ngroup(),
    ).sort_values(["single", "fwhm_mm", "contrast", "at"])
    groups = ["task", "variant", "table", *_METRIC, "region", "of_size"]
    chosen = exploratory[
        exploratory["question"].isin(exploratory.drop_duplicates(groups)["question"])
    ]
    chosen = chosen.sort_values(
        ["strength", "task", "place", "contrast", "question", "under_test", "at"]
    )
    return [
        list(own.itertuples()) for _, own in chosen.groupby(["question", "under_test"], sort=False)
    ]


def paired_conditions(contrasts: pd.Series) -> dict[str, tuple[str, str]]:
    """Return contrasts that compare two others, named by the two joined by ``+``.

    The two contrasts by their joint name; empty for none.
    """
    known = list(contrasts.unique())
    return {name: (a, b) for a, b in product(known, known) if (name := f"{a}+{b}") in known}


def where_text(question: ComparisonRow) -> str:
    """Task, region, contrast and smoothing of a question."""
    known = {MISSING: "", "all": "all conditions"}
    contrast = known.get(question.contrast, question.contrast.replace("+", " and "))
    smoothing = (
        f"smoothed with a {question.fwhm_mm:g} mm FWHM kernel"
        if question.fwhm_mm
        else "not smoothed"
    )
    parts = [task_text(question), region_text(question.region), contrast, smoothing]
    return ", ".join(filter(None, parts))


def task_text(question: ComparisonRow) -> str:
    """Task and variant of a question."""
    return f"task {question.task}" + f", {question.variant}" * (question.variant != MISSING)


def difference_text(row: ComparisonRow, form: str = "+.3g") -> str:
    """A difference with its interval."""
    return estimate(row.difference, row.lower, row.upper, form)


def _p_text(value: float) -> str:
    return f"p {'' if value < 0.001 else '= '}{p_value(value)}"


def _names(rows: Iterable[ComparisonRow]) -> str:
    """What is compared with, as a list in a sentence."""
    return names(series_text(row.minus) for row in rows)


def _compared(finding: Sequence[ComparisonRow], *roles: str) -> list[ComparisonRow]:
    """Rows of a finding with references of these roles; without any, all but placebos."""
    return [row for row in finding if (row.role in roles if roles else row.role != "placebo")]


def _least(rows: Sequence[ComparisonRow]) -> str:
    """The smallest of some differences, as that which all reach."""
    most = "at least " if len(rows) > 1 else ""
    return most + difference_text(min(rows, key=lambda row: abs(row.difference)))


def _group_text(word: str, rows: Sequence[ComparisonRow]) -> str:
    if word == UNDECIDED:
        return _undecided_text(rows)
    said = f"{DECISIONS[word][2]} {_names(rows)}"
    if word == SAME:
        bound = (
            f" within ±{number(rows[0].margin, '.3g')}" if math.isfinite(rows[0].margin) else ""
        )
        return said + bound
    return f"{said} (by {_least(rows)}, {_p_text(max(row.p_holm for row in rows))})"


def _undecided_text(rows: Sequence[ComparisonRow]) -> str:
    """Describe comparisons not significant after correction, with size if the CI excludes 0."""
    texts = []
    for sign, word in ((1, "above"), (-1, "below"), (0, "")):
        if some := [row for row in rows if _side(row) == sign]:
            apart = (
                f"is {word} {_names(some)} by {_least(some)}, which is not significant after"
                " correction"
            )
            texts.append(apart if sign else f"{DECISIONS[UNDECIDED][2]} {_names(some)}")
    return "; ".join(texts)


def _side(row: ComparisonRow) -> int:
    """Return the side of 0 on which a whole confidence interval lies.

    It is 0 where the interval contains 0 or has less than the usual confidence.
    """
    if not row.level >= 1 - ALPHA - 0.001:
        return 0
    return 1 if row.lower > 0 else -1 if row.upper < 0 else 0


def question_text(row: ComparisonRow) -> str:
    """What is measured, and against what.

    Statistic with its band, and the reference where it is known.
    """
    return " ".join(filter(None, [measure_text(row), against(row)]))


def title_text(row: ComparisonRow) -> str:
    """What is measured and where, as a title.

    Measure, task, region, contrast and smoothing, with a capital first letter.
    """
    return f"{capital(question_text(row))}, {where_text(row)}"


def _about(finding: Sequence[ComparisonRow]) -> str:
    """What a sentence on a finding begins with."""
    count = max((row.n for row in _compared(finding)), default=0)
    return f"{title_text(finding[0])}, n = {count}"


def sentence(finding: Sequence[ComparisonRow]) -> str:
    """A finding as one sentence, plain text."""
    own = _compared(finding)
    groups = {word: [row for row in own if row.word == word] for word in DECISIONS}
    said = [_group_text(word, some) for word, some in groups.items() if some]
    caveat = " A smaller region or overlap is not necessarily an improvement."
    tail = caveat if said and finding[0].kind == SIZE else ""
    notes = {_attainable(row) for row in groups[UNDECIDED]} - {""}
    tail += f" {capital('; '.join(sorted(notes)))}." if notes else ""
    told = f"{finding[0].series} {'; '.join(said)}" if said else "no comparison available"
    return f"{_about(finding)}: {told}.{tail}"


def placebo_sentence(finding: Sequence[ComparisonRow]) -> str:
    """Describe what of a finding is specific to the participants' data; empty without controls.

    Sentence on the control analyses, or an empty text.
    """
    placebos = _compared(finding, "placebo")
    groups = {
        "better": [row for row in placebos if row.word == "better"],
        UNDECIDED: [row for row in placebos if row.word != "better"],
    }
    parts = [
        f"{DECISIONS[word][2]} the {'controls' if len(own) > 1 else 'control'} {_names(own)}"
        for word, own in groups.items()
        if own
    ]
    return f"{_about(finding)}: {finding[0].series} {'; '.join(parts)}." if parts else ""


def verdict(findings_of: Sequence[Sequence[ComparisonRow]], methods: Sequence[str]) -> list[str]:
    """Return the claims for each task and method: one line on function and one on images."""
    lines = []
    for task in dict.fromkeys((each[0].task, each[0].variant) for each in findings_of):
        for method in methods:
            of_method = [
                each
                for each in findings_of
                if (each[0].series, each[0].task, each[0].variant) == (method, *task)
            ]
            for kind, (_, topic) in _CLAIMS.items():
                first = next((each for each in of_method if each[0].kind == kind), None)
                if first is not None:
                    lines.append(_claim(first))
                elif of_method:
                    lines.append(f"{method}: {topic} not assessed: {_NO_DATA}.")
    return list(dict.fromkeys(lines))  # what holds of several tasks is said once


def _claim(finding: Sequence[ComparisonRow]) -> str:
    """Judge one method by its strongest evidence: baselines and controls, then methods."""
    method, (claim, _) = finding[0].series, _CLAIMS[finding[0].kind]
    # arithmetic among the methods
    plain = [row for row in _compared(finding, "method") if row.minus in PLAIN]
    compared = [*_compared(finding, "acquired", "baseline", "control"), *plain]
    better, worse = ([row for row in compared if row.word == word] for word in ("better", "worse"))
    rest = [row for row in compared if row.word != "better"]
    if not compared:
        text = f"There is no baseline for a comparison with {method}"
    elif not rest and compared[0].lower_of_series <= 0:
        text = (
            f"{method} has a higher explained variance than every baseline, but its explained"
            " variance does not differ from 0"
        )
    elif not rest:
        denoised = (
            " and denoised B-spline" if any(row.role == "control" for row in compared) else ""
        )
        text = f"{method} {claim} than every baseline{denoised}"
    elif worse:
        text = f"{method} is worse than {_names(worse)}"
    elif better:
        text = f"{method} {claim} than {_names(better)}, not shown against {_names(rest)}"
    elif too_few := next(filter(None, map(_attainable, compared)), ""):
        text = (
            f"No difference between {method} and a baseline could reach significance ({too_few})"
        )
    else:
        text = f"{method} {DECISIONS[UNDECIDED][2]} any baseline"
    count = max((row.n for row in compared), default=0)
    text += f" ({question_text(finding[0])}; {where_text(finding[0])}; n = {count})"
    others = [
        f"{row.word} than {series_text(row.minus)}"
        for row in _compared(finding, "method")
        if row not in compared and row.word in ("better", "worse")
    ]
    return "; ".join(filter(None, [text, " and ".join(others)])) + "."


def _attainable(row: ComparisonRow) -> str:
    """Why a comparison could not be significant; empty where it could."""
    return attainable_text(row.n_nonzero, row.p_smallest, row.family) if row.n > 1 else ""


_NO_DATA = "no reference data"


def why_not_assessed(task: str, values: pd.DataFrame, table: pd.DataFrame, method: str) -> str:
    """Explain a missing primary comparison: no reference, an uninformative one, or no values.

    `values` and `table` as in `bids_sr.group.values.Joined`.
    """
    of_task = values[(values["task"] == task) & on_accuracy(values)]
    unapplied = (
        (table["statistic"] == APPLIED) & (table["series"] == method) & (table["task"] == task)
    )
    if of_task.empty:
        return _NO_DATA
    if not np.isfinite(of_people(of_task)).any(axis=None):
        return "the reference data have no reproducible detail beyond the acquired resolution"
    if unapplied.any():
        many = f"in {unapplied.sum()} run{'s' if unapplied.sum() > 1 else ''}"
        return f"{method} was not applied {many} (it was zero filled)"
    if method not in set(of_task["series"]):
        return f"{method} was not run"
    return f"{method} has no defined values in the whole brain"


def not_assessed_text(task: str, values: pd.DataFrame, table: pd.DataFrame, method: str) -> str:
    """Return a sentence on a missing primary comparison that does not deny other methods' values.

    `task`: label of the task. `values` and `table` as in `bids_sr.group.values.Joined`.
    `method`: method of the primary comparison.
    """
    reason = why_not_assessed(task, values, table, method)
    of_task = values[(values["task"] == task) & on_accuracy(values)]
    known = of_task[np.isfinite(of_people(of_task)).any(axis=1)]["series"]
    others = [name for name in offered_methods() if name in set(known) and name != method]
    if not others:
        return f"Accuracy was not assessed: {reason}"
    return (
        f"The accuracy of {method}, the prespecified method, was not assessed: {reason}. For"
        f" {names(others)}, see the section Exploratory comparisons"
    )


def group_answer_html(
    comparisons: pd.DataFrame,
    tasks: Mapping[str, Mapping[str, int]],
    sentences: Mapping[str, str] | None = None,
) -> Markup:
    """Render each task's answer: sentence, three numbers and basis; tasks without truth say so.

    `tasks`: participants of all tasks, with the number of their runs; empty: only those of the
    comparisons. `sentences`: by task, what is said without a primary comparison
    (`not_assessed_text`); else, that there are no reference data.
    """
    primary = (
        list(comparisons[comparisons["part"] == PRIMARY].itertuples()) if len(comparisons) else []
    )
    parts = [_answer(row, tasks.get(row.task, {})) for row in primary]
    lacking = [task for task in tasks if task not in {row.task for row in primary}]
    by_sentence: dict[str, list[str]] = {}
    for task in lacking or [""] * (not primary):
        sentence = (sentences or {}).get(task, f"Accuracy not assessed: {_NO_DATA}")
        by_sentence.setdefault(sentence, []).append(task)
    for sentence, which in by_sentence.items():
        named = f" (task {', '.join(which)})" if len(tasks) > 1 else ""
        evidence = "If a self-test was possible, its results are shown in the participant reports"
        headline = f"{sentence}{named}."
        parts.append(render("group_answer", "", *MARKS["not assessed"], headline, evidence, []))
    return joined(parts)


def people_text(people: Mapping[str, int]) -> list[str]:
    """Participants, with the number of their runs where it is not one.

    >>> people_text({"sub-01": 1, "sub-02": 2})
    ['sub-01', 'sub-02 (2 runs)']
    """
    return [who if runs == 1 else f"{who} ({runs} runs)" for who, runs in people.items()]


def _answer(row: ComparisonRow, people: Mapping[str, int]) -> Markup:
    without = people_text(
        {who: runs for who, runs in people.items() if who not in row.participants}
    )
    words = capital(f"compared {against(row)}")
    words += f". Without a value: {', '.join(without)}" if without else ""
    return render(
        "group_answer",
        f"{where_text(row)} · n = {row.n}",
        *MARKS[status(row)],
        _primary_sentence(row),
        words,
        _primary_numbers(row),
    )


def status(row: ComparisonRow) -> str:
    """Return status of a primary comparison: more accurate, not so, or not assessed."""
    if row.n < 2:
        return "not assessed"
    if row.word == SETTLED[1] and row.lower_of_series > 0:
        return "more accurate"
    return "not more accurate" if row.p_smallest * row.family < ALPHA else "not assessed"


def _primary_sentence(row: ComparisonRow) -> str:
    """Whether the finer map is truer, by how much and in how many participants, as plain text."""
    if row.n < 2:
        return (
            f"Accuracy was assessed in {row.n} participant, which is too few for a test across"
            f" participants ({task_text(row)})."
        )
    level = f"{100 * min(row.level, 0.95):.0f} % interval across participants"
    corrected = f"corrected for {row.family} tasks" if row.family > 1 else "not corrected"
    if status(row) == "more accurate":
        what = (
            f"With respect to fine detail, the {row.series} map is more accurate than every"
            " reference series of the participant"
        )
    elif row.word == SETTLED[1]:
        what = (
            f"The explained variance is higher for {row.series} than for every reference series"
            " of the participant, but does not differ from 0"
        )
    else:
        word = "is not more accurate than" if BELOW in row.note else DECISIONS[UNDECIDED][2]
        what = (
            f"With respect to fine detail, the {row.series} map {word} the strongest reference"
            " series of the participant"
        )
    return (
        f"{what}. The difference in {measure_text(row)} is {difference_text(row, '+.3f')}"
        f" ({level}) and is positive in {row.n_above} of {row.n} participants"
        f" ({_p_text(row.p_holm)}, exact signed-rank test of one prespecified comparison,"
        f" {corrected})."
    )


def _primary_numbers(row: ComparisonRow) -> list[Card]:
    """Difference, participants above, and participants needed."""
    medians = (number(each, ".3f") for each in (row.median_series, row.median_minus))
    numbers = [
        Card(
            value=number(row.difference, "+.3f"),
            facts=("median {}, strongest reference {}".format(*medians),),
            label=f"{row.series} minus the strongest reference series of the participant,"
            f" {measure_text(row)}",
        ),
        Card(
            value=f"{row.n_above} of {row.n}",
            label="participants with a higher value than in their strongest reference series",
            facts=(
                row.note
                or "all baselines, denoising controls and simple arithmetic are reference series",
            ),
        ),
    ]
    if row.n > 1:
        note = (
            "under the assumption of the observed effect; this number is uncertain for few"
            " participants"
        )
        value = number(row.n_needed, ".0f") if pd.notna(row.n_needed) else MISSING
        if value == MISSING:
            note = (
                "a gain could not be detected with any number of participants under the"
                " assumption of the observed effect"
            )
        numbers.append(Card(value=value, label="participants for 80 % power", facts=(note,)))
    return numbers
