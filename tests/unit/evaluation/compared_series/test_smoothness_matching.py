"""Test the smoothing width that gives the acquired series the smoothness of another series."""

import numpy as np
import pytest

from bids_sr.evaluation.compared_series.smoothness_matching import match_smoothness
from bids_sr.spatial.smoothing import smooth

ZOOMS = (1.5, 1.5, 3.0)
FACTOR = (2.0, 2.0, 1.0)


@pytest.fixture
def smooth_noise():
    """Return slightly smooth changes of a series, and a brain mask."""
    rng = np.random.default_rng(0)
    changes = [smooth(rng.standard_normal((48, 44, 10)), ZOOMS, 3.0) for _ in range(4)]
    mask = np.zeros((48, 44, 10), dtype=bool)
    mask[6:42, 6:38, 1:9] = True
    return changes, mask


@pytest.mark.parametrize("width", [0.0, 3.0, 6.0, 9.0])
def test_the_width_of_a_smoothed_series_is_recovered(smooth_noise, width):
    changes, mask = smooth_noise
    smoothed = [smooth(change, ZOOMS, width) for change in changes]
    assert match_smoothness(changes, smoothed, mask, ZOOMS, FACTOR) == pytest.approx(
        width, abs=0.05
    )


def test_a_sharper_series_has_width_0_and_a_constant_series_the_maximum(smooth_noise):
    changes, mask = smooth_noise
    rng = np.random.default_rng(1)
    assert match_smoothness(changes, [rng.standard_normal(mask.shape)], mask, ZOOMS, FACTOR) == 0
    assert match_smoothness(changes, [np.ones(mask.shape)], mask, ZOOMS, FACTOR) == 20
    assert np.isnan(match_smoothness(changes, [np.zeros(mask.shape)], mask, ZOOMS, FACTOR)), (
        "undefined for zero changes"
    )


def test_detail_above_nyquist_does_not_affect_the_width(smooth_noise):
    """If detail alternates between voxels, neighboring voxels differ but acquired voxels do
    not.
    """
    changes, mask = smooth_noise
    board = (-1.0) ** np.indices(mask.shape)[:2].sum(0)
    smoothed_changes = [smooth(change, ZOOMS, 6.0) for change in changes]
    fine = [
        change + board * smoothed_reversed
        for change, smoothed_reversed in zip(smoothed_changes, smoothed_changes[::-1], strict=True)
    ]
    assert match_smoothness(changes, fine, mask, ZOOMS, FACTOR) == pytest.approx(6.0, abs=0.5)
