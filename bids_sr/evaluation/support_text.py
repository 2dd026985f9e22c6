"""Sentences on the detail of each contrast of a run, in the same words everywhere."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bids_sr.evaluation.contrast_results import ContrastResult, RegionResult
from bids_sr.evaluation.detail_support import DetailSupport, SupportState
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.frozen import frozen
from bids_sr.metrics.number_text import interval_ends, number
from bids_sr.metrics.rows import MetricRow
from bids_sr.metrics.word_lists import enumerate_unique

_COVERED_INTERVALS, _MEASURED_INTERVALS = 29, 32
"""Intervals of recovered detail that contain the measured explained variance, and all intervals,
in active voxels and the brain of runs that were not used to develop the test.
"""
_LARGEST_DIFFERENCE = 21
"""Largest difference between tested and measured explained variance in these runs, in percentage
points.
"""
PRECISION = (
    "In other runs (unsmoothed, with a high-resolution reference),"
    f" {_COVERED_INTERVALS} of {_MEASURED_INTERVALS} intervals contained the measured value, and"
    f" the largest difference was {_LARGEST_DIFFERENCE} percentage points. Values in the whole"
    " brain tend to be too high."
)
BLIND_SPOT = (
    "The test cannot detect activity that has no detail finer than the acquired voxels. The detail"
    " of such activity may be called recovered, although all of it is wrong."
)
SCOPE = (
    "Results refer to unsmoothed maps, and to patterns over several voxels. Interpret single"
    " voxels only in the mask of reliable voxels."
)
RELIABLE_WORTH = (
    "Reliable voxels are significant voxels (FDR .05), selected such that at most 5 % of them are"
    " expected to have the wrong sign. Their selection relies on the predicted error of the"
    " detail, so they exist only if the detail of the contrast is recovered. If the detail is not"
    " supported, the run gives no evidence for this prediction, and no voxel is reliable. If the"
    " detail is not testable, the prediction was not tested, and reliable voxels are not"
    " determined."
)
_INTERPRETATIONS: Mapping[tuple[SupportState, SupportState], str] = {
    ("recovered", "recovered"): "Detail in the whole brain",
    ("recovered", "not supported"): "Detail in active voxels, not elsewhere",
    ("recovered", "not testable"): "Detail in active voxels; elsewhere not testable",
    ("not supported", "recovered"): "Nothing finer than {}: not supported in active voxels",
    ("not supported", "not supported"): "Nothing finer than {}: not supported",
    ("not supported", "not testable"): "Nothing finer than {}: not supported in active voxels",
    ("not testable", "recovered"): "Nothing finer than {}: not testable in active voxels",
    ("not testable", "not supported"): "Nothing finer than {}: not testable in active voxels",
    ("not testable", "not testable"): "Nothing finer than {}: not testable",
}
"""Permitted interpretation by the results in active voxels and in the brain."""
_MAX_NAMED_CONTRASTS = 6  # contrasts that are named in a line of the verdict


@frozen
class SupportLine:
    """One line of the verdict on the detail of contrasts, and the result that it states."""

    text: str
    state: SupportState


def describe_interpretation(active: SupportState, brain: SupportState, acquired_text: str) -> str:
    """Return in at most twelve words what may be interpreted in a contrast.

    Parameters
    ----------
    active, brain : SupportState
        Results in active voxels and in the whole brain.
    acquired_text : str
        Acquired voxel size, such as ``6 mm``.
    """
    return _INTERPRETATIONS[active, brain].format(acquired_text)


def write_support_lines(
    method: str, results: Mapping[str, ContrastResult], self_test: SelfTestResults
) -> list[SupportLine]:
    """Return the lines of a verdict on the detail of one method.

    The first line names the contrasts whose detail is recovered. Further lines are on contrasts
    whose detail is not supported or not testable.

    Parameters
    ----------
    method : str
        Series whose detail was measured or tested.
    results : Mapping[str, ContrastResult]
        Results by contrast; not empty.
    self_test : SelfTestResults
        Voxel sizes of the test.
    """
    by_state = {
        state: [result for result in results.values() if result.state == state]
        for state in ("recovered", "not supported", "not testable")
    }
    lines = []
    if recovered := by_state["recovered"]:
        text = _describe_recovered(method, recovered, len(results))
        lines.append(SupportLine(text=text, state="recovered"))
    states: tuple[SupportState, ...] = ("not supported", "not testable")
    lines += [
        SupportLine(
            text=_describe_unrecovered(method, by_state[state], state, len(results)), state=state
        )
        for state in states
        if by_state[state]
    ]
    if not recovered and len(lines) > 1:
        text = f"{method} recovers detail of none of {len(results)} contrasts. {lines[0].text}"
        lines[0] = replace(lines[0], text=text)
    n_unrecovered = len(results) - len(recovered)
    if n_unrecovered:
        contrasts = f"these {n_unrecovered} contrasts" if n_unrecovered > 1 else "this contrast"
        place = f" in {contrasts}" if recovered else ""
        advice = f"Interpret nothing finer than {self_test.acquired_text}{place}."
        lines[-1] = replace(lines[-1], text=f"{lines[-1].text} {advice}")
    return lines


def _describe_recovered(method: str, results: Sequence[ContrastResult], n_contrasts: int) -> str:
    """Return a sentence on contrasts whose detail is recovered in active voxels."""
    names = [quote_contrast(result.contrast) for result in results]
    n_in_brain = sum(result.brain.state == "recovered" for result in results)
    if n_contrasts == 1:
        brain_text = " and in the whole brain" if n_in_brain else ""
        return f"{method} recovers detail of {names[0]} in active voxels{brain_text}."
    n_hidden = len(names) - _MAX_NAMED_CONTRASTS
    if n_hidden > 1:
        names = [*names[:_MAX_NAMED_CONTRASTS], f"{n_hidden} other contrasts"]
    text = (
        f"{method} recovers detail of {len(results)} of {n_contrasts} contrasts in active voxels"
    )
    names_text = enumerate_unique(names)
    if n_in_brain == len(results):
        return f"{text} and in the whole brain ({names_text})."
    if not n_in_brain:
        return f"{text}, not in the whole brain ({names_text})."
    return f"{text} ({names_text}), and of {n_in_brain} of these in the whole brain."


def _describe_unrecovered(
    method: str, results: Sequence[ContrastResult], state: SupportState, n_contrasts: int
) -> str:
    """Return a sentence on contrasts whose detail is not recovered.

    If these are all contrasts of the run, the sentence contains their common reason.
    """
    names = enumerate_unique([quote_contrast(result.contrast) for result in results])
    if len(results) < n_contrasts:
        noun = "contrasts" if len(results) > 1 else "contrast"
        names_text = f" ({names})" if len(results) < _MAX_NAMED_CONTRASTS else ""
        return f"{state[:1].upper()}{state[1:]}: {len(results)} {noun}{names_text}."
    contrasts = f"all {n_contrasts} contrasts" if n_contrasts > 2 else names
    reasons = {result.active.reason for result in results}
    reason = f", because {reasons.pop()}" if len(reasons) == 1 and reasons != {""} else ""
    return f"The detail of {contrasts} in the {method} maps is {state}{reason}."


def support_text(state: SupportState, row: MetricRow | None) -> str:
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
        f"{state[:1].upper()}{state[1:]}: {_list_places(by_contrast)}, because {reason}."
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


def _convert_region(region: RegionResult) -> dict[str, object]:
    """Return the result in one region as plain values for JSON.

    If the detail was measured, the result of the test is included as well.
    """
    facts = _convert_values(region.state, region.row, region.reason)
    if region.measured is not None:
        facts["test"] = _convert_support(region.tested)
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
