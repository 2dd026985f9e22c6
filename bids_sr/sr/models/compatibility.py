"""Quality control before inference: a model serves images of its resolution, contrast, slice orientation and factor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_sr.spatial.masks import voxel_sizes
from bids_sr.sr.models.card_checks import ModelCard
from bids_sr.sr.resolution.degradation import Factor

TOLERANCE = 0.1
# variance maps of another run are carried onto the grid of this one: its voxels need not be of quite the same size
SERIES_TOLERANCE = 0.5
# T2*-weighted images teach about BOLD images because both contrasts are T2* (stss-srfmri, introduction)
SERVES: Mapping[str, tuple[str, ...]] = {"T2starw": ("T2starw", "bold")}


class ModelMismatch(ValueError):
    """A model asked to work on what it was not trained for; the message says what differs and what can be done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """What is compared with a card.

    Parameters
    ----------
    zooms : voxel size in mm on the acquired grid
    orientation : the anatomical axis across slices: "R-L", "P-A" or "I-S"
    contrast, factor : BIDS suffix; acquired over wanted voxel size
    align : structural scans: what registered those of a head (``--anat-align``); None elsewhere
    """

    zooms: tuple[float, float, float]
    orientation: str
    contrast: str
    factor: Factor
    align: str | None = None


def slice_orientation(affine: NDArray[Any]) -> str:
    """The anatomical axis nearest to the third voxel axis."""
    direction = np.abs(np.asarray(affine, float)[:3, 2])
    return ("R-L", "P-A", "I-S")[int(np.argmax(direction))]


def describe(affine: NDArray[Any], contrast: str, factor: Factor, align: str | None = None) -> Acquisition:
    """Acquisition of an image on the grid of an affine (voxel -> RAS mm)."""
    x, y, z = voxel_sizes(affine).tolist()
    across = slice_orientation(affine)
    return Acquisition(zooms=(x, y, z), orientation=across, contrast=contrast, factor=factor, align=align)


def mismatches(card: ModelCard, image: Acquisition) -> list[str]:
    """What differs, one sentence each; empty where the model serves."""
    out = []
    trained = card.lowres_mm
    allowed = SERIES_TOLERANCE if card.trained_on == "series" else TOLERANCE
    if any(abs(a - b) > allowed * b for a, b in zip(image.zooms, trained, strict=True)):
        pretty = [" x ".join(f"{v:.2f}" for v in zooms) for zooms in (trained, image.zooms)]
        out.append(
            f"resolution: trained at {pretty[0]} mm, the image has {pretty[1]} mm ({100 * allowed:.0f} % are allowed)"
        )
    if image.contrast not in SERVES.get(card.contrast, (card.contrast,)):
        out.append(f"contrast: trained on {card.contrast}, the image is {image.contrast}")
    if image.orientation != card.orientation:
        out.append(f"slice orientation: trained on slices across {card.orientation}, these are {image.orientation}")
    if card.align and image.align and card.align != image.align:  # cards before 0.2 do not tell
        out.append(
            f"alignment: trained on scans brought together by --anat-align {card.align}, these are {image.align}"
        )
    if not _trained_for(card, image.factor):
        span = card.factors
        several = f" and factors from {min(span):g} to {max(span):g} in their place" if span else ""
        out.append(f"factor: trained for {tuple(card.json['factor'])}{several}, asked for {image.factor}")
    return out


def _trained_for(card: ModelCard, factor: Factor) -> bool:
    """Whether a model knows a factor: its own or, trained with random ones, any between them on the same axes."""
    own = card.factor
    if all(abs(a - b) <= 1e-6 for a, b in zip(factor, own, strict=True)):
        return True
    span = card.factors
    return bool(span) and all(
        abs(asked - 1) <= 1e-6 if abs(known - 1) <= 1e-6 else min(span) - 1e-6 <= asked <= max(span) + 1e-6
        for asked, known in zip(factor, own, strict=True)
    )


def check_model(card: ModelCard, image: Acquisition, *, force: bool = False) -> list[str]:
    """Refuse a model that does not fit the image; returns the differences that `force` overruled.

    The factor can be forced only where the network sees an interpolated image: else another factor is another network.

    Raises
    ------
    ModelMismatch : with every difference and the remedy
    """
    found = mismatches(card, image)
    hopeless = not card.settings.get("upsampled_by") and any(each.startswith("factor") for each in found)
    if hopeless or (found and not force):
        remedy = "train on a pair that matches, or overrule with --force"
        remedy = "train a model for this factor" if hopeless else remedy
        raise ModelMismatch(f"the model {card.method} does not fit: {'; '.join(found)}. Remedy: {remedy}")
    return found
