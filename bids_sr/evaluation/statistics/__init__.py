"""Statistical tests of paired values, corrections for multiple comparisons, agreement, and splits.

Functions of a few numbers per participant, without images. The linear model of a run is in
`bids_sr.glm`, and tests of voxels across participants are in `bids_sr.group`.
"""
