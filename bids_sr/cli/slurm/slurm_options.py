"""The options of ``bids-sr-slurm`` and its commands; those of ``bids-sr`` are taken as they are."""

from collections.abc import Callable
from typing import Any

from bids_sr.cli.options import add_options, gigabytes, path
from bids_sr.cli.parser import Parser, data_parser

DESCRIPTION = """\
Run bids-sr on a SLURM cluster: one array task a participant and a group job behind them. Takes the options of bids-sr
(--nprocs and --mem hold for each task; its job asks for a ninth more memory than --mem) and those of the group "SLURM".

Afterwards: bids-sr-slurm status OUT, bids-sr-slurm retry OUT, bids-sr-slurm cancel OUT."""


def build_parser() -> Parser:
    """The parser of a submission: the options of ``bids-sr`` and those of SLURM; absent options leave no value."""
    parser = data_parser("bids-sr-slurm", DESCRIPTION, "DIR", "OUT")
    add = _adder(parser.add_argument_group("SLURM"))
    _add_handling(add)
    add("--array SPEC", "tasks to submit, from 1, and how many run at once: 1-10, 3,5, 1-20:2%%4, %%4 (default: all)")
    add("--batch N", "participants per task, one after the other (default: 1)", type=int)
    for name in ("partition", "account", "qos"):
        add(f"--{name} NAME", f"{name} (default: the site's)")
    add("--time TIME", "time limit of a task: minutes, H:MM:SS or D-HH (default: from the estimate)")
    add("--cpus N", "processors of a task, as --nprocs (default: 4)", type=int, dest="resources.nprocs")
    add("--gpus N", "GPUs of a task (default: 1 with --device cuda, else 0)", type=int)
    add("--container IMAGE", "apptainer or singularity image to run instead of the installed program")
    setup = "shell commands that each job runs first, such as module load; bids-sr is then found by PATH"
    add("--setup FILE", setup, type=path)
    requeues = "how often a task that reaches its time limit is requeued (default: 3)"
    add("--requeues N", requeues, type=int)
    add("--no-group", "no job for the group level", action="store_true")
    add_options(parser)
    return parser


def _adder(group: Any) -> Callable[..., None]:
    """Adds an option to a group: its flag and the name of its value as they stand in the help, and its help."""

    def add(flag: str, help: str, **how: Any) -> None:
        name, _, metavar = flag.partition(" ")
        if metavar:
            how["metavar"] = metavar
        group.add_argument(name, help=help, **{"dest": f"slurm.{name[2:].replace('-', '_')}", **how})

    return add


def _add_handling(add: Callable[..., None]) -> None:
    add("--print-only", "write and show the scripts and submit nothing", action="store_true")
    add("--wait", "return when all jobs have ended: 0 if nothing failed, else 1", action="store_true")


def later_parser(command: str) -> Parser:
    """The parser of ``bids-sr-slurm status``, ``retry`` or ``cancel``."""
    about = {
        "status": "what became of each participant",
        "retry": "submit again those that failed: more memory for those that ran out of it, more time for those that "
        "timed out; and a new group job",
        "cancel": "cancel what waits or runs, the group job included unless participants are named",
    }
    parser = Parser(prog=f"bids-sr-slurm {command}", description=about[command], allow_abbrev=False)
    parser.add_argument("output_dir", metavar="OUT", type=path, help="the output directory of the submission")
    if command != "status":
        people: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "LABEL"}
        parser.add_argument("--participant-label", **people, help="participants (default: all)")
    if command == "retry":
        memory = "memory of the program in each task: 8, 8G; the job asks for a ninth more"
        parser.add_argument("--mem", metavar="SIZE", type=gigabytes, help=memory)
        parser.add_argument("--time", metavar="TIME", help="time limit of each task")
        _add_handling(_adder(parser))
    return parser
