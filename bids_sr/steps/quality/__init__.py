"""Steps that look for false detail in a run: edges and masks.

Quality of images as functions of arrays is in `bids_sr.quality`; flags from the values are in
`bids_sr.evaluation.qc_flags`.
"""
