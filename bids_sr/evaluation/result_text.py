"""Words for the result of a run: one sentence, answers per contrast, and reasons.

Page, console, JSON, index and methods text use these words and no others.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.number_text import interval, number
from bids_sr.evaluation.contrast_results import ContrastResult, RegionResult
from bids_sr.evaluation.detail_support import SupportState
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import FINENESS, FOLLOWING, HALF_RESOLUTION
from bids_sr.io.word_lists import enumerate_unique

_REGION_ANSWERS: Mapping[SupportState, str] = {
    "recovered": "yes",
    "not supported": "no",
    "not testable": "not testable",
}
"""Answers in one region."""
_MAX_NAMED = 6  # contrasts that are named in a sentence


def write_result(result: RunResult) -> str:
    """Return the result of a run in one sentence: how much detail is explained, or what to use."""
    if not result.method:
        if not result.not_applied:
            return Statement.NOTHING_COMPARED
        were = "were" if len(result.not_applied) > 1 else "was"
        names = enumerate_unique(result.not_applied)
        return Statement.NOTHING_APPLIED.format(series=names, were=were)
    shown = result.shown
    if shown is None or shown.active.deciding_row is None:
        reasons = {contrast.active.short_reason for contrast in result.contrasts} or {"not tested"}
        reason = f" ({reasons.pop()})" if len(reasons) == 1 and reasons != {""} else ""
        return Statement.NONE_INTERPRETABLE.format(series=result.method, reason=reason)
    row = shown.active.deciding_row
    statement = Statement.EXPLAINED_IN_TEST if is_tested(row) else Statement.EXPLAINS
    return statement.format(
        series=result.method,
        value=explained_text(row),
        contrast=name_contrast(shown),
        place="the whole brain" if row.region == "brain" else "active voxels",
        size=result.final,
    )


def list_interpretable(result: RunResult) -> str:
    """Return a sentence on the contrasts whose detail may be interpreted; "" if there are none."""
    by_answer = {
        answer: [name_contrast(item) for item in result.contrasts if item.answer == answer]
        for answer in ("yes", "in active voxels")
    }
    parts = [
        f"{place}for {_name_some(names)}"
        for (names, place) in zip(by_answer.values(), ("", "only in active voxels "), strict=True)
        if names
    ]
    if not parts:
        return ""
    answers = [item.answer for item in result.contrasts]
    n_no, n_untestable = answers.count("no"), answers.count("not testable")
    others = f", not for {n_no} other{'s' if n_no > 1 else ''}" if n_no else ""
    if n_untestable:
        others += f"; {n_untestable} other{'s are' if n_untestable > 1 else ' is'} not testable"
    return Statement.INTERPRETABLE.format(contrasts=", ".join(parts), others=others)


def _name_some(names: Sequence[str]) -> str:
    """Return names in an enumeration; if there are many, the number of the last ones."""
    n_hidden = len(names) - _MAX_NAMED
    if n_hidden <= 1:
        return enumerate_unique(names)
    return enumerate_unique([*names[:_MAX_NAMED], f"{n_hidden} others"])


def answer_text(state: SupportState, row: MetricRow | None) -> str:
    """Return the answer in one region, with the explained variance: ``yes: 54 % [52, 56]``."""
    answer = _REGION_ANSWERS[state]
    if row is None or not math.isfinite(row.value):
        return answer
    return f"{answer}: {explained_text(row)}"


def decided_text(row: MetricRow | None) -> str:
    """Return the number that decided in percent, with its name unless it is explained variance.

    The text is "" if no number decided.
    """
    if row is None or not math.isfinite(row.value):
        return ""
    prefix = {FINENESS: "fineness ", FOLLOWING: "without task "}.get(row.statistic, "")
    return f"{prefix}{explained_text(row, unit=False)}"


def explain_results(results: Iterable[ContrastResult]) -> list[str]:
    """Return a sentence per reason, with the contrasts and regions that it applies to.

    For example, ``Not testable: face (active voxels and whole brain), because ...``.
    """
    regions_by_reason: dict[tuple[SupportState, str], dict[str, list[str]]] = {}
    for result in results:
        regions = {"active voxels": result.active, "whole brain": result.brain}
        for region_name, region in regions.items():
            # In the brain, the reason only matters if the detail is recovered in active voxels.
            if region.reason and (region is result.active or result.state == "recovered"):
                by_contrast = regions_by_reason.setdefault((region.state, region.reason), {})
                by_contrast.setdefault(quote_contrast(result.map_contrast), []).append(region_name)
    return [
        Statement.REASON.format(
            answer=_REGION_ANSWERS[state].capitalize(),
            contrasts=_list_places(by_contrast),
            reason=reason,
        )
        for (state, reason), by_contrast in regions_by_reason.items()
    ]


def _list_places(by_contrast: Mapping[str, Sequence[str]]) -> str:
    """Return contrasts with their regions; contrasts with the same regions are joined."""
    contrasts_by_place: dict[str, list[str]] = {}
    for contrast, regions in by_contrast.items():
        contrasts_by_place.setdefault(" and ".join(regions), []).append(contrast)
    return "; ".join(
        f"{enumerate_unique(contrasts)} ({place})"
        for place, contrasts in contrasts_by_place.items()
    )


def is_tested(row: MetricRow) -> bool:
    """Return whether a value is from the test at half the resolution, not from a reference."""
    return row.reference == HALF_RESOLUTION


def explained_text(row: MetricRow, *, unit: bool = True) -> str:
    """Return an explained variance with its interval, such as ``54 % [52, 56]``.

    The percent sign is omitted if `unit` is False. Spaces do not break across lines.
    """
    value = number(row.value, ".0%")
    ends = interval(row.lower, row.upper, ".0%", unit=False) or "(no interval)"
    text = f"{value if unit else value.removesuffix(' %')} {ends}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def name_contrast(result: ContrastResult) -> str:
    """Return the name of a contrast, with the conditions that are not part of its result.

    For example, ``all without face``, if *face* has too few blocks to be tested, and the detail of
    *all* may be interpreted.
    """
    name = quote_contrast(result.map_contrast)
    has_result = result.state == "recovered" and result.untested
    return f"{name} without {enumerate_unique(result.untested)}" if has_result else name


def quote_contrast(contrast: str) -> str:
    """Return the name of a contrast for a sentence; `all` is in quotation marks.

    >>> quote_contrast("all"), quote_contrast("sceneMinusOthers"), quote_contrast("A1MinusB1")
    ('“all”', 'scene − others', 'A1 − B1')
    """
    name, sign, other = contrast.partition("Minus")
    if sign and name[:1].islower():  # first letters are capitals in the middle of a name
        other = f"{other[:1].lower()}{other[1:]}"
    if sign:
        return f"{name} − {other}"
    return f"“{contrast}”" if contrast == "all" else contrast


def plain_results(results: Iterable[ContrastResult]) -> list[dict[str, object]]:
    """Return results as plain values for JSON, one mapping per contrast; None if undefined."""
    return [
        {
            "contrast": result.contrast,
            "map": result.map_contrast,
            "name": name_contrast(result),
            "answer": result.answer,
            "reason": result.active.short_reason,
            "decided": plain_row(result.active.deciding_row),
            "active": _convert_region(result.active),
            "brain": _convert_region(result.brain),
        }
        for result in results
    ]


def _convert_region(region: RegionResult) -> dict[str, object]:
    """Return the result in one region as plain values for JSON.

    If the detail was measured, the result of the test is included as well.
    """
    facts = _convert_values(region.state, region.row, region.reason)
    if region.measured is not None:
        facts["test"] = _convert_values(region.test.state, region.test.row, region.test.reason)
    return facts


def _convert_values(state: SupportState, row: MetricRow | None, reason: str) -> dict[str, object]:
    """Return the result in one region with its value and reason as plain values for JSON."""
    facts: dict[str, object] = {"state": state, **(plain_row(row) or {})}
    return {**facts, "reason": reason} if reason else facts


def plain_row(row: MetricRow | None) -> dict[str, object] | None:
    """Return a value with its interval and reference as plain values; None if there is no row."""
    if row is None:
        return None
    name = "explained_variance" if row.statistic == "ev" else row.statistic
    values = {name: row.value, "lower": row.lower, "upper": row.upper}
    plain: dict[str, object] = {
        key: None if math.isnan(value) else round(value, 4) for key, value in values.items()
    }
    return {**plain, "reference": row.reference}
