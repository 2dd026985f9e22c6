"""Training data: images at both resolutions, windows, augmentation and held-out slabs.

Images are arrays here. Pairs are aligned in `bids_sr.preproc.pair_frames`, and files of
``bids-sr-models`` are read in `bids_sr.cli.models.commands.training_images`.
"""
