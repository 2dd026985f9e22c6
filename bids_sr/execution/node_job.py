"""Cluster job that runs a step in its directory and writes one file with its outcome.

The command is ``python -m bids_sr.execution.node_job FOLDER``. The outcome is written atomically,
to a file whose number is unique within the directory of the run, so that it cannot be confused
with the outcome of another job. A killed or cancelled job writes no outcome.
"""

import dataclasses
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.execution.multiproc import run_node, start_worker

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

CANCELLED_FILE = "called_off"
"""File next to the jobs of a run; jobs that start after it was written do nothing."""


def main(argv: list[str]) -> int:
    """Run the step in a directory, and return 0 on success and 1 on failure or cancellation."""
    folder = Path(argv[0])
    job = json.loads((folder / "order.json").read_text())
    if (folder.parent / CANCELLED_FILE).exists():
        sys.stderr.write("the run that submitted this job was cancelled\n")
        return 1
    answer: dict[str, object] = {"failed": None, "traceback": None, "host": socket.gethostname()}
    node = None
    try:
        from nipype.utils.filemanip import loadpkl

        start_worker(str(folder), job["level"])
        node = loadpkl(folder / "node.pklz")
        _await_inputs(node, job["grace"])
        outcome = run_node(node, job["updatehash"], job["number"])
        if failure := outcome["traceback"]:
            notice = outcome.get("notice")
            answer |= {
                "failed": node.fullname,
                "traceback": list(failure),
                "peak_gb": outcome.get("peak_gb"),
                "notice": notice and dataclasses.asdict(notice),
            }
    except Exception:
        import traceback

        answer |= {
            "failed": getattr(node, "fullname", None),
            "traceback": traceback.format_exception(*sys.exc_info()),
        }
    partial = Path(job["answer"]).with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as out:
        json.dump(answer, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, job["answer"])
    return 1 if answer["traceback"] else 0


def _await_inputs(node: "Node", seconds: float) -> None:
    """Wait until the result files of previous steps are visible on this host."""
    deadline = time.monotonic() + seconds
    for source in {info[0] for info in node.input_source.values()}:
        while not os.path.exists(source) and time.monotonic() < deadline:
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
