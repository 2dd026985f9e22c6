"""Agreement of masks, and volumes, computed by hand."""

import numpy as np
import pytest

from bids_sr.structural.tissue_overlap import overlap

REFERENCE = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
ESTIMATE = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)


def test_overlap_by_hand():
    # 3 true positives, 2 false positives, 1 false negative, 4 true negatives
    assert overlap(REFERENCE, ESTIMATE) == pytest.approx(
        {"dice": 6 / 9, "jaccard": 3 / 6, "tpf": 3 / 4, "tnf": 4 / 6, "ppv": 3 / 5}
    )


def test_overlap_within_a_mask_and_of_empty_masks():
    mask = np.array([1, 0, 1, 1, 1, 0, 0, 0, 1, 0], bool)
    # 2 true positives, 1 false positive, 1 false negative, 1 true negative
    assert overlap(REFERENCE, ESTIMATE, mask) == pytest.approx(
        {"dice": 4 / 6, "jaccard": 2 / 4, "tpf": 2 / 3, "tnf": 1 / 2, "ppv": 2 / 3}
    )
    assert overlap(np.zeros(4, bool), np.zeros(4, bool)) == {
        "dice": None,
        "jaccard": None,
        "tpf": None,
        "tnf": 1,
        "ppv": None,
    }
