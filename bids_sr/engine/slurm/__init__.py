"""SLURM: participants as tasks of job arrays, and steps as jobs.

SLURM's accounting is not required: each task records which participants are done. `plugin`
runs the steps of one call as jobs (``--use-plugin``), and `bids_sr.cli.slurm` is the program
``bids-sr-slurm``.
"""
