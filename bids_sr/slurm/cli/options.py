"""Options of ``bids-sr-slurm``, which precede ``--`` and the options of ``bids-sr``.

The options of the site, such as ``--partition`` and ``--container``, are the fields of
`bids_sr.slurm.submission.Site`.
"""

from pathlib import Path

from bids_sr.config.section import OptionSection, argument, option
from bids_sr.frozen import frozen


@frozen
class SlurmOptions(OptionSection):
    """Options for the data, resources and tasks; `Site` describes the environment."""

    bids_dir: Path = argument("bids_dir", "root directory of the BIDS dataset")
    output_dir: Path = argument("output_dir", "output directory for the derivatives")
    batch: int = option(
        1,
        "--batch N",
        "number of participants per task, which are processed one after the other",
        least=1,
    )
    max_running: int | None = option(
        None,
        "--max-running N",
        "maximum number of tasks that run at the same time (default: the limit of the cluster)",
        least=1,
    )
    time: str = option(
        "",
        "--time TIME",
        "time limit of each task: minutes, H:MM:SS or D-HH (default: estimated from the"
        " dataset and the settings)",
    )
    gpus: int | None = option(
        None,
        "--gpus N",
        "number of GPUs per task (default: 1 with --device cuda, otherwise 0)",
        least=0,
    )
    no_group: bool = option(False, "--no-group", "do not submit a job for the group level")
    print_only: bool = option(
        False, "--print-only", "write and print the job scripts without submitting them"
    )
