"""Program ``bids-sr-slurm``: options, checks and submission of job arrays.

The functions that it calls are one folder up, in `bids_sr.slurm`.
"""
