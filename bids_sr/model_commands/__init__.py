"""Program ``bids-sr-models``: train, apply, evaluate, compare and rate models on NIfTI images.

A module per command, with the tables, splits and tests that only these commands need. Nothing else
of bids_sr imports this folder.
"""
