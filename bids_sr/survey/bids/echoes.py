"""Echoes of a run: echo times, and comparison of headers and sidecars with the shortest echo."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard

from bids_sr.io.fields_of_view import turned_corner_distance
from bids_sr.io.frozen import frozen
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.io.orientation import axes_text, storage_order
from bids_sr.io.volume_times import TIME_DIGITS, acquisition_time_tolerance, is_same_tr
from bids_sr.survey.bids import headers, slice_axis, timing
from bids_sr.survey.bids.entities import parse_entities, stem_of_echoes
from bids_sr.survey.bids.layout import Index
from bids_sr.survey.notices import InputError, note, problem

_MAX_SHIFT_MM = 0.1  # largest shift between echoes, whose headers differ only by rounding
_MIN_INTERVAL_MS = 1.0  # ms; the readout of an echo takes longer
SINGLE_ECHO = "select a single echo with --echo-idx N"
"""Remedy for echoes that cannot be combined."""


@frozen
class Echo:
    """Header, metadata and echo time (ms) of an echo."""

    header: Header
    sidecar: Mapping[str, object]
    te_ms: float

    @property
    def path(self) -> Path:
        """Series of the echo."""
        return self.header.path


def sort_by_echo_time(index: Index, paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the echoes of a run in ascending order of EchoTime, whatever their numbers.

    If an echo has no valid EchoTime, which is reported with its run, the order is kept.
    """
    times: dict[Path, float] = {}
    for path in paths:
        with suppress(InputError):
            te_ms = timing.parse_echo_time(index.read_metadata(path))
            if te_ms is not None:
                times[path] = te_ms
    return tuple(sorted(paths, key=times.__getitem__) if len(times) == len(paths) else paths)


def read_echoes(index: Index, paths: Sequence[Path]) -> tuple[Echo, ...]:
    """Read the echoes of a run.

    Raises `InputError` if an echo cannot be read, or if echoes have no valid echo time.
    """
    echoes, problems = [], []
    for path in paths:
        header = headers.read_header(path)
        headers.require_series(header)
        sidecar = index.read_metadata(path)
        te_ms = timing.parse_echo_time(sidecar)
        if te_ms is None:
            problems.append(_describe_invalid_time(path, sidecar.get("EchoTime")))
        else:
            echoes.append(Echo(header=header, sidecar=sidecar, te_ms=te_ms))
    if problems:
        raise InputError(problems)
    return tuple(echoes)


def judge_echoes(echoes: Sequence[Echo]) -> Iterator[Notice]:
    """Yield why echoes cannot be combined, and notes on how they are combined.

    `echoes` are in ascending order of echo time; empty for a run with a single echo.
    """
    if not echoes:
        return
    first = echoes[0]
    for echo in echoes[1:]:
        yield from headers.note_header(echo.header)
        for reason, fix in _list_differences(echo, first):
            yield problem(
                echo.path,
                f"the echoes cannot be combined because {reason}",
                f"{fix}, or {SINGLE_ECHO}.",
            )
        if not storage_order(echo.header.affine, first.header.affine).is_equal:
            yield note(
                echo.path,
                f"the voxels are stored in the order {axes_text(echo.header.affine)}, but the"
                f" voxels of {first.path.name} in the order {axes_text(first.header.affine)}."
                " They are reordered before the echoes are combined.",
            )
    yield from _judge_echo_times(echoes)


def _list_differences(echo: Echo, first: Echo) -> Iterator[tuple[str, str]]:
    """Yield each difference of an echo from the first echo, beyond rounding, and its remedy.

    Another storage order of voxels is not a difference, because echoes are turned before they are
    combined.
    """
    header, sidecar = echo.header, echo.sidecar
    first_header, first_sidecar = first.header, first.sidecar
    name = first.path.name
    order = storage_order(header.affine, first_header.affine)
    if order.turn_shape(header.shape) != first_header.shape:
        yield (
            f"the image shape is {header.shape}, but {name} has the shape {first_header.shape}",
            "Provide all echoes of one acquisition, with the same volumes",
        )
    else:
        shift_mm = turned_corner_distance(
            header.shape[:3], header.affine, first_header.shape[:3], first_header.affine
        )
        if shift_mm > _MAX_SHIFT_MM:
            yield (
                f"the field of view is shifted by up to {shift_mm:.3g} mm relative to {name}",
                "Provide all echoes of one acquisition",
            )
    values = slice_axis.turn_sidecar(header, sidecar, order)
    first_values = slice_axis.turn_sidecar(
        first_header, first_sidecar, storage_order(first_header.affine, first_header.affine)
    )
    for key, compare in _COMPARISONS.items():
        value, first_value = values.get(key), first_values.get(key)
        if value is None or first_value is None:
            continue
        difference = compare(value, first_value)
        if not difference:
            continue
        is_reversed = key == "SliceTiming" and not compare(
            sidecar.get(key), first_sidecar.get(key)
        )
        reason = (
            f"the slices are stored in the reverse order of {name}, but SliceTiming is equal"
            if is_reversed
            else f"{key} differs from {name} ({difference})"
        )
        yield reason, f"Correct {key} in the sidecar that is wrong"
    tr, first_tr = timing.guess_tr(header.tr), timing.guess_tr(first_header.tr)
    if tr and first_tr and not is_same_tr(tr, first_tr):
        yield (
            f"the repetition time in the image header is {tr:g} s, but {name} has a repetition"
            f" time of {first_tr:g} s",
            "Correct the wrong header (pixdim[4] and the time unit)",
        )


def _compare_repetition_times(tr: object, first_tr: object) -> str:
    """Return the repetition times of two sidecars as text, "" if they are equal."""
    if isinstance(tr, int | float) and isinstance(first_tr, int | float):
        return "" if is_same_tr(tr, first_tr) else f"{tr:g} s instead of {first_tr:g} s"
    return _compare_values(tr, first_tr)


def _compare_values(value: object, first_value: object) -> str:
    """Return the values of a field as text, "" if they are equal."""
    return "" if value == first_value else f"{value!r} instead of {first_value!r}"


def _compare_slice_times(times: object, first_times: object) -> str:
    """Return the largest difference between the slice times of two sidecars, "" if equal."""
    if not (_is_list_of_times(times) and _is_list_of_times(first_times)):
        return "" if times == first_times else "one of the two is not a list of times in seconds"
    if len(times) != len(first_times):
        return f"{len(times)} instead of {len(first_times)} entries"
    differences = (abs(time - first) for time, first in zip(times, first_times, strict=True))
    largest_s = max(differences, default=0.0)
    if round(largest_s, TIME_DIGITS) <= acquisition_time_tolerance(first_times):
        return ""
    return f"by up to {1000 * largest_s:.3g} ms"


def _is_list_of_times(value: object) -> TypeGuard[list[float]]:
    """Return whether a value of a sidecar is a list of numbers."""
    return isinstance(value, list) and all(isinstance(time, int | float) for time in value)


_COMPARISONS: Mapping[str, Callable[[object, object], str]] = {
    "RepetitionTime": _compare_repetition_times,
    "SliceTiming": _compare_slice_times,
    "SliceEncodingDirection": _compare_values,
}
"""Function by field that returns the difference of an echo from the first echo as text."""


def _describe_invalid_time(path: Path, te: object) -> Notice:
    """Return the problem of an echo whose sidecar has no valid echo time."""
    fix = "Specify EchoTime in the sidecar"
    if isinstance(te, int | float) and timing.parse_echo_time({"EchoTime": te / 1000}) is not None:
        fix = f'If {te:g} is in milliseconds, replace it with "EchoTime": {te / 1000:g}'
    return problem(
        path,
        "EchoTime must be a time in seconds to combine the echoes, but the sidecar contains"
        f" {te!r}",
        f"{fix}, or {SINGLE_ECHO}.",
    )


def _judge_echo_times(echoes: Sequence[Echo]) -> Iterator[Notice]:
    """Note that echoes are combined, or yield a problem of echoes with the same echo time."""
    for echo, next_echo in pairwise(echoes):
        if next_echo.te_ms - echo.te_ms < _MIN_INTERVAL_MS:
            yield problem(
                next_echo.path,
                f"the echoes cannot be combined because EchoTime is {next_echo.te_ms:g} ms, but"
                f" also {echo.te_ms:g} ms in {echo.path.name}",
                f"Correct EchoTime in the sidecar that is wrong, or {SINGLE_ECHO}.",
            )
            return
    numbers = [int(parse_entities(echo.path)["echo"]) for echo in echoes]
    times_text = ", ".join(f"{echo.te_ms:g}" for echo in echoes)
    order_text = ""
    if numbers != sorted(numbers):
        order_text = f"; in this order: {', '.join(f'echo-{number}' for number in numbers)}"
    yield note(
        stem_of_echoes(echoes[0].path),
        f"the {len(echoes)} echoes (TE {times_text} ms{order_text}) are combined. To select a"
        " single echo, use --echo-idx N.",
    )
