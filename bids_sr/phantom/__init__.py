"""Simulated BIDS data sets with known activation, motion and poses.

The simulation is independent of the methods that it tests. It starts from tissue maps, samples the
scene well above the highest acquired resolution, and measures it through k-space as a scanner
does, with separate noise for each image. The program
``bids-sr-phantom`` is `bids_sr.cli.phantom`; nothing else of bids_sr imports this folder.
"""
