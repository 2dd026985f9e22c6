"""Which tasks of an array run, and how many at once: ``--array 1-10``, ``3,5``, ``1-20:2%4``, ``%4``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bids_sr.config import UsageError

_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Tasks from 1, ascending, and how many may run at once (0: no limit)."""

    indices: tuple[int, ...]
    at_once: int = 0


def choose(spec: str, tasks: int) -> Chosen:
    """Read ``--array`` for an array of so many tasks; an empty one chooses all.

    Raises
    ------
    UsageError
        it cannot be read, or names tasks that there are not
    """
    ranges, percent, limit = spec.replace(" ", "").partition("%")
    if percent and not (limit.isascii() and limit.isdigit() and int(limit)):
        raise _unreadable(spec, f"{limit!r} is no number of tasks that run at once")
    indices: set[int] = set()
    for part in ranges.split(",") if ranges else ():
        match = _PART.fullmatch(part) if part.isascii() else None
        if match is None:
            raise _unreadable(spec, f"{part!r} is no task and no range of tasks")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if first < 1 or last > tasks or first > last or step < 1:
            raise _unreadable(spec, f"{part!r} is no part of the tasks 1 to {tasks}")
        indices.update(range(first, last + 1, step))
    return Chosen(indices=tuple(sorted(indices or range(1, tasks + 1))), at_once=int(limit or 0))


def _unreadable(spec: str, why: str) -> UsageError:
    return UsageError(f"--array {spec}", why, "write it as 1-10, 3,5 or 1-20:2, with %4 behind it for 4 at once")


def as_spec(indices: Sequence[int], at_once: int = 0) -> str:
    """Ascending tasks as SLURM takes them, runs of neighbors joined."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"{text}%{at_once}" if at_once else text


def in_tasks(labels: Sequence[str], batch: int) -> tuple[tuple[str, ...], ...]:
    """Participants in tasks of `batch` each, in their order."""
    if batch < 1:
        raise UsageError(f"--batch {batch}", "a task has at least one participant", "give 1 or more")
    return tuple(tuple(labels[at : at + batch]) for at in range(0, len(labels), batch))
