"""Registration results do not depend on rounding of start and grids."""

import numpy as np

from bids_sr.preproc.rigid import nearest_rigid
from bids_sr.spatial.transforms import rigid_matrix


def test_the_nearest_rigid_matrix_does_not_depend_on_rounding() -> None:
    matrix = rigid_matrix([1, 2, 3, 0.2, -0.1, 0.3], [4, 5, 6]).astype(np.float32).astype(float)
    noise = 1 + 1e-15 * np.random.default_rng(0).choice([-1, 1], (4, 4))
    assert np.array_equal(nearest_rigid(matrix), nearest_rigid(matrix * noise))
