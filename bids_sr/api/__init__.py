"""Python interface: `SuperResolver` and `recovered_detail`, as in scikit-learn.

Images and tables are arguments, without a BIDS data set, settings or nipype. They call
functions of `bids_sr.workflows` in memory, and a few steps; they do not compute results
themselves. Import them from `bids_sr`, which loads them when they are first used; see docs/api.md.
"""
