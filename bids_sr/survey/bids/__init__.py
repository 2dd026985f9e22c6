"""Survey of a BIDS data set: files of each participant and run, and problems of these files.

`survey` returns the inputs of the workflows, such as `BoldRun` and `Subject`, together with all
problems, for ``--retrospective`` also the plan of the copies. Checks of the analysis, such as
contrasts, memory and voxel values, are in `bids_sr.survey.preflight`. pybids is only imported when
`survey` is called.
"""
