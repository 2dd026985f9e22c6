"""Runs that were acquired otherwise than most runs of their task.

Maps of runs are averaged voxel by voxel. Opposite phase encoding displaces the same tissue in
opposite directions, and effects depend on echo time and field strength. Values are compared among
the runs that have them, so a missing field of a sidecar counts as equal.
"""

import re
from collections.abc import Callable, Mapping
from operator import eq
from statistics import fmean
from typing import TypeVar

from bids_sr.bids import BoldRun
from bids_sr.bids.echoes import parse_echo_time
from bids_sr.io.grids import size_text
from bids_sr.io.orientation import axes_text

COMBINE_ALL_OPTION = "--set activation.combine_all_runs=true"
"""Option that combines runs although they differ."""
_T = TypeVar("_T", str, float)
# largest ratio of values that count as equal; one scanner may be described as 3 T and as 2.89 T
_MAX_ECHO_TIME_RATIO, _MAX_FIELD_RATIO = 1.05, 1.1
_MAX_FIELD_T = 30.0  # T; larger numbers have another unit
_OPPOSITE_LETTERS = dict(zip("RLAPSI", "LRPAIS", strict=True))


def find_unusual_sizes(runs: Mapping[str, BoldRun]) -> dict[str, str]:
    """Return reasons by name of runs with another factor or voxel size than most runs."""
    sizes = {
        name: f"factor {size_text(run.factor, ' x ', '')}, voxels of {size_text(run.zooms, ' x ')}"
        for name, run in runs.items()
    }
    return _find_unusual(sizes, eq, str)


def find_unusual_acquisitions(runs: Mapping[str, BoldRun]) -> dict[str, str]:
    """Return reasons by name of runs that were acquired otherwise than most runs.

    Phase-encoding directions are compared between runs whose distortion is not corrected. Echo
    times may differ by 5 %, and field strengths by 10 %. The echo time of combined echoes is their
    mean.
    """
    unusual = {
        "PhaseEncodingDirection": _find_unusual(_list_values(runs, _find_phase_encoding), eq, str),
        "EchoTime": _find_unusual(
            _list_values(runs, _find_echo_time),
            lambda first, second: _ratio(first, second) <= _MAX_ECHO_TIME_RATIO,
            lambda te_ms: f"{te_ms:.4g} ms",
        ),
        "MagneticFieldStrength": _find_unusual(
            _list_values(runs, _find_field_strength),
            lambda first, second: _ratio(first, second) <= _MAX_FIELD_RATIO,
            lambda field_t: f"{field_t:.4g} T",
        ),
    }
    reasons: dict[str, list[str]] = {}
    for key, unusual_runs in unusual.items():
        for name, reason in unusual_runs.items():
            reasons.setdefault(name, []).append(f"{key} {reason}")
    return {name: "; ".join(run_reasons) for name, run_reasons in reasons.items()}


def _list_values(
    runs: Mapping[str, BoldRun], find_value: Callable[[BoldRun], _T | None]
) -> dict[str, _T]:
    """Return the values of the runs that have one, by name."""
    return {name: value for name, run in runs.items() if (value := find_value(run)) is not None}


def _find_unusual(
    values: Mapping[str, _T], are_equal: Callable[[_T, _T], bool], describe: Callable[[_T], str]
) -> dict[str, str]:
    """Return reasons by name of runs whose value differs from the most frequent value.

    Among equally frequent values, the first is expected.
    """
    if not values:
        return {}
    counts = {
        name: sum(are_equal(value, other_value) for other_value in values.values())
        for name, value in values.items()
    }
    usual_name = max(counts, key=counts.__getitem__)
    usual_value = values[usual_name]
    source = "most runs" if counts[usual_name] > 1 else usual_name
    return {
        name: f"{describe(value)}; expected {describe(usual_value)}, as in {source}"
        for name, value in values.items()
        if not are_equal(value, usual_value)
    }


def _ratio(first: float, second: float) -> float:
    """Return the ratio of two positive numbers, 1 or more, without rounding errors."""
    return round(max(first, second) / min(first, second), 6)


def _find_phase_encoding(run: BoldRun) -> str | None:
    """Return the anatomical phase-encoding direction, such as ``A to P``, of a distorted run.

    Returns None if the direction is not known, or if distortion is corrected.
    """
    direction = str(run.sidecar.get("PhaseEncodingDirection", ""))
    is_corrected = run.precomputed is not None and run.precomputed.field is not None
    if is_corrected or not re.fullmatch("[ijk]-?", direction):
        return None
    end = axes_text(run.affine)["ijk".index(direction[0])]
    start = _OPPOSITE_LETTERS[end]
    return f"{end} to {start}" if direction.endswith("-") else f"{start} to {end}"


def _find_echo_time(run: BoldRun) -> float | None:
    """Return the echo time (ms) of a run, or the mean of its combined echoes; None if unknown."""
    if run.echoes:
        return fmean(te_ms for _, te_ms in run.echoes)
    return parse_echo_time(run.sidecar)


def _find_field_strength(run: BoldRun) -> float | None:
    """Return the field strength (T) of a run, or None if it is unknown."""
    field_t = run.sidecar.get("MagneticFieldStrength")
    if isinstance(field_t, int | float) and not isinstance(field_t, bool):
        return float(field_t) if 0 < field_t < _MAX_FIELD_T else None
    return None
