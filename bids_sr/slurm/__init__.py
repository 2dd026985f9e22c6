"""Participants as tasks of SLURM arrays: what is asked for, the scripts, what became of each.

No accounting is asked: each task writes a status file, the group job keeps what `squeue` says at
the end of the array, and the messages of SLURM stand in the logs.
"""
