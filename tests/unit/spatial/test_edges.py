"""Test the edge distance: known shifts and warps are measured in images of different contrast and
resolution.
"""

from functools import cache

import numpy as np
import pytest
from data import head
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.spatial import edges, low_resolution_grids
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid

ZOOMS = (3.75, 3.75, 4.0)
FINE_MM = 1.5


@cache
def tissues() -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return fractions of gray matter, white matter, fluid and brain, and their affine."""
    full = head.template()
    gray, white = (
        low_resolution_grids.downsample_volume(image.data, image.affine, FINE_MM)[0]
        for image in full.tissues
    )
    inside, affine = low_resolution_grids.downsample_volume(
        full.mask.data.astype(np.float32), full.t1.affine, FINE_MM
    )
    return (gray, white, np.clip(inside - gray - white, 0, 1), inside), affine


@cache
def scene(levels: tuple[float, float, float], seed: int) -> Volume:
    """Return the brain in one contrast: levels of gray, white and fluid, with a random texture."""
    parts, affine = tissues()
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=parts[0].shape), 1.3)
    image = sum(level * part for level, part in zip(levels, parts[:3], strict=True)) * (
        1 + 0.3 * texture
    )
    return Volume(data=np.maximum(image, 0).astype(np.float32), affine=affine)


def pair(bold: Volume, guide: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (upsampled boldref, guide, mask, affine) as the scanner would measure them, with
    noise.
    """
    low_grid = head.grid((56, 56, 20), ZOOMS, (0, -18, 10))
    shape, affine = hr_grid(low_grid.data.shape, low_grid.affine, (2, 2, 1))
    high_grid = Volume(data=np.zeros(shape, np.float32), affine=affine)
    low_res = head.seen(bold, low_grid, np.eye(4), noise=20)
    upsampled = sample_volume(low_res.data, low_res.affine, shape, affine)
    return (
        upsampled,
        head.seen(guide, high_grid, np.eye(4), noise=20, seed=3).data,
        brain(),
        affine,
    )


@cache
def brain() -> np.ndarray:
    """Return the mask on the high-resolution grid of `pair`."""
    low_grid = head.grid((56, 56, 20), ZOOMS, (0, -18, 10))
    shape, affine = hr_grid(low_grid.data.shape, low_grid.affine, (2, 2, 1))
    parts, grid = tissues()
    high_grid = Volume(data=np.zeros(shape, np.float32), affine=affine)
    return head.seen(Volume(data=parts[3], affine=grid), high_grid, np.eye(4)).data > 0.5


def move_by(image: Volume, mm: np.ndarray | float) -> Volume:
    """Move points from y to y + mm along the second axis."""
    index = np.indices(image.data.shape).astype(float)
    index[1] -= np.asarray(mm) / FINE_MM
    return Volume(
        data=ndimage.map_coordinates(image.data, index, order=1, mode="nearest"),
        affine=image.affine,
    )


BOLD, T2STAR = (900.0, 650.0, 1300.0), (700.0, 620.0, 1500.0)


def test_a_known_shift_is_measured_within_a_quarter_of_a_millimeter() -> None:
    first, second, mask, affine = pair(move_by(scene(BOLD, 5), 4.0), scene(T2STAR, 7))
    mismatch = edges.measure_edge_mismatch(first, second, mask, affine, blur_mm=3.75, axis=1)
    assert mismatch.median == pytest.approx(4.0, abs=0.25)
    assert mismatch.p90 == pytest.approx(4.0, abs=0.75)
    # without a phase-encoding axis, both in-plane axes are searched
    both = edges.measure_edge_mismatch(first, second, mask, affine, blur_mm=3.75)
    assert both.median == pytest.approx(4.0, abs=0.5)
    across = edges.measure_edge_mismatch(first, second, mask, affine, blur_mm=3.75, axis=0)
    assert across.median < both.median / 2


def test_a_local_warp_shows_in_the_90th_percentile_and_not_in_the_median() -> None:
    image = scene(BOLD, 5)
    index = np.indices(image.data.shape)
    middle = np.array(image.data.shape) * (0.5, 0.8, 0.55)
    size = 5 * np.exp(
        -((index[1] - middle[1]) ** 2) / (2 * 20.0**2)
        - (index[2] - middle[2]) ** 2 / (2 * 25.0**2)
    )
    first, second, mask, affine = pair(move_by(image, size), scene(T2STAR, 7))
    mismatch = edges.measure_edge_mismatch(first, second, mask, affine, blur_mm=3.75, axis=1)
    inside = tissues()[0][3] > 0.5
    assert mismatch.median == pytest.approx(float(np.median(size[inside])), abs=0.5)
    assert mismatch.p90 == pytest.approx(float(np.quantile(size[inside], 0.9)), abs=0.8)
    assert mismatch.p90 > 2 * mismatch.median


def test_images_that_cannot_be_compared_are_rejected() -> None:
    image, mask = np.random.default_rng(0).random((8, 8, 4)), np.ones((8, 8, 4), bool)
    with pytest.raises(edges.InvalidInput, match="empty"):
        edges.measure_edge_mismatch(image, image, ~mask, np.eye(4), blur_mm=2)
    with pytest.raises(edges.InvalidInput, match="constant"):
        edges.measure_edge_mismatch(image, image * 0, mask, np.eye(4), blur_mm=2)
