"""``python -m bids_sr.cli.rerun NODE_DIR``: rerun one step alone to see why it fails.

The step is one of a finished or crashed run.

The step takes its inputs from where they are and works in a new directory, so that the working
directory of the run stays as it is; a step that stores derivatives stores them where it always
does.

``bids-sr report OUTPUT_DIR``: rebuild the pages of finished outputs, and open them.

The pages are assembled from the existing figures.

Needs the output directory alone, neither the data set nor the working directory.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.console import item
from bids_sr.cli.exit_codes import DONE, FAILED, ended
from bids_sr.cli.parser import Parser
from bids_sr.config import UsageError, section
from bids_sr.config.groups import sessions_option
from bids_sr.config.section import Checked, argument, option
from bids_sr.frozen import frozen

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node


@frozen
class _RerunOptions(Checked):
    """Which step is run, and where."""

    node_dir: Path = argument("NODE_DIR", "directory of the step in the working directory")
    work_dir: Path | None = option(
        None,
        "-w --work-dir DIR",
        "working directory for rerunning the step (default: a new temporary directory)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step and return 0, 1 where it failed, or 2 where there is none in that directory.

    `argv`: arguments of the command line; None takes those of the process.
    """
    prog = "python -m bids_sr.cli.rerun"
    arguments = sys.argv[1:] if argv is None else argv
    parser = Parser(prog, __doc__.partition("\n")[0], _RerunOptions)

    def run() -> int:
        options = parser.options(arguments, _RerunOptions)
        node = _load(options.node_dir)
        return _run(node, options.work_dir or Path(tempfile.mkdtemp(prefix="bids-sr-rerun-")))

    return ended(prog, run, interrupted="the step was not completed")


def _load(folder: Path) -> "Node":
    """The step as it was left in its directory.

    Raises `UsageError` where there is none, it cannot be read, or it belongs to another user:
    reading it runs what is in it.
    """
    file = folder / "_node.pklz"
    if not file.is_file():
        why = "the file _node.pklz, which is written when a step starts, is missing"
        raise UsageError(
            f"{folder} is not the working directory of a step",
            why,
            "use the directory that is listed in the crash file",
        )
    if file.stat().st_uid not in (os.getuid(), 0):
        why = "reading this file could execute code of the other user"
        raise UsageError(
            f"{file} belongs to another user", why, "rerun the step as the owner of the file"
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


def _run(node: "Node", work_dir: Path) -> int:
    """Run a step below `work_dir` and say what came of it."""
    from bids_sr.execution.execute import configure_nipype

    configure_nipype(crash_dir=work_dir, stop_on_first_crash=True, verbose=True)
    node.base_dir = str(work_dir.absolute())
    node._output_dir = None
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


@frozen
class _ReportOptions(Checked):
    """What ``bids-sr report`` is asked for."""

    output_dir: Path = argument("OUTPUT_DIR", "output directory of bids-sr")
    participant_label: tuple[str, ...] = option(
        (),
        "--participant-label LABEL",
        "labels of the participants whose reports are rebuilt (default: all participants)",
        type=section.labels,
    )
    aggregate_session_reports: int = sessions_option()
    open: bool = option(False, "--open", "open the reports in a web browser")


def report_parser() -> Parser:
    """The parser."""
    about = "Rebuild the reports of completed outputs and optionally open them in a web browser."
    return Parser("bids-sr report", about, _ReportOptions)


def report_main(argv: Sequence[str]) -> int:
    """Make the pages of every participant, or of those named, name them and return 0.

    Raises `UsageError` where the folder holds no outputs of bids-sr.
    """
    options = report_parser().options(argv, _ReportOptions)
    import webbrowser  # here, so that --help answers at once

    for page in _make_reports(
        options.output_dir, options.participant_label, options.aggregate_session_reports
    ):
        print(item("report", str(page)))
        if options.open and not webbrowser.open(page.as_uri()):
            print(
                item("note", f"no web browser could be started; open {page} manually"),
                file=sys.stderr,
            )
    return 0


def _make_reports(output_dir: Path, labels: Sequence[str], sessions: int) -> list[Path]:
    """Write ``sub-XX.html`` of each participant and list the pages.

    The group's page, where there is one, is listed unchanged.

    Raises `UsageError` where a participant has no figures, or none has.
    """
    from bids_sr.report.participants_page import (
        participants_with_figures,
        write_index,
        write_participants,
    )
    from bids_sr.steps.figures import declared

    root = output_dir.absolute()
    there = participants_with_figures(root)
    labels_of_call = [label.removeprefix("sub-") for label in labels] or there
    if not there:
        raise UsageError(
            str(output_dir),
            "the directory contains no figures written by bids-sr",
            "specify the output directory of a bids-sr run",
        )
    for label in labels_of_call:
        if label not in there:
            fix = f"choose one of {', '.join(there)}"
            raise UsageError(
                f"sub-{label}", f"{output_dir} contains no figures for this participant", fix
            )
    written = write_participants(
        root, labels_of_call, shown=declared(), log_dir=root / "logs", sessions=sessions
    )
    write_index(root)
    group = root / "group.html"
    return [*written, *([group] if group.is_file() and not labels else [])]
