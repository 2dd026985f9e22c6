"""Distance of an image to the images that a model was trained on.

An image may fit by header and still be unlike: inverted, clipped, blurred, full of noise. For that
nothing is refused, as the BOLD's own contrast differs from that of the pair to some degree:
quantiles of intensity and edge content are compared, and warned of.
"""

from __future__ import annotations

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.sr.matrices import highres_size
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.compatibility import slice_orientation

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Boldref against the low-resolution image of its own pair: .01 to .11, and 1.0 to 1.15 (phantom,
# studyforrest)
_FARTHEST = 0.15
_EDGE_RATIO = 1.8


def _domain_of(image: Array, mask: Array) -> tuple[Array, float]:
    """Return quantiles and edge content of an image (X, Y, Z) in its mask.

    The intensity is divided by its 99th percentile there; its quantiles are `_QUANTILES`.

    That is the root mean square difference of in-plane neighbors. ValueError where nothing in the
    mask is positive.
    """
    inside = np.asarray(mask) > 0
    if inside.shape != image.shape or not inside.any():
        raise ValueError(
            f"the image has the shape {image.shape}, and the mask has the shape {inside.shape} "
            f"with {int(inside.sum())} voxels; both must have the same shape, and the mask "
            "must contain voxels"
        )
    level = float(np.percentile(image[inside], 99))
    if not level > 0:
        raise ValueError("the image has no positive intensities within the mask")
    scaled = np.asarray(image, dtype=np.float64) / level
    steps = []
    for axis in (0, 1):
        both = np.take(inside, range(1, image.shape[axis]), axis) & np.take(
            inside, range(image.shape[axis] - 1), axis
        )
        steps.append(np.diff(scaled, axis=axis)[both])
    square = np.concatenate(steps) ** 2
    edges = float(np.sqrt(square.mean())) if square.size else 0.0
    return np.quantile(scaled[inside], _QUANTILES), edges


def _domain_entry(image: Array, mask: Array) -> dict[str, object]:
    """The domain as plain values, for the card of a model."""
    quantiles, edges = _domain_of(image, mask)
    return {"quantiles": [round(float(q), 5) for q in quantiles], "edges": round(edges, 6)}


def image_entries(
    image: Array,
    mask: Array,
    affine: Array,
    factor: Factor,
    *,
    mm: tuple[Array, Array] | None = None,
) -> dict[str, object]:
    """Return the card entries on grid and intensities of the training images.

    `image, mask, affine`: (x, y, z) at the low resolution, and voxel -> RAS mm, whose voxel sizes
    are taken without `mm`. `mm`: voxel sizes of the low and of the high resolution. Entries
    ``factor``, ``orientation``, ``resolution`` and ``domain``.
    """
    from nibabel.affines import voxel_sizes

    zooms = voxel_sizes(affine)
    low, high = mm or (
        zooms,
        zooms * [n / highres_size(n, f) for n, f in zip(image.shape, factor, strict=True)],
    )
    return {
        "factor": list(factor),
        "orientation": slice_orientation(affine),
        "resolution": {
            "lowres_mm": [round(float(z), 4) for z in low],
            "highres_mm": [round(float(z), 4) for z in high],
            "lowres_shape": list(image.shape),
        },
        "domain": _domain_entry(image, mask),
    }


def domain_difference(
    card: ModelCard, image: Array, mask: Array
) -> tuple[float, float, list[str]] | None:
    """Return how far an image is from a model's training data, None if the card has no domain.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    image : Array
        Image in any unit of intensity (3D).
    mask : Array
        Voxels of the brain in the image (3D, boolean).

    Returns
    -------
    tuple[float, float, list[str]] | None
        The largest difference of the quantiles, 0 to 1; the edge content over that of the training
        image; what differs too much, one sentence each.
    """
    if card.domain is None:
        return None
    (quantiles, edges), (own, own_edges) = _domain_of(image, mask), card.domain
    distance = max(abs(float(a) - b) for a, b in zip(quantiles, own, strict=True))
    edges = edges / max(own_edges, 1e-12)
    out = []
    if distance > _FARTHEST:
        out.append(
            "intensities: the intensity distribution of the image differs from the training "
            f"image; the largest difference between quantiles is {distance:.3f} of the 99th "
            f"percentile (usually at most {_FARTHEST})"
        )
    if not 1 / _EDGE_RATIO <= edges <= _EDGE_RATIO:
        out.append(
            f"edges: the edge content of the image is {edges:.2g} times the edge content of "
            f"the training image (usually {1 / _EDGE_RATIO:.2g} to {_EDGE_RATIO:.2g} times)"
        )
    return distance, edges, out
