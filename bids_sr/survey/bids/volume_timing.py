"""VolumeTiming, which lists the times of volumes instead of RepetitionTime."""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.io.volume_times import TIME_DIGITS, acquisition_time_tolerance
from bids_sr.survey.bids.findings import Findings

_TR_TOLERANCE_S = 2e-3  # s, between RepetitionTime and the mean interval


def read_spacing(
    path: Path, timing: object, n_volumes: int, tr: object, findings: Findings
) -> float | None:
    """Return the interval between volumes (s) from VolumeTiming, or None with a problem.

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
    findings.add_problem(path, reason, fix)
    return None


def _find_first_gap(times: Sequence[float]) -> int | None:
    """Return the first volume followed by an interval that differs from the first one, or None."""
    if len(times) < 2:
        return None
    if times[1] <= times[0]:
        return 0
    usual_interval = times[1] - times[0]
    tolerance_s = acquisition_time_tolerance(times[:2])
    for index in range(1, len(times) - 1):
        difference = times[index + 1] - times[index] - usual_interval
        if round(abs(difference), TIME_DIGITS) > tolerance_s:
            return index
    return None
