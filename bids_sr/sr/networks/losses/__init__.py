"""Losses of trainings, as torch modules.

Recipes name them by module and class, ``loss("content", "image.MSE", 1.0)``. Metrics of results
are in `bids_sr.spatial.image_similarity`.
"""
