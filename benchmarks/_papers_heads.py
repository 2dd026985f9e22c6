"""Simulated heads of `papers.py`: scans of three contrasts on one grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from _papers_training import SEED, downsample, upsample

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape
from bids_sr.phantom.head import deform_maps, make_head
from bids_sr.phantom.lesions import add_lesions, map_lesion_locations
from bids_sr.phantom.still_scans import PROTOCOLS
from bids_sr.sr.networks.data.contrast_channels import unit_range

CONTRASTS = tuple(PROTOCOLS)
VOXEL = 3.0  # mm
NOISE = 0.02  # of the mean signal of the brain
TISSUES = ("gm", "wm", "csf")


@dataclass(frozen=True)
class Scene:
    """Noise-free images of a simulated head, its brain mask and tissues.

    `fractions` are the shares of all tissues in each voxel, as in `Head`, and of venous blood
    (``veins``). `lesion_locations` are voxels where lesions are likely; None without lesions.
    """

    images: Mapping[str, Array]
    mask: Array
    tissues: Mapping[str, Array]
    fractions: Mapping[str, Array]
    lesion_locations: Array | None


@lru_cache(maxsize=12)
def scene(number: int, shape: Shape, lesions: int = 0) -> Scene:
    """Return a part of a simulated head, with a number of lesions, around the center of its grid.

    Lesions only replace white matter; all other tissue is the same as without lesions.
    """
    drawn = make_head(np.random.default_rng([SEED, number]), VOXEL)
    locations = None
    if lesions:
        drawn = add_lesions(np.random.default_rng([SEED, number, 5]), drawn, lesions)
        template = map_lesion_locations()
        (locations,) = deform_maps(
            (template.data.astype(np.float32),), template.affine, drawn.affine, drawn.deformation
        )
    starts = [max(0, (n - side) // 2) for n, side in zip(drawn.brain.shape, shape, strict=True)]
    x, y, z = (
        slice(start, start + min(side, n // 2 * 2))
        for start, side, n in zip(starts, shape, drawn.brain.shape, strict=True)
    )
    mask = drawn.brain[x, y, z]
    shares = np.stack([drawn.fractions[name][x, y, z] for name in TISSUES])
    return Scene(
        images={name: PROTOCOLS[name].scale_scene(drawn, 1.0)[x, y, z] for name in CONTRASTS},
        mask=mask,
        tissues={
            name: mask & (shares.argmax(0) == k) & (shares.max(0) > 0.5)
            for k, name in enumerate(TISSUES)
        },
        fractions={
            name: fraction[x, y, z]
            for name, fraction in {**drawn.fractions, "veins": drawn.veins}.items()
        },
        lesion_locations=None if locations is None else locations[x, y, z] >= 0.5,
    )


def with_noise(image: Array, rng: np.random.Generator) -> Array:
    """Return the magnitude of an image with noise."""
    return np.abs(image + rng.normal(0, NOISE, image.shape)).astype(np.float32)


def noisy_scans(number: int, shape: Shape = (40, 48, 32)) -> dict[str, Array]:
    """Return scans of a simulated head by contrast, and its brain mask as `mask`."""
    head = scene(number, shape)
    rng = np.random.default_rng([SEED, number, 1])
    return {
        **{name: with_noise(head.images[name], rng) for name in CONTRASTS},
        "mask": head.mask,
    }


@dataclass(frozen=True)
class ScannedHead:
    """High- and low-resolution scans as channels (C, X, Y, Z) on one grid, from 0 to 1.

    `truth` are the noise-free high-resolution scans.
    """

    truth: Array
    fine: Array
    coarse: Array
    mask: Array
    tissues: Mapping[str, Array]


def scanned_head(
    number: int,
    factor: Factor,
    shape: Shape = (48, 64, 48),
    limit: float = 1.0,
    lesions: int = 0,
    interpolation: str = "bspline",
) -> ScannedHead:
    """Return scans of a simulated head by a protocol, given by its factor.

    Low-resolution scans are block averages with their own noise, interpolated and limited to
    `limit`. The noise does not depend on the interpolation.
    """
    head = scene(number, shape, lesions)
    rng = np.random.default_rng([SEED, number, 2])
    truth, fine, coarse = [], [], []
    for name in CONTRASTS:
        high = with_noise(head.images[name], rng)
        low = with_noise(downsample(high, "block", factor)[0], rng)
        back = upsample(interpolation, low, factor)
        _, top = unit_range(high, head.mask)
        truth.append(np.where(head.mask, np.clip(head.images[name] / top, 0, 1), 0))
        fine.append(np.where(head.mask, np.clip(high / top, 0, 1), 0))
        coarse.append(np.where(head.mask, np.clip(back / top, 0, limit), 0))
    return ScannedHead(
        truth=np.stack(truth),
        fine=np.stack(fine),
        coarse=np.stack(coarse),
        mask=head.mask,
        tissues=head.tissues,
    )
