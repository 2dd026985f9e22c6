"""Group results in plain words: where each method is better, equal or worse, how surely.

Comparisons are rows of the table that `bids_sr.stats.group.group_tables` writes; a finding is all
rows of one method on one question.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
from markupsafe import Markup

from bids_sr.metrics.long_tables import MISSING
from bids_sr.metrics.number_text import number as shown
from bids_sr.reports.markup import joined, render
from bids_sr.reports.tables.evaluation_rows import series_text
from bids_sr.reports.text.overview_text import Number
from bids_sr.series import PLAIN
from bids_sr.stats.evaluation.evidence import APPLIED
from bids_sr.stats.evaluation.words import MARKS
from bids_sr.stats.group.comparisons import (
    BELOW,
    EXPLORATORY,
    PRIMARY,
    SAME,
    SETTLED,
    UNDECIDED,
    attainable_text,
    on_accuracy,
)
from bids_sr.stats.group.group_values import QUESTION
from bids_sr.stats.group.paired_tests import ALPHA

Row = Any
"""A comparison, by the names of its columns."""
FUNCTION, IMAGE, SIZE = "function", "image", "size"
_METRIC = ["statistic", "band", "reference", "threshold"]
_NONE = MISSING
# What can be told, what it is evidence of, and its name in a sentence; the strongest evidence
# first
_HEADLINES = (
    pd.DataFrame(
        [
            (
                "ev",
                "beyond",
                "measured",
                _NONE,
                FUNCTION,
                "explained variance of measured BOLD detail beyond the acquired Nyquist limit",
            ),
            (
                "ev",
                "beyond",
                "truth",
                _NONE,
                FUNCTION,
                "explained variance of true BOLD detail beyond the acquired Nyquist limit",
            ),
            (
                "r",
                "beyond",
                "measured",
                _NONE,
                FUNCTION,
                "correlation with measured BOLD detail beyond the acquired Nyquist limit (r)",
            ),
            (
                "r",
                "beyond",
                "truth",
                _NONE,
                FUNCTION,
                "correlation with true BOLD detail beyond the acquired Nyquist limit (r)",
            ),
            (
                "r",
                "beyond",
                "measuredMap",
                _NONE,
                FUNCTION,
                (
                    "correlation with the detail of the measured map beyond the acquired Nyquist"
                    " limit (r)"
                ),
            ),
            (
                "ev",
                "within",
                "truth",
                _NONE,
                FUNCTION,
                "explained variance of true BOLD signal within the acquired Nyquist limit",
            ),
            (
                "ev",
                "within",
                "otherRun",
                _NONE,
                FUNCTION,
                "explained variance of another run's effect within the acquired Nyquist limit",
            ),
            (
                "r",
                "all",
                "measured",
                _NONE,
                FUNCTION,
                "correlation with the measured effect map (r)",
            ),
            ("r", "all", "truth", _NONE, FUNCTION, "correlation with the true effect map (r)"),
            (
                "r",
                "all",
                "measuredMap",
                _NONE,
                FUNCTION,
                "correlation with the effect map of the measured run (r)",
            ),
            (
                "average_precision",
                _NONE,
                "truth",
                _NONE,
                FUNCTION,
                "detection of truly active voxels (average precision)",
            ),
            (
                "psnr",
                _NONE,
                "measured",
                _NONE,
                IMAGE,
                "similarity of volumes to the measured ones (PSNR)",
            ),
            (
                "psnr",
                _NONE,
                "heldOut",
                _NONE,
                IMAGE,
                "image quality on a pair that was not trained on (PSNR)",
            ),
            ("psnr", _NONE, _NONE, _NONE, IMAGE, "image quality (PSNR)"),
            ("ssim", _NONE, _NONE, _NONE, IMAGE, "image quality (SSIM)"),
            ("dice", _NONE, _NONE, "quarter", SIZE, "overlap of the two conditions"),
            ("size_acquired_voxels", _NONE, _NONE, "quarter", SIZE, "size of the region"),
        ],
        columns=[*_METRIC, "kind", "title"],
    )
    .rename_axis("strength")
    .reset_index()
)
_CAVEATS = {SIZE: " A smaller region or overlap is not an improvement by itself."}
_REGIONS = ("brain", "active40", MISSING)


def findings(comparisons: pd.DataFrame, methods: Sequence[str]) -> list[list[Row]]:
    """Return the findings worth reporting, strongest evidence first.

    There is one contrast and the least smoothing for each metric.

    Sizes are told of each condition that has a partner, as in the paper; the rest for the brain
    and the active region.

    Parameters
    ----------
    comparisons : pandas.DataFrame
        All of the group.
    methods : sequence of str
        Series under test.

    Returns
    -------
    list of list
        The rows of each finding; ``kind`` and ``title`` say what it is evidence of and name it.
    """
    told = comparisons[comparisons["series"].isin(methods) & (comparisons["part"] == EXPLORATORY)]
    told = told.assign(at=told.index).merge(_HEADLINES, on=_METRIC)
    partnered = {
        each for pair in paired_conditions(comparisons["contrast"]).values() for each in pair
    }
    alone = (told["statistic"] == "size_acquired_voxels") & ~told["contrast"].isin(partnered)
    told = told[told["region"].isin(_REGIONS) & ~alone]
    told = told.assign(
        single=told["contrast"] != "all",
        of_size=told["contrast"].where(told["kind"] == SIZE, ""),
        place=told["region"].map(_REGIONS.index),
        under_test=told["series"].map(list(methods).index),
        question=told.groupby(QUESTION, sort=False).ngroup(),
    ).sort_values(["single", "fwhm_mm", "contrast", "at"])
    groups = ["task", "variant", "table", *_METRIC, "region", "of_size"]
    chosen = told[told["question"].isin(told.drop_duplicates(groups)["question"])]
    chosen = chosen.sort_values(
        ["strength", "task", "place", "contrast", "question", "under_test", "at"]
    )
    return [
        list(own.itertuples()) for _, own in chosen.groupby(["question", "under_test"], sort=False)
    ]


def paired_conditions(contrasts: pd.Series) -> dict[str, tuple[str, str]]:
    """Contrasts that compare two others, by what stands in the column: the two joined by ``+``."""
    known = list(contrasts.unique())
    return {name: (a, b) for a, b in product(known, known) if (name := f"{a}+{b}") in known}


def where_text(question: Row) -> str:
    """Task, region, contrast, smoothing and truth of a question."""
    parts = [f"task {question.task}"]
    parts += [part for part in (question.variant, question.region) if part != MISSING]
    parts += [question.contrast.replace("+", " and ")] if question.contrast != MISSING else []
    parts.append(f"{question.fwhm_mm:g} mm smoothing" if question.fwhm_mm else "not smoothed")
    return ", ".join(parts)


def number(value: float, *, sign: bool = False) -> str:
    """Three significant digits, a true minus, a dash where it is not defined."""
    return shown(value, "+.3g" if sign else ".3g") if math.isfinite(value) else "–"


def interval_text(row: Row) -> str:
    """A difference with the ends of its interval."""
    value, lower, upper = (
        number(each, sign=True) for each in (row.difference, row.lower, row.upper)
    )
    return f"{value} [{lower}, {upper}]"


def p_number(value: float) -> str:
    """A p value as in a table."""
    if not math.isfinite(value):
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)


def p_text(value: float) -> str:
    """A p value in words of a sentence."""
    if not math.isfinite(value):
        return "p not defined"
    return f"p {'' if value < 0.001 else '= '}{p_number(value)}"


def names(rows: Sequence[Row]) -> str:
    """What is compared with, as a list in a sentence."""
    *first, last = (series_text(row.minus) for row in rows)
    return f"{', '.join(first)} and {last}" if first else last


def compared(finding: Sequence[Row], *roles: str) -> list[Row]:
    """Rows of a finding with references of these roles; without any, all but placebos."""
    return [row for row in finding if (row.role in roles if roles else row.role != "placebo")]


def _least(rows: Sequence[Row]) -> str:
    """The smallest of some differences, as that which all reach."""
    most = "at least " if len(rows) > 1 else ""
    return most + interval_text(min(rows, key=lambda row: abs(row.difference)))


def _group_text(word: str, own: Sequence[Row]) -> str:
    if word == UNDECIDED:
        return _undecided_text(own)
    if word == SAME:
        bound = f" within ±{number(own[0].margin)}" if math.isfinite(own[0].margin) else ""
        return f"the same as {names(own)}{bound}"
    return f"{word} than {names(own)} (by {_least(own)}, {p_text(max(row.p_holm for row in own))})"


def _undecided_text(own: Sequence[Row]) -> str:
    """Describe comparisons not significant after correction, with size if the CI excludes 0."""
    texts = []
    for sign, word in ((1, "above"), (-1, "below"), (0, "")):
        if some := [row for row in own if _side(row) == sign]:
            apart = f"{word} {names(some)} by {_least(some)}, not significant after correction"
            texts.append(apart if sign else f"does not differ detectably from {names(some)}")
    return "; ".join(texts)


def _side(row: Row) -> int:
    """Return the side of 0 on which a whole confidence interval lies.

    It is 0 where the interval contains 0 or has less than the usual confidence.
    """
    if not row.level >= 1 - ALPHA - 0.001:
        return 0
    return 1 if row.lower > 0 else -1 if row.upper < 0 else 0


def _about(finding: Sequence[Row]) -> str:
    return f"{finding[0].series}, {finding[0].title} ({where_text(finding[0])}"


def sentence(finding: Sequence[Row]) -> str:
    """A finding as one sentence, plain text."""
    own = compared(finding)
    order = ("better", "worse", "larger", "smaller", SAME, UNDECIDED)
    groups = {word: [row for row in own if row.word == word] for word in order}
    said = [_group_text(word, some) for word, some in groups.items() if some]
    tail = _CAVEATS.get(finding[0].kind, "") if said else ""
    notes = {_attainable(row) for row in groups[UNDECIDED]} - {""}
    tail += f" {'; '.join(sorted(notes))}." if notes else ""
    count = max((row.n for row in own), default=0)
    return (
        f"{_about(finding)}; n = {count}): {'; '.join(said) or 'no comparison available'}.{tail}"
    )


def placebo_sentence(finding: Sequence[Row]) -> str:
    """Describe what of a finding is specific to the participants' data; empty without controls."""
    placebos = compared(finding, "placebo")
    own = [row for row in placebos if row.word == "better"]
    rest = [row for row in placebos if row.word != "better"]
    parts = [f"better than the control analyses {names(own)}"] if own else []
    parts += (
        [f"does not differ detectably from the control analyses {names(rest)}"] if rest else []
    )
    return f"{_about(finding)}): {'; '.join(parts)}." if parts else ""


def verdict(told: Sequence[Sequence[Row]], methods: Sequence[str]) -> list[str]:
    """Return the claims for each task and method: one line on function and one on images."""
    lines = []
    for task in dict.fromkeys((each[0].task, each[0].variant) for each in told):
        for method in methods:
            own = [
                each
                for each in told
                if (each[0].series, each[0].task, each[0].variant) == (method, *task)
            ]
            for kind, claim in ((FUNCTION, "is more accurate"), (IMAGE, "gives better images")):
                first = next((each for each in own if each[0].kind == kind), None)
                if first is not None:
                    lines.append(_claim(first, claim))
                elif own:
                    topic = "Accuracy" if kind == FUNCTION else "Image quality"
                    lines.append(f"{method}: {topic} not assessed: no reference data.")
    return list(dict.fromkeys(lines))  # what holds of several tasks is said once


def _claim(finding: Sequence[Row], claim: str) -> str:
    """Judge one method by its strongest evidence: baselines and controls, then methods."""
    method = finding[0].series
    # arithmetic among the methods
    plain = [row for row in compared(finding, "method") if row.minus in PLAIN]
    own = [*compared(finding, "acquired", "baseline", "control"), *plain]
    what = (
        f"{finding[0].title}; {where_text(finding[0])}; n ="
        f" {max((row.n for row in own), default=0)}"
    )
    by_word = {word: [row for row in own if row.word == word] for word in ("better", "worse")}
    rest = [row for row in own if row.word != "better"]
    if not own:
        text = f"{method}: no baseline for comparison ({what})"
    elif not rest and own[0].lower_of_series <= 0:
        text = f"{method} is above every baseline but not shown to explain any variance ({what})"
    elif not rest:
        denoised = " and denoised B-spline" if any(row.role == "control" for row in own) else ""
        text = f"{method} {claim} than every baseline{denoised} ({what})"
    elif by_word["worse"]:
        text = f"{method} is worse than {names(by_word['worse'])} ({what})"
    elif by_word["better"]:
        text = (
            f"{method} {claim} than {names(by_word['better'])}, not shown against {names(rest)}"
            f" ({what})"
        )
    elif too_few := next(filter(None, map(_attainable, own)), ""):
        text = f"{method}: no difference from a baseline could be significant: {too_few} ({what})"
    else:
        text = f"{method} does not differ detectably from any baseline ({what})"
    others = [row for row in compared(finding, "method") if row not in own and row.word in by_word]
    beside = " and ".join(f"{row.word} than {series_text(row.minus)}" for row in others)
    return f"{text}{'; ' if beside else ''}{beside}."


def _attainable(row: Row) -> str:
    """Why a comparison could not be significant; empty where it could."""
    return attainable_text(row.n_nonzero, row.p_smallest, row.family) if row.n > 1 else ""


_NOT_ASSESSED, _NO_DATA = "Accuracy not assessed", "no reference data"
_MEASURE = "explained variance beyond the acquired Nyquist limit"


def why_not_assessed(task: str, values: pd.DataFrame, told: pd.DataFrame, method: str) -> str:
    """Explain a missing primary comparison: no reference, an uninformative one, or no values.

    `values` and `told` as in `bids_sr.stats.group.group_values.Joined`.
    """
    own = values[(values["task"] == task) & on_accuracy(values)]
    unapplied = (
        (told["statistic"] == APPLIED) & (told["series"] == method) & (told["task"] == task)
    )
    if own.empty:
        return _NO_DATA
    if own["value"].isna().all():
        return "the reference data show no reproducible detail beyond the acquired resolution"
    if unapplied.any():
        many = f"in {unapplied.sum()} run{'s' if unapplied.sum() > 1 else ''}"
        return f"{method} was not applied {many} (it fell back to zero filling)"
    if method not in set(own["series"]):
        return f"{method} was not run"
    return f"no value of {method} is defined over the brain"


def group_answer_html(
    comparisons: pd.DataFrame,
    tasks: Mapping[str, Mapping[str, int]],
    reasons: Mapping[str, str] | None = None,
) -> Markup:
    """Render each task's answer: sentence, three numbers and basis; tasks without truth say so.

    Parameters
    ----------
    comparisons : pandas.DataFrame
        All of the group, or the primary ones.
    tasks : mapping
        Participants of all tasks, with the number of their runs; empty: only those of the
        comparisons.
    reasons : mapping, optional
        By task, why it has no primary comparison (`why_not_assessed`); else, no reference data.
    """
    primary = (
        list(comparisons[comparisons["part"] == PRIMARY].itertuples()) if len(comparisons) else []
    )
    parts = [_answer(row, tasks.get(row.task, {})) for row in primary]
    lacking = [task for task in tasks if task not in {row.task for row in primary}]
    mark, kind = MARKS["not assessed"]
    by_reason: dict[str, list[str]] = {}
    for task in lacking or [""] * (not primary):
        by_reason.setdefault((reasons or {}).get(task, _NO_DATA), []).append(task)
    for reason, which in by_reason.items():
        named = f" (task {', '.join(which)})" if len(tasks) > 1 else ""
        evidence = (
            "The participants' reports show tests one level of resolution down, where these could"
            " be made"
        )
        parts.append(
            render(
                "group_answer", "", mark, kind, f"{_NOT_ASSESSED}: {reason}{named}.", evidence, []
            )
        )
    return joined(parts)


def people_text(people: Mapping[str, int]) -> list[str]:
    """Participants, with the number of their runs where it is not one.

    >>> people_text({"sub-01": 1, "sub-02": 2})
    ['sub-01', 'sub-02 (2 runs)']
    """
    return [who if runs == 1 else f"{who} ({runs} runs)" for who, runs in people.items()]


def _answer(row: Row, people: Mapping[str, int]) -> Markup:
    mark, kind = MARKS[status(row)]
    without = people_text(
        {who: runs for who, runs in people.items() if who not in row.participants}
    )
    evidence = {"measured": "Compared with measured high-resolution runs (independent blocks)"}
    rests_on = evidence.get(row.reference, "Compared with the known (simulated) truth")
    header = f"{where_text(row)} · n = {row.n}"
    told = rests_on + (f". Without a value: {', '.join(without)}" if without else "")
    return render(
        "group_answer", header, mark, kind, primary_sentence(row), told, primary_numbers(row)
    )


def status(row: Row) -> str:
    """Status of a primary comparison, as for a run: more accurate, not so, or not assessed."""
    if row.n < 2:
        return "not assessed"
    if row.word == SETTLED[1] and row.lower_of_series > 0:
        return "more accurate"
    return "not more accurate" if row.p_smallest * row.family < ALPHA else "not assessed"


def primary_sentence(row: Row) -> str:
    """Whether the finer map is truer, by how much and in how many participants, as plain text."""
    task = f"task {row.task}" + (f", {row.variant}" if row.variant != MISSING else "")
    if row.n < 2:
        return (
            f"Accuracy could be assessed in {row.n} participant, too few for a test over"
            f" participants ({task})."
        )
    level = f"{100 * min(row.level, 0.95):.0f} % interval over participants"
    ends = f"{_signed(row.difference)} [{_signed(row.lower)}, {_signed(row.upper)}]"
    corrected = f"corrected for {row.family} tasks" if row.family > 1 else "not corrected"
    if status(row) == "more accurate":
        what = (
            f"The finer map of {row.series} is more accurate than every reference of the"
            " participant"
        )
    elif row.word == SETTLED[1]:
        what = (
            f"{row.series} is above every reference of the participant, but is not shown to"
            " explain any variance"
        )
    else:
        word = (
            "is not more accurate than" if BELOW in row.note else "does not differ detectably from"
        )
        what = f"The finer map of {row.series} {word} the participant's strongest reference"
    return (
        f"{what}: {ends} ({level}) in {_MEASURE}, larger in {row.n_above} of {row.n} participants;"
        f" {p_text(row.p_holm)}, exact signed-rank test of one prespecified comparison,"
        f" {corrected}."
    )


def _signed(value: float) -> str:
    return shown(value, "+.3f")


def primary_numbers(row: Row) -> list[Number]:
    """Difference, participants above, and participants needed."""
    medians = (
        f"median {row.median_series:.3f}, strongest reference {row.median_minus:.3f}".replace(
            "-", "−"
        )
    )
    numbers = [
        Number(
            value=_signed(row.difference),
            note=medians,
            label=f"{row.series} minus the participant's strongest reference, {_MEASURE}",
        ),
        Number(
            value=f"{row.n_above} of {row.n}",
            label="participants above their strongest reference",
            note=row.note or "each reference series counts",
        ),
    ]
    if row.n > 1:
        known = pd.notna(row.n_needed)
        note = "assuming the observed effect; uncertain with few participants"
        note = (
            note
            if known
            else "with the observed effect, no number of participants would show a gain"
        )
        value = f"{row.n_needed:.0f}" if known else "–"
        numbers.append(Number(value=value, label="participants for 80 % power", note=note))
    return numbers
