"""Quality of images and series as functions of arrays, such as tSNR and effective resolution.

`bids_sr.steps.quality` is another subject: steps that look for false detail in a run. Tables of
the values are in `bids_sr.metrics`, quality flags in `bids_sr.evaluation.qc_flags`, and quality of
structural scans in `bids_sr.structural`.
"""
