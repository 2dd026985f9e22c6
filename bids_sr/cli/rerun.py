"""``python -m bids_sr.cli.rerun NODE_DIR``: rerun one step alone to see why it fails.

The step reads its inputs from their original locations and works in a new directory, so that the
working directory of the run does not change. A step that stores derivatives writes them to the
usual location.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.exit_codes import DONE, FAILED, run_program
from bids_sr.cli.options import Parser
from bids_sr.config import UsageError
from bids_sr.config.section import OptionSection, argument, option
from bids_sr.frozen import frozen

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node


@frozen
class _RerunOptions(OptionSection):
    """Options of ``python -m bids_sr.cli.rerun``."""

    node_dir: Path = argument("NODE_DIR", "directory of the step in the working directory")
    work_dir: Path | None = option(
        None,
        "-w --work-dir DIR",
        "working directory for rerunning the step (default: a new temporary directory)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Rerun a step and return an exit code.

    The exit code is 1 if the step failed, and 2 if the directory does not contain a step.

    `argv` contains the command-line arguments; None means the arguments of the process.
    """
    prog = "python -m bids_sr.cli.rerun"
    arguments = sys.argv[1:] if argv is None else argv
    parser = Parser(prog, __doc__.partition("\n")[0], _RerunOptions)

    def load_and_run() -> int:
        options = parser.options(arguments, _RerunOptions)
        node = _load_node(options.node_dir)
        return _run_node(node, options.work_dir or Path(tempfile.mkdtemp(prefix="bids-sr-rerun-")))

    return run_program(prog, load_and_run, interrupted="the step was not completed")


def _load_node(folder: Path) -> "Node":
    """Return the step as stored in its directory.

    Raises
    ------
    UsageError
        If there is no step, if it cannot be read, or if it belongs to another user (reading the
        file executes code in it).
    """
    file = folder / "_node.pklz"
    if not file.is_file():
        reason = "the file _node.pklz, which is written when a step starts, is missing"
        raise UsageError(
            f"{folder} is not the working directory of a step",
            reason,
            "use the directory that is listed in the crash file",
        )
    if file.stat().st_uid not in (os.getuid(), 0):
        reason = "reading this file could execute code of the other user"
        raise UsageError(
            f"{file} belongs to another user", reason, "rerun the step as the owner of the file"
        )
    os.environ["NIPYPE_NO_ET"] = "1"
    from bids_sr.execution.usage import limit_threads

    limit_threads()
    from nipype.utils.filemanip import loadpkl

    try:
        return loadpkl(file)
    except Exception as error:
        fix = "rerun the complete bids-sr command, which repeats this step"
        raise UsageError(
            f"{file} could not be read", f"{type(error).__name__}: {error}", fix
        ) from error


def _run_node(node: "Node", work_dir: Path) -> int:
    """Run a step below `work_dir`, and print its outputs or its traceback."""
    from bids_sr.execution.execute import configure_nipype

    configure_nipype(crash_dir=work_dir, stop_on_first_crash=True, verbose=True)
    node.base_dir = str(work_dir.absolute())
    node._output_dir = None
    node.overwrite = True  # the hash of the node contains the code of its first run
    print(f"Running {node.fullname} in {node.output_dir()}", flush=True)
    try:
        result = node.run()
    except Exception:
        traceback.print_exc()
        print("The step failed; the traceback is printed above.", file=sys.stderr)
        return FAILED
    for name, value in sorted(result.outputs.get().items()):
        print(f"  {name} = {value}")
    print("done")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
