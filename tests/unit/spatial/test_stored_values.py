"""Test wrapped_values and clipped_values: faults of the conversion to integers."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.preproc.clipped_values import ClippedVoxelSearch
from bids_sr.spatial.wrapped_values import find_wrapped_values

SHAPE, VOLUMES = (20, 22, 8), 40
RNG = np.random.default_rng(0)


def make_image() -> np.ndarray:
    """Return a smooth image of a head with values from 0 to 1 (X, Y, Z)."""
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 1.5)
    radius = np.sqrt(
        sum(
            axis**2
            for axis in np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in SHAPE), indexing="ij")
        )
    )
    image = (0.6 + 0.4 * texture / np.abs(texture).max()) / (1 + np.exp(8 * (radius - 1)))
    return np.asarray(image / image.max())


def wrap(values: np.ndarray, bits: int) -> np.ndarray:
    """Return unsigned integers as signed integers of the same number of bits."""
    return values.astype(f"uint{bits}").view(f"int{bits}")


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_wrapped_values_are_counted(bits: int, share: float) -> None:
    image = make_image()
    limit = 2 ** (bits - 1)
    unsigned = np.rint(np.minimum(image * limit / np.quantile(image, 1 - share), 2.0**bits - 1))
    n_wrapped = int((unsigned >= limit).sum())
    assert find_wrapped_values(wrap(unsigned, bits)) == (n_wrapped, 2**bits)


def test_other_negative_values_are_not_wrapped() -> None:
    image = make_image()
    sharp = np.where(image > 0.3, image, 0)
    ringing = ndimage.shift(sharp, (0.4, 0.3, 0.2), order=5)
    phase = np.rint(np.angle(np.exp(40j * image)) / np.pi * 32_767).astype(np.int16)
    for values in (
        image,
        np.rint(32_767 * ringing / np.abs(ringing).max()),
        np.rint(127 * ringing / np.abs(ringing).max()),
        np.rint(30_000 * (image - image.mean())).astype(np.int16),
        RNG.integers(-32_768, 32_767, SHAPE),
        phase,
    ):
        assert find_wrapped_values(np.asarray(values)) is None


def make_series(largest: float, noise: float = 0.02) -> np.ndarray:
    """Return a series of the image with noise, up to its largest value (X, Y, Z, T)."""
    image = make_image()[..., None]
    noisy = image * (1 + np.random.default_rng(2).normal(0, noise, (*SHAPE, VOLUMES)))
    return np.asarray(noisy * largest / noisy.max())


def find(series: np.ndarray) -> tuple[float, np.ndarray] | None:
    search = ClippedVoxelSearch()
    for t in range(series.shape[3]):
        search.add(series[..., t])
    return search.find()


@pytest.mark.parametrize(
    ("largest", "dtype"), [(255, "u1"), (4095, "i2"), (65_535, "u2"), (1, "f4")]
)
@pytest.mark.parametrize("quantile", [0.9, 0.99])
def test_voxels_clipped_in_five_percent_of_the_volumes_are_found(
    largest: float, dtype: str, quantile: float
) -> None:
    series = make_series(largest) / np.quantile(make_image(), quantile)
    if dtype != "f4":
        series = np.rint(series)
    clipped = np.minimum(series, largest)
    found = find(clipped.astype(dtype))
    assert found is not None
    assert found[0] == largest
    np.testing.assert_array_equal(found[1], (clipped == largest).sum(-1) >= 0.05 * VOLUMES)


@pytest.mark.parametrize("scale", [1.0, 45.0])
@pytest.mark.parametrize("largest", [127, 255, 4095, 32_767, 65_535])
def test_series_that_use_the_whole_range_are_not_clipped(largest: float, scale: float) -> None:
    for noise in (0.02, 0.005):
        assert find(np.rint(make_series(largest / scale, noise))) is None


def test_a_constant_brightest_voxel_and_floats_are_not_clipped() -> None:
    assert find(np.repeat(make_image()[..., None], VOLUMES, -1)) is None
    assert find(make_series(1.0).astype(np.float32)) is None
    spike = np.rint(make_series(4000.0))
    spike[..., 7] = np.minimum(3 * spike[..., 7], 4095)
    assert find(spike) is None
