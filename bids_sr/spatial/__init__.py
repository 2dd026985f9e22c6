"""Geometry of images: grids, transforms, resampling, smoothing, distortion and masks.

Functions of arrays, affines and transforms (RAS mm). Head motion, registration and segmentation
are in `bids_sr.preproc`; super-resolution is in `bids_sr.sr`.
"""
