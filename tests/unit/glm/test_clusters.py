"""Largest clusters of maps with known sizes and peaks."""

import numpy as np

from bids_sr.glm.clusters import largest_clusters


def test_decreases_form_clusters_of_their_own_with_minima_as_peaks() -> None:
    values = np.zeros((12, 3, 3))
    values[2:5, 1, 1], values[5:9, 1, 1] = (3.0, 5.0, 4.0), (-3.0, -6.0, -4.0, -3.5)
    affine = np.diag([2.0, 1, 1, 1])
    decrease, increase = largest_clusters(values, np.abs(values) > 2, affine)
    assert (len(decrease.voxels), decrease.peak.value, decrease.threshold) == (4, -6.0, -3.0)
    assert decrease.peak.position.tolist() == [12, 1, 1]
    assert (len(increase.voxels), increase.peak.value, increase.threshold) == (3, 5.0, 3.0)


def ridge() -> np.ndarray:
    """Return two peaks of 9 and 7 on a connecting plateau of 24 x 24 x 24 mm, with voxels
    of 2 mm.
    """
    values = np.zeros((30, 12, 12), dtype=np.float32)
    values[1:29] = 2.0
    for x, peak in ((6, 9.0), (22, 7.0)):
        values[x - 3 : x + 4, 3:9, 3:9] = 4.0
        values[x, 5, 5] = peak
    return values


def test_a_large_cluster_is_split_at_a_threshold_that_separates_its_peaks() -> None:
    values, affine = ridge(), np.diag([2.0, 2, 2, 1])
    assert (values > 0).sum() * 8 > 10_000
    first, second = largest_clusters(values, values > 0, affine)[:2]
    assert (first.peak.value, second.peak.value) == (9.0, 7.0)
    assert len(first.voxels) == len(second.voxels) == 7 * 6 * 6
    assert first.threshold == second.threshold == 4.0
    # With voxels of 1 mm, the region has only 4 cm³ and stays a single cluster at its own
    # threshold.
    (unsplit,) = largest_clusters(values, values > 0, np.eye(4))
    assert (len(unsplit.voxels), unsplit.threshold) == ((values > 0).sum(), 2.0)
    assert unsplit.peak.value == 9.0
