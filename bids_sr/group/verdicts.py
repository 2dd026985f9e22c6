"""Group results in plain language: better, equal or worse methods, and their certainty.

Comparisons are rows of the table from `bids_sr.group.comparisons`. A finding contains all
comparisons of one method on one question, that is, one metric of one task, contrast and region.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE, APPLIED
from bids_sr.evaluation.result_text import quote_contrast
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.evaluation.words import (
    DECISIONS,
    MARKS,
    capitalize,
    measure_text,
    reference_phrase,
    region_text,
)
from bids_sr.group.comparisons import EXPLORATORY, PRIMARY, is_primary_metric
from bids_sr.group.values import (
    QUESTION,
    EvidenceContrasts,
    parse_number,
    participant_columns,
    rank_question,
)
from bids_sr.metrics.contrast_names import rank_contrast
from bids_sr.metrics.number_text import estimate, number, p_value, value_form
from bids_sr.metrics.rows import MISSING
from bids_sr.metrics.smoothing import smoothing_text
from bids_sr.metrics.word_lists import add_counts, enumerate_unique
from bids_sr.report.cards import Card
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import join, render
from bids_sr.series import SIMPLE_BASELINES
from bids_sr.sr.method import method_names_without_controls
from bids_sr.statistics.decisions import (
    BELOW_STRONGEST_NOTE,
    SAME,
    SIGNIFICANT_WORDS,
    UNDECIDED,
    attainable_text,
)
from bids_sr.statistics.wilcoxon import ALPHA, LOWEST_NOMINAL_LEVEL

ComparisonRow = Any
"""Comparison with columns as attributes."""
FUNCTION, IMAGE, SIZE = "function", "image", "size"
_METRIC = ["statistic", "band", "reference", "threshold"]
# metrics that are reported, with the kind of evidence they provide; strongest evidence first
_EVIDENCE = (
    pd.DataFrame(
        [
            (FUNCTION, "ev", "beyond", ("measured", "truth")),
            (FUNCTION, "r", "beyond", ("measured", "truth", "measuredMap")),
            (FUNCTION, "ev", "within", ("truth", "otherRun")),
            (FUNCTION, "r", "all", ("measured", "truth", "measuredMap")),
            (FUNCTION, "average_precision", MISSING, ("truth",)),
            (IMAGE, "psnr", MISSING, ("measured", "heldOut", MISSING)),
            (IMAGE, "ssim", MISSING, (MISSING,)),
            (SIZE, "dice", MISSING, (MISSING,)),
            (SIZE, "size_acquired_voxels", MISSING, (MISSING,)),
        ],
        columns=["kind", "statistic", "band", "reference"],
    )
    .explode("reference", ignore_index=True)
    .assign(threshold=lambda metrics: np.where(metrics["kind"] == SIZE, "quarter", MISSING))
    .rename_axis("strength")
    .reset_index()
)
# predicate of a better method, and topic of a missing assessment, by kind of evidence
_CLAIMS = {
    FUNCTION: ("is more accurate", "Accuracy"),
    IMAGE: ("has better image quality", "Image quality"),
}
_REGIONS = ("brain", ACQUIRED_ACTIVE, MISSING)  # regions of findings, in the order of the report
_NO_DATA = "no reference data"


def select_findings(
    comparisons: pd.DataFrame, methods: Sequence[str], contrasts: EvidenceContrasts
) -> list[list[ComparisonRow]]:
    """Return the findings worth reporting, strongest evidence first.

    Each metric is reported for one contrast and the smallest smoothing: sizes for each condition
    of a pair, as in the paper, and other metrics for the brain and the active region. Contrasts of
    the runs' evidence (`contrasts`) come first.

    Returns
    -------
    list[list[ComparisonRow]]
        Rows of each finding, with the additional columns ``kind`` (of evidence), ``strength`` (0
        for the strongest evidence), ``question`` (number) and ``comparison_index`` (index of the
        row in `comparisons`).
    """
    exploratory = comparisons[
        comparisons["series"].isin(methods) & (comparisons["part"] == EXPLORATORY)
    ]
    candidates = exploratory.assign(comparison_index=exploratory.index).merge(
        _EVIDENCE, on=_METRIC
    )
    paired_contrasts = {
        contrast
        for pair in list_condition_pairs(comparisons["contrast"]).values()
        for contrast in pair
    }
    is_size = candidates["statistic"] == "size_acquired_voxels"
    is_unpaired = is_size & ~candidates["contrast"].isin(paired_contrasts)
    eligible = candidates[candidates["region"].isin(_REGIONS) & ~is_unpaired]
    ranked = eligible.assign(
        contrast_rank=[
            rank_question(task, variant, contrast, contrasts)
            for task, variant, contrast in zip(
                eligible["task"], eligible["variant"], eligible["contrast"], strict=True
            )
        ],
        size_contrast=eligible["contrast"].where(eligible["kind"] == SIZE, ""),
        region_rank=eligible["region"].map(_REGIONS.index),
        method_rank=eligible["series"].map(list(methods).index),
        question=eligible.groupby(QUESTION, sort=False).ngroup(),
    ).sort_values(["contrast_rank", "fwhm_mm", "contrast", "comparison_index"])
    metric_columns = [
        *("task", "variant", "table", *_METRIC, "region", "size_contrast", "input_fwhm_mm")
    ]
    reported_questions = ranked.drop_duplicates(metric_columns)["question"]
    reported = ranked[ranked["question"].isin(reported_questions)].sort_values(
        [
            "strength",
            "task",
            "region_rank",
            "contrast",
            "question",
            "method_rank",
            "comparison_index",
        ]
    )
    return [
        list(finding.itertuples())
        for _, finding in reported.groupby(["question", "method_rank"], sort=False)
    ]


def list_condition_pairs(contrasts: pd.Series) -> dict[str, tuple[str, str]]:
    """Return the pairs of contrasts that have a joint contrast, such as ``faces+houses``.

    Returns
    -------
    dict[str, tuple[str, str]]
        Both contrasts by the name of the joint contrast; {} if there are no pairs.
    """
    available = list(contrasts.unique())
    pairs = {
        f"{first}+{second}": (first, second) for first, second in product(available, repeat=2)
    }
    return {name: pair for name, pair in pairs.items() if name in available}


def finding_sentence(finding: Sequence[ComparisonRow]) -> str:
    """Return a finding as one sentence in plain text."""
    compared = _select_rows(finding)
    groups = {
        decision: [row for row in compared if row.word == decision] for decision in DECISIONS
    }
    clauses = [_describe_decision(decision, rows) for decision, rows in groups.items() if rows]
    result = f"{finding[0].series} {'; '.join(clauses)}" if clauses else "no comparison available"
    sentences = [f"{_subject_text(finding)}: {result}."]
    if clauses and finding[0].kind == SIZE:
        sentences.append("A smaller region or overlap is not necessarily an improvement.")
    notes = {_attainable_note(row) for row in groups[UNDECIDED]} - {""}
    if notes:
        sentences.append(f"{capitalize('; '.join(sorted(notes)))}.")
    return " ".join(sentences)


def _describe_decision(decision: str, rows: Sequence[ComparisonRow]) -> str:
    """Return a clause on the comparisons with the same decision."""
    if decision == UNDECIDED:
        return _describe_undecided(rows)
    clause = f"{_predicate(decision)} {_references_text(rows)}"
    if decision == SAME:
        bound = (
            f" within ±{number(rows[0].margin, '.3g')}" if math.isfinite(rows[0].margin) else ""
        )
        return clause + bound
    p_text = _p_text(max(row.p_holm for row in rows))
    return f"{clause} (by {_smallest_difference_text(rows)}, {p_text})"


def _describe_undecided(rows: Sequence[ComparisonRow]) -> str:
    """Describe comparisons that are not significant after correction.

    The difference is included if its confidence interval excludes 0.
    """
    clauses = []
    for sign, direction in ((1, "above"), (-1, "below"), (0, "")):
        if not (sign_rows := [row for row in rows if _interval_sign(row) == sign]):
            continue
        reference_names = _references_text(sign_rows)
        if sign:
            clauses.append(
                f"is {direction} {reference_names} by {_smallest_difference_text(sign_rows)},"
                " which is not significant after correction"
            )
        else:
            clauses.append(f"{_predicate(UNDECIDED)} {reference_names}")
    return "; ".join(clauses)


def _interval_sign(row: ComparisonRow) -> int:
    """Return the sign of the values in a confidence interval.

    The result is 0 if the interval contains 0 or if its confidence level is below 95 %.
    """
    if not row.level >= LOWEST_NOMINAL_LEVEL:
        return 0
    if row.lower > 0:
        return 1
    return -1 if row.upper < 0 else 0


def _smallest_difference_text(rows: Sequence[ComparisonRow]) -> str:
    """Return the smallest of several differences as text, with *at least* if there are several."""
    prefix = "at least " if len(rows) > 1 else ""
    return prefix + difference_text(min(rows, key=lambda row: abs(row.difference)))


def negative_control_sentence(finding: Sequence[ComparisonRow]) -> str:
    """Describe the comparisons with negative controls in one sentence, "" if there are none."""
    placebos = _select_rows(finding, "placebo")
    groups = {
        "better": [row for row in placebos if row.word == "better"],
        UNDECIDED: [row for row in placebos if row.word != "better"],
    }
    phrases = [
        f"{_predicate(decision)} the {'controls' if len(rows) > 1 else 'control'}"
        f" {_references_text(rows)}"
        for decision, rows in groups.items()
        if rows
    ]
    return (
        f"{_subject_text(finding)}: {finding[0].series} {'; '.join(phrases)}." if phrases else ""
    )


def _subject_text(finding: Sequence[ComparisonRow]) -> str:
    """Return the beginning of a sentence on a finding: title and number of participants."""
    n_participants = max((row.n for row in _select_rows(finding)), default=0)
    return f"{title_text(finding[0])}, n = {n_participants}"


def title_text(row: ComparisonRow) -> str:
    """Return the measured quantity with task, region, contrast and smoothing as a title.

    The first letter is a capital.
    """
    return f"{capitalize(question_text(row))}, {context_text(row)}"


def list_claims(findings: Sequence[Sequence[ComparisonRow]], methods: Sequence[str]) -> list[str]:
    """Return the claims per task and method: one line on function and one on images."""
    tasks = dict.fromkeys((finding[0].task, finding[0].variant) for finding in findings)
    claims: list[str] = []
    for (task, variant), method in product(tasks, methods):
        method_findings = [
            finding
            for finding in findings
            if (finding[0].series, finding[0].task, finding[0].variant) == (method, task, variant)
        ]
        if method_findings:
            claims += _method_claims(method, method_findings)
    return list(dict.fromkeys(claims))  # claims that are equal for several tasks appear once


def _method_claims(
    method: str, method_findings: Sequence[Sequence[ComparisonRow]]
) -> Iterator[str]:
    """Yield a claim per kind of evidence, given the findings of one method and task."""
    for kind, (_, topic) in _CLAIMS.items():
        strongest = next((finding for finding in method_findings if finding[0].kind == kind), None)
        if strongest is None:
            yield f"{method}: {topic} not assessed: {_NO_DATA}."
        else:
            yield _claim_text(strongest)


def _claim_text(finding: Sequence[ComparisonRow]) -> str:
    """Return a claim on one method from its strongest evidence.

    The method is compared with baselines and controls, and then with other methods.
    """
    method_rows = _select_rows(finding, "method")
    # Series that result from simple arithmetic have the role of a method in the table, but count
    # as baselines in claims.
    plain_rows = [row for row in method_rows if row.minus in SIMPLE_BASELINES]
    baseline_rows = [*_select_rows(finding, "acquired", "baseline", "control"), *plain_rows]
    n_participants = max((row.n for row in baseline_rows), default=0)
    baseline_text = (
        f"{_compare_with_baselines(finding[0], baseline_rows)}"
        f" ({question_text(finding[0])}; {context_text(finding[0])}; n = {n_participants})"
    )
    method_texts = [
        f"{row.word} than {series_text(row.minus)}"
        for row in method_rows
        if row not in baseline_rows and row.word in ("better", "worse")
    ]
    return "; ".join(filter(None, [baseline_text, " and ".join(method_texts)])) + "."


def _select_rows(finding: Sequence[ComparisonRow], *roles: str) -> list[ComparisonRow]:
    """Return the comparisons with references of some roles; by default, all but placebos."""
    return [row for row in finding if (row.role in roles if roles else row.role != "placebo")]


def _compare_with_baselines(question: ComparisonRow, rows: Sequence[ComparisonRow]) -> str:
    """Return whether a method is better than all, some or none of its baselines, as text.

    `question` is any comparison of the method, `rows` are the comparisons with baselines.
    """
    method, (claim, _) = question.series, _CLAIMS[question.kind]
    better_rows = [row for row in rows if row.word == "better"]
    worse_rows = [row for row in rows if row.word == "worse"]
    not_better_rows = [row for row in rows if row.word != "better"]
    if not rows:
        return f"There is no baseline for a comparison with {method}"
    if not not_better_rows:
        if rows[0].lower_of_series <= 0:
            return (
                f"{method} has a higher explained variance than every baseline, but its explained"
                " variance does not differ from 0"
            )
        has_control = any(row.role == "control" for row in rows)
        control_text = " and denoised B-spline" if has_control else ""
        return f"{method} {claim} than every baseline{control_text}"
    if worse_rows:
        return f"{method} is worse than {_references_text(worse_rows)}"
    if better_rows:
        return (
            f"{method} {claim} than {_references_text(better_rows)}, not shown against"
            f" {_references_text(not_better_rows)}"
        )
    if attainable_note := next(filter(None, map(_attainable_note, rows)), ""):
        return (
            f"No difference between {method} and a baseline could reach significance"
            f" ({attainable_note})"
        )
    return f"{method} {_predicate(UNDECIDED)} any baseline"


def _references_text(rows: Iterable[ComparisonRow]) -> str:
    """Return the references of comparisons as a list in a sentence."""
    return enumerate_unique(series_text(row.minus) for row in rows)


def _attainable_note(row: ComparisonRow) -> str:
    """Explain why a comparison could not be significant, "" if it could."""
    return attainable_text(row.n_nonzero, row.p_smallest, row.family) if row.n > 1 else ""


def question_text(row: ComparisonRow) -> str:
    """Return the measured quantity, and the reference if it is known, as text."""
    return " ".join(filter(None, [measure_text(row), reference_phrase(row)]))


def group_answer_html(
    comparisons: pd.DataFrame,
    tasks: Mapping[str, Mapping[str, int]],
    sentences: Mapping[str, str] | None = None,
    tested: Mapping[str, str] | None = None,
    pictures: Sequence[Markup] = (),
) -> Markup:
    """Render the answer per task: a picture, a sentence, three numbers and their basis.

    Tasks without a primary comparison have a sentence with the reason.

    Parameters
    ----------
    comparisons : pd.DataFrame
        All comparisons.
    tasks : Mapping[str, Mapping[str, int]]
        Number of runs of each participant, by task; if empty, only tasks with a primary comparison
        are shown.
    sentences : Mapping[str, str], optional
        Sentence on the missing primary comparison by task (`not_assessed_text`). By default, the
        sentence says that there are no reference data.
    tested : Mapping[str, str], optional
        Sentence on the test at half the resolution by task (`tested_detail_text`).
    pictures : Sequence[Markup], optional
        Figures of the primary comparisons, in their order.
    """
    primary = (
        list(comparisons[comparisons["part"] == PRIMARY].itertuples()) if len(comparisons) else []
    )
    answers = [
        _answer_html(row, tasks.get(row.task, {}), pictures[index] if pictures else Markup(""))
        for index, row in enumerate(primary)
    ]
    assessed_tasks = {row.task for row in primary}
    unassessed_tasks = [task for task in tasks if task not in assessed_tasks]
    if not primary and not unassessed_tasks:
        unassessed_tasks = [""]
    tasks_by_sentence: dict[str, list[str]] = {}
    for task in unassessed_tasks:
        sentence = (sentences or {}).get(task, f"Accuracy not assessed: {_NO_DATA}")
        tasks_by_sentence.setdefault(sentence, []).append(task)
    answers += [
        _missing_answer_html(sentence, sentence_tasks, tested or {}, is_only_task=len(tasks) < 2)
        for sentence, sentence_tasks in tasks_by_sentence.items()
    ]
    return join(answers)


def _answer_html(row: ComparisonRow, run_counts: Mapping[str, int], picture: Markup) -> Markup:
    """Return a primary comparison as a picture, a sentence and numbers.

    `run_counts` is the number of runs of all participants with the task.
    """
    without_value = add_counts(
        (item for item in run_counts.items() if item[0] not in row.participants), "runs"
    )
    evidence = [capitalize(f"compared {reference_phrase(row)}")]
    if without_value:
        evidence.append(f"Without a value: {', '.join(without_value)}")
    return render(
        "group_answer",
        f"{context_text(row)} · n = {row.n}",
        *MARKS[primary_status(row)],
        _primary_sentence(row),
        ". ".join(evidence),
        _primary_numbers(row),
        picture,
    )


def context_text(question: ComparisonRow) -> str:
    """Return task, region, contrast and smoothing of a question as text."""
    special_texts = {MISSING: "", "all": "all conditions"}
    contrast = special_texts.get(question.contrast, question.contrast.replace("+", " and "))
    smoothing = smoothing_text(question.fwhm_mm, parse_number(question.input_fwhm_mm))
    phrases = [task_text(question), region_text(question.region), contrast, smoothing]
    return ", ".join(filter(None, phrases))


def _primary_sentence(row: ComparisonRow) -> str:
    """Return the result of a primary comparison in plain text.

    The sentences contain the difference, its interval, and the number of participants with a gain.
    """
    if row.n < 2:
        return (
            f"Accuracy was assessed in {row.n} participant, which is too few for a test across"
            f" participants ({task_text(row)})."
        )
    level = f"{100 * min(row.level, 1 - ALPHA):.0f} % interval across participants"
    corrected = f"corrected for {row.family} tasks" if row.family > 1 else "not corrected"
    return (
        f"{_primary_result_text(row)}. The difference in {measure_text(row)} is"
        f" {difference_text(row)} ({level}) and is positive in {row.n_above} of {row.n}"
        f" participants ({_p_text(row.p_holm)}, exact signed-rank test of one prespecified"
        f" comparison, {corrected})."
    )


def task_text(question: ComparisonRow) -> str:
    """Return the task (and the variant of its files) of a question as text."""
    variant = [] if question.variant == MISSING else [question.variant]
    return ", ".join([f"task {question.task}", *variant])


def _primary_result_text(row: ComparisonRow) -> str:
    """Return whether the method is more accurate than the reference series, as a clause."""
    if primary_status(row) == "more accurate":
        return (
            f"With respect to fine detail, the {row.series} map is more accurate than every"
            " reference series of the participant"
        )
    if row.word == SIGNIFICANT_WORDS[1]:
        return (
            f"The explained variance is higher for {row.series} than for every reference series"
            " of the participant, but does not differ from 0"
        )
    is_below_strongest = BELOW_STRONGEST_NOTE in row.note
    predicate = "is not more accurate than" if is_below_strongest else _predicate(UNDECIDED)
    return (
        f"With respect to fine detail, the {row.series} map {predicate} the strongest reference"
        " series of the participant"
    )


def primary_status(row: ComparisonRow) -> str:
    """Return the status of a primary comparison.

    The status is *more accurate*, *not more accurate* or *not assessed*.
    """
    if row.n < 2:
        return "not assessed"
    if row.word == SIGNIFICANT_WORDS[1] and row.lower_of_series > 0:
        return "more accurate"
    return "not more accurate" if row.p_smallest * row.family < ALPHA else "not assessed"


def _predicate(decision: str) -> str:
    """Return the predicate of a decision, which is followed by the reference."""
    return DECISIONS[decision][2]


def difference_text(row: ComparisonRow) -> str:
    """Return a difference with its interval as text."""
    form = value_form(row.statistic, sign="+").replace(".3f", ".3g")
    return estimate(row.difference, row.lower, row.upper, form)


def _p_text(value: float) -> str:
    return f"p {'' if value < 0.001 else '= '}{p_value(value)}"


def _primary_numbers(row: ComparisonRow) -> list[Card]:
    """Return cards with the difference, participants with a gain, and participants needed."""
    median_series, median_reference = (
        number(median, value_form(row.statistic) or ".3f")
        for median in (row.median_series, row.median_minus)
    )
    cards = [
        Card(
            value=number(row.difference, value_form(row.statistic, sign="+")),
            facts=(f"median {median_series}, strongest reference {median_reference}",),
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
        cards.append(Card(value=value, label="participants for 80 % power", facts=(note,)))
    return cards


def _missing_answer_html(
    sentence: str, tasks: Sequence[str], tested: Mapping[str, str], *, is_only_task: bool
) -> Markup:
    """Return the answer for tasks without a primary comparison for the same reason.

    Parameters
    ----------
    sentence : str
        Sentence with the reason, without a final period.
    tasks : Sequence[str]
        Labels of the tasks.
    tested : Mapping[str, str]
        Sentence on the test at half the resolution by task.
    is_only_task : bool
        Whether the group has no other task, so that the label is not shown.
    """
    task_note = "" if is_only_task else f" (task {', '.join(tasks)})"
    evidence = ". ".join(filter(None, [tested.get(task, "") for task in tasks]))
    return render(
        "group_answer",
        "",
        *MARKS["not assessed"],
        f"{sentence}{task_note}.",
        evidence
        or "If a self-test was possible, its results are shown in the participant reports",
        [],
    )


def not_assessed_text(task: str, values: pd.DataFrame, reported: pd.DataFrame, method: str) -> str:
    """Return a sentence on a missing primary comparison.

    If other methods have values, the sentence refers to them.

    Parameters
    ----------
    task : str
        Task label.
    values, reported : pd.DataFrame
        `values` and `reported` of `bids_sr.group.values.JoinedTables`.
    method : str
        Method of the primary comparison.
    """
    reason = not_assessed_reason(task, values, reported, method)
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


def not_assessed_reason(
    task: str, values: pd.DataFrame, reported: pd.DataFrame, method: str
) -> str:
    """Explain a missing primary comparison.

    Possible reasons are missing or uninformative references, and missing values of the method.
    For the parameters, see `not_assessed_text`.
    """
    task_values = values[(values["task"] == task) & is_primary_metric(values)]
    unapplied = (
        (reported["statistic"] == APPLIED)
        & (reported["series"] == method)
        & (reported["task"] == task)
    )
    if task_values.empty:
        return _NO_DATA
    if not np.isfinite(participant_columns(task_values)).any(axis=None):
        return "the reference data have no reproducible detail"
    if n_unapplied := unapplied.sum():
        run_text = f"in {n_unapplied} run{'s' if n_unapplied > 1 else ''}"
        return f"{method} was not applied {run_text} (it was zero filled)"
    if method not in set(task_values["series"]):
        return f"{method} was not run"
    return f"{method} has no defined values in the whole brain"


def tested_detail_text(task: str, values: pd.DataFrame, method: str) -> str:
    """Return a sentence on the explained variance at half the resolution.

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
        "reference": HALF_RESOLUTION,
        "region": ACQUIRED_ACTIVE,
        "fwhm_mm": 0,
    }
    tested = values[np.logical_and.reduce([values[name] == cell for name, cell in cells.items()])]
    if tested.empty:
        return ""
    ranks = tested["contrast"].map(rank_contrast)
    row = tested.loc[[ranks.idxmin()]]
    all_shares = participant_columns(row).to_numpy(dtype=np.float64)
    shares = all_shares[np.isfinite(all_shares)]
    if not shares.size:
        return ""
    lowest, median, highest = (
        number(value, ".0%") for value in (shares.min(), np.median(shares), shares.max())
    )
    spread = (
        f"median of {shares.size} participants, range {lowest} to {highest}"
        if shares.size > 1
        else "1 participant"
    )
    return (
        f"Tested at half the resolution, the explained variance of {method} for the detail of"
        f" {quote_contrast(row['contrast'].iloc[0])} in active voxels is {median} ({spread},"
        " whether or not the detail is recovered). This test does not measure the accuracy at the"
        " final resolution"
    )
