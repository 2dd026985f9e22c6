"""Rigid registration: a known pose is found, also from rotated headers."""

from pathlib import Path

import numpy as np
import pytest
from data.head import brain, grid, seen, t2star

from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.rigid import register_rigid
from bids_sr.spatial import masks
from bids_sr.spatial.transforms import displacement, invert, rigid_matrix, voxel_centers

GRID = grid((32, 38, 18), (6.0, 6.0, 6.0), (0, -18, 20))
MOVED = rigid_matrix([3, -2, 4, 0.07, -0.04, 0.05], [0, -18, 12])
"""Transform of a T1w point to its boldref point."""


@pytest.fixture(scope="module")
def images() -> tuple[Volume, np.ndarray, Volume, np.ndarray]:
    """Return a boldref, its mask, and a T1w brain and its mask."""
    boldref = seen(t2star(), GRID, invert(MOVED), noise=15)
    return boldref, masks.brain_mask(boldref.data, boldref.affine), *brain(3.0)


def turn(image: Volume, degrees: float) -> tuple[Volume, np.ndarray]:
    """Rotate the header of an image about the superior axis; return the rotation, too."""
    xfm = rigid_matrix([4, -3, 5, 0, 0, np.deg2rad(degrees)], [0, 0, 0])
    return Volume(image.data, xfm @ image.affine), xfm


@pytest.mark.parametrize(("degrees", "start"), [(0, "headers"), (90, "turned headers")])
def test_a_known_pose_is_found_from_headers_of_any_orientation(
    degrees: float,
    start: str,
    images: tuple[Volume, np.ndarray, Volume, np.ndarray],
    tmp_path: Path,
) -> None:
    boldref, mask, t1w, t1w_mask = images
    turned, xfm = turn(t1w, degrees)
    fit = register_rigid(
        boldref,
        turned,
        mask,
        t1w_mask,
        options=AntsOptions(seed=1, prefix=str(tmp_path / "x_")),
        soft=True,
    )
    points = voxel_centers(mask, boldref.affine)
    assert displacement(fit.xfm, xfm @ invert(MOVED), points).max() < 0.6  # a tenth of a voxel
    assert fit.start == start
