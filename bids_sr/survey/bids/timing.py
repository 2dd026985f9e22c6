"""Repetition time, echo time, slice times and volume times of a run, from sidecar and header."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from bids_sr.io.image_header import Header
from bids_sr.io.volume_times import TIME_DIGITS, acquisition_time_tolerance, is_same_tr
from bids_sr.survey.bids.acquired_matrix import read_number
from bids_sr.survey.notices import Choice, input_error, note

_SHORTEST_TR = 0.02  # s; shorter than any acquisition
_TR_TOLERANCE_S = 2e-3  # s, between RepetitionTime and the mean interval of VolumeTiming
_LONGEST_TR = 100.0  # s; larger values are probably in milliseconds


def require_repetition_time(header: Header, value: object) -> float:
    """Return the repetition time (s) from the sidecar, or raise `InputError`.

    The value is compared with the header. The axes of the header may have any order. `value` is
    ``RepetitionTime`` after inheritance, or None.
    """
    likely_tr_s = guess_tr(header.tr)
    if value is None:
        example = f"{likely_tr_s:g}" if likely_tr_s else "the time in seconds"
        raise input_error(
            header.path,
            f"RepetitionTime is missing in the JSON sidecar{_describe_header_tr(header.tr)}",
            f'Add "RepetitionTime": {example} to the JSON sidecar if the run was acquired with'
            " this repetition time.",
        )
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not _SHORTEST_TR <= value < _LONGEST_TR
    ):
        fix = "Specify RepetitionTime in seconds in the sidecar."
        if isinstance(value, int | float) and _LONGEST_TR <= value < 1000 * _LONGEST_TR:
            fix = (
                f'If {value:g} is in milliseconds, replace it with "RepetitionTime":'
                f" {value / 1000:g}."
            )
        raise input_error(
            header.path,
            "RepetitionTime must be a time in seconds, but the sidecar contains"
            f" {value!r}{_describe_header_tr(header.tr)}",
            fix,
        )
    if header.tr is not None and not any(
        is_same_tr(tr, value) for tr in (header.tr, likely_tr_s or header.tr)
    ):
        raise input_error(
            header.path,
            f"RepetitionTime is {value:g} s in the sidecar, but {header.tr:g} s in the image"
            " header",
            "Correct the wrong value; in the header, check pixdim[4] and the time unit.",
        )
    return float(value)


def _describe_header_tr(tr: float | None) -> str:
    """Return the repetition time (s) of a header for a message, "" if it has none."""
    likely_tr_s = guess_tr(tr)
    if not tr:
        return ""
    if likely_tr_s is None or likely_tr_s == tr:
        return f" (header: {tr:g} s)"
    guess = f"{tr:g} ms" if tr > likely_tr_s else f"{likely_tr_s:g} s"
    return f" (header: {tr:g} s, probably {guess})"


def guess_tr(tr: float | None) -> float | None:
    """Return the most likely repetition time (s) for a number whose unit may be wrong, or None.

    The number may be off by a factor of 1000 if the time unit of a header is wrong.
    """
    guesses = (tr, tr / 1000, 1000 * tr) if tr else ()
    return next(
        (guess for guess in guesses if guess is not None and _SHORTEST_TR <= guess < _LONGEST_TR),
        None,
    )


def parse_echo_time(sidecar: Mapping[str, object]) -> float | None:
    """Return the echo time (ms) in a sidecar, or None if it is not a time in seconds below 1 s."""
    te = read_number(sidecar, "EchoTime")
    return 1000.0 * te if 0 < te < 1 else None


def is_slice_timing(value: object, n_slices: int, tr: float) -> TypeGuard[list[float]]:
    """Return whether a SliceTiming value has one time (s) within the TR per slice."""
    return (
        isinstance(value, list)
        and len(value) == n_slices
        and all(isinstance(time, int | float) and 0 <= time < tr for time in value)
    )


def choose_slice_times(
    header: Header, sidecar: Mapping[str, object], tr: float
) -> Choice[tuple[float, ...] | None]:
    """Choose the slice times along axis 2 (s from the start of a volume).

    The value is None if slice timing is not to be corrected; a note says why, unless the sidecar
    has no slice times or equal ones.

    `sidecar` names axes as in the header, whose slices are along the third axis.
    """
    value = sidecar.get("SliceTiming")
    if value is None:
        return Choice(value=None)
    direction = str(sidecar.get("SliceEncodingDirection", "k"))
    if sidecar.get("SliceTimingCorrected"):
        reason = (
            "slice timing is not corrected because SliceTimingCorrected is true in the sidecar."
        )
        return Choice(value=None, notices=(note(header.path, reason),))
    if not isinstance(value, list) or not all(
        isinstance(time, int | float) and abs(time) < 1e6 for time in value
    ):
        reason = "SliceTiming is not a list of times in seconds"
    elif len(value) != header.shape[2]:
        reason = (
            f"SliceTiming has {len(value)} entries, but the image has {header.shape[2]} slices"
        )
    elif min(value) < 0 or max(value) >= tr:
        reason = (
            f"SliceTiming ranges from {min(value):g} to {max(value):g} s, which is outside the TR"
            f" of {tr:g} s"
        )
    elif direction not in ("k", "k-"):
        reason = f"the slices were acquired along axis {direction}"
    else:
        times = tuple(float(time) for time in (reversed(value) if direction == "k-" else value))
        return Choice(value=times if len(set(times)) > 1 else None)
    text = f"{reason}. Slice timing is not corrected."
    return Choice(value=None, notices=(note(header.path, text),))


def require_spacing(path: Path, timing: object, n_volumes: int, tr: object) -> float:
    """Return the interval between volumes (s) from VolumeTiming, or raise `InputError`.

    Filters and noise model require equal intervals, so series with pauses or a variable repetition
    time are rejected. `path` is for messages. `timing` is VolumeTiming of the sidecar (s),
    `n_volumes` the number of volumes in the file, and `tr` RepetitionTime of the sidecar (s), None
    if missing.
    """
    if not isinstance(timing, list) or not all(isinstance(time, int | float) for time in timing):
        reason, fix = "VolumeTiming is not a list of times in seconds", "Correct the sidecar."
    elif len(timing) != n_volumes:
        reason = f"VolumeTiming has {len(timing)} entries, but the series has {n_volumes} volumes"
        fix = "Correct the sidecar so that VolumeTiming has one entry per volume."
    elif (gap := _find_first_gap(timing)) is not None:
        reason = (
            f"the volume intervals in VolumeTiming are not constant ({timing[1] - timing[0]:g} s"
            f" at the start, {timing[gap + 1] - timing[gap]:g} s after volume {gap})"
        )
        fix = (
            "Series with pauses or a variable repetition time are not supported. Split the run"
            " at the pauses into separate files, each with its own sidecar and events table, or"
            " exclude the run."
        )
    else:
        spacing = (timing[-1] - timing[0]) / (n_volumes - 1)
        if not isinstance(tr, int | float) or abs(spacing - tr) <= _TR_TOLERANCE_S:
            return float(spacing)
        reason = (
            f"the interval between volumes is {spacing:g} s according to VolumeTiming, but"
            f" RepetitionTime is {tr:g} s"
        )
        fix = "Remove the wrong field; BIDS allows only one of VolumeTiming and RepetitionTime."
    raise input_error(path, reason, fix)


def _find_first_gap(times: Sequence[float]) -> int | None:
    """Return the first volume followed by an interval that differs from the first one, or None."""
    if len(times) < 2:
        return None
    if times[1] <= times[0]:
        return 0
    usual_interval = times[1] - times[0]
    tolerance_s = acquisition_time_tolerance(times[:2])
    for index in range(1, len(times) - 1):
        if round(abs(times[index + 1] - times[index] - usual_interval), TIME_DIGITS) > tolerance_s:
            return index
    return None
