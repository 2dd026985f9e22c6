"""Commands of ``bids-sr-models``: options, files read and written, and what is printed.

The functions that know neither files nor options are one folder up, in `bids_sr.cli.models`.
"""
