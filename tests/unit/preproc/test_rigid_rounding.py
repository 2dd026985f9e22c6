"""Registration results do not depend on rounding of start and grids."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions, RegistrationStage, read_linear, register
from bids_sr.preproc.rigid import nearest_rigid
from bids_sr.spatial.transforms import rigid_matrix

STAGE = RegistrationStage(
    transform="Rigid[0.1]", iterations=(20, 20), shrink=(2, 1), mm=(4.0, 2.0), masked=False
)


@pytest.fixture(scope="module")
def head() -> Volume:
    rng = np.random.default_rng(0)
    shape = (30, 32, 28)
    data = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    radius = sum(
        ((g - n / 2) / (n / 4)) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)
    )
    ball = (data / data.std() + 5) * np.exp(-(radius**2)) + 0.05 * rng.normal(size=shape)
    affine = rigid_matrix([1, 2, 3, 0.2, -0.1, 0.3], [0, 0, 0]) @ np.diag([2.1, 2.1, 2.3, 1.0])
    return Volume(data=ball.astype(np.float32), affine=affine)


@pytest.mark.parametrize("perturbed", ["start", "grid"])
def test_registration_does_not_depend_on_rounding(
    head: Volume, tmp_path: Path, perturbed: str
) -> None:
    rng = np.random.default_rng(1)
    fixed = head.like(np.roll(head.data, 1, axis=0) + 0.1 * rng.normal(size=head.data.shape))
    start = rigid_matrix([0.3, 0.2, -0.4, 0.02, 0.03, -0.01], [0, 0, 0])
    noise = 1 + 1e-15 * rng.choice([-1, 1], (4, 4))
    matrices = []
    for k, factor in enumerate((1, noise)):
        moving = Volume(
            data=head.data, affine=head.affine * (factor if perturbed == "grid" else 1)
        )
        (path,) = register(
            fixed,
            moving,
            [STAGE],
            options=AntsOptions(seed=0, prefix=str(tmp_path / f"{k}_")),
            start=start * (factor if perturbed == "start" else 1),
        )
        matrices.append(read_linear(path))
    assert np.array_equal(*matrices)


def test_the_nearest_rigid_matrix_does_not_depend_on_rounding() -> None:
    matrix = rigid_matrix([1, 2, 3, 0.2, -0.1, 0.3], [4, 5, 6]).astype(np.float32).astype(float)
    noise = 1 + 1e-15 * np.random.default_rng(0).choice([-1, 1], (4, 4))
    assert np.array_equal(nearest_rigid(matrix), nearest_rigid(matrix * noise))
