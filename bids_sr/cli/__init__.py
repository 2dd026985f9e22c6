"""Programs: ``bids-sr``, and in `models`, `slurm` and `phantom` the three others.

`stages` sums the memory and time of steps for each stage, as the dry run prints them. Options of
``bids-sr`` are declared in `bids_sr.config.sections`; this folder generates the command line from
them.
"""
