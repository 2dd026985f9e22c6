"""Combination of the runs of a participant: the maps of all runs.

`bids_sr.survey.preflight.combined_runs` decides which runs belong together, `steps` estimates
their combined maps with an error, and `bids_sr.workflows.combination` has the order of steps.
"""
