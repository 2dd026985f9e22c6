"""Group results in plain language: better, equal or worse methods, and their certainty.

Comparisons are rows of the table from `bids_sr.group.comparisons`. A finding contains all
comparisons of one method on one question, that is, one metric of one task, contrast and region.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE, APPLIED
from bids_sr.evaluation.tested_detail import REFERENCE as ONE_LEVEL_DOWN
from bids_sr.evaluation.words import (
    DECISIONS,
    MARKS,
    capitalize,
    measure_text,
    reference_phrase,
    region_text,
)
from bids_sr.group.comparisons import (
    BELOW,
    EXPLORATORY,
    PRIMARY,
    SAME,
    SIGNIFICANT_WORDS,
    UNDECIDED,
    attainable_text,
    is_primary_metric,
)
from bids_sr.group.values import QUESTION, participant_columns
from bids_sr.metrics.number_text import estimate, number, p_value
from bids_sr.metrics.rows import MISSING
from bids_sr.metrics.word_lists import enumerate_unique
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import join, render
from bids_sr.report.overview import Card
from bids_sr.series import SIMPLE_BASELINES
from bids_sr.sr.method import method_names_without_controls
from bids_sr.statistics.wilcoxon import ALPHA

ComparisonRow = Any
"""Comparison with columns as attributes."""
FUNCTION, IMAGE, SIZE = "function", "image", "size"
_METRIC = ["statistic", "band", "reference", "threshold"]
# metrics that are reported, with the kind of evidence they provide; strongest evidence first
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
"""Predicate of a better method, and topic of a missing assessment, by kind of evidence."""
_REGIONS = ("brain", ACQUIRED_ACTIVE, MISSING)


def findings(comparisons: pd.DataFrame, methods: Sequence[str]) -> list[list[ComparisonRow]]:
    """Return the findings worth reporting, strongest evidence first.

    Each metric is reported for one contrast and the smallest smoothing: sizes for each condition
    of a pair, as in the paper, and other metrics for the brain and the active region.

    Returns
    -------
    list[list[ComparisonRow]]
        Rows of each finding; ``kind`` is the kind of evidence.
    """
    exploratory = comparisons[
        comparisons["series"].isin(methods) & (comparisons["part"] == EXPLORATORY)
    ]
    exploratory = exploratory.assign(at=exploratory.index).merge(_EVIDENCE, on=_METRIC)
    partnered = {
        contrast
        for pair in list_condition_pairs(comparisons["contrast"]).values()
        for contrast in pair
    }
    is_unpaired = (exploratory["statistic"] == "size_acquired_voxels") & ~exploratory[
        "contrast"
    ].isin(partnered)
    exploratory = exploratory[exploratory["region"].isin(_REGIONS) & ~is_unpaired]
    exploratory = exploratory.assign(
        single=exploratory["contrast"] != "all",
        of_size=exploratory["contrast"].where(exploratory["kind"] == SIZE, ""),
        place=exploratory["region"].map(_REGIONS.index),
        under_test=exploratory["series"].map(list(methods).index),
        question=exploratory.groupby(QUESTION, sort=False).ngroup(),
    ).sort_values(["single", "fwhm_mm", "contrast", "at"])
    groups = ["task", "variant", "table", *_METRIC, "region", "of_size"]
    selected = exploratory[
        exploratory["question"].isin(exploratory.drop_duplicates(groups)["question"])
    ]
    selected = selected.sort_values(
        ["strength", "task", "place", "contrast", "question", "under_test", "at"]
    )
    return [
        list(rows.itertuples())
        for _, rows in selected.groupby(["question", "under_test"], sort=False)
    ]


def list_condition_pairs(contrasts: pd.Series) -> dict[str, tuple[str, str]]:
    """Return the pairs of contrasts that have a joint contrast, named by both joined by ``+``.

    Returns
    -------
    dict[str, tuple[str, str]]
        Both contrasts by the name of the joint contrast; {} if there are no pairs.
    """
    available = list(contrasts.unique())
    return {
        name: (a, b) for a, b in product(available, available) if (name := f"{a}+{b}") in available
    }


def where_text(question: ComparisonRow) -> str:
    """Return task, region, contrast and smoothing of a question as text."""
    special_texts = {MISSING: "", "all": "all conditions"}
    contrast = special_texts.get(question.contrast, question.contrast.replace("+", " and "))
    smoothing = (
        f"smoothed with a {question.fwhm_mm:g} mm FWHM kernel"
        if question.fwhm_mm
        else "not smoothed"
    )
    phrases = [task_text(question), region_text(question.region), contrast, smoothing]
    return ", ".join(filter(None, phrases))


def task_text(question: ComparisonRow) -> str:
    """Return the task (and the variant of its files) of a question as text."""
    return f"task {question.task}" + f", {question.variant}" * (question.variant != MISSING)


def difference_text(row: ComparisonRow, form: str = "+.3g") -> str:
    """Return a difference with its interval as text."""
    return estimate(row.difference, row.lower, row.upper, form)


def _p_text(value: float) -> str:
    return f"p {'' if value < 0.001 else '= '}{p_value(value)}"


def _names(rows: Iterable[ComparisonRow]) -> str:
    """Return the references of comparisons as a list in a sentence."""
    return enumerate_unique(series_text(row.minus) for row in rows)


def _select_rows(finding: Sequence[ComparisonRow], *roles: str) -> list[ComparisonRow]:
    """Return the comparisons with references of some roles; by default, all but placebos."""
    return [row for row in finding if (row.role in roles if roles else row.role != "placebo")]


def _bound(rows: Sequence[ComparisonRow]) -> str:
    """Return the smallest of several differences as text, with *at least* if there are several."""
    prefix = "at least " if len(rows) > 1 else ""
    return prefix + difference_text(min(rows, key=lambda row: abs(row.difference)))


def _group_text(decision: str, rows: Sequence[ComparisonRow]) -> str:
    if decision == UNDECIDED:
        return _describe_undecided(rows)
    clause = f"{DECISIONS[decision][2]} {_names(rows)}"
    if decision == SAME:
        bound = (
            f" within ±{number(rows[0].margin, '.3g')}" if math.isfinite(rows[0].margin) else ""
        )
        return clause + bound
    return f"{clause} (by {_bound(rows)}, {_p_text(max(row.p_holm for row in rows))})"


def _describe_undecided(rows: Sequence[ComparisonRow]) -> str:
    """Describe comparisons that are not significant after correction.

    The difference is included if its confidence interval excludes 0.
    """
    texts = []
    for sign, direction in ((1, "above"), (-1, "below"), (0, "")):
        if group := [row for row in rows if _side(row) == sign]:
            difference = (
                f"is {direction} {_names(group)} by {_bound(group)}, which is not significant"
                " after correction"
            )
            texts.append(difference if sign else f"{DECISIONS[UNDECIDED][2]} {_names(group)}")
    return "; ".join(texts)


def _side(row: ComparisonRow) -> int:
    """Return the sign of the values in a confidence interval.

    The result is 0 if the interval contains 0 or if its confidence level is below 95 %.
    """
    if not row.level >= 1 - ALPHA - 0.001:
        return 0
    return 1 if row.lower > 0 else -1 if row.upper < 0 else 0


def question_text(row: ComparisonRow) -> str:
    """Return the measured quantity, and the reference if it is known, as text."""
    return " ".join(filter(None, [measure_text(row), reference_phrase(row)]))


def title_text(row: ComparisonRow) -> str:
    """Return the measured quantity with task, region, contrast and smoothing as a title.

    The first letter is a capital.
    """
    return f"{capitalize(question_text(row))}, {where_text(row)}"


def _subject_text(finding: Sequence[ComparisonRow]) -> str:
    """Return the beginning of a sentence on a finding: title and number of participants."""
    count = max((row.n for row in _select_rows(finding)), default=0)
    return f"{title_text(finding[0])}, n = {count}"


def sentence(finding: Sequence[ComparisonRow]) -> str:
    """Return a finding as one sentence in plain text."""
    compared = _select_rows(finding)
    groups = {
        decision: [row for row in compared if row.word == decision] for decision in DECISIONS
    }
    clauses = [
        _group_text(decision, word_rows) for decision, word_rows in groups.items() if word_rows
    ]
    caveat = " A smaller region or overlap is not necessarily an improvement."
    ending = caveat if clauses and finding[0].kind == SIZE else ""
    notes = {_attainable_note(row) for row in groups[UNDECIDED]} - {""}
    ending += f" {capitalize('; '.join(sorted(notes)))}." if notes else ""
    result = f"{finding[0].series} {'; '.join(clauses)}" if clauses else "no comparison available"
    return f"{_subject_text(finding)}: {result}.{ending}"


def negative_control_sentence(finding: Sequence[ComparisonRow]) -> str:
    """Describe the comparisons with negative controls in one sentence, "" if there are none."""
    placebos = _select_rows(finding, "placebo")
    groups = {
        "better": [row for row in placebos if row.word == "better"],
        UNDECIDED: [row for row in placebos if row.word != "better"],
    }
    phrases = [
        f"{DECISIONS[decision][2]} the {'controls' if len(rows) > 1 else 'control'} {_names(rows)}"
        for decision, rows in groups.items()
        if rows
    ]
    return (
        f"{_subject_text(finding)}: {finding[0].series} {'; '.join(phrases)}." if phrases else ""
    )


def verdict(findings_of: Sequence[Sequence[ComparisonRow]], methods: Sequence[str]) -> list[str]:
    """Return the claims per task and method: one line on function and one on images."""
    lines = []
    for task in dict.fromkeys((finding[0].task, finding[0].variant) for finding in findings_of):
        for method in methods:
            method_findings = [
                finding
                for finding in findings_of
                if (finding[0].series, finding[0].task, finding[0].variant) == (method, *task)
            ]
            for kind, (_, topic) in _CLAIMS.items():
                strongest = next(
                    (finding for finding in method_findings if finding[0].kind == kind), None
                )
                if strongest is not None:
                    lines.append(_claim(strongest))
                elif method_findings:
                    lines.append(f"{method}: {topic} not assessed: {_NO_DATA}.")
    return list(dict.fromkeys(lines))  # claims that are equal for several tasks appear once


def _claim(finding: Sequence[ComparisonRow]) -> str:
    """Judge one method by its strongest evidence against baselines, controls and other methods."""
    method, (claim, _) = finding[0].series, _CLAIMS[finding[0].kind]
    # Series that result from simple arithmetic have the role of a method in the table, but count
    # as baselines in claims.
    plain = [row for row in _select_rows(finding, "method") if row.minus in SIMPLE_BASELINES]
    compared = [*_select_rows(finding, "acquired", "baseline", "control"), *plain]
    better_rows, worse_rows = (
        [row for row in compared if row.word == decision] for decision in ("better", "worse")
    )
    not_better = [row for row in compared if row.word != "better"]
    if not compared:
        text = f"There is no baseline for a comparison with {method}"
    elif not not_better and compared[0].lower_of_series <= 0:
        text = (
            f"{method} has a higher explained variance than every baseline, but its explained"
            " variance does not differ from 0"
        )
    elif not not_better:
        denoised = (
            " and denoised B-spline" if any(row.role == "control" for row in compared) else ""
        )
        text = f"{method} {claim} than every baseline{denoised}"
    elif worse_rows:
        text = f"{method} is worse than {_names(worse_rows)}"
    elif better_rows:
        text = (
            f"{method} {claim} than {_names(better_rows)}, not shown against {_names(not_better)}"
        )
    elif too_few := next(filter(None, map(_attainable_note, compared)), ""):
        text = (
            f"No difference between {method} and a baseline could reach significance ({too_few})"
        )
    else:
        text = f"{method} {DECISIONS[UNDECIDED][2]} any baseline"
    count = max((row.n for row in compared), default=0)
    text += f" ({question_text(finding[0])}; {where_text(finding[0])}; n = {count})"
    method_texts = [
        f"{row.word} than {series_text(row.minus)}"
        for row in _select_rows(finding, "method")
        if row not in compared and row.word in ("better", "worse")
    ]
    return "; ".join(filter(None, [text, " and ".join(method_texts)])) + "."


def _attainable_note(row: ComparisonRow) -> str:
    """Explain why a comparison could not be significant, "" if it could."""
    return attainable_text(row.n_nonzero, row.p_smallest, row.family) if row.n > 1 else ""


_NO_DATA = "no reference data"


def why_not_assessed(task: str, values: pd.DataFrame, table: pd.DataFrame, method: str) -> str:
    """Explain a missing primary comparison.

    Possible reasons are missing or uninformative references, and missing values of the method.
    `values` and `table` are `values` and `told` of `bids_sr.group.values.JoinedTables`.
    """
    task_values = values[(values["task"] == task) & is_primary_metric(values)]
    unapplied = (
        (table["statistic"] == APPLIED) & (table["series"] == method) & (table["task"] == task)
    )
    if task_values.empty:
        return _NO_DATA
    if not np.isfinite(participant_columns(task_values)).any(axis=None):
        return "the reference data have no reproducible detail beyond the acquired resolution"
    if unapplied.any():
        run_text = f"in {unapplied.sum()} run{'s' if unapplied.sum() > 1 else ''}"
        return f"{method} was not applied {run_text} (it was zero filled)"
    if method not in set(task_values["series"]):
        return f"{method} was not run"
    return f"{method} has no defined values in the whole brain"


def not_assessed_text(task: str, values: pd.DataFrame, table: pd.DataFrame, method: str) -> str:
    """Return a sentence on a missing primary comparison.

    If other methods have values, the sentence refers to them.

    Parameters
    ----------
    task : str
        Task label.
    values, table : pd.DataFrame
        `values` and `told` of `bids_sr.group.values.JoinedTables`.
    method : str
        Method of the primary comparison.
    """
    reason = why_not_assessed(task, values, table, method)
    task_values = values[(values["task"] == task) & is_primary_metric(values)]
    evaluated = task_values[np.isfinite(participant_columns(task_values)).any(axis=1)]["series"]
    alternatives = [
        name
        for name in method_names_without_controls()
        if name in set(evaluated) and name != method
    ]
    if not alternatives:
        return f"Accuracy was not assessed: {reason}"
    return (
        f"The accuracy of {method}, the prespecified method, was not assessed: {reason}. For"
        f" {enumerate_unique(alternatives)}, see the section Exploratory comparisons"
    )


def tested_detail_text(task: str, values: pd.DataFrame, method: str) -> str:
    """Return a sentence on the detail that was recovered at half the resolution.

    The sentence contains the median and the range across participants, for the contrast of all
    events or else the first contrast, in active voxels without smoothing. It is "" if no run of
    the task was tested.

    Parameters
    ----------
    task : str
        Task label.
    values : pd.DataFrame
        `values` of `bids_sr.group.values.JoinedTables`.
    method : str
        Method of the primary comparison.
    """
    cells = {
        "task": task,
        "series": method,
        "statistic": "ev",
        "reference": ONE_LEVEL_DOWN,
        "region": ACQUIRED_ACTIVE,
        "fwhm_mm": 0,
    }
    tested = values[np.logical_and.reduce([values[name] == cell for name, cell in cells.items()])]
    if tested.empty:
        return ""
    row = tested.sort_values("contrast", key=lambda names: names != "all", kind="stable").iloc[[0]]
    numbers = participant_columns(row).to_numpy(dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return ""
    low, middle, high = (
        number(value, ".0%") for value in (numbers.min(), np.median(numbers), numbers.max())
    )
    spread = (
        f"median of {numbers.size} participants, range {low} to {high}"
        if numbers.size > 1
        else "1 participant"
    )
    return (
        f"In the test at half the resolution, {method} recovered {middle} of the detail of"
        f" {row['contrast'].iloc[0]} in active voxels ({spread}). This test does not measure the"
        " accuracy at the final resolution"
    )


def group_answer_html(
    comparisons: pd.DataFrame,
    tasks: Mapping[str, Mapping[str, int]],
    sentences: Mapping[str, str] | None = None,
    tested: Mapping[str, str] | None = None,
) -> Markup:
    """Render the answer per task: a sentence, three numbers and their basis.

    Tasks without a primary comparison have a sentence with the reason.

    Parameters
    ----------
    comparisons : pd.DataFrame
        All comparisons.
    tasks : Mapping[str, Mapping[str, int]]
        Participants of all tasks with their numbers of runs; if empty, only tasks with a primary
        comparison are shown.
    sentences : Mapping[str, str], optional
        Sentence on the missing primary comparison by task (`not_assessed_text`). By default, the
        sentence says that there are no reference data.
    tested : Mapping[str, str], optional
        Sentence on the test at half the resolution by task (`tested_detail_text`).
    """
    primary = (
        list(comparisons[comparisons["part"] == PRIMARY].itertuples()) if len(comparisons) else []
    )
    answers = [_answer(row, tasks.get(row.task, {})) for row in primary]
    unassessed = [task for task in tasks if task not in {row.task for row in primary}]
    by_sentence: dict[str, list[str]] = {}
    for task in unassessed or [""] * (not primary):
        sentence = (sentences or {}).get(task, f"Accuracy not assessed: {_NO_DATA}")
        by_sentence.setdefault(sentence, []).append(task)
    for sentence, tasks_with_sentence in by_sentence.items():
        task_note = f" (task {', '.join(tasks_with_sentence)})" if len(tasks) > 1 else ""
        texts = [(tested or {}).get(task, "") for task in tasks_with_sentence]
        evidence = ". ".join(filter(None, texts)) or (
            "If a self-test was possible, its results are shown in the participant reports"
        )
        headline = f"{sentence}{task_note}."
        answers.append(render("group_answer", "", *MARKS["not assessed"], headline, evidence, []))
    return join(answers)


def participants_text(people: Mapping[str, int]) -> list[str]:
    """Return participants as text, with the number of runs unless it is one.

    >>> participants_text({"sub-01": 1, "sub-02": 2})
    ['sub-01', 'sub-02 (2 runs)']
    """
    return [
        participant if runs == 1 else f"{participant} ({runs} runs)"
        for participant, runs in people.items()
    ]


def _answer(row: ComparisonRow, people: Mapping[str, int]) -> Markup:
    excluded = participants_text(
        {
            participant: runs
            for participant, runs in people.items()
            if participant not in row.participants
        }
    )
    words = capitalize(f"compared {reference_phrase(row)}")
    words += f". Without a value: {', '.join(excluded)}" if excluded else ""
    return render(
        "group_answer",
        f"{where_text(row)} · n = {row.n}",
        *MARKS[status(row)],
        _primary_sentence(row),
        words,
        _primary_numbers(row),
    )


def status(row: ComparisonRow) -> str:
    """Return the status of a primary comparison.

    The status is *more accurate*, *not more accurate* or *not assessed*.
    """
    if row.n < 2:
        return "not assessed"
    if row.word == SIGNIFICANT_WORDS[1] and row.lower_of_series > 0:
        return "more accurate"
    return "not more accurate" if row.p_smallest * row.family < ALPHA else "not assessed"


def _primary_sentence(row: ComparisonRow) -> str:
    """Return the result of a primary comparison in plain text.

    The sentences contain the difference, its interval, and the number of participants with a gain.
    """
    if row.n < 2:
        return (
            f"Accuracy was assessed in {row.n} participant, which is too few for a test across"
            f" participants ({task_text(row)})."
        )
    level = f"{100 * min(row.level, 0.95):.0f} % interval across participants"
    corrected = f"corrected for {row.family} tasks" if row.family > 1 else "not corrected"
    if status(row) == "more accurate":
        result = (
            f"With respect to fine detail, the {row.series} map is more accurate than every"
            " reference series of the participant"
        )
    elif row.word == SIGNIFICANT_WORDS[1]:
        result = (
            f"The explained variance is higher for {row.series} than for every reference series"
            " of the participant, but does not differ from 0"
        )
    else:
        phrase = "is not more accurate than" if BELOW in row.note else DECISIONS[UNDECIDED][2]
        result = (
            f"With respect to fine detail, the {row.series} map {phrase} the strongest reference"
            " series of the participant"
        )
    return (
        f"{result}. The difference in {measure_text(row)} is {difference_text(row, '+.3f')}"
        f" ({level}) and is positive in {row.n_above} of {row.n} participants"
        f" ({_p_text(row.p_holm)}, exact signed-rank test of one prespecified comparison,"
        f" {corrected})."
    )


def _primary_numbers(row: ComparisonRow) -> list[Card]:
    """Return cards with the difference, participants with a gain, and participants needed."""
    medians = (number(median, ".3f") for median in (row.median_series, row.median_minus))
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
