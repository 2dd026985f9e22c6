"""Checks that need the voxels: one forward pass through each image, a volume in memory at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bids_sr.bids import Problem
from bids_sr.bids.headers import READ_ERRORS
from bids_sr.preflight.plan import Plan
from bids_sr.preflight.reference_checks import check_truth

Progress = Callable[[Path, int, int], None]
_CHUNK = 1 << 20


@dataclass(slots=True)
class _Seen:
    """What one pass has found."""

    not_finite: list[int] = field(default_factory=list)
    flat: list[int] = field(default_factory=list)
    sums: set[int] = field(default_factory=set)
    count: int = 0


def files_of(plan: Plan) -> tuple[Path, ...]:
    """Images that the plan reads, each once."""
    found: dict[Path, None] = {}
    for subject in plan.subjects:
        found.update(dict.fromkeys(subject.t1w[:1]))
        found.update(dict.fromkeys(path for pair in subject.structural for path in (pair.highres, pair.lowres)))
        for pair in subject.pairs:
            found.update(dict.fromkeys(p for p in (pair.highres, pair.lowres) if p is not None))
        found.update(dict.fromkeys(run.bold for run in subject.runs))
        found.update(dict.fromkeys(run.calibration.bold for run in subject.runs if run.calibration))
        for pair in subject.holdouts.values():
            found.update(dict.fromkeys(p for p in (pair.highres, pair.lowres) if p is not None))
        found.update(dict.fromkeys(run.truth.bold for run in subject.runs if run.truth and run.truth.bold))
    return tuple(found)


def check_data(plan: Plan, progress: Progress | None = None) -> tuple[Problem, ...]:
    """Read every image of the plan once; return those that are damaged, constant or not finite. Nothing is written.

    Parameters
    ----------
    progress : called before each file with its path, its number from 0, and the number of files
    """
    files = files_of(plan)
    calibrations = {run.calibration.bold for one in plan.subjects for run in one.runs if run.calibration}
    problems: list[Problem] = []
    for number, path in enumerate(files):
        if progress is not None:
            progress(path, number, len(files))
        found = check_image(path)
        if path in calibrations:
            found = [replace(problem, fix=f"{problem.fix} Or add --calibration none.") for problem in found]
        problems += found
    if not problems:
        for subject in plan.subjects:
            problems += [problem for run in subject.runs for problem in check_truth(run)]
    return tuple(problems)


def check_image(path: Path) -> list[Problem]:
    """Problems of the voxels of one image; memory is that of a volume."""
    seen = _Seen()
    try:
        for volume in _volumes(path):
            _look(volume, seen)
    except READ_ERRORS as error:
        return [
            Problem(
                file=str(path),
                reason=f"it is truncated or corrupt: it ends or breaks in volume {seen.count + 1} ({error})",
                fix="Copy the file again from where it came (compare its size and checksum there).",
            )
        ]
    return _verdict(path, seen)


def _look(volume: np.ndarray, seen: _Seen) -> None:
    low, high = volume.min(), volume.max()  # both carry a NaN along
    if not (np.isfinite(low) and np.isfinite(high)):
        seen.not_finite.append(seen.count)
    elif low == high:
        seen.flat.append(seen.count)
    seen.sums.add(zlib.crc32(volume.data))
    seen.count += 1


def _verdict(path: Path, seen: _Seen) -> list[Problem]:
    if seen.not_finite:
        bad = f" in {len(seen.not_finite)} of {seen.count} volumes, {_numbers(seen.not_finite)}"
        where = "" if seen.count == 1 else bad
        return [
            Problem(
                file=str(path),
                reason=f"it holds voxels that are NaN or infinite{where}",
                fix="Convert it again without masking by NaN, or replace these voxels by 0.",
            )
        ]
    if len(seen.flat) == seen.count:
        reason = "it is constant: all voxels have one value"
    elif seen.flat:
        reason = f"{len(seen.flat)} of {seen.count} volumes are constant, {_numbers(seen.flat)}"
    elif seen.count > 1 and len(seen.sums) == 1:
        reason = f"its {seen.count} volumes are identical: it does not change over time"
    else:
        return []
    return [Problem(file=str(path), reason=reason, fix="Convert the DICOM images again, or leave this image out.")]


def _numbers(indices: list[int]) -> str:
    shown = ", ".join(str(index) for index in indices[:5])
    return f"counted from 0: {shown}" + (" …" if len(indices) > 5 else "")


def _volumes(path: Path) -> Iterator[np.ndarray]:
    """Raw voxels of each volume, to the end of the file so that the checksum of gzip is compared."""
    import nibabel as nb

    image: Any = nb.load(path)
    header = image.header
    dtype, shape = header.get_data_dtype(), image.shape
    slope, intercept = header.get_slope_inter()
    if not all(np.isfinite(v) for v in (slope, intercept) if v is not None):
        raise ValueError("the scaling in its header is not finite")
    size = int(np.prod(shape[:3])) * dtype.itemsize
    with _open(path) as stream:
        _exactly(stream, int(image.dataobj.offset))
        for _ in range(int(np.prod(shape[3:]))):
            yield np.frombuffer(_exactly(stream, size), dtype=dtype)
        while stream.read(_CHUNK):
            pass


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    buffer = bytearray(size)
    view, filled = memoryview(buffer), 0
    while filled < size:
        got = stream.readinto(view[filled : filled + _CHUNK])  # type: ignore[attr-defined]
        if not got:
            raise EOFError(f"{size - filled} bytes are missing")
        filled += got
    return buffer
