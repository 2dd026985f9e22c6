"""Tests of the smoothing of the safe map."""

import pytest

from bids_sr.config.sections.activation import Activation
from bids_sr.io.safe_width import choose_widths, is_safe


@pytest.mark.parametrize(
    ("voxel_mm", "safe_mm"), [(2.0, 5.0), (6.00000038, 5.0), (6.3, 5.2), (7.5, 6.2)]
)
def test_the_safe_map_is_smoothed_by_part_of_a_voxel_and_at_least_5_mm(voxel_mm, safe_mm):
    assert choose_widths(voxel_mm) == (0.0, safe_mm)
    assert is_safe(safe_mm, (voxel_mm, voxel_mm / 2, 9.0))
    assert not is_safe(0.8 * voxel_mm, (voxel_mm / 2, voxel_mm, 1.0))


def test_requested_widths_replace_the_default():
    assert Activation(smoothing=(0.0, 4.0)).choose_smoothing(9.0) == (0.0, 4.0)
    assert Activation().choose_smoothing(9.0) == (0.0, 7.5)
