"""Agreement of masks, volumes and measurements by hand."""

import numpy as np
import pytest

from bids_sr.stats.regions.mask_overlap import overlap, tissue_volumes

REFERENCE = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
FOUND = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)


def test_ratios_by_hand():
    seen = overlap(REFERENCE, FOUND)
    assert (seen.true_positive, seen.false_positive, seen.false_negative, seen.true_negative) == (3, 2, 1, 4)
    ratios = (seen.dice, seen.tpf, seen.tnf, seen.ppv)
    assert ratios == pytest.approx((6 / 9, 3 / 4, 4 / 6, 3 / 5))


def test_only_what_lies_within_counts_and_nothing_over_nothing_is_none():
    within = np.array([1, 0, 1, 1, 1, 0, 0, 0, 1, 0], bool)
    seen = overlap(REFERENCE, FOUND, within)
    assert (seen.true_positive, seen.false_positive, seen.false_negative, seen.true_negative) == (2, 1, 1, 1)
    empty = overlap(np.zeros(4, bool), np.zeros(4, bool))
    assert empty.dice is None
    assert empty.ppv is None
    assert empty.tnf == 1
    with pytest.raises(ValueError, match="compared"):
        overlap(REFERENCE, FOUND[:4])


def test_volumes_count_probability_by_its_part():
    mask = np.zeros((10, 10, 10), bool)
    mask[:5] = True
    found = tissue_volumes({"gm": mask, "wm": 0.25 * np.ones((10, 10, 10))}, (1.0, 2.0, 1.5))
    assert found == pytest.approx({"gm": 1.5, "wm": 0.75})
