"""Test the windowed sinc at arbitrary points against the matrix along one axis and known
images.
"""

import numpy as np
import pytest

from bids_sr.spatial.matrices import interpolation_matrix
from bids_sr.spatial.windowed_sinc import sample_sinc


def test_samples_equal_the_lanczos_matrix():
    random = np.random.default_rng(0)
    line = random.random(40)
    volume = np.broadcast_to(line[:, None, None], (40, 3, 3))
    m, n = 40, 80
    places = (np.arange(n) + 0.5) * m / n - 0.5
    inside = (places > 3) & (places < m - 4)
    points = np.vstack([places, np.ones(n), np.ones(n)])
    expected = interpolation_matrix("lanczos", m, n) @ line
    np.testing.assert_allclose(sample_sinc(volume, points)[inside], expected[inside], rtol=1e-5)


def test_samples_and_constants_are_kept_and_edges_repeated():
    volume = np.random.default_rng(1).random((5, 6, 7))
    grid_points = np.indices(volume.shape).reshape(3, -1)
    np.testing.assert_allclose(sample_sinc(volume, grid_points), volume.ravel(), rtol=1e-5)
    points = np.random.default_rng(2).uniform(-9, 15, (3, 50))
    np.testing.assert_allclose(sample_sinc(np.full((5, 6, 7), 2.5), points), 2.5, rtol=1e-5)
    far = sample_sinc(volume, np.array([[-20.0], [-20.0], [-20.0]]))
    assert far[0] == pytest.approx(volume[0, 0, 0])
