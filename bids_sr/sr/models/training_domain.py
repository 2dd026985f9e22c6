"""Domain shift between an image and a model's training image: quantiles of intensity, and edge content.

An image may fit by header (`compatibility`) and still be unlike: inverted, clipped, blurred, full of noise. Nothing is
refused, as the BOLD's own contrast differs from that of the pair to some degree.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.sr.models.card_checks import ModelCard

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Boldref against the low-resolution image of its own pair: .01 to .11, and 1.0 to 1.15 (phantom, studyforrest)
FARTHEST = 0.15
EDGE_RATIO = 1.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """An image inside its mask, over its 99th percentile there: `QUANTILES` of the intensity, and the root mean square
    difference of in-plane neighbors."""

    quantiles: tuple[float, ...]
    edges: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainDifference:
    """Largest difference of the quantiles, 0 to 1, and edge content of the image over that of the training image."""

    distance: float
    edges: float

    @property
    def warnings(self) -> list[str]:
        """What differs too much, one sentence each."""
        out = []
        if self.distance > FARTHEST:
            out.append(
                f"intensities: a quantile of the image lies {self.distance:.2f} of its range from that of the image "
                f"trained on ({FARTHEST} is usual at most)"
            )
        if not 1 / EDGE_RATIO <= self.edges <= EDGE_RATIO:
            out.append(
                f"edges: the image has {self.edges:.2g} times the edge content of the image trained on "
                f"({1 / EDGE_RATIO:.2g} to {EDGE_RATIO:.2g} is usual)"
            )
        return out


def domain_of(image: Array, mask: Array) -> Domain:
    """The domain of an image (X, Y, Z); ValueError where nothing in its mask is positive."""
    inside = np.asarray(mask) > 0
    if inside.shape != image.shape or not inside.any():
        raise ValueError(f"an image of {image.shape} and a mask of {inside.shape} with {int(inside.sum())} voxels")
    level = float(np.percentile(image[inside], 99))
    if not level > 0:
        raise ValueError("the image has no positive intensity in the mask")
    scaled = np.asarray(image, dtype=np.float64) / level
    steps = []
    for axis in (0, 1):
        both = np.take(inside, range(1, image.shape[axis]), axis) & np.take(inside, range(image.shape[axis] - 1), axis)
        steps.append(np.diff(scaled, axis=axis)[both])
    square = np.concatenate(steps) ** 2
    edges = float(np.sqrt(square.mean())) if square.size else 0.0
    return Domain(quantiles=tuple(float(q) for q in np.quantile(scaled[inside], QUANTILES)), edges=edges)


def domain_entry(image: Array, mask: Array) -> dict[str, Any]:
    """The domain as plain values, for the card of a model."""
    found = domain_of(image, mask)
    return {"quantiles": [round(q, 5) for q in found.quantiles], "edges": round(found.edges, 6)}


def domain_difference(card: ModelCard, image: Array, mask: Array) -> DomainDifference | None:
    """How far an image lies from what a model was trained on; None where its card has no domain."""
    entry = card.domain
    if not entry:
        return None
    found = domain_of(image, mask)
    distance = max(abs(a - float(b)) for a, b in zip(found.quantiles, entry["quantiles"], strict=True))
    return DomainDifference(distance=distance, edges=found.edges / max(float(entry["edges"]), 1e-12))
