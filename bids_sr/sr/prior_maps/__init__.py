"""Method ``sbl``: estimation, self-test and application of prior SD maps of a run.

A prior SD map is the prior standard deviation of the signal in each high-resolution voxel,
estimated from the run and, if available, a calibration run. `add_detail` also has the control
``sdmod``. Methods with networks are in `bids_sr.sr.networks`.
"""
