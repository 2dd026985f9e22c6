"""Sentences on the tested detail of a run without a reference."""

from collections.abc import Iterable, Mapping, Sequence

from bids_sr.evaluation.detail_support import ContrastSupport, DetailSupport, SupportState
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.frozen import frozen
from bids_sr.metrics.number_text import interval_ends, number
from bids_sr.metrics.word_lists import enumerate_unique

LARGEST_DIFFERENCE = "12 percentage points"
"""Largest difference between the tested and the measured explained variance in active voxels."""
COMPARED_WHERE = "4 earlier runs of 3 other participants with known accuracy"
"""Runs of `LARGEST_DIFFERENCE` (``benchmarks/results/tested_detail.md``)."""
BLIND_SPOT = (
    "The test sees only the next lower resolution. It cannot judge activity that is smoother than"
    " the signal fluctuations of the run."
)
_MOST_NAMED = 4  # contrasts in a line of the verdict


@frozen
class SupportLine:
    """One line of the verdict on tested detail, and the result that it states."""

    text: str
    state: SupportState


def main_contrast(supports: Mapping[str, ContrastSupport]) -> str:
    """Return the contrast of all events if it exists, else the first contrast; "" if empty."""
    return "all" if "all" in supports else next(iter(supports), "")


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
    main = supports[main_contrast(supports)]
    lines = [SupportLine(text=_main_text(method, main, self_test), state=main.state)]
    by_state: dict[SupportState, list[str]] = {}
    for name, support in supports.items():
        if name != main.contrast:
            by_state.setdefault(support.state, []).append(name)
    limit = f"finer than {self_test.acquired_text}"
    smooth = [
        name for name in by_state.get("not supported", []) if supports[name].active.is_smooth
    ]
    if smooth:
        text = (
            f"The effects of {_list(smooth)} are smooth at the acquired resolution, so the detail"
            f" that {method} adds is not supported. Do not interpret detail of {_these(smooth)}"
            f" that is {limit}."
        )
        lines.append(SupportLine(text=text, state="not supported"))
    if unsupported := [name for name in by_state.get("not supported", []) if name not in smooth]:
        text = (
            f"At half the resolution, {method} did not recover the detail of {_list(unsupported)}"
            f" in active voxels. Do not interpret detail of {_these(unsupported)} that is {limit}."
        )
        lines.append(SupportLine(text=text, state="not supported"))
    if untested := by_state.get("not tested"):
        reasons = {supports[name].active.reason for name in untested}
        reason = f" because {next(iter(reasons))}" if len(reasons) == 1 else ""
        text = (
            f"The detail of {_list(untested)} could not be tested{reason}. Do not interpret detail"
            f" of {_these(untested)} that is {limit}."
        )
        lines.append(SupportLine(text=text, state="not tested"))
    return lines


def _main_text(method: str, support: ContrastSupport, self_test: SelfTestResults) -> str:
    """Return the sentences on the main contrast."""
    contrast = f"contrast “{support.contrast}”"
    limit = f"finer than {self_test.acquired_text}"
    if support.state == "not tested":
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
        f" voxels.{_brain_text(support.brain)} In {COMPARED_WHERE}, the test differed from the"
        f" accuracy at the final resolution by at most {LARGEST_DIFFERENCE}."
    )


def support_value(support: DetailSupport) -> str:
    """Return the tested explained variance with its interval: ``53 % (40 to 66)``."""
    if (row := support.row) is None:
        return "n/a"
    ends = " to ".join(interval_ends(row.lower, row.upper, ".0%"))
    return f"{number(row.value, '.0%')}{f' ({ends})' if ends else ''}"


def _brain_text(support: DetailSupport) -> str:
    """Return a sentence on the whole brain if its result differs from active voxels, else ""."""
    if support.state == "tested" or support.row is None:
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


def _list(contrasts: Sequence[str]) -> str:
    """Join contrasts to an enumeration, with the number of contrasts that are not named."""
    hidden = len(contrasts) - _MOST_NAMED
    if hidden <= 1:
        return enumerate_unique(contrasts)
    return enumerate_unique([*contrasts[:_MOST_NAMED], f"{hidden} other contrasts"])


def _these(contrasts: Sequence[str]) -> str:
    return "these contrasts" if len(contrasts) > 1 else "this contrast"


def plain_supports(supports: Iterable[ContrastSupport]) -> list[dict[str, object]]:
    """Return results as plain values for JSON, one mapping per contrast; None if undefined."""

    def cells(support: DetailSupport) -> dict[str, object]:
        values = (
            {}
            if (row := support.row) is None
            else {
                name: None if value != value else round(value, 4)
                for name, value in (
                    ("explained_variance", row.value),
                    ("lower", row.lower),
                    ("upper", row.upper),
                )
            }
        )
        reason = {"reason": support.reason} if support.reason else {}
        return {"state": support.state, **values, **reason}

    return [
        {
            "contrast": support.contrast,
            "active": cells(support.active),
            "brain": cells(support.brain),
        }
        for support in supports
    ]
