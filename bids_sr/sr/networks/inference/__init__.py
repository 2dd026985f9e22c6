"""Application of trained networks to volumes, slices and contrasts, and explanation of slices.

A series is super-resolved volume by volume in `bids_sr.sr.inference`, which calls this folder for
methods with networks.
"""
