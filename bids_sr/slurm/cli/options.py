"""Options of ``bids-sr-slurm`` in addition to the options of ``bids-sr``.

The options of the site, such as ``--partition`` and ``--container``, are the fields of
`bids_sr.slurm.submission.Site`, because they are stored with each submission.
"""

from pathlib import Path

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, argument, option
from bids_sr.frozen import frozen


@frozen
class _SubmitOptions(OptionSection):
    """Options for first and repeated submissions."""

    print_only: bool = option(
        False, "--print-only", "write and print the job scripts without submitting them"
    )
    wait: bool = option(
        False,
        "--wait",
        "wait until all jobs have ended; the exit code is 0 if all jobs succeeded, otherwise 1",
    )


@frozen
class CommandOptions(_SubmitOptions):
    """Options of the commands ``status``, ``retry`` and ``cancel``."""

    output_dir: Path = argument("OUT", "output directory of the submission")
    participant_label: tuple[str, ...] = option(
        (),
        "--participant-label LABEL",
        "labels of the participants (default: all participants)",
        type=readers.parse_labels,
    )
    mem: float | None = option(
        None,
        "--mem SIZE",
        "memory available to bids-sr in each task, such as 8 or 8G; the job requests more"
        " memory than this",
        type=readers.parse_gigabytes,
    )
    time: str = option("", "--time TIME", "time limit of each task")


@frozen
class SlurmOptions(_SubmitOptions):
    """Options for the resources and tasks of a submission; `Site` describes the environment."""

    array: str = option(
        "",
        "--array SPEC",
        "indices of the tasks to submit, starting at 1, and maximum number of simultaneous"
        " tasks after %%: 1-10, 3,5, 1-20:2%%4, %%4 (default: all tasks)",
    )
    batch: int = option(
        1,
        "--batch N",
        "number of participants per task, which are processed one after the other",
        least=1,
    )
    time: str = option(
        "",
        "--time TIME",
        "time limit of each task: minutes, H:MM:SS or D-HH (default: estimated from the"
        " dataset and the settings)",
    )
    cpus: int | None = option(
        None, "--cpus N", "number of processors per task, as --nprocs (default: 4)", least=1
    )
    gpus: int | None = option(
        None,
        "--gpus N",
        "number of GPUs per task (default: 1 with --set resources.device=cuda, otherwise 0)",
        least=0,
    )
    no_group: bool = option(False, "--no-group", "do not submit a job for the group level")
