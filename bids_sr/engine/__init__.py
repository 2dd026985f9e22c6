"""Engine of the program: steps as typed functions, their graph, and its execution by nipype.

A step exchanges artifacts (`step`, `artifacts`), its calls build a graph (`flow`, `graph`), which
becomes a nipype workflow (`nipype_workflow`) and runs in local processes (`multiproc`) or as SLURM
jobs (`slurm`). `records` decides whether a finished step runs again. Nothing here knows images,
models or reports: steps are in the rooms of their subjects, and `bids_sr.workflows` has their
order.
"""
