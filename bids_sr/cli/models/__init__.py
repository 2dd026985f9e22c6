"""Program ``bids-sr-models``: train, apply, evaluate, compare and rate models on NIfTI images.

`commands` has a module for each command. Beside it are the functions that only these commands
need: random search of settings, tests between methods and blind ratings. Nothing else of bids_sr
imports this folder.
"""
