"""Options of ``bids-sr-slurm`` beside those of ``bids-sr``."""

from pathlib import Path

from bids_sr.config import section
from bids_sr.config.section import Checked, argument, option
from bids_sr.frozen import frozen


@frozen
class _Sent(Checked):
    """How jobs are submitted, for the first time or again."""

    print_only: bool = option(
        False, "--print-only", "write and show the scripts and submit nothing"
    )
    wait: bool = option(
        False, "--wait", "return when all jobs have ended: 0 if nothing failed, else 1"
    )


@frozen
class LaterOptions(_Sent):
    """Whose jobs are asked for, cancelled or submitted again, and what they then ask for."""

    output_dir: Path = argument("OUT", "the output directory of the submission")
    participant_label: tuple[str, ...] = option(
        (), "--participant-label LABEL", "participants (default: all)", type=section.labels
    )
    mem: float | None = option(
        None,
        "--mem SIZE",
        "memory of the program in each task: 8, 8G; the job asks for more",
        type=section.gigabytes,
    )
    time: str = option("", "--time TIME", "time limit of each task")


@frozen
class SlurmOptions(_Sent):
    """What is submitted, and what its jobs ask for; where they run is a `Site`."""

    array: str = option(
        "",
        "--array SPEC",
        "tasks to submit, from 1, and how many run at once: 1-10, 3,5, 1-20:2%%4, %%4 (default:"
        " all)",
    )
    batch: int = option(1, "--batch N", "participants per task, one after the other", least=1)
    time: str = option(
        "",
        "--time TIME",
        "time limit of a task: minutes, H:MM:SS or D-HH (default: from the estimate)",
    )
    cpus: int | None = option(
        None, "--cpus N", "processors of a task, as --nprocs (default: 4)", least=1
    )
    gpus: int | None = option(
        None, "--gpus N", "GPUs of a task (default: 1 with --device cuda, else 0)", least=0
    )
    no_group: bool = option(False, "--no-group", "no job for the group level")
