"""Calls of ANTs: a release of antspyx that changes the functions used fails here."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import (
    AntsOptions,
    RegistrationStage,
    image_name,
    read_linear,
    register,
    run_program,
    to_ants,
)


@pytest.fixture
def image() -> Volume:
    """Return a bright ball of smooth random values, 2 mm."""
    rng = np.random.default_rng(0)
    shape = (30, 32, 28)
    data = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    radius = sum(
        ((g - n / 2) / (n / 4)) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)
    )
    ball = (data / data.std() + 5) * np.exp(-(radius**2))
    return Volume(data=ball.astype(np.float32), affine=np.diag([2, 2, 2, 1]))


def test_registration_of_images_in_memory_recovers_a_shift(image: Volume, tmp_path: Path) -> None:
    shifted = image.like(np.roll(image.data, 2, axis=0))
    stage = RegistrationStage(transform="Rigid[0.1]", metric="GC", sampling=1.0, masked=False)
    (xfm_file,) = register(
        image, shifted, [stage], options=AntsOptions(seed=0, prefix=str(tmp_path / "x"))
    )
    center = np.array([30, 32, 28, 1])  # mm
    np.testing.assert_allclose((read_linear(xfm_file) @ center - center)[:3], [4, 0, 0], atol=0.1)


def test_images_have_distinct_names(image: Volume) -> None:
    first, second = to_ants(image, 0), to_ants(image, 0)
    assert image_name(first) == image_name(first) != image_name(second)


def test_error_of_a_failed_program_names_program_and_version() -> None:
    with pytest.raises(RuntimeError, match=r"Atropos .*\d+ \(antspyx \d"):
        run_program("Atropos", ["-d", "3", "-i", "Nothing[3]"])
