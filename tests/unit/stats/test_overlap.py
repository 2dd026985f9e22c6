"""Agreement of masks, volumes and measurements by hand."""

import numpy as np
import pytest

from bids_sr.stats.regions.mask_overlap import bland_altman, jaccard, overlap, tissue_volumes

REFERENCE = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
FOUND = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)


def test_ratios_by_hand():
    seen = overlap(REFERENCE, FOUND)
    assert (seen.true_positive, seen.false_positive, seen.false_negative, seen.true_negative) == (3, 2, 1, 4)
    assert seen.figures() == pytest.approx(
        {
            "dice": 6 / 9, "jaccard": 3 / 6, "tpf": 3 / 4, "tnf": 4 / 6, "ppv": 3 / 5, "false_discovery_rate": 2 / 5,
            "accuracy": 7 / 10,
        }
    )  # fmt: skip
    assert jaccard(REFERENCE, FOUND) == 0.5


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


def test_limits_of_agreement_by_hand():
    # differences 1, 3, 2: mean 2, standard deviation 1
    plain = bland_altman([10, 20, 30], [11, 23, 32], percent=False)
    assert (plain.bias, plain.lower, plain.upper) == pytest.approx((2, 2 - 1.96, 2 + 1.96))
    assert plain.means == (10.5, 21.5, 31)
    share = bland_altman([10, 20], [30, 20])
    assert share.differences == (100, 0)
    assert share.bias == 50
    with pytest.raises(ValueError, match="at least 2"):
        bland_altman([1], [2])
    with pytest.raises(ValueError, match="percent"):
        bland_altman([1, -1], [2, 1])
