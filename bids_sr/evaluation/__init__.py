"""Accuracy of super-resolved series: agreement with references, quality flags and the verdict.

Effects and maps are compared with measured runs, known activation, the other half of the run, or
the acquired run at half the resolution, and the result is put into words. Similarity of two images
is in `bids_sr.spatial.image_similarity`, and resolution in `bids_sr.spatial.effective_resolution`.
"""
