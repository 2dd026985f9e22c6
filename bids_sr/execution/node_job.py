"""A cluster job: run the step in its folder and write one file with its outcome.

``python -m bids_sr.execution.node_job FOLDER``.  The answer is written whole or not at all, under
a number that no earlier run has used, so that it cannot be mistaken; a job that is killed leaves
none.
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

CALLED_OFF = "called_off"
"""File of a run beside its jobs: those that start after it was written do nothing."""


def main(argv: list[str]) -> int:
    """Run the step of the folder in the arguments; return 0 if it succeeded, else 1.

    1 also where the run was called off.
    """
    folder = Path(argv[0])
    order = json.loads((folder / "order.json").read_text())
    if (folder.parent / CALLED_OFF).exists():
        sys.stderr.write("the run that submitted this job was cancelled\n")
        return 1
    answer: dict[str, object] = {"failed": None, "traceback": None, "host": socket.gethostname()}
    node = None
    try:
        from nipype.utils.filemanip import loadpkl

        start_worker(str(folder), order["level"])
        node = loadpkl(folder / "node.pklz")
        _await_inputs(node, order["grace"])
        done = run_node(node, order["updatehash"], order["number"])
        if failure := done["traceback"]:
            known = done.get("notice")
            answer |= {
                "failed": node.fullname,
                "traceback": list(failure),
                "peak_gb": done.get("peak_gb"),
                "notice": known and dataclasses.asdict(known),
            }
    except Exception:
        import traceback

        answer |= {
            "failed": getattr(node, "fullname", None),
            "traceback": traceback.format_exception(*sys.exc_info()),
        }
    beside = Path(order["answer"]).with_suffix(".partial")
    with beside.open("w", encoding="utf-8") as out:
        json.dump(answer, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(beside, order["answer"])
    return 1 if answer["traceback"] else 0


def _await_inputs(node: "Node", seconds: float) -> None:
    """Wait until the results that a step takes its inputs from are seen on this host, too."""
    deadline = time.monotonic() + seconds
    for source in {info[0] for info in node.input_source.values()}:
        while not os.path.exists(source) and time.monotonic() < deadline:
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
