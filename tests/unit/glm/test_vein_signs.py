"""Signs of veins, on images with known effects and darkness."""

import numpy as np
import pytest

from bids_sr.glm.vein_signs import VeinSigns, measure_darkness
from bids_sr.io.volume import Volume

SHAPE = (32, 32, 6)


def test_darkness_is_relative_to_the_surroundings():
    """A gradient of the coil's sensitivity is not darkness; a vein of half the signal is."""
    brain = np.ones(SHAPE, bool)
    brain[:2] = False
    gradient = np.broadcast_to(np.linspace(100, 400, 32)[:, None, None], SHAPE).copy()
    gradient[20, 16] /= 2
    ratio = measure_darkness(gradient, brain, (2.0, 2.0, 3.0))
    assert ratio[20, 16, 3] == pytest.approx(0.5, abs=0.05)
    assert ratio[10, 16, 3] == pytest.approx(1, abs=0.05)
    assert (ratio[~brain] == 1).all()


def test_shares_of_voxels_with_signs_are_measured_on_a_finer_grid():
    """A column of the acquired grid has a large effect, and one dark voxel of it is dark."""
    affine, fine = np.diag([4.0, 4.0, 4.0, 1.0]), np.diag([2.0, 2.0, 4.0, 1.0])
    fine[:2, 3] = -1
    boldref, effect = np.full(SHAPE, 400.0), np.zeros(SHAPE, np.float32)
    boldref[20, 16] = 200
    effect[20], effect[21] = -6, 5
    grid = Volume(np.zeros((64, 64, 6), np.float32), fine)
    signs = VeinSigns.find(
        Volume(boldref, affine),
        Volume(np.ones(SHAPE, bool), affine),
        {"hand": Volume(effect, affine)},
        grid,
    )
    region = np.zeros(grid.data.shape, bool)
    region[40:44, 32:36] = True  # acquired voxels 20 and 21, 16 and 17
    shares = signs.measure("hand", region.nonzero())
    assert shares == {"large_share": 0.5}
    assert signs.dark[region].mean() == 0.25
    assert np.isnan(signs.measure("foot", region.nonzero())["large_share"])
