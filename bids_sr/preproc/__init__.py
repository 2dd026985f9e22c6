"""Preprocessing of images and series before super-resolution and models.

Head motion, reference image, slice timing, echoes and outlier volumes, registration and brain
masks, tissues, and the columns of the confounds table. Functions know arrays, and `steps` makes
steps of them.
"""
