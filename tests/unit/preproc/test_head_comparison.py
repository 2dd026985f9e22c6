"""Test the comparison of heads on simulated boldrefs: scale, other heads and mirrored heads."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.head_comparison import (
    SAME_HEAD,
    head_similarity,
    is_mirrored,
    resample_with_field_of_view,
    signal_ratio,
)

SHAPE, AFFINE = (36, 40, 16), np.diag([-3.0, 3.0, 4.0, 1.0])
AFFINE[:3, 3] = (92.5, -58.5, -30.0)  # 40 mm to the right of the origin


def mask():
    x, y, z = ((2 * at + 1) / n - 1 for at, n in zip(np.indices(SHAPE), SHAPE, strict=True))
    return x**2 + y**2 + z**2 < 0.8**2


def head(seed=0, noise=0.0):
    """Return the boldref of a head with its own cortex, and with measurement noise."""
    cortex = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.0)
    image = np.where(mask(), 600 * (1 + 0.2 * cortex / cortex.std()), 10.0)
    image = image + noise * np.random.default_rng(seed + 100).normal(size=SHAPE)
    return Volume(np.maximum(image, 1.0), AFFINE)


def test_the_signal_ratio_is_robust_to_voxels_outside_the_head():
    first, other = head(), head(noise=5)
    larger = ndimage.binary_dilation(mask(), iterations=2)
    assert signal_ratio(first.data, 3 * other.data, larger) == pytest.approx(3, rel=0.01)
    assert signal_ratio(first.data, np.zeros(SHAPE), mask()) == 1.0


def test_a_head_is_recognized_despite_noise_scale_and_bias():
    x = np.indices(SHAPE)[0] / SHAPE[0]
    biased = 3 * (0.6 + 0.8 * x) * head(noise=20).data
    assert head_similarity(head().data, biased, mask(), head().zooms) > 0.9


def test_another_head_and_a_mirrored_head_differ():
    first = head()
    for image in (head(1).data, first.data[::-1]):
        assert head_similarity(first.data, image, mask(), first.zooms) < 0.3


@pytest.mark.parametrize("moved_mm", [0.0, 4.0])
def test_swapped_sides_are_recognized(moved_mm):
    """The head is off the center of the field of view, so that its mirrored image has moved."""
    first = head()
    moved = ndimage.shift(head(noise=5).data, (moved_mm / 3, 0, 0), order=1, cval=10.0)
    mirrored, same, other = Volume(moved[::-1], AFFINE), Volume(moved, AFFINE), head(1)
    for image, expected in ((mirrored, True), (same, False), (other, False)):
        placed = resample_with_field_of_view(image, first, np.eye(4))
        similarity = head_similarity(first.data, placed, mask(), first.zooms)
        assert is_mirrored(first, image, mask(), np.eye(4), similarity) is expected
    assert SAME_HEAD < 1
