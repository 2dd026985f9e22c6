"""Crash files: what failed, where, on which inputs, the remedy and a command to rerun the step.

The command runs the step alone.
"""

import contextlib
import logging
import re
import shlex
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.execution.usage import kind_of
from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.pipeline.graph import run_of
from bids_sr.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
_LONGEST = 300  # characters of an input that are shown

_FULL = re.compile(
    r"No space left on device|no space left on|Disk quota exceeded|Errno (28|122)\b"
)
_MEMORY = re.compile(
    r"WorkerDied|was killed|MemoryError|bad_alloc|[Cc]annot allocate memory|can't allocate"
    r" memory|out of memory"
    r"|OUT_OF_ME|Unable to allocate"
)
_FORBIDDEN = re.compile(r"Permission denied|Read-only file system|Errno (1|13|30)\b")


@frozen
class Crash:
    """A failed step: the path of its crash file and what the user is told of it at the end."""

    file: Path
    node: str  # full name of the step
    happened: str  # last line of the error
    advice: str
    rerun: str  # command that runs the step alone
    disk_full: bool

    @property
    def facts(self) -> dict[str, str]:
        """What is told, by its heads."""
        heads = ("Node", "What happened", "What to do", "To run this step alone")
        return dict(zip(heads, (self.node, self.happened, self.advice, self.rerun), strict=True))


def write_crash(
    node: "Node",
    traceback: Sequence[str],
    *,
    crash_dir: Path,
    host: str = "",
    peak_gb: float | None = None,
    remedy: str = "",
) -> Crash:
    """Write the crash file of a step, beside the logs or, if that fails, in another directory.

    Parameters
    ----------
    traceback : lines of text, as `traceback.format_exception` gives them
    host : where it ran; this machine by default
    peak_gb : most memory that its process held, where known
    remedy : what the user can do, where the caller knows better than the text of the error tells
    """
    _keep_node(node)
    folder, why = Path(node.output_dir()), "".join(traceback).rstrip()
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{node.name}-{uuid.uuid4().hex[:12]}.txt"
    crash = Crash(
        file=crash_dir / name,
        node=node.fullname,
        happened=next(
            (line.strip() for line in reversed(why.splitlines()) if line.strip()),
            "nothing was said",
        ),
        advice=remedy or advice(why, folder, getattr(node.inputs, "base_directory", None)),
        rerun=shlex.join([sys.executable, "-m", "bids_sr.cli.rerun", str(folder)]),
        disk_full=disk_is_full(traceback),
    )
    text = _crash_text(node, crash, why, host=host, peak_gb=peak_gb)
    for place in (crash_dir, Path(node.base_dir or "."), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            return replace(crash, file=atomic_files.write_whole(place / name, text))
    _LOGGER.error("no crash file can be written anywhere; it would say:\n%s", text)
    return crash


def disk_is_full(traceback: Sequence[str]) -> bool:
    """Return whether a step failed because a disk is full.

    No other step could write its results either.
    """
    return bool(_FULL.search("".join(traceback)))


def report_crash(
    node: "Node",
    traceback: Sequence[str],
    written: list[Crash],
    *,
    host: str = "",
    peak_gb: float | None = None,
    remedy: str = "",
) -> str:
    """Write the crash file, add it to `written`, and return its path.

    Its directory is that of nipype's settings of the step.
    """
    crash = write_crash(
        node,
        traceback,
        crash_dir=Path(node.config["execution"]["crashdump_dir"]),
        host=host,
        peak_gb=peak_gb,
        remedy=remedy,
    )
    _LOGGER.error("%s failed: see %s", node.fullname, crash.file)
    written.append(crash)
    return str(crash.file)


def _crash_text(node: "Node", crash: Crash, why: str, *, host: str, peak_gb: float | None) -> str:
    """The text of a crash file; the traceback comes last."""
    told = crash.facts
    facts = {
        "Node": told.pop("Node"),
        "Participant": participant_of(node.fullname),
        "Interface": kind_of(node),
        "Host": host or socket.gethostname(),
        "Time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "Version": f"bids-sr {__version__}, Python {sys.version.split()[0]}",
        "Memory": _memory(node, peak_gb),
        "Directory": node.output_dir(),
        **told,
    }
    lines = [
        *(f"{name}: {value}" for name, value in facts.items()),
        "",
        "Inputs:",
        *_inputs(node),
        "",
    ]
    return "\n".join([*lines, why if "Traceback" in why else f"Traceback:\n{why}", ""])


def participant_of(fullname: str) -> str:
    """Label of the participant that a step belongs to."""
    name = run_of(fullname).partition("_")[0]
    return name if name.startswith("sub-") else "none in particular"


def advice(why: str, folder: Path, stored: object = None) -> str:
    """Return advice to the user for an error.

    `stored` is the directory to which a step that stores derivatives writes.
    """
    again = "then rerun the same command to resume"
    if _FULL.search(why):
        places = dict.fromkeys([folder, *([Path(stored)] if isinstance(stored, str) else [])])
        told = "; ".join(atomic_files.free_text(place) for place in places)
        return f"the disk is full ({told}). Free some room, or choose other directories, {again}."
    if _MEMORY.search(why):
        return f"memory ran out. Use fewer --nprocs, a larger --mem, or a bigger machine, {again}."
    if _FORBIDDEN.search(why):
        place = atomic_files.file_system_of(folder)
        return (
            f"something cannot be read or written; check the permissions, and whether {place} is"
            f" read-only, {again}."
        )
    return (
        "rerun the same command: it retries this step and repeats nothing that was finished. If it"
        " fails again, run the step alone, and report the bug with this file."
    )


def _memory(node: "Node", peak_gb: float | None) -> str:
    told = f"the step declares {node.mem_gb:.2f} GB"
    if peak_gb is not None:
        told += f", its process held up to {peak_gb:.2f} GB"
    with contextlib.suppress(OSError, StopIteration, ValueError):
        rows = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(row.split()[1]) for row in rows if row.startswith("MemAvailable:"))
        told += f"; {free * 1024e-9:.2f} GB are available on the machine of the scheduler now"
    return told


def _inputs(node: "Node") -> list[str]:
    """Inputs by name, with what other steps gave where these have ended."""
    # a result that cannot be read may be the very reason of the crash
    with contextlib.suppress(Exception):
        node._get_inputs()
    shown = {name: repr(value) for name, value in sorted(node.inputs.get_traitsfree().items())}
    return [
        (
            f"  {name} = {text}"
            if len(text) <= _LONGEST
            else f"  {name} = {text[:_LONGEST]}… ({len(text)} characters)"
        )
        for name, text in shown.items()
    ] or ["  none"]


def _keep_node(node: "Node") -> None:
    """Leave the step in its directory, if nipype has not done so, so that it can be run alone."""
    from nipype.utils.filemanip import savepkl

    target = Path(node.output_dir(), "_node.pklz")
    with contextlib.suppress(Exception):  # the crash file is worth more than this
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            node._get_inputs()
            savepkl(str(target), node)
