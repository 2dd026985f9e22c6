"""Small heads with known geometry, from the bundled template."""

from functools import cache

import numpy as np
from scipy import ndimage

from bids_sr.io.volume import Volume
from bids_sr.preproc.templates import Template, load_template
from bids_sr.spatial import low_resolution_grids, masks
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid


@cache
def template() -> Template:
    return load_template("MNI152NLin2009aSym")  # at 1 mm


@cache
def brain(mm: float = 2.0) -> tuple[Volume, np.ndarray]:
    """Return the T1w brain of the template at `mm` and its mask."""
    full = template()
    data, affine = low_resolution_grids.downsample_volume(full.t1.data, full.t1.affine, mm)
    mask = (
        low_resolution_grids.downsample_volume(
            full.mask.data.astype(np.float32), full.t1.affine, mm
        )[0]
        > 0.5
    )
    return Volume(data=data, affine=affine), mask


@cache
def t2star(mm: float = 1.5) -> Volume:
    """Return another contrast of the same brain.

    Gray matter is brighter than white matter, CSF is brightest, and the sensitivity varies
    smoothly.
    """
    full = template()
    assert full.tissues is not None
    gray, white = (
        low_resolution_grids.downsample_volume(image.data, image.affine, mm)[0]
        for image in full.tissues
    )
    inside, affine = low_resolution_grids.downsample_volume(
        full.mask.data.astype(np.float32), full.t1.affine, mm
    )
    fluid = np.clip(inside - gray - white, 0, 1)
    texture = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=inside.shape), 2.0 / mm)
    image = (900 * gray + 650 * white + 1300 * fluid) * (1 + 0.6 * texture)
    return Volume(data=np.maximum(image, 0).astype(np.float32), affine=affine)


def grid(
    shape: tuple[int, int, int],
    zooms: tuple[float, float, float],
    middle: tuple[float, float, float],
) -> Volume:
    """Return an empty image whose field of view is centered on a point (mm).

    Axis 0 points to the left, as scanners store it.
    """
    affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])
    affine[:3, 3] = np.array(middle) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(data=np.zeros(shape, dtype=np.float32), affine=affine)


def seen(
    image: Volume, on: Volume, xfm: np.ndarray, *, noise: float = 0.0, seed: int = 0
) -> Volume:
    """Return `image` on the grid of `on`, averaged over its voxels.

    `xfm` takes a point of that grid to the image's point.
    """
    factor = low_resolution_grids.highres_factor(on.affine, 2.0)
    shape, affine = hr_grid(on.data.shape, on.affine, factor)
    fine = sample_volume(image.data, image.affine, shape, affine, xfm, order=1, zero_outside=True)
    data = low_resolution_grids.block_average(fine, factor)
    data = data + np.random.default_rng(seed).normal(0, noise, data.shape)
    return Volume(data=np.abs(data).astype(np.float32), affine=on.affine)


def whole_head(mm: float = 2.5, pad_mm: float = 20.0) -> tuple[Volume, np.ndarray]:
    """Return the template's brain with a dark skull, a bright scalp and a neck; and its mask."""
    image, mask = brain(mm)
    pad = int(pad_mm / mm)
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, pad)
    inside = np.pad(mask, pad)
    skull, scalp = (masks.grow(inside, affine, mm) for mm in (7.0, 14.0))
    neck = np.zeros_like(inside)
    middle = inside.shape[0] // 2
    neck[middle - 14 : middle + 14, 20:50, : pad + 6] = True
    data = np.pad(image.data, pad) * 500
    data = np.where((scalp | neck) & ~skull, 420.0, np.where(skull & ~inside, 25.0, data))
    return (
        Volume(data=ndimage.gaussian_filter(data, 0.5).astype(np.float32), affine=affine),
        inside,
    )


def head_with_neck(
    mm: float = 2.5, slice_mm: float = 2.5, scale: float = 0.9
) -> tuple[Volume, np.ndarray]:
    """Return a whole head with the contrast of MPRAGE, and the brain mask.

    The brain is smaller than the template's (`scale`), inside a dark skull and a bright scalp,
    above a face and a neck of muscle. Slices of `slice_mm` are axial.
    """
    image, mask = brain(mm)
    affine = np.diag([scale, scale, scale, 1.0]) @ image.affine
    low, high = (int(n / (scale * mm)) for n in (120, 24))
    around = [(int(40 / mm), int(40 / mm)), (int(30 / mm), int(45 / mm)), (low, high)]
    affine[:3, 3] -= affine[:3, :3] @ [first for first, _ in around]
    inside, data = np.pad(mask, around), np.pad(image.data, around) * 500
    skull, scalp = (masks.grow(inside, affine, mm) for mm in (5.0, 13.0))
    x, y, z = (
        axis.reshape(inside.shape)
        for axis in (np.argwhere(np.ones(inside.shape)) @ affine[:3, :3].T + affine[:3, 3]).T
    )
    neck = ((x / 62) ** 2 + ((y + 25) / 62) ** 2 < 1) & (z < -35)
    face = ((x / 58) ** 2 + ((y - 45) / 48) ** 2 < 1) & (z < -8) & (z > -110)
    texture = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=inside.shape), 6.0 / mm)
    flesh = 330 + 130 * np.sign(texture) * (np.abs(texture) > 0.4 * texture.std())
    outside = np.where(scalp & ~skull, 640.0, np.where((neck | face) & ~scalp, flesh, 0.0))
    data = np.where(inside, data, np.where(skull, 25.0, outside))
    data = ndimage.gaussian_filter(data, 0.5) + np.random.default_rng(8).normal(0, 10, data.shape)
    head = Volume(data=np.maximum(data, 0).astype(np.float32), affine=affine)
    if slice_mm <= mm:
        return head, inside
    shape, grid_affine = hr_grid(head.data.shape, affine, (1.0, 1.0, scale * mm / slice_mm))
    thick = low_resolution_grids.coverage(inside, affine, shape, grid_affine, mm=mm) > 0.5
    return (
        Volume(
            data=low_resolution_grids.coverage(head.data, affine, shape, grid_affine, mm=mm),
            affine=grid_affine,
        ),
        thick,
    )
