"""The options of ``bids-sr-slurm`` and its commands; those of ``bids-sr`` are taken as they are."""

import argparse
from typing import Any

from bids_sr import __version__
from bids_sr.cli.options import add_options, gigabytes, path
from bids_sr.cli.parser import Parser

DESCRIPTION = """\
Run bids-sr on a SLURM cluster: one array task a participant and a group job behind them. Takes the options of bids-sr
(--nprocs and --mem hold for each task; its job asks for a ninth more memory than --mem) and those of the group "SLURM".

Afterwards: bids-sr-slurm status OUT, bids-sr-slurm retry OUT, bids-sr-slurm cancel OUT."""


def build_parser() -> Parser:
    """The parser of a submission: the options of ``bids-sr`` and those of SLURM; absent options leave no value."""
    parser = Parser(
        prog="bids-sr-slurm",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("paths.bids_dir", metavar="DIR", type=path, help="root of the BIDS data set")
    parser.add_argument("paths.output_dir", metavar="OUT", type=path, help="where the derivatives go")
    parser.add_argument("--version", action="version", version=f"bids-sr-slurm {__version__}")
    group = parser.add_argument_group("SLURM")
    _add_handling(group)
    group.add_argument("--array", dest="slurm.array", metavar="SPEC",
                       help="tasks to submit, from 1, and how many run at once: 1-10, 3,5, 1-20:2%%4, %%4 "
                       "(default: all)")  # fmt: skip
    group.add_argument("--batch", dest="slurm.batch", metavar="N", type=int,
                       help="participants a task, one after the other (default: 1)")  # fmt: skip
    for name in ("partition", "account", "qos"):
        group.add_argument(f"--{name}", dest=f"slurm.{name}", metavar="NAME", help=f"{name} (default: the site's)")
    group.add_argument("--time", dest="slurm.time", metavar="TIME",
                       help="time limit of a task: minutes, H:MM:SS or D-HH (default: from the estimate)")  # fmt: skip
    group.add_argument("--cpus", dest="resources.nprocs", metavar="N", type=int,
                       help="processors of a task, as --nprocs (default: 4)")  # fmt: skip
    group.add_argument("--gpus", dest="slurm.gpus", metavar="N", type=int,
                       help="GPUs of a task (default: 1 with --device cuda, else 0)")  # fmt: skip
    group.add_argument("--container", dest="slurm.container", metavar="IMAGE",
                       help="image that apptainer or singularity runs, in place of the installed program")  # fmt: skip
    group.add_argument("--setup", dest="slurm.setup", metavar="FILE", type=path,
                       help="lines of the shell that each job reads first, such as module load; bids-sr is then found "
                       "by PATH")  # fmt: skip
    group.add_argument("--requeues", dest="slurm.requeues", metavar="N", type=int,
                       help="how often a task that reaches its time limit goes back into the queue "
                       "(default: 3)")  # fmt: skip
    group.add_argument("--no-group", dest="slurm.no_group", action="store_true", help="no job for the group level")
    add_options(parser)
    return parser


def _add_handling(group: Any) -> None:
    group.add_argument("--print-only", dest="slurm.print_only", action="store_true",
                       help="write and show the scripts and submit nothing")  # fmt: skip
    group.add_argument("--wait", dest="slurm.wait", action="store_true",
                       help="return when all jobs have ended: 0 if nothing failed, else 1")  # fmt: skip


def retry_parser() -> Parser:
    """The parser of ``bids-sr-slurm retry``."""
    parser = _later(
        "retry",
        "submit again those that failed: more memory for those that ran out of it, more time for those that timed "
        "out; and a new group job",
    )
    _add_people(parser)
    parser.add_argument(
        "--mem",
        metavar="SIZE",
        type=gigabytes,
        help="memory of the program in each task: 8, 8G; the job asks for a ninth more",
    )
    parser.add_argument("--time", metavar="TIME", help="time limit of each task")
    _add_handling(parser)
    return parser


def cancel_parser() -> Parser:
    """The parser of ``bids-sr-slurm cancel``."""
    parser = _later("cancel", "cancel what waits or runs, the group job included unless participants are named")
    _add_people(parser)
    return parser


def status_parser() -> Parser:
    """The parser of ``bids-sr-slurm status``."""
    return _later("status", "what became of each participant")


def _later(name: str, description: str) -> Parser:
    parser = Parser(prog=f"bids-sr-slurm {name}", description=description, allow_abbrev=False)
    parser.add_argument("output_dir", metavar="OUT", type=path, help="the output directory of the submission")
    return parser


def _add_people(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--participant-label", nargs="+", default=[], metavar="LABEL", help="participants (default: all)"
    )
