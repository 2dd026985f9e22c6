"""Geometry of images: transforms, resampling, head motion, slice timing, distortion and masks.

Functions of arrays, affines and transforms (RAS mm). Registration of images of one head or with a
template, by ANTs or FSL, and segmentation are in `bids_sr.preproc`; super-resolution is in
`bids_sr.sr`.
"""
