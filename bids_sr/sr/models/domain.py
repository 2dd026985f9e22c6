"""Difference between an image and the training images of a model.

An image may match a model by its header and still differ in content: it may be inverted, clipped,
blurred or noisy. Intensity quantiles and edge content are compared, and differences cause
warnings. They are not errors, because the BOLD contrast always differs somewhat from the image
pair.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, highres_size
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.compatibility import slice_orientation

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# limits for quantile difference and edge ratio; 0.01 to 0.11 and 1.0 to 1.15 were measured between
# boldref and the low-resolution image of its pair (phantom, studyforrest)
_MAX_QUANTILE_DIFFERENCE = 0.15
_MAX_EDGE_RATIO = 1.8


class _DomainDifference(NamedTuple):
    """Difference between an image and the training image of a model.

    Attributes
    ----------
    largest_quantile_difference : float
        Largest difference between quantiles, from 0 to 1.
    edge_ratio : float
        Ratio of the edge content to the training image.
    sentences : list[str]
        Sentence for each difference beyond its limit.
    """

    largest_quantile_difference: float
    edge_ratio: float
    sentences: list[str]


def _measure_domain(image: Array, mask: Array) -> tuple[Array, float]:
    """Return intensity quantiles and edge content of an image (X, Y, Z) within its mask.

    Intensities are divided by their 99th percentile within the mask. The quantile levels are
    `_QUANTILES`. The edge content is the root mean square difference of in-plane neighbors.
    ValueError is raised if the mask is empty or contains no positive intensity.
    """
    in_mask = np.asarray(mask) > 0
    if in_mask.shape != image.shape or not in_mask.any():
        raise ValueError(
            f"the image has the shape {image.shape}, and the mask has the shape {in_mask.shape} "
            f"with {int(in_mask.sum())} voxels; both must have the same shape, and the mask "
            "must contain voxels"
        )
    intensity_scale = float(np.percentile(image[in_mask], 99))
    if not intensity_scale > 0:
        raise ValueError("the image has no positive intensities within the mask")
    scaled = np.asarray(image, dtype=np.float64) / intensity_scale
    differences = []
    for axis in (0, 1):
        size = image.shape[axis]
        is_later_in_mask = np.take(in_mask, range(1, size), axis)
        is_earlier_in_mask = np.take(in_mask, range(size - 1), axis)
        differences.append(np.diff(scaled, axis=axis)[is_later_in_mask & is_earlier_in_mask])
    squares = np.concatenate(differences) ** 2
    edge_content = float(np.sqrt(squares.mean())) if squares.size else 0.0
    return np.quantile(scaled[in_mask], _QUANTILES), edge_content


def _make_domain_entry(image: Array, mask: Array) -> dict[str, object]:
    """Return quantiles and edge content of an image as plain values for a model card."""
    quantiles, edges = _measure_domain(image, mask)
    return {
        "quantiles": [round(float(quantile), 5) for quantile in quantiles],
        "edges": round(edges, 6),
    }


def image_entries(
    image: Array,
    mask: Array,
    affine: Array,
    factor: Factor,
    *,
    sizes_mm: tuple[Array, Array] | None = None,
) -> dict[str, object]:
    """Return the card entries about grid and intensities of the training images.

    Parameters
    ----------
    image, mask : Array
        Low-resolution image and mask (x, y, z).
    affine : Array
        Voxel-to-world matrix of the low-resolution grid (4 x 4, RAS+ mm).
    factor : Factor
        Ratio of low-resolution to high-resolution voxel size.
    sizes_mm : tuple[Array, Array] | None, optional
        Voxel sizes at low and high resolution (mm). By default, they are derived from the affine.

    Returns
    -------
    dict[str, object]
        Entries ``factor``, ``orientation``, ``resolution`` and ``domain``.
    """
    from nibabel.affines import voxel_sizes

    zooms = voxel_sizes(affine)
    lowres_sizes, highres_sizes = sizes_mm or (
        zooms,
        zooms * [n / highres_size(n, ratio) for n, ratio in zip(image.shape, factor, strict=True)],
    )
    return {
        "factor": list(factor),
        "orientation": slice_orientation(affine),
        "resolution": {
            "lowres_mm": [round(float(size), 4) for size in lowres_sizes],
            "highres_mm": [round(float(size), 4) for size in highres_sizes],
            "lowres_shape": list(image.shape),
        },
        "domain": _make_domain_entry(image, mask),
    }


def domain_difference(card: ModelCard, image: Array, mask: Array) -> _DomainDifference | None:
    """Compare an image with the training data of a model.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    image : Array
        Image in any unit of intensity (3D).
    mask : Array
        Brain mask of the image (3D, boolean).

    Returns
    -------
    _DomainDifference | None
        Differences of quantiles and edges. None if the card contains no domain.
    """
    if card.domain is None:
        return None
    quantiles, edge_content = _measure_domain(image, mask)
    trained_quantiles, trained_edge_content = card.domain
    difference = max(
        abs(float(quantile) - trained_quantile)
        for quantile, trained_quantile in zip(quantiles, trained_quantiles, strict=True)
    )
    edge_ratio = edge_content / max(trained_edge_content, 1e-12)
    sentences = []
    if difference > _MAX_QUANTILE_DIFFERENCE:
        sentences.append(
            "intensities: the intensity distribution of the image differs from the training "
            f"image; the largest difference between quantiles is {difference:.3f} of the 99th "
            f"percentile (usually at most {_MAX_QUANTILE_DIFFERENCE})"
        )
    if not 1 / _MAX_EDGE_RATIO <= edge_ratio <= _MAX_EDGE_RATIO:
        sentences.append(
            f"edges: the edge content of the image is {edge_ratio:.2g} times the edge content of "
            f"the training image (usually {1 / _MAX_EDGE_RATIO:.2g} to {_MAX_EDGE_RATIO:.2g} "
            "times)"
        )
    return _DomainDifference(difference, edge_ratio, sentences)
