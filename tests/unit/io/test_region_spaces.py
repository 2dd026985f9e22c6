"""Test the space of an image: from its name, or from a grid that is equal to its grid."""

import numpy as np
import pytest

from bids_sr.io.region_spaces import Grid, find_space


def grid(shape, zooms, origin):
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = origin
    return Grid(shape=shape, affine=affine)


T1W_GRID = grid((160, 192, 176), (1.0, 1.0, 1.0), (-80, -110, -70))
RUN = grid((64, 64, 30), (3.0, 3.0, 4.0), (-94, -110, -40))
HIGHRES = grid((128, 128, 30), (1.5, 1.5, 4.0), (-94.75, -110.75, -40))
MNI = grid((97, 115, 97), (2.0, 2.0, 2.0), (-96, -132, -78))
GRIDS = {"T1w": [T1W_GRID], "boldref": [RUN, HIGHRES], "MNI152NLin2009cAsym": [MNI]}
TURNED = grid((64, 64, 30), (-3.0, 3.0, 4.0), (95, -110, -40))
TWO_MM = grid((96, 96, 30), (2.0, 2.0, 4.0), (-94.5, -110.5, -40))
SAGITTAL = Grid(
    shape=(192, 176, 160),
    affine=np.array([[0, 0, 1.0, -80], [1, 0, 0, -110], [0, 1, 0, -70], [0, 0, 0, 1]]),
)


@pytest.mark.parametrize(
    ("image", "space"),
    [
        (T1W_GRID, "T1w"),
        (SAGITTAL, "T1w"),
        (RUN, "boldref"),
        (HIGHRES, "boldref"),
        (TURNED, "boldref"),
        (MNI, "MNI152NLin2009cAsym"),
        (TWO_MM, None),
        (grid((64, 64, 30), (3.0, 3.0, 4.0), (-94, -110, -46)), None),
        (grid((91, 109, 91), (-2.0, 2.0, 2.0), (90, -126, -72)), None),
    ],
)
def test_an_image_without_a_space_in_its_name_has_the_space_of_an_equal_grid(image, space):
    assert find_space("", image, GRIDS) == space


@pytest.mark.parametrize(
    ("label", "space"),
    [
        ("T1w", "T1w"),
        ("boldref", "boldref"),
        ("MNI152NLin2009cAsym", "MNI152NLin2009cAsym"),
        ("MNI152NLin6Asym", None),
        ("fsaverage", None),
    ],
)
def test_the_space_in_a_name_is_preferred_to_the_grid(label, space):
    for image in (TWO_MM, RUN, T1W_GRID):
        assert find_space(label, image, GRIDS) == space


def test_fields_of_view_are_compared_at_any_voxel_size_and_storage_order():
    assert TWO_MM.has_view_of(RUN)
    assert TURNED.has_view_of(HIGHRES)
    assert not T1W_GRID.has_view_of(RUN)
