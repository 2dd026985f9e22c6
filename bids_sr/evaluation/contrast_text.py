"""Results for the detail of contrasts in words: lines of the verdict, cells of tables, JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bids_sr.evaluation.contrast_results import ContrastResult, RegionResult
from bids_sr.evaluation.detail_support import DetailSupport, SupportState
from bids_sr.evaluation.evidence import VerdictStatus
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.evaluation.sentences import Sentence, VerdictLine
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.words import capitalize
from bids_sr.metrics.number_text import interval_ends, number
from bids_sr.metrics.rows import MetricRow
from bids_sr.metrics.word_lists import enumerate_unique

_STATUS: Mapping[SupportState, VerdictStatus] = {
    "recovered": "recovered",
    "not supported": "not supported",
    "not testable": "not assessed",
}
"""Status of a line by the result of its contrasts, in the order of the lines."""
_INTERPRETATIONS: Mapping[SupportState, Statement] = {
    "recovered": Statement.DETAIL_IN_BRAIN,
    "not supported": Statement.DETAIL_IN_ACTIVE,
    "not testable": Statement.DETAIL_IN_ACTIVE_ONLY_TESTED,
}
"""Permitted interpretation of detail that is recovered in active voxels, by the result in the
brain.
"""
_MAX_NAMED_CONTRASTS = 6  # contrasts that are named in a line of the verdict


def plain_results(
    results: Iterable[ContrastResult], acquired_text: str
) -> list[dict[str, object]]:
    """Return results as plain values for JSON, one mapping per contrast; None if undefined.

    `acquired_text` is as in `describe_interpretation`.
    """
    return [
        {
            "contrast": result.contrast,
            "map": result.map_contrast,
            "interpretation": describe_interpretation(
                result.active.state, result.brain.state, acquired_text
            ),
            "active": _convert_region(result.active),
            "brain": _convert_region(result.brain),
        }
        for result in results
    ]


def describe_interpretation(active: SupportState, brain: SupportState, acquired_text: str) -> str:
    """Return in at most twelve words what may be interpreted in a contrast.

    `active` and `brain` are the results in active voxels and in the whole brain, and
    `acquired_text` is the acquired voxel size, such as ``6 mm``.
    """
    if active == "recovered":
        return _INTERPRETATIONS[brain]
    place = "" if brain == active else " in active voxels"
    return Statement.NO_DETAIL_FINER.format(size=acquired_text, state=active, place=place)


def _convert_region(region: RegionResult) -> dict[str, object]:
    """Return the result in one region as plain values for JSON.

    If the detail was measured, the result of the test is included as well.
    """
    facts = _convert_values(region.state, region.row, region.reason)
    if region.measured is not None:
        facts["test"] = _convert_support(region.test)
    return facts


def _convert_support(support: DetailSupport) -> dict[str, object]:
    """Return the result of the test in one region as plain values for JSON."""
    return _convert_values(support.state, support.row, support.reason)


def _convert_values(state: SupportState, row: MetricRow | None, reason: str) -> dict[str, object]:
    """Return a state with its value, reference and reason as plain values for JSON."""
    facts: dict[str, object] = {"state": state}
    if row is not None:
        values = {"explained_variance": row.value, "lower": row.lower, "upper": row.upper}
        facts |= {
            name: None if math.isnan(value) else round(value, 4) for name, value in values.items()
        }
        facts["reference"] = row.reference
    if reason:
        facts["reason"] = reason
    return facts


def write_contrast_lines(
    method: str, results: Mapping[str, ContrastResult], self_test: SelfTestResults
) -> list[VerdictLine]:
    """Return the lines of a verdict on the contrasts of one method, one line per state.

    `results` are by contrast and not empty. The last line advises against the interpretation of
    detail that is not recovered, for which `self_test` provides the voxel size.
    """
    by_state = {
        state: [result for result in results.values() if result.state == state]
        for state in _STATUS
    }
    lines = []
    for state, state_results in by_state.items():
        if not state_results:
            continue
        is_recovered = state == "recovered"
        contrasts, names = _count_contrasts(state_results, len(results))
        values = {
            "series": method,
            "contrasts": contrasts,
            "names": names,
            "state": state,
            "brain": _describe_brain(state_results),
            "reason": _find_reason(state_results) if len(state_results) == len(results) else "",
        }
        statement = Statement.RECOVERED if is_recovered else Statement.NOT_RECOVERED
        sentence = Sentence(statement, values, series=method)
        lines.append(VerdictLine(sentences=(sentence,), status=_STATUS[state], topic="contrasts"))
    n_recovered = len(by_state["recovered"])
    if n_unrecovered := len(results) - n_recovered:
        contrasts = f"these {n_unrecovered} contrasts" if n_unrecovered > 1 else "this contrast"
        place = f" in {contrasts}" if n_recovered else ""
        values = {"size": self_test.acquired_text, "place": place}
        advice = Sentence(Statement.NOTHING_FINER, values)
        lines[-1] = replace(lines[-1], sentences=(*lines[-1].sentences, advice))
    return lines


def _count_contrasts(results: Sequence[ContrastResult], n_contrasts: int) -> tuple[str, str]:
    """Return the number of contrasts with the same state, and their names in parentheses.

    If there are many, only the first recovered contrasts are named.
    """
    names = [quote_contrast(result.contrast) for result in results]
    if len(names) == n_contrasts:
        return f"all {n_contrasts} contrasts" if n_contrasts > 2 else enumerate_unique(names), ""
    n_hidden = len(names) - _MAX_NAMED_CONTRASTS
    if n_hidden > 1:
        is_recovered = results[0].state == "recovered"
        names = [*names[:_MAX_NAMED_CONTRASTS], f"{n_hidden} others"] if is_recovered else []
    names_text = f" ({enumerate_unique(names)})" if names else ""
    return f"{len(results)} of {n_contrasts} contrasts", names_text


def _describe_brain(results: Sequence[ContrastResult]) -> str:
    """Return how many contrasts that are recovered in active voxels are so in the whole brain."""
    n_in_brain = sum(result.brain.state == "recovered" for result in results)
    if n_in_brain == len(results):
        return " and in the whole brain"
    return (
        f", and of {n_in_brain} of these in the whole brain"
        if n_in_brain
        else (", not in the whole brain")
    )


def _find_reason(results: Sequence[ContrastResult]) -> str:
    """Return the common reason of contrasts as a clause; "" if they have none."""
    reasons = {result.active.reason for result in results}
    return f", because {reasons.pop()}" if len(reasons) == 1 and reasons != {""} else ""


def state_text(state: SupportState, row: MetricRow | None) -> str:
    """Return a state with its value and interval, such as ``recovered 53 % (40 to 66)``.

    A contrast that is not testable has no value. Value and interval do not break across lines.
    """
    if row is None or not math.isfinite(row.value) or state == "not testable":
        return state
    ends = " to ".join(interval_ends(row.lower, row.upper, ".0%")) or "no interval"
    value_text, interval_text = (
        text.replace(" ", "\N{NO-BREAK SPACE}") for text in (number(row.value, ".0%"), f"({ends})")
    )
    separator = "" if state == "recovered" else ":"
    return f"{state}{separator} {value_text} {interval_text}"


def explain_results(results: Iterable[ContrastResult]) -> list[str]:
    """Return a sentence per reason, with the contrasts and regions that it applies to.

    For example, ``Not testable: face (active voxels and whole brain), because ...``.
    """
    regions_by_reason: dict[tuple[SupportState, str], dict[str, list[str]]] = {}
    for result in results:
        regions = {"active voxels": result.active, "whole brain": result.brain}
        for region_name, region in regions.items():
            if region.reason:
                by_contrast = regions_by_reason.setdefault((region.state, region.reason), {})
                by_contrast.setdefault(result.contrast, []).append(region_name)
    return [
        Statement.REASON.format(
            state=capitalize(state), contrasts=_list_places(by_contrast), reason=reason
        )
        for (state, reason), by_contrast in regions_by_reason.items()
    ]


def _list_places(by_contrast: Mapping[str, Sequence[str]]) -> str:
    """Return contrasts with their regions; contrasts with the same regions are joined."""
    contrasts_by_place: dict[str, list[str]] = {}
    for contrast, regions in by_contrast.items():
        contrasts_by_place.setdefault(" and ".join(regions), []).append(contrast)
    return "; ".join(
        f"{enumerate_unique(map(quote_contrast, contrasts))} ({place})"
        for place, contrasts in contrasts_by_place.items()
    )


def quote_contrast(contrast: str) -> str:
    """Return the name of a contrast for a sentence; `all` is in quotation marks."""
    return f"“{contrast}”" if contrast == "all" else contrast
