"""Truth from the user's own data: a downsampled copy of each run, and the measured volumes to compare with.

`prepare` writes both as BIDS data sets under ``sourcedata`` of the output, once, and returns the settings with which
the participant level works on them.
"""

from bids_sr.retrospective.preparation import derived_settings, prepare

__all__ = ["derived_settings", "prepare"]
