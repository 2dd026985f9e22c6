"""Words for the result of a run: one sentence, answers per contrast and region, and reasons.

Page, console, JSON, index and methods text use these words and no others.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from bids_sr.engine.metric_rows import MetricRow, VerdictFacts
from bids_sr.engine.number_text import interval, number
from bids_sr.evaluation.changes import write_change
from bids_sr.evaluation.detail_support import ContrastResult, RegionResult, SupportState
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.io.json_records import record_to_json
from bids_sr.io.word_lists import enumerate_unique

ANSWERS: Mapping[SupportState, str] = {
    "recovered": "yes",
    "not supported": "no",
    "not testable": "not testable",
}
"""Whether the detail of a contrast may be interpreted in one region."""
REGIONS: Mapping[str, str] = {"active": "active voxels", "brain": "whole brain"}
"""Words for the regions of a result."""
_PLACES: Mapping[str, str] = {"active": "in active voxels", "brain": "in the whole brain"}
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
        contrasts = result.contrasts
        return Statement.NONE_INTERPRETABLE.format(
            series=result.method,
            contrast=f" for {name_contrast(contrasts[0])}" if len(contrasts) == 1 else "",
            reason=reason,
            maps=(
                "safe (smoothed)"
                if any(item.active.opens_safe_map for item in contrasts)
                else "B-spline"
            ),
        )
    row = shown.active.row
    if row is None:
        raise ValueError(f"the detail of {shown.contrast} has no value")
    statement = Statement.EXPLAINED_IN_TEST if is_tested(row) else Statement.EXPLAINS
    decided = f" ({Statement.BY_TEST})" if is_decided_by_test(shown.active) else ""
    return statement.format(
        series=result.method,
        value=explained_text(row.value, row.lower, row.upper),
        contrast=name_contrast(shown),
        place=_PLACES["brain" if row.region == "brain" else "active"],
        size=result.final,
        decided=decided,
    )


def is_decided_by_test(region: RegionResult) -> bool:
    """Return whether detail was measured, but the test at half the resolution decided."""
    rows = region.row, region.deciding_row
    return [row is not None and is_tested(row) for row in rows] == [False, True]


def write_headline(result: RunResult) -> str:
    """Return what changed, how much detail is explained, and whose detail may be interpreted."""
    return " ".join(
        filter(
            None,
            [
                *map(write_change, result.changes),
                write_result(result),
                _list_contrasts(result, "recovered", Statement.INTERPRETABLE),
                list_contradicted(result),
            ],
        )
    )


def list_contradicted(result: RunResult) -> str:
    """Return a sentence on where detail was contradicted; "" if it was not."""
    return _list_contrasts(result, "not supported", Statement.CONTRADICTED)


def _list_contrasts(result: RunResult, state: SupportState, statement: Statement) -> str:
    """Return a sentence on the contrasts with a state, by region; "" if there are none."""
    names = {
        region: _limit_names(
            [
                name_contrast(contrast)
                for contrast in result.contrasts
                if contrast.regions[region].state == state
            ]
        )
        for region in _PLACES
    }
    places = list_places(names)
    return statement.format(contrasts=places) if places else ""


def list_places(names: Mapping[str, Sequence[str]]) -> str:
    """Return names of contrasts by region (``active``, ``brain``) in words; "" if there are none.

    >>> list_places({"active": ["A", "B"], "brain": ["A"]})
    'in active voxels for A and B, and in the whole brain for A'
    >>> list_places({"active": ["A"], "brain": ["A"]})
    'in active voxels and in the whole brain for A'
    """
    places_by_names: dict[str, list[str]] = {}
    for region, region_names in names.items():
        if region_names:
            text = enumerate_unique(region_names)
            places_by_names.setdefault(text, []).append(_PLACES[region])
    return ", and ".join(
        f"{' and '.join(places)} for {text}" for text, places in places_by_names.items()
    )


def _limit_names(names: Sequence[str]) -> Sequence[str]:
    """Return names; if there are many, the number of the last ones."""
    n_hidden = len(names) - _MAX_NAMED
    return names if n_hidden <= 1 else [*names[:_MAX_NAMED], f"{n_hidden} others"]


def explain_results(results: Iterable[ContrastResult]) -> list[str]:
    """Return a sentence per reason, with the contrasts and regions that it applies to.

    For example, ``Not testable: face (active voxels and whole brain), because ...``.
    """
    regions_by_reason: dict[tuple[SupportState, str], dict[str, list[str]]] = {}
    for result in results:
        for name, region in result.regions.items():
            if region.reason:
                by_contrast = regions_by_reason.setdefault((region.state, region.reason), {})
                by_contrast.setdefault(_get_name(result), []).append(name)
    return [
        Statement.REASON.format(
            answer=ANSWERS[state].capitalize(),
            contrasts=_list_regions(by_contrast),
            reason=reason,
        )
        for (state, reason), by_contrast in regions_by_reason.items()
    ]


def _list_regions(by_contrast: Mapping[str, Sequence[str]]) -> str:
    """Return contrasts with their regions; contrasts with the same regions are joined."""
    contrasts_by_region: dict[str, list[str]] = {}
    for contrast, regions in by_contrast.items():
        words = " and ".join(REGIONS[region] for region in regions)
        contrasts_by_region.setdefault(words, []).append(contrast)
    return "; ".join(
        f"{enumerate_unique(contrasts)} ({regions})"
        for regions, contrasts in contrasts_by_region.items()
    )


def is_tested(row: MetricRow) -> bool:
    """Return whether a value is from the test at half the resolution, not from a reference."""
    return row.reference == HALF_RESOLUTION


def explained_text(value: float, lower: float, upper: float, *, in_table: bool = False) -> str:
    """Return an explained variance with its interval, such as ``54 % [52, 56]``.

    In a table, the percent sign, the remark on a missing interval, and intervals of values below
    the scale are omitted. Spaces do not break across lines.
    """
    share, ends = number(value, ".0%"), interval(lower, upper, ".0%", unit=False)
    if in_table:
        text = f"{share.removesuffix(' %')} {ends if value >= -1 else ''}".strip()
    else:
        text = f"{share} {ends or '(no interval)'}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def name_contrast(result: ContrastResult) -> str:
    """Return the name of a contrast, with the conditions that are not part of its result.

    For example, ``all without face``, if *face* has too few blocks to be tested, and the detail of
    *all* may be interpreted.
    """
    name = _get_name(result)
    has_result = result.state == "recovered" and result.untested
    return f"{name} without {enumerate_unique(result.untested)}" if has_result else name


def _get_name(result: ContrastResult) -> str:
    """Return the name of the contrast of the maps."""
    return result.name or quote_contrast(result.map_contrast)


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


def plain_result(result: RunResult) -> VerdictFacts:
    """Return a result as plain values for JSON; None if undefined."""
    facts = VerdictFacts(
        headline=write_headline(result),
        best=result.method,
        not_applied=list(result.not_applied),
        acquired=result.acquired,
        final=result.final,
    )
    if result.contrasts:
        facts["shown"] = "" if result.shown is None else result.shown.contrast
        facts["contrasts"] = _convert_contrasts(result.contrasts)
    if result.changes:
        facts["changes"] = [
            {**record_to_json(change), "text": write_change(change)} for change in result.changes
        ]
    return facts


def _convert_contrasts(results: Iterable[ContrastResult]) -> list[dict[str, object]]:
    """Return results as plain values, one mapping per contrast."""
    return [
        {
            "contrast": result.contrast,
            "map": result.map_contrast,
            "name": name_contrast(result),
            **{name: _convert_region(region) for name, region in result.regions.items()},
        }
        for result in results
    ]


def _convert_region(region: RegionResult) -> dict[str, object]:
    """Return the result in one region as plain values for JSON.

    ``decided`` is the value that decided; None if there is none. If the detail was measured, the
    result of the test is included as well.
    """
    facts = _convert_values(region.state, region.row, region.reason)
    facts["decided"] = plain_row(region.deciding_row)
    if region.tested is not None:
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
        key: None if math.isnan(value) else round(value, 6) for key, value in values.items()
    }
    return {**plain, "reference": row.reference}
