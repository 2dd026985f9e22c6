"""Structural scans (``--sr-target anat``): super-resolution of T1w, T2w and FLAIR images.

Scans of a participant are prepared on one grid, super-resolved by a network that fuses the
contrasts, and measured by image quality, tissues and lesions (attention-unet). The order of steps
is in `bids_sr.workflows.structural`; `group` has the statistics across participants.
"""
