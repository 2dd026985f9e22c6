"""Simplified outlines equal the result of skimage's `approximate_polygon`."""

import numpy as np
import pytest
from contourpy import contour_generator
from scipy import ndimage
from skimage.measure import approximate_polygon

from bids_sr.report.figures.slices import simplify_line


def contours(seed):
    """Return outlines of random blobs: open and closed polylines."""
    image = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((70, 60)), 2)
    return [np.asarray(line) for line in contour_generator(z=image).lines(0.03)]


@pytest.mark.parametrize("tolerance", [0.05, 0.3, 2.0])
def test_simplified_outlines_equal_skimage(tolerance):
    lines = contours(0) + contours(1)
    assert len(lines) > 10
    assert any((line[0] == line[-1]).all() for line in lines)
    assert any((line[0] != line[-1]).any() for line in lines)
    dropped = 0
    for line in lines:
        simplified_line = simplify_line(line, tolerance)
        np.testing.assert_array_equal(simplified_line, approximate_polygon(line, tolerance))
        dropped += len(line) - len(simplified_line)
    assert dropped > 100


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_lines_are_unchanged(count):
    line = np.array([[0.0, 0], [1, 2], [3, 0]])[:count]
    np.testing.assert_array_equal(simplify_line(line, 0.5), line)


def test_points_within_the_tolerance_are_removed():
    line = np.array([[0.0, 0], [2, 1], [4, 0]])
    assert len(simplify_line(line, 1.0)) == 2
    assert len(simplify_line(line, 0.99)) == 3


def test_distances_are_measured_to_the_segment_not_its_line():
    line = np.array([[0.0, 0], [6, 0], [4, 0]])  # the line reverses its direction
    np.testing.assert_array_equal(simplify_line(line, 1.0), line)
    np.testing.assert_array_equal(simplify_line(line, 2.0), line[[0, 2]])
