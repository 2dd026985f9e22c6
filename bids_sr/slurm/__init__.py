"""Participants as tasks of SLURM arrays: requests, scripts and states.

SLURM's accounting is not required. Each task writes a status file, the group job saves the output
of `squeue` at the end of the array, and messages of SLURM are in the logs.
"""
