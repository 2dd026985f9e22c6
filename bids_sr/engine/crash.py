"""Crash files with the failed step, its inputs, the reason and the remedy."""

import contextlib
import logging
import re
import socket
import sys
import tempfile
import time
import traceback
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.engine.nodes import get_owner
from bids_sr.engine.outcomes import NodeOutcome, get_step_function
from bids_sr.io import atomic_files
from bids_sr.io.notices import Notice, record
from bids_sr.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
_MAX_INPUT_LENGTH = 300  # characters, longest text of an input

_DISK_FULL_PATTERN = re.compile(
    r"No space left on device|no space left on|Disk quota exceeded|Errno (28|122)\b"
)
_OUT_OF_MEMORY_PATTERN = re.compile(
    r"MemoryError|bad_alloc|[Cc]annot allocate memory|can't allocate"
    r" memory|out of memory"
    r"|OUT_OF_ME|Unable to allocate"
)
_FORBIDDEN_PATTERN = re.compile(r"Permission denied|Read-only file system|Errno (1|13|30)\b")


def report_crash(node: "Node", outcome: NodeOutcome | None, crashes: list[Notice]) -> Notice:
    """Write the crash file of a step, and add the failure to the record of the run.

    The crash file is in the same directory as the record or, if this fails, in another directory.
    `outcome` is reported by the process of the node; None if the exception that is being handled
    in this process is the failure. The notice is added to `crashes`, and has the reason, the
    remedy and the crash file.
    """
    outcome = outcome or {}
    lines = outcome.get("traceback") or traceback.format_exception(*sys.exc_info())
    notice = outcome.get("notice") if outcome else getattr(sys.exc_info()[1], "notice", None)
    error_text = "".join(lines).rstrip()
    crash = _make_crash_notice(node, error_text, notice)
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{node.name}-{uuid.uuid4().hex[:12]}.txt"
    host, peak_gb = outcome.get("host", ""), outcome.get("peak_gb")
    text = _format_crash(node, crash, error_text, host=host, peak_gb=peak_gb)
    log_dir = Path(node.config["execution"]["crashdump_dir"])
    for folder in (log_dir, Path(node.base_dir or "."), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            crash = replace(crash, file=str(atomic_files.write_text(folder / name, text)))
            break
    else:
        _LOGGER.error("the crash file could not be written. Its contents are:\n%s", text)
    with contextlib.suppress(OSError):
        record(log_dir, [crash])
    _LOGGER.error("%s failed: see %s", node.fullname, crash.file)
    crashes.append(crash)
    return crash


def _make_crash_notice(node: "Node", error_text: str, notice: Notice | None) -> Notice:
    """Return the notice of a failed step.

    `notice` contains reason and remedy; None to find the reason in the text of the error.
    """
    if notice is not None:
        cause, file_system_text = notice, ""
    else:
        last_line = next(
            (line.strip() for line in reversed(error_text.splitlines()) if line.strip()), ""
        )
        code = _find_cause(error_text)
        cause = Notice(what="", why=last_line or "no message", code=code)
        file_system_text = _describe_file_system(code, node)
    participant, run = get_owner(node)
    return replace(
        cause,
        what=node.fullname,
        why=": ".join(filter(None, (cause.what, cause.why))) + file_system_text,
        subject=participant,
        run=run,
        code="crashed" if cause.code == "input" else cause.code,
    )


def _find_cause(message: str) -> str:
    """Return the code of an error from its text.

    The code is ``full``, ``memory``, ``forbidden``, or ``crashed`` for any other error.
    """
    causes = {
        "full": _DISK_FULL_PATTERN,
        "memory": _OUT_OF_MEMORY_PATTERN,
        "forbidden": _FORBIDDEN_PATTERN,
    }
    return next((code for code, text in causes.items() if text.search(message)), "crashed")


def _describe_file_system(code: str, node: "Node") -> str:
    """Return a text on the file system if it caused the error, with its free space if it is full.

    A step that stores derivatives writes to two file systems.
    """
    folder = Path(node.output_dir())
    stored_dir = getattr(node.inputs, "output_dir", None)
    if code == "full":
        folders = dict.fromkeys(
            [folder, *([Path(stored_dir)] if isinstance(stored_dir, str | Path) else [])]
        )
        return f" ({'; '.join(atomic_files.free_text(path) for path in folders)})"
    return f" (file system {atomic_files.find_file_system(folder)})" if code == "forbidden" else ""


def _format_crash(
    node: "Node", notice: Notice, traceback_text: str, *, host: str, peak_gb: float | None
) -> str:
    """Return the text of a crash file, with the traceback at the end."""
    facts = {
        "Node": notice.what,
        "Participant": notice.subject and f"sub-{notice.subject}",
        "Interface": get_step_function(node),
        "Host": host or socket.gethostname(),
        "Time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "Version": f"bids-sr {__version__}, Python {sys.version.split()[0]}",
        "Declared memory": f"{node.mem_gb:.2f} GB",
        "Peak memory": "" if peak_gb is None else f"{peak_gb:.2f} GB",
        "Directory": node.output_dir(),
        "What happened": notice.why,
        "What to do": notice.remedy,
    }
    if "Traceback" not in traceback_text:
        traceback_text = f"Traceback:\n{traceback_text}"
    fact_lines = (f"{name}: {value}" for name, value in facts.items() if value)
    return "\n".join([*fact_lines, "", "Inputs:", *_format_inputs(node), "", traceback_text, ""])


def _format_inputs(node: "Node") -> list[str]:
    """Return one line per input, with the results of previous steps if available."""
    # an unreadable result may be the reason of the crash
    with contextlib.suppress(Exception):
        node._get_inputs()
    texts = {name: repr(value) for name, value in sorted(node.inputs.get_traitsfree().items())}
    return [
        f"  {name} = {text[:_MAX_INPUT_LENGTH]}{'…' if len(text) > _MAX_INPUT_LENGTH else ''}"
        for name, text in texts.items()
    ] or ["  none"]
