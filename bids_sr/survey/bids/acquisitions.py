"""Properties that must be equal in runs whose maps are averaged.

Maps of runs are averaged voxel by voxel, so that their grids must be equal. Opposite phase
encoding displaces the same tissue in opposite directions, and effects depend on echo time and
field strength. Values are compared among the runs that have them, so a missing field of a sidecar
counts as equal.
"""

import re
from collections.abc import Callable, Mapping
from itertools import compress
from operator import eq
from statistics import fmean
from typing import TypeVar

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.orientation import axes_text
from bids_sr.survey.bids.acquired_matrix import read_number
from bids_sr.survey.bids.entities import lack_run_number
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.timing import parse_echo_time

_T = TypeVar("_T", str, float)
# largest ratio of values that count as equal; one scanner may be described as 3 T and as 2.89 T
_MAX_ECHO_TIME_RATIO, _MAX_FIELD_RATIO = 1.05, 1.1
_FIELD_MAPS = (
    " (distortion displaces effects; fMRIPrep with field maps, -d fmriprep=DIR, corrects it)"
)
_MAX_FIELD_T = 30.0  # T; larger numbers have another unit
WITHOUT_RUN = (
    "the name has no run- entity, but other runs of this task have one, so it is not combined with"
    " them. Add run- to its name to combine it"
)
"""Why a run is not combined with runs that have a number."""
_OPPOSITE_LETTERS = dict(zip("RLAPSI", "LRPAIS", strict=True))


def list_acquisition_fields(run: BoldRun) -> dict[str, object]:
    """Return the fields of a run's sidecar that `read_acquisition` reads.

    Axes are named as in the run. The echo time of combined echoes is their mean. The
    phase-encoding direction is omitted if distortion is corrected.
    """
    is_corrected = run.precomputed is not None and run.precomputed.field is not None
    keys = {"PhaseEncodingDirection", "EchoTime", "MagneticFieldStrength"}
    if is_corrected:
        keys.remove("PhaseEncodingDirection")
    fields = {key: value for key, value in run.sidecar.items() if key in keys}
    if run.echoes:
        fields["EchoTime"] = round(fmean(te_ms for _, te_ms in run.echoes) / 1000, 6)
    return fields


@frozen
class Acquisition:
    """Acquisition of a run; None if a value is unknown.

    `phase_encoding` is the anatomical direction, such as ``A to P``; None if distortion is
    corrected.
    """

    phase_encoding: str | None
    echo_time_ms: float | None
    field_t: float | None


def read_acquisition(fields: Mapping[str, object], affine: Array) -> Acquisition:
    """Return the acquisition of a run; invalid values count as unknown.

    `fields` are metadata, and `affine` is the voxel-to-world matrix of the axes that they name (4
    x 4, RAS+ mm).
    """
    field_t = read_number(fields, "MagneticFieldStrength")
    return Acquisition(
        phase_encoding=_read_phase_encoding(fields, affine),
        echo_time_ms=parse_echo_time(fields),
        field_t=field_t if 0 < field_t < _MAX_FIELD_T else None,
    )


def _read_phase_encoding(fields: Mapping[str, object], affine: Array) -> str | None:
    """Return the anatomical phase-encoding direction, or None if it is unknown."""
    direction = str(fields.get("PhaseEncodingDirection", ""))
    if not re.fullmatch("[ijk]-?", direction):
        return None
    end = axes_text(affine)["ijk".index(direction[0])]
    start = _OPPOSITE_LETTERS[end]
    return f"{end} to {start}" if direction.endswith("-") else f"{start} to {end}"


def find_unlike_runs(
    entities: Mapping[str, Mapping[str, str]], *grids: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the reason for each run that is not combined because of its name or a grid.

    `entities` of the file name, and grids in words (None if unknown), are by name of the run. A
    run with a reason does not count in the comparisons that follow.
    """
    reasons = dict.fromkeys(
        compress(entities, lack_run_number(list(entities.values()))), WITHOUT_RUN
    )
    for grid in grids:
        reasons |= find_unusual(
            {name: words for name, words in grid.items() if name not in reasons}, eq, str
        )
    return reasons


def find_unusual_acquisitions(acquisitions: Mapping[str, Acquisition]) -> dict[str, str]:
    """Return reasons by name of runs that were acquired otherwise than most runs.

    Echo times may differ by 5 %, and field strengths by 10 %.
    """
    directions = {name: run.phase_encoding for name, run in acquisitions.items()}
    echo_times = {name: run.echo_time_ms for name, run in acquisitions.items()}
    fields = {name: run.field_t for name, run in acquisitions.items()}
    unusual = {
        "PhaseEncodingDirection": find_unusual(directions, eq, str),
        "EchoTime": find_unusual(
            echo_times,
            lambda first, second: _ratio(first, second) <= _MAX_ECHO_TIME_RATIO,
            lambda te_ms: f"{te_ms:.4g} ms",
        ),
        "MagneticFieldStrength": find_unusual(
            fields,
            lambda first, second: _ratio(first, second) <= _MAX_FIELD_RATIO,
            lambda field_t: f"{field_t:.4g} T",
        ),
    }
    reasons: dict[str, list[str]] = {}
    for key, unusual_runs in unusual.items():
        for name, reason in unusual_runs.items():
            remedy = _FIELD_MAPS if key == "PhaseEncodingDirection" else ""
            reasons.setdefault(name, []).append(f"{key} {reason}{remedy}")
    return {name: "; ".join(run_reasons) for name, run_reasons in reasons.items()}


def find_unusual(
    values: Mapping[str, _T | None],
    are_equal: Callable[[_T, _T], bool],
    describe: Callable[[_T], str],
) -> dict[str, str]:
    """Return reasons by name of runs whose value differs from the most frequent value.

    Among equally frequent values, the first is expected. Runs without a value (None) do not
    differ.
    """
    known_values = {name: value for name, value in values.items() if value is not None}
    if not known_values:
        return {}
    counts = {
        name: sum(are_equal(value, other_value) for other_value in known_values.values())
        for name, value in known_values.items()
    }
    usual_name = max(counts, key=counts.__getitem__)
    usual_value = known_values[usual_name]
    source = "most runs" if counts[usual_name] > 1 else usual_name
    return {
        name: f"{describe(value)}; expected {describe(usual_value)}, as in {source}"
        for name, value in known_values.items()
        if not are_equal(value, usual_value)
    }


def _ratio(first: float, second: float) -> float:
    """Return the ratio of two positive numbers, 1 or more, without rounding errors."""
    return round(max(first, second) / min(first, second), 6)
