"""Task numbers of SLURM arrays, such as ``--array 1-10`` or ``1-20:2%4``."""

import re
from collections.abc import Sequence

from bids_sr.config import UsageError

_RANGE_PATTERN = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def parse_tasks(spec: str, tasks: int) -> tuple[tuple[int, ...], int]:
    """Return the tasks that ``--array`` selects, and the limit of simultaneous tasks.

    Parameters
    ----------
    spec : str
        Tasks and ranges, such as ``1-20:2%4``; empty for all tasks.
    tasks : int
        Number of tasks in the array.

    Returns
    -------
    tuple[tuple[int, ...], int]
        Selected tasks in ascending order, and the limit (0 for no limit).

    Raises
    ------
    UsageError
        The specification is not valid or contains tasks that do not exist.
    """
    ranges, percent, limit = spec.replace(" ", "").partition("%")
    if percent and not (limit.isascii() and limit.isdigit() and int(limit)):
        raise _make_array_error(spec, f"{limit!r} is not a valid number of simultaneous tasks")
    indices: set[int] = set()
    for part in ranges.split(",") if ranges else ():
        match = _RANGE_PATTERN.fullmatch(part) if part.isascii() else None
        if match is None:
            raise _make_array_error(
                spec, f"{part!r} is neither a task number nor a range of task numbers"
            )
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if first < 1 or last > tasks or first > last or step < 1:
            raise _make_array_error(
                spec, f"{part!r} is outside the range of task numbers, 1 to {tasks}"
            )
        indices.update(range(first, last + 1, step))
    return tuple(sorted(indices or range(1, tasks + 1))), int(limit or 0)


def _make_array_error(spec: str, reason: str) -> UsageError:
    """Return the error for an invalid ``--array``."""
    return UsageError(
        f"--array {spec}",
        reason,
        (
            "write 1-10, or 3,5, or 1-20:2. To limit the number of simultaneous tasks to 4,"
            " append %4"
        ),
    )


def format_tasks(indices: Sequence[int], at_once: int = 0) -> str:
    """Return ascending task numbers as a SLURM specification with ranges.

    `at_once` is the limit of simultaneous tasks; 0 for no limit.
    """
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
    return f"{text}%{at_once}" if at_once else text


def divide_into_tasks(labels: Sequence[str], batch: int) -> tuple[tuple[str, ...], ...]:
    """Divide participants into tasks of `batch` participants each, in their order."""
    return tuple(tuple(labels[start : start + batch]) for start in range(0, len(labels), batch))
