"""Networks: architectures, losses, training data, training and application.

Recipes (`bids_sr.sr.recipe`) name the classes, and methods (`bids_sr.sr.methods`) list the
recipes. Files of models are read and written in `bids_sr.sr.models`, as for methods without
networks.
"""
