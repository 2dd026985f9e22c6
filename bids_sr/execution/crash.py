"""Crash files with the failed step, its inputs, the reason, the remedy and a command to rerun it.

The command runs only the failed step.
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

from bids_sr.execution.outcomes import NodeOutcome, step_function
from bids_sr.io import atomic_files
from bids_sr.notices import Notice, record
from bids_sr.pipeline.nodes import get_owner
from bids_sr.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
_LONGEST = 300  # characters, longest text of an input

_FULL = re.compile(
    r"No space left on device|no space left on|Disk quota exceeded|Errno (28|122)\b"
)
_MEMORY = re.compile(
    r"MemoryError|bad_alloc|[Cc]annot allocate memory|can't allocate"
    r" memory|out of memory"
    r"|OUT_OF_ME|Unable to allocate"
)
_FORBIDDEN = re.compile(r"Permission denied|Read-only file system|Errno (1|13|30)\b")


def report_crash(node: "Node", answer: NodeOutcome | None, crashes: list[Notice]) -> Notice:
    """Write the crash file of a step, and add the failure to the record of the run.

    The crash file is in the same directory as the record or, if this fails, in another directory.

    Parameters
    ----------
    node : Node
        Failed node.
    answer : NodeOutcome | None
        Outcome reported by the process of the node; None if the exception that is being handled in
        this process is the failure.
    crashes : list[Notice]
        List to which the notice is added.

    Returns
    -------
    Notice
        Notice with the reason, the remedy and the crash file.
    """
    outcome = answer or {}
    lines = outcome.get("traceback") or traceback.format_exception(*sys.exc_info())
    _save_node(node)
    local_notice = None if answer else getattr(sys.exc_info()[1], "notice", None)
    text_of_error = "".join(lines).rstrip()
    notice = outcome.get("notice") or local_notice
    logs, (subject, run) = Path(node.config["execution"]["crashdump_dir"]), get_owner(node)
    last_line = next(
        (line.strip() for line in reversed(text_of_error.splitlines()) if line.strip()), ""
    )
    cause = notice or Notice(
        what="", why=last_line or "no message", code=_parse_cause(text_of_error)
    )
    crash = replace(
        cause,
        what=node.fullname,
        why=": ".join(filter(None, (cause.what, cause.why)))
        + ("" if notice else _file_system_text(cause.code, node)),
        subject=subject,
        run=run,
        code="crashed" if cause.code == "input" else cause.code,
    )
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{node.name}-{uuid.uuid4().hex[:12]}.txt"
    host, peak_gb = outcome.get("host", ""), outcome.get("peak_gb")
    text = _crash_text(node, crash, text_of_error, host=host, peak_gb=peak_gb)
    for folder in (logs, Path(node.base_dir or "."), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            crash = replace(crash, file=str(atomic_files.write_text(folder / name, text)))
            break
    else:
        _LOGGER.error("the crash file could not be written. Its contents are:\n%s", text)
    with contextlib.suppress(OSError):
        record(logs, [crash])
    _LOGGER.error("%s failed: see %s", node.fullname, crash.file)
    crashes.append(crash)
    return crash


def _parse_cause(message: str) -> str:
    """Return the code of an error from its text.

    The code is ``full``, ``memory``, ``forbidden``, or ``crashed`` for any other error.
    """
    causes = {"full": _FULL, "memory": _MEMORY, "forbidden": _FORBIDDEN}
    return next((code for code, text in causes.items() if text.search(message)), "crashed")


def _file_system_text(code: str, node: "Node") -> str:
    """Return a text on the file system if it caused the error, with its free space if it is full.

    A step that stores derivatives writes to two file systems.
    """
    folder = Path(node.output_dir())
    stored = getattr(node.inputs, "output_dir", None)
    if code == "full":
        folders = dict.fromkeys(
            [folder, *([Path(stored)] if isinstance(stored, str | Path) else [])]
        )
        return f" ({'; '.join(atomic_files.free_text(path) for path in folders)})"
    return f" (file system {atomic_files.find_file_system(folder)})" if code == "forbidden" else ""


def _crash_text(
    node: "Node", notice: Notice, traceback_text: str, *, host: str, peak_gb: float | None
) -> str:
    """Return the text of a crash file, with the traceback at the end."""
    command = [sys.executable, "-m", "bids_sr.cli.rerun", node.output_dir()]
    facts = {
        "Node": notice.what,
        "Participant": notice.subject and f"sub-{notice.subject}",
        "Interface": step_function(node),
        "Host": host or socket.gethostname(),
        "Time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "Version": f"bids-sr {__version__}, Python {sys.version.split()[0]}",
        "Memory": _memory(node, peak_gb),
        "Directory": node.output_dir(),
        "What happened": notice.why,
        "What to do": notice.remedy,
        "To run only this step": shlex.join(command),
    }
    lines = [
        *(f"{name}: {value}" for name, value in facts.items() if value),
        "",
        "Inputs:",
        *_inputs(node),
        "",
    ]
    return "\n".join(
        [
            *lines,
            traceback_text if "Traceback" in traceback_text else f"Traceback:\n{traceback_text}",
            "",
        ]
    )


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
    """Return one line per input, with the results of previous steps if available."""
    # an unreadable result may be the reason of the crash
    with contextlib.suppress(Exception):
        node._get_inputs()
    texts = {name: repr(value) for name, value in sorted(node.inputs.get_traitsfree().items())}
    return [
        (
            f"  {name} = {text}"
            if len(text) <= _LONGEST
            else f"  {name} = {text[:_LONGEST]}… ({len(text)} characters)"
        )
        for name, text in texts.items()
    ] or ["  none"]


def _save_node(node: "Node") -> None:
    """Save the node in its directory, unless nipype has, so that it can be run separately."""
    from nipype.utils.filemanip import savepkl

    target = Path(node.output_dir(), "_node.pklz")
    with contextlib.suppress(Exception):  # the crash file is more important than this file
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            node._get_inputs()
            savepkl(str(target), node)
