"""Cluster job that runs a step in its directory and writes one file with its outcome.

The command is ``python -m bids_sr.engine.node_job FOLDER``. The outcome is written atomically,
to a file whose number is unique within the directory of the run, so that it cannot be confused
with the outcome of another job. A killed or cancelled job writes no outcome.
"""

import dataclasses
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr.engine.usage import limit_threads

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

CANCELLED_FILE = "called_off"
"""File next to the jobs of a run; jobs that start after it was written do nothing."""


def main(argv: list[str]) -> int:
    """Run the step in a directory, and return 0 on success and 1 on failure or cancellation."""
    folder = Path(argv[0])
    order = json.loads((folder / "order.json").read_text())
    if (folder.parent / CANCELLED_FILE).exists():
        sys.stderr.write("the run that submitted this job was cancelled\n")
        return 1
    answer = _run_step(folder, order)
    _write_answer(Path(order["answer"]), answer)
    return 1 if answer["traceback"] else 0


def _run_step(folder: Path, order: Mapping[str, Any]) -> dict[str, object]:
    """Run the step in a directory, and return its outcome as content of a JSON file.

    `order` contains number, log level and settings of the job from the scheduler.
    """
    answer: dict[str, object] = {"failed": None, "traceback": None, "host": socket.gethostname()}
    node = None
    limit_threads()  # the environment of the job can differ from the environment of the run
    try:
        from nipype.utils.filemanip import loadpkl

        from bids_sr.engine.multiproc import run_node, start_worker

        start_worker(str(folder), order["level"])
        node = loadpkl(folder / "node.pklz")
        _await_inputs(node, order["grace"])
        outcome = run_node(node, order["updatehash"], order["number"])
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
    return answer


def _await_inputs(node: "Node", seconds: float) -> None:
    """Wait until the result files of previous steps are visible on this host."""
    deadline = time.monotonic() + seconds
    result_files = {result_file for result_file, *_ in node.input_source.values()}
    for result_file in result_files:
        while not os.path.exists(result_file) and time.monotonic() < deadline:
            time.sleep(0.5)


def _write_answer(file: Path, answer: Mapping[str, object]) -> None:
    """Write the outcome of a job completely or not at all."""
    partial_file = file.with_suffix(".partial")
    with partial_file.open("w", encoding="utf-8") as stream:
        json.dump(answer, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial_file, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
