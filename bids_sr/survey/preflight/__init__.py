"""Checks of a call before its processing: design, options, models, memory and voxel values.

`checks.plan_call` reads headers, sidecars and tables, returns the plan of the call with all
problems that were found, and writes nothing but missing templates and the index of
``--bids-database-dir``; `bids_sr.workflows.call_checks` calls it for runs and scans.
`estimates.check_machine` checks memory and device of the machine that processes the data, and
`voxel_checks.check_data` reads voxels once processing starts; files of the data set are located
and checked in `bids_sr.survey.bids`.
"""
