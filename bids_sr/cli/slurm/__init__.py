"""Program ``bids-sr-slurm``: its options, the checks before a submission, and what it prints.

Scripts, the queue and records of what is done are in `bids_sr.engine.slurm`.
"""
