"""Survey of the data set, and checks before anything is processed.

`bids` finds the files of participants and runs, `preflight` checks them and estimates the cost of
the call, and `retrospective` downsamples a high-resolution data set (``--retrospective``).
"""
