"""Steps of the combination of runs, and the figures of a participant's combined maps.

The functions of arrays that they call are one folder up, in `bids_sr.group.combination`.
"""
