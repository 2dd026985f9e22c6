"""Series of other programs (``--compare``): denoised or super-resolved elsewhere.

They are resampled to the high-resolution grid of their run, mapped like all series, and receive a
verdict of their own. The order of steps is in `bids_sr.workflows.compared_series`.
"""
