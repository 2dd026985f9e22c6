"""Execution of the nodes of a call by nipype, in local processes or as SLURM jobs.

The folder has scheduling, crash files, and records that decide whether a finished step runs again.
Nodes are made from the graph in `bids_sr.pipeline`; SLURM commands are in `bids_sr.slurm`.
"""
