"""Volumes of a run as images to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_sr.io.array_types import Array

if TYPE_CHECKING:
    from bids_sr.io.nifti import SeriesReader
    from bids_sr.sr.data.images import ImageSet

# Neighbors in time are nearly one image: twenty, drawn over the run, show its poses and its noise, and fit in memory.
VOLUMES = 20


def volumes_of_run(reader: SeriesReader, mask: Array, n_dummy: int, seed: int) -> ImageSet:
    """Some volumes of a run, in their order in time.

    Parameters
    ----------
    reader, mask : (x, y, z, T) as acquired, and the brain on its grid
    n_dummy : first volumes, whose contrast is another
    seed : of the draw
    """
    from bids_sr.sr.data.images import ImageSet

    there = np.arange(min(n_dummy, reader.shape[3] - 1), reader.shape[3])
    picked = np.sort(np.random.default_rng(seed).choice(there, min(VOLUMES, len(there)), replace=False))
    return ImageSet.from_volumes([reader.volume(int(t)) for t in picked], mask, reader.affine)
