"""Test the agreement of super-resolved with acquired scans, with known contrast and noise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bids_sr.evaluation.acquired_scan import (
    acquired_scan_rows,
    compare_with_acquired_scan,
)

SHAPE, ZOOMS, ACQUIRED_MM = (32, 32, 24), (2.0, 2.0, 2.0), 4.0
MASK = np.zeros(SHAPE, bool)
MASK[4:28, 4:28, 4:20] = True
RNG = np.random.default_rng(0)
TRUTH = gaussian_filter(RNG.standard_normal(SHAPE), 1.0)
ACQUIRED = 5 + gaussian_filter(TRUTH, 0.85) / TRUTH.std()


def compare(scan: np.ndarray) -> tuple[float, float]:
    return compare_with_acquired_scan(scan, ACQUIRED, MASK, ZOOMS, ACQUIRED_MM)


@pytest.mark.parametrize("gain", [1.0, 0.3, -1.0])
def test_the_slope_is_the_gain_of_the_contrast(gain: float) -> None:
    slope, r = compare(gain * ACQUIRED + 40)
    assert slope == pytest.approx(gain, abs=1e-4)
    assert r == pytest.approx(np.sign(gain), abs=1e-4)


def test_detail_and_noise_above_the_acquired_resolution_have_little_influence() -> None:
    noise = 0.5 * ACQUIRED[MASK].std() * RNG.standard_normal(SHAPE)
    slope, r = compare(5 + TRUTH / TRUTH.std() + noise)
    assert 0.9 < slope < 2
    assert r > 0.9
    assert compare(np.ones(SHAPE)) == (0.0, 0.0)


def test_methods_with_a_scan_that_does_not_agree_are_flagged() -> None:
    other = 5 + gaussian_filter(RNG.standard_normal(SHAPE), 1.3)
    scans = {
        "bspline": {"T1w": ACQUIRED, "FLAIR": ACQUIRED},
        "unet": {"T1w": ACQUIRED, "FLAIR": other},
        "vit": {"T1w": 0.2 * ACQUIRED, "FLAIR": ACQUIRED},
    }
    acquired = {"T1w": ACQUIRED, "FLAIR": ACQUIRED}
    sizes = dict.fromkeys(acquired, ACQUIRED_MM)
    rows = acquired_scan_rows(scans, acquired, MASK, ZOOMS, sizes)
    flags = {row.series: row.value for row in rows if row.statistic == "flag_altered_scan"}
    assert flags == {"bspline": 0.0, "unet": 1.0, "vit": 1.0}
