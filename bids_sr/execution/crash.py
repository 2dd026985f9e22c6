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
import traceback
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.execution.answers import Answer, kind_of
from bids_sr.io import atomic_files
from bids_sr.notices import Notice, record
from bids_sr.pipeline.nodes import owner_of
from bids_sr.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
_LONGEST = 300  # characters of an input that are shown

_FULL = re.compile(
    r"No space left on device|no space left on|Disk quota exceeded|Errno (28|122)\b"
)
_MEMORY = re.compile(
    r"MemoryError|bad_alloc|[Cc]annot allocate memory|can't allocate"
    r" memory|out of memory"
    r"|OUT_OF_ME|Unable to allocate"
)
_FORBIDDEN = re.compile(r"Permission denied|Read-only file system|Errno (1|13|30)\b")


def report_crash(node: "Node", answer: Answer | None, crashes: list[Notice]) -> Notice:
    """Write the crash file of a step, and add the failure to the record of the run.

    The crash file lies beside the record or, if that fails, in another directory.

    `answer`: of its process; without one, what is just handled failed in this process.
    """
    known = answer or {}
    told = known.get("traceback") or traceback.format_exception(*sys.exc_info())
    _keep_node(node)
    here = None if answer else getattr(sys.exc_info()[1], "notice", None)
    why = "".join(told).rstrip()
    notice = known.get("notice") or here
    logs, (subject, run) = Path(node.config["execution"]["crashdump_dir"]), owner_of(node)
    last = next((line.strip() for line in reversed(why.splitlines()) if line.strip()), "")
    said = notice or Notice(what="", why=last or "no message", code=_cause_of(why))
    crash = replace(
        said,
        what=node.fullname,
        why=": ".join(filter(None, (said.what, said.why)))
        + ("" if notice else _room(said.code, node)),
        subject=subject,
        run=run,
        code="crashed" if said.code == "input" else said.code,
    )
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{node.name}-{uuid.uuid4().hex[:12]}.txt"
    host, peak_gb = known.get("host", ""), known.get("peak_gb")
    text = _crash_text(node, crash, why, host=host, peak_gb=peak_gb)
    for place in (logs, Path(node.base_dir or "."), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            crash = replace(crash, file=str(atomic_files.write_whole(place / name, text)))
            break
    else:
        _LOGGER.error("the crash file could not be written. Its contents are:\n%s", text)
    with contextlib.suppress(OSError):
        record(logs, [crash])
    _LOGGER.error("%s failed: see %s", node.fullname, crash.file)
    crashes.append(crash)
    return crash


def _cause_of(why: str) -> str:
    """Return the code of an error, from its text.

    ``full``, ``memory``, ``forbidden``, or ``crashed`` for anything else.
    """
    causes = {"full": _FULL, "memory": _MEMORY, "forbidden": _FORBIDDEN}
    return next((code for code, text in causes.items() if text.search(why)), "crashed")


def _room(code: str, node: "Node") -> str:
    """What a file system has, where that is the cause.

    A step that stores derivatives writes to two.
    """
    folder = Path(node.output_dir())
    stored = getattr(node.inputs, "output_dir", None)
    if code == "full":
        places = dict.fromkeys(
            [folder, *([Path(stored)] if isinstance(stored, str | Path) else [])]
        )
        return f" ({'; '.join(atomic_files.free_text(place) for place in places)})"
    return f" (file system {atomic_files.file_system_of(folder)})" if code == "forbidden" else ""


def _crash_text(
    node: "Node", notice: Notice, why: str, *, host: str, peak_gb: float | None
) -> str:
    """The text of a crash file; the traceback comes last."""
    alone = [sys.executable, "-m", "bids_sr.cli.rerun", node.output_dir()]
    facts = {
        "Node": notice.what,
        "Participant": notice.subject and f"sub-{notice.subject}",
        "Interface": kind_of(node),
        "Host": host or socket.gethostname(),
        "Time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "Version": f"bids-sr {__version__}, Python {sys.version.split()[0]}",
        "Memory": _memory(node, peak_gb),
        "Directory": node.output_dir(),
        "What happened": notice.why,
        "What to do": notice.remedy,
        "To run only this step": shlex.join(alone),
    }
    lines = [
        *(f"{name}: {value}" for name, value in facts.items() if value),
        "",
        "Inputs:",
        *_inputs(node),
        "",
    ]
    return "\n".join([*lines, why if "Traceback" in why else f"Traceback:\n{why}", ""])


def _memory(node: "Node", peak_gb: float | None) -> str:
    text = f"memory declared by the step: {node.mem_gb:.2f} GB"
    if peak_gb is not None:
        text += f"; peak memory of its process: {peak_gb:.2f} GB"
    with contextlib.suppress(OSError, StopIteration, ValueError):
        rows = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(row.split()[1]) for row in rows if row.startswith("MemAvailable:"))
        text += f"; memory now available on the submitting computer: {free * 1024e-9:.2f} GB"
    return text


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
