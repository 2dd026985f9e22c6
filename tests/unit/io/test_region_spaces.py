"""Test the space of a mask: from its name, or from its field of view."""

import numpy as np
import pytest

from bids_sr.io.region_spaces import BOLDREF, T1W, TEMPLATE, Grid, find_space


def grid(shape, zooms, origin):
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = origin
    return Grid(shape=shape, affine=affine)


T1W_GRID = grid((160, 192, 176), (1.0, 1.0, 1.0), (-80, -110, -70))
RUN = grid((64, 64, 30), (3.0, 3.0, 4.0), (-94, -110, -40))
OTHER_RUN = grid((64, 64, 30), (3.0, 3.0, 4.0), (-94, -110, -46))
MNI = grid((91, 109, 91), (-2.0, 2.0, 2.0), (90, -126, -72))
UNKNOWN = grid((50, 50, 50), (2.0, 2.0, 2.0), (-30, -30, -30))
HALF_VOXELS = grid((128, 128, 30), (1.5, 1.5, 4.0), (-94.75, -110.75, -40))
TURNED = grid((64, 64, 30), (-3.0, 3.0, 4.0), (95, -110, -40))


@pytest.mark.parametrize(
    ("mask_grid", "space"),
    [
        (T1W_GRID, T1W),
        (RUN, BOLDREF),
        (HALF_VOXELS, BOLDREF),
        (TURNED, BOLDREF),
        (OTHER_RUN, None),
        (MNI, TEMPLATE),
        (UNKNOWN, None),
    ],
)
def test_a_mask_without_a_space_in_its_name_has_the_space_of_its_field_of_view(mask_grid, space):
    assert find_space("", mask_grid, T1W_GRID, [RUN], []) == space


def test_a_mask_with_the_voxels_of_a_run_belongs_to_the_run():
    """The T1w image of this participant has the same field of view as the run."""
    t1w = grid((192, 192, 120), (1.0, 1.0, 1.0), (-95, -111, -41.5))
    assert RUN.has_view_of(t1w)
    assert find_space("", RUN, t1w, [RUN], []) == BOLDREF
    assert find_space("", HALF_VOXELS, t1w, [RUN], []) == T1W


@pytest.mark.parametrize(
    ("label", "space"),
    [
        ("T1w", T1W),
        ("boldref", BOLDREF),
        ("MNI152NLin6Asym", TEMPLATE),
        ("UNCInfant", TEMPLATE),
        ("fsaverage", None),
    ],
)
def test_the_entity_of_a_name_is_preferred_to_the_field_of_view(label, space):
    for mask_grid in (UNKNOWN, RUN, T1W_GRID):
        assert find_space(label, mask_grid, T1W_GRID, [RUN], ["UNCInfant"]) == space


def test_without_a_t1w_image_a_mask_may_be_on_the_grid_of_a_run():
    assert find_space("", RUN, None, [OTHER_RUN, RUN], []) == BOLDREF
    assert find_space("", T1W_GRID, None, [RUN], []) is None
