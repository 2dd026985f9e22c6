"""SLURM: participants as tasks of job arrays, and steps as jobs.

`cli` is the program ``bids-sr-slurm``: `remaining` compares the records of finished tasks and the
queue (`records`), `scripts` writes the jobs. `plugin` runs the steps of one call as jobs
(``--use-plugin``), which are submitted by `step_jobs` and `queue`.
"""

from typing import TYPE_CHECKING

from bids_sr.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.slurm.plugin import ResilientSLURM as ResilientSLURM
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "plugin": ["ResilientSLURM"],
        },
    )
