"""SLURM: participants as tasks of job arrays, and steps as jobs.

SLURM's accounting is not required: each task records which participants are done. The program
``bids-sr-slurm`` uses `scripts`, and `plugin` runs the steps of one call as jobs
(``--use-plugin``).
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.engine.slurm.plugin import ResilientSLURM as ResilientSLURM
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "plugin": ["ResilientSLURM"],
        },
    )
