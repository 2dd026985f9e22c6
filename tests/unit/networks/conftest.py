"""Provide a pair small enough to train on in a test."""

import numpy as np
import pytest

from bids_sr.networks.data.images import pair_image
from bids_sr.sr.matrices import kspace_crop


@pytest.fixture(scope="session")
def small_pair():
    """Return a textured ellipse, 24 x 24 x 6, and its k-space crop: ten slices."""
    rng = np.random.default_rng(5)
    shape = (24, 24, 6)
    x, y, _ = np.indices(shape) / 11.5 - 1
    head = (x**2 + y**2) < 0.8
    texture = np.repeat(np.repeat(rng.random((12, 12, 6)), 2, 0), 2, 1)
    highres = (head * (500 + 500 * texture)).astype(np.float32)
    lowres, affine = kspace_crop(highres, np.diag([3.0, 3, 4, 1]), factor=(2, 2, 1))
    return pair_image(lowres, highres, head[::2, ::2], affine, (2.0, 2.0, 1.0))
