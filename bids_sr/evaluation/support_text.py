"""Sentences on the tested detail of a run without a reference."""

import math
from collections.abc import Iterable, Mapping, Sequence

from bids_sr.evaluation.detail_support import ContrastSupport, DetailSupport, SupportState
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.frozen import frozen
from bids_sr.metrics.contrast_names import rank_contrast
from bids_sr.metrics.number_text import interval_ends, number
from bids_sr.metrics.word_lists import enumerate_unique

LARGEST_DIFFERENCE = "12 percentage points"
"""Largest difference between the tested and the measured explained variance in active voxels."""
_MEASURED_RUNS = "4 earlier runs of 3 other participants with known accuracy"
"""Runs of `LARGEST_DIFFERENCE` (``benchmarks/results/tested_detail.md``)."""
BLIND_SPOT = (
    "The test sees only the next lower resolution. It cannot judge activity that is smoother than"
    " the signal fluctuations of the run."
)
_MAX_LISTED_CONTRASTS = 4  # contrasts in a line of the verdict


@frozen
class SupportLine:
    """One line of the verdict on tested detail, and the result that it states."""

    text: str
    state: SupportState


def main_contrast(supports: Mapping[str, ContrastSupport]) -> str:
    """Return the contrast of all events if it exists, else the first contrast; "" if empty."""
    return min(supports, key=rank_contrast, default="")


def write_support_lines(
    method: str, supports: Mapping[str, ContrastSupport], self_test: SelfTestResults
) -> list[SupportLine]:
    """Return the lines of a verdict on the tested detail of one method.

    The first line is about the main contrast. Further lines name the other contrasts whose detail
    is not supported or was not tested.

    Parameters
    ----------
    method : str
        Series whose detail was tested.
    supports : Mapping[str, ContrastSupport]
        Results by contrast; not empty.
    self_test : SelfTestResults
        Voxel sizes of the test.
    """
    main_support = supports[main_contrast(supports)]
    lines = [
        SupportLine(
            text=_describe_main_contrast(method, main_support, self_test), state=main_support.state
        )
    ]
    other_supports = [
        support for name, support in supports.items() if name != main_support.contrast
    ]
    unsupported = [support for support in other_supports if support.state == "not supported"]
    smooth_contrasts = [support.contrast for support in unsupported if support.active.is_smooth]
    unrecovered_contrasts = [
        support.contrast for support in unsupported if not support.active.is_smooth
    ]
    untested = [support for support in other_supports if support.state == "not testable"]
    if smooth_contrasts:
        text = (
            f"The effects of {_list_contrasts(smooth_contrasts)} are smooth at the acquired"
            f" resolution, so the detail that {method} adds is not supported."
            f" {_advise(smooth_contrasts, self_test)}"
        )
        lines.append(SupportLine(text=text, state="not supported"))
    if unrecovered_contrasts:
        text = (
            f"At half the resolution, {method} did not recover the detail of"
            f" {_list_contrasts(unrecovered_contrasts)} in active voxels."
            f" {_advise(unrecovered_contrasts, self_test)}"
        )
        lines.append(SupportLine(text=text, state="not supported"))
    if untested:
        untested_contrasts = [support.contrast for support in untested]
        reasons = {support.active.reason for support in untested}
        reason = f" because {next(iter(reasons))}" if len(reasons) == 1 else ""
        text = (
            f"The detail of {_list_contrasts(untested_contrasts)} could not be tested{reason}."
            f" {_advise(untested_contrasts, self_test)}"
        )
        lines.append(SupportLine(text=text, state="not testable"))
    return lines


def _advise(contrasts: Sequence[str], self_test: SelfTestResults) -> str:
    """Return the advice not to interpret the detail of some contrasts."""
    contrast_words = "these contrasts" if len(contrasts) > 1 else "this contrast"
    return (
        f"Do not interpret detail of {contrast_words} that is finer than"
        f" {self_test.acquired_text}."
    )


def _describe_main_contrast(
    method: str, support: ContrastSupport, self_test: SelfTestResults
) -> str:
    """Return the sentences on the main contrast."""
    contrast = f"contrast “{support.contrast}”"
    limit = f"finer than {self_test.acquired_text}"
    if support.state == "not testable":
        return (
            f"The detail of {contrast} could not be tested, because {support.active.reason}. Treat"
            f" the {method} map of this contrast as an interpolated map, and do not interpret"
            f" detail {limit}."
        )
    if support.active.is_smooth:
        return (
            f"The effect of {contrast} is smooth at the acquired resolution, so the detail that"
            f" {method} adds to it is not supported. Do not interpret detail of this contrast that"
            f" is {limit}."
        )
    if support.state == "not supported":
        return (
            f"At half the resolution{self_test.levels_text}, {method} did not recover the detail"
            f" of {contrast} in active voxels ({support_value(support.active)}). Do not interpret"
            f" detail of this contrast that is {limit}."
        )
    return (
        f"Tested on this run at half its resolution{self_test.levels_text}, {method} recovered"
        f" {support_value(support.active)} of the detail of {contrast} in active"
        f" voxels.{_describe_brain(support.brain)} In {_MEASURED_RUNS}, the test differed from the"
        f" accuracy at the final resolution by at most {LARGEST_DIFFERENCE}."
    )


def support_value(support: DetailSupport) -> str:
    """Return the tested explained variance with its interval: ``53 % (40 to 66)``."""
    if (row := support.row) is None:
        return "n/a"
    ends = " to ".join(interval_ends(row.lower, row.upper, ".0%"))
    return f"{number(row.value, '.0%')}{f' ({ends})' if ends else ''}"


def _describe_brain(support: DetailSupport) -> str:
    """Return a sentence on the whole brain if its result differs from active voxels, else ""."""
    if support.state == "recovered" or support.row is None:
        return ""
    if support.is_smooth:
        return (
            " Over the whole brain, the effect is smooth, so interpret detail in active voxels"
            " only."
        )
    if support.state == "not supported":
        return (
            f" Over the whole brain, the detail was not recovered ({support_value(support)}), so"
            " interpret detail in active voxels only."
        )
    return f" The whole brain could not be tested, because {support.reason}."


def _list_contrasts(contrasts: Sequence[str]) -> str:
    """Join contrasts to an enumeration, with the number of contrasts that are not named."""
    hidden = len(contrasts) - _MAX_LISTED_CONTRASTS
    if hidden <= 1:
        return enumerate_unique(contrasts)
    return enumerate_unique([*contrasts[:_MAX_LISTED_CONTRASTS], f"{hidden} other contrasts"])


def plain_supports(supports: Iterable[ContrastSupport]) -> list[dict[str, object]]:
    """Return results as plain values for JSON, one mapping per contrast; None if undefined."""
    return [
        {
            "contrast": support.contrast,
            "active": _convert_support(support.active),
            "brain": _convert_support(support.brain),
        }
        for support in supports
    ]


def _convert_support(support: DetailSupport) -> dict[str, object]:
    """Return the result in one region as plain values for JSON."""
    facts: dict[str, object] = {"state": support.state}
    if (row := support.row) is not None:
        values = {"explained_variance": row.value, "lower": row.lower, "upper": row.upper}
        facts |= {
            name: None if math.isnan(value) else round(value, 4) for name, value in values.items()
        }
    if support.reason:
        facts["reason"] = support.reason
    return facts
