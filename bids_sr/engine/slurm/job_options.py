"""Options of the jobs of all steps of a call."""

from bids_sr.engine.slurm.sbatch_variables import (
    find_inherited_variables,
    list_options,
    list_script_arguments,
)
from bids_sr.io.frozen import frozen


@frozen
class JobOptions:
    """Options of jobs that run one step each.

    `sbatch_args` are arguments for all jobs, and `gpu_args` are further arguments for steps that
    use a GPU. `template` contains the first lines of job scripts. `time_minutes` is the time
    limit; None for the limit of the partition. `memory_extra_gb` is the memory of a process beyond
    the memory of its step. With `join_small`, steps with small tables run in the submitting
    program. `max_jobs` is the maximum number of jobs at a time. `poll_seconds` is the interval
    between queries of the queue, `grace_seconds` the time until a file must be visible on another
    host, and `patience_seconds` the time for which SLURM may not respond.
    """

    sbatch_args: tuple[str, ...] = ()
    gpu_args: tuple[str, ...] = ()
    template: str = "#!/bin/bash"
    time_minutes: float | None = None
    memory_extra_gb: float = 0.7
    join_small: bool = True
    max_jobs: int = 100
    poll_seconds: float = 5.0
    grace_seconds: float = 20.0
    patience_seconds: float = 600.0

    @property
    def inherited_variables(self) -> dict[str, str]:
        """Variables ``SBATCH_*`` that jobs inherit, because these options do not replace them."""
        arguments = [*self.sbatch_args, *list_script_arguments(self.template)]
        return find_inherited_variables(list_options(arguments))
