"""Registration, brain masks, tissues and template regions, with ANTs, FSL and own rigid fits.

Head motion within a run, resampling and transforms are in `bids_sr.spatial`. Structural scans are
aligned in `bids_sr.structural`.
"""
