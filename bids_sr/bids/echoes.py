"""Echoes of a run: echo times, and comparison of headers and sidecars with the first echo."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bids_sr.bids import headers, slice_axis, timing
from bids_sr.bids.entities import stem_of_echoes
from bids_sr.bids.findings import Findings
from bids_sr.bids.layout import Index
from bids_sr.io.fields_of_view import turned_corner_distance
from bids_sr.io.image_header import Header
from bids_sr.io.orientation import axes_text, storage_order

_MAX_SHIFT_MM = 0.1  # largest shift between echoes, whose headers differ only by rounding


def read_echoes(
    index: Index, paths: Sequence[Path], findings: Findings
) -> tuple[tuple[Path, float], ...]:
    """Return the echoes of a run with their echo times (ms), and report problems.

    The result is empty if an echo cannot be read. Echoes without a valid echo time are not
    included.
    """
    echoes: list[tuple[Path, float]] = []
    first: _Echo | None = None
    for path in paths:
        header = headers.read_header(path, findings)
        sidecar = index.read_metadata(path, findings)
        if header is None or sidecar is None:
            return ()
        echo = _Echo(header, sidecar)
        if first is None:
            first = echo
        else:
            _refuse_differences(path, _list_differences(echo, first), findings)
            _note_other_order(header, first.header, findings)
        te_ms = _read_echo_time(path, sidecar, findings)
        if te_ms is not None:
            echoes.append((path, te_ms))
    if len(echoes) == len(paths):
        _report_echo_times(paths, [te_ms for _, te_ms in echoes], findings)
    return tuple(echoes)


class _Echo(NamedTuple):
    """Header and metadata of an echo."""

    header: Header
    sidecar: Mapping[str, object]


def _refuse_differences(path: Path, differences: Iterable[str], findings: Findings) -> None:
    """Report each difference between an echo and the first echo."""
    for difference in differences:
        findings.add_problem(
            path,
            f"the echoes cannot be combined because {difference}",
            "Convert the DICOM images again, or select a single echo with --echo-idx N.",
        )


def _list_differences(echo: _Echo, first: _Echo) -> Iterator[str]:
    """Yield each difference of an echo from the first echo.

    Another storage order of voxels is not a difference, because echoes are turned before they are
    combined.
    """
    (header, sidecar), (first_header, first_sidecar) = echo, first
    name = first_header.path.name
    order = storage_order(header.affine, first_header.affine)
    if order.turn_shape(header.shape) != first_header.shape:
        yield f"the image shape is {header.shape}, but {name} has the shape {first_header.shape}"
    else:
        shift_mm = turned_corner_distance(
            header.shape[:3], header.affine, first_header.shape[:3], first_header.affine
        )
        if shift_mm > _MAX_SHIFT_MM:
            yield f"the field of view is shifted by up to {shift_mm:.3g} mm relative to {name}"
    values = slice_axis.turn_sidecar(header, sidecar, order)
    first_values = slice_axis.turn_sidecar(
        first_header, first_sidecar, storage_order(first_header.affine, first_header.affine)
    )
    for key in ("RepetitionTime", "SliceTiming", "SliceEncodingDirection"):
        value, first_value = values.get(key), first_values.get(key)
        if value is not None and first_value is not None and value != first_value:
            is_reversed = key == "SliceTiming" and sidecar.get(key) == first_sidecar.get(key)
            yield (
                f"the slices are stored in the reverse order of {name}, but SliceTiming is equal"
                if is_reversed
                else f"{key} differs from {name}"
            )
    tr, first_tr = timing.guess_tr(header.tr), timing.guess_tr(first_header.tr)
    if tr and first_tr and not math.isclose(tr, first_tr, rel_tol=0.01):
        yield (
            f"the repetition time in the image header is {tr:g} s, but {name} has a repetition"
            f" time of {first_tr:g} s"
        )


def _note_other_order(header: Header, first_header: Header, findings: Findings) -> None:
    """Report an echo whose voxels are stored in another order than in the first echo."""
    if not storage_order(header.affine, first_header.affine).is_equal:
        findings.note(
            header.path,
            f"the voxels are stored in the order {axes_text(header.affine)}, but the voxels of"
            f" {first_header.path.name} in the order {axes_text(first_header.affine)}. They are"
            " reordered before the echoes are combined.",
        )


def _read_echo_time(path: Path, sidecar: Mapping[str, object], findings: Findings) -> float | None:
    """Return the echo time (ms) of an echo, or None with a problem."""
    te = sidecar.get("EchoTime")
    if isinstance(te, int | float) and not isinstance(te, bool) and 0 < te < 1:
        return 1000.0 * te
    reason = (
        "EchoTime must be a time in seconds to combine the echoes, but the sidecar contains"
        f" {te!r}"
    )
    fix = "Specify EchoTime in the sidecar, or select a single echo with --echo-idx N."
    findings.add_problem(path, reason, fix)
    return None


def _report_echo_times(
    paths: Sequence[Path], times_ms: Sequence[float], findings: Findings
) -> None:
    """Report that echoes are combined, or reject echo times (ms) that do not increase."""
    times_text = ", ".join(f"{te_ms:g}" for te_ms in times_ms)
    if list(times_ms) != sorted(set(times_ms)):
        reason = f"the echo times must increase with the echo number, but are {times_text} ms"
        findings.add_problem(paths[0], reason, "Correct EchoTime in the sidecars.")
    else:
        text = (
            f"the {len(paths)} echoes (TE {times_text} ms) are combined. To select a single echo,"
            " use --echo-idx N."
        )
        findings.note(stem_of_echoes(paths[0]), text)
