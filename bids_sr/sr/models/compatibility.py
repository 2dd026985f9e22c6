"""Quality control before inference: what a model serves, and image distance to its training.

A model serves images of its resolution, contrast, slice orientation and factor. An image may fit
by header and still be unlike: inverted, clipped, blurred, full of noise. For that nothing is
refused, as the BOLD's own contrast differs from that of the pair to some degree: quantiles of
intensity and edge content are compared, and warned of.
"""

from collections.abc import Mapping

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.io.grids import size_text
from bids_sr.notices import UsageError
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.resolution.matrices import Factor, highres_size

TOLERANCE = 0.1
# variance maps of another run are carried onto the grid of this one: its voxels need not be of
# quite the same size
_SERIES_TOLERANCE = 0.5
# T2*-weighted images teach about BOLD images because both contrasts are T2* (stss-srfmri,
# introduction)
_SERVES: Mapping[str, tuple[str, ...]] = {"T2starw": ("T2starw", "bold")}


def _slice_orientation(affine: Array) -> str:
    """The anatomical axis nearest to the third voxel axis."""
    direction = np.abs(np.asarray(affine, float)[:3, 2])
    return ("R-L", "P-A", "I-S")[int(np.argmax(direction))]


def _mismatches(
    card: ModelCard, affine: Array, contrast: str, factor: Factor, align: str | None
) -> list[str]:
    """What differs, one sentence each; empty where the model serves."""
    from nibabel.affines import voxel_sizes

    out = []
    trained, zooms, across = card.lowres_mm, voxel_sizes(affine), _slice_orientation(affine)
    allowed = _SERIES_TOLERANCE if card.trained_on == "series" else TOLERANCE
    if any(abs(a - b) > allowed * b for a, b in zip(zooms, trained, strict=True)):
        pretty = [size_text(sizes, " x ") for sizes in (trained, zooms.tolist())]
        out.append(
            f"resolution: trained at {pretty[0]}, the image has {pretty[1]} ({100 * allowed:.0f} %"
            " are allowed)"
        )
    if contrast not in _SERVES.get(card.contrast, (card.contrast,)):
        out.append(f"contrast: trained on {card.contrast}, the image is {contrast}")
    if across != card.orientation:
        out.append(
            f"slice orientation: trained on slices across {card.orientation}, these are {across}"
        )
    if card.align and align and card.align != align:  # cards before 0.2 do not tell
        out.append(
            f"alignment: trained on scans brought together by --anat-align {card.align}, these are"
            f" {align}"
        )
    if not _trained_for(card, factor):
        span = card.factors
        several = (
            f" and factors from {min(span):g} to {max(span):g} in their place" if span else ""
        )
        out.append(f"factor: trained for {card.factor}{several}, asked for {factor}")
    return out


def _trained_for(card: ModelCard, factor: Factor) -> bool:
    """Return whether a model was trained for a factor.

    This is its own factor or, if trained with random ones, any between them on the same axes.
    """
    own = card.factor
    if all(abs(a - b) <= 1e-6 for a, b in zip(factor, own, strict=True)):
        return True
    span = card.factors
    return bool(span) and all(
        (
            abs(asked - 1) <= 1e-6
            if abs(known - 1) <= 1e-6
            else min(span) - 1e-6 <= asked <= max(span) + 1e-6
        )
        for asked, known in zip(factor, own, strict=True)
    )


def check_model(
    card: ModelCard,
    affine: Array,
    contrast: str,
    factor: Factor,
    *,
    align: str | None = None,
    force: bool = False,
) -> list[str]:
    """Refuse a model that does not fit the image; returns the differences that `force` overruled.

    The factor can be forced only where the network sees an interpolated image: else another factor
    is another network.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    affine : Array
        Of the acquired grid, voxel -> RAS mm.
    contrast : str
        BIDS suffix of the image.
    factor : Factor
        Acquired over wanted voxel size.
    align : str | None, optional
        Structural scans: what registered those of a head (``--anat-align``).
    force : bool, optional
        Whether to use a model that does not fit.

    Returns
    -------
    list[str]
        Differences in words; empty where the model fits.

    Raises
    ------
    UsageError : with every difference and the remedy
    """
    found = _mismatches(card, affine, contrast, factor, align)
    hopeless = not card.settings.get("upsampled_by") and any(
        each.startswith("factor") for each in found
    )
    if hopeless or (found and not force):
        remedy = "Train on a pair that matches, or overrule with --force."
        remedy = "Train a model for this factor." if hopeless else remedy
        raise UsageError(f"the model {card.method} does not fit", f"{'; '.join(found)}.", remedy)
    return found


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
            f"an image of {image.shape} and a mask of {inside.shape} with {int(inside.sum())}"
            " voxels"
        )
    level = float(np.percentile(image[inside], 99))
    if not level > 0:
        raise ValueError("the image has no positive intensity in the mask")
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
        "orientation": _slice_orientation(affine),
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
    edges, out = edges / max(own_edges, 1e-12), []
    if distance > _FARTHEST:
        out.append(
            f"intensities: a quantile of the image lies {distance:.3f} of its range from that of"
            f" the image trained on ({_FARTHEST} is usual at most)"
        )
    if not 1 / _EDGE_RATIO <= edges <= _EDGE_RATIO:
        out.append(
            f"edges: the image has {edges:.2g} times the edge content of the image trained on"
            f" ({1 / _EDGE_RATIO:.2g} to {_EDGE_RATIO:.2g} is usual)"
        )
    return distance, edges, out
