"""Simulated BIDS data sets whose activation, motion and poses are known.

The simulation knows nothing of the methods it is there to test: it starts from tissue, samples the
scene well above the highest acquired resolution and measures it as a scanner does, through
k-space, with noise of its own for each image.
"""
