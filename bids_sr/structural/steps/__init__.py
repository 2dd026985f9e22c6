"""Steps for structural scans: preparation, training, super-resolution, measures and figures.

The functions of arrays that they call are one folder up, in `bids_sr.structural`.
"""
