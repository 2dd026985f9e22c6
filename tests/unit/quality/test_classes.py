"""Agreement of masks, volumes and measurements by hand."""

import numpy as np
import pytest

from bids_sr.quality.classes import _tissue_volumes, overlap

REFERENCE = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
FOUND = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)


def test_ratios_by_hand():
    # 3 true positives, 2 false ones, 1 false negative, 4 true ones
    assert overlap(REFERENCE, FOUND) == pytest.approx(
        {"dice": 6 / 9, "jaccard": 3 / 6, "tpf": 3 / 4, "tnf": 4 / 6, "ppv": 3 / 5}
    )


def test_only_what_lies_within_counts_and_nothing_over_nothing_is_none():
    within = np.array([1, 0, 1, 1, 1, 0, 0, 0, 1, 0], bool)
    # 2 true positives, 1 false one, 1 false negative, 1 true one
    assert overlap(REFERENCE, FOUND, within) == pytest.approx(
        {"dice": 4 / 6, "jaccard": 2 / 4, "tpf": 2 / 3, "tnf": 1 / 2, "ppv": 2 / 3}
    )
    assert overlap(np.zeros(4, bool), np.zeros(4, bool)) == {
        "dice": None,
        "jaccard": None,
        "tpf": None,
        "tnf": 1,
        "ppv": None,
    }
    with pytest.raises(ValueError, match="compared"):
        overlap(REFERENCE, FOUND[:4])


def test_volumes_count_probability_by_its_part():
    mask = np.zeros((10, 10, 10), bool)
    mask[:5] = True
    found = _tissue_volumes({"gm": mask, "wm": 0.25 * np.ones((10, 10, 10))}, (1.0, 2.0, 1.5))
    assert found == pytest.approx({"gm": 1.5, "wm": 0.75})
