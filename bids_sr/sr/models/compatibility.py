"""Check whether a model suits an image: resolution, contrast, slice orientation and factor."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, size_text
from bids_sr.notices import UsageError
from bids_sr.sr.models.card import ModelCard

# largest relative difference of voxel sizes between a network's training data and an image
TOLERANCE = 0.1
# largest relative difference for prior SD maps of another run, which are resampled
_SERIES_TOLERANCE = 0.5
# networks trained on T2*-weighted images can be applied to BOLD images, because both contrasts
# depend on T2* (stss-srfmri, introduction)
_SERVES: Mapping[str, tuple[str, ...]] = {"T2starw": ("T2starw", "bold")}


def slice_orientation(affine: Array) -> str:
    """Return the anatomical axis nearest to the third voxel axis: ``R-L``, ``P-A`` or ``I-S``."""
    direction = np.abs(np.asarray(affine, float)[:3, 2])
    return ("R-L", "P-A", "I-S")[int(np.argmax(direction))]


def _mismatches(
    card: ModelCard,
    affine: Array,
    contrast: str,
    factor: Factor,
    align: str | None,
    scale: str | None,
) -> list[str]:
    """Return a sentence for each mismatch between model and image."""
    from nibabel.affines import voxel_sizes

    out = []
    trained_mm = card.lowres_mm
    zooms = voxel_sizes(affine)
    slice_axis = slice_orientation(affine)
    allowed = _SERIES_TOLERANCE if card.trained_on == "series" else TOLERANCE
    if any(abs(a - b) > allowed * b for a, b in zip(zooms, trained_mm, strict=True)):
        size_texts = [size_text(sizes, " x ") for sizes in (trained_mm, zooms.tolist())]
        out.append(
            f"resolution: the model was trained at a resolution of {size_texts[0]}, but the image "
            f"has a resolution of {size_texts[1]} (allowed difference: {100 * allowed:.0f} %)"
        )
    if contrast not in _SERVES.get(card.contrast, (card.contrast,)):
        out.append(
            f"contrast: the model was trained on {card.contrast} images, but the image "
            f"contrast is {contrast}"
        )
    if slice_axis != card.orientation:
        out.append(
            f"slice orientation: the model was trained on slices across {card.orientation}, "
            f"but the slices of the image are across {slice_axis}"
        )
    if card.align and align and card.align != align:  # cards before version 0.2 lack this entry
        out.append(
            "alignment: the model was trained on scans that were aligned with --anat-align "
            f"{card.align}, but these scans were aligned with --anat-align {align}"
        )
    if card.align and scale and card.scale != scale:
        out.append(
            "intensities: the model was trained on scans that were scaled with --anat-scale "
            f"{card.scale}, but these scans were scaled with --anat-scale {scale}"
        )
    if not _is_trained_for(card, factor):
        span = card.factors
        reason = (
            f"the model was trained for a factor of {card.factor} and for factors from "
            f"{min(span):g} to {max(span):g} along the same axes"
            if span
            else f"the model was trained for a factor of {card.factor}"
        )
        out.append(f"factor: {reason}, but a factor of {factor} was requested")
    return out


def _is_trained_for(card: ModelCard, factor: Factor) -> bool:
    """Return whether a model was trained for a factor.

    A model trained with random factors supports all factors between its smallest and largest
    factor, along the same axes.
    """
    trained_factor = card.factor
    if all(abs(a - b) <= 1e-6 for a, b in zip(factor, trained_factor, strict=True)):
        return True
    span = card.factors
    return bool(span) and all(
        (
            abs(requested - 1) <= 1e-6
            if abs(trained - 1) <= 1e-6
            else min(span) - 1e-6 <= requested <= max(span) + 1e-6
        )
        for requested, trained in zip(factor, trained_factor, strict=True)
    )


def check_model(
    card: ModelCard,
    affine: Array,
    contrast: str,
    factor: Factor,
    *,
    align: str | None = None,
    scale: str | None = None,
    force: bool = False,
    allow: Collection[str] = (),
) -> list[str]:
    """Raise an error if a model does not suit an image, unless the mismatches are allowed.

    A different factor can be forced only if the network input is an interpolated image. Otherwise,
    another factor requires a different network.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    affine : Array
        Voxel-to-world matrix of the acquired grid (4 x 4, RAS+ mm).
    contrast : str
        BIDS suffix of the image.
    factor : Factor
        Ratio of acquired to high-resolution voxel size.
    align : str | None, optional
        Registration method of structural scans (``--anat-align``).
    scale : str | None, optional
        Intensity scaling of structural scans (``--anat-scale``).
    force : bool, optional
        Whether to use a model despite mismatches.
    allow : Collection[str], optional
        Mismatches that are accepted: resolution, contrast, orientation, factor.

    Returns
    -------
    list[str]
        Sentences that describe the accepted mismatches. The list is empty if there are none.

    Raises
    ------
    UsageError
        If a mismatch is not accepted. The message lists all mismatches and a remedy.
    """
    mismatches = _mismatches(card, affine, contrast, factor, align, scale)
    rejected = [mismatch for mismatch in mismatches if not (force or _kind(mismatch) in allow)]
    needs_training = not card.settings.get("upsampled_by") and any(
        mismatch.startswith("factor") for mismatch in mismatches
    )
    if needs_training or rejected:
        kinds = " ".join(map(_kind, rejected))
        remedy = (
            "Train a model on a matching image pair, or use --force to apply this model "
            f"anyway (bids-sr-models: --allow {kinds})."
        )
        if any(mismatch.startswith("intensities") for mismatch in rejected):
            remedy = f"Use --anat-scale {card.scale}, or use --force to apply the model anyway."
        remedy = "Train a model for this factor." if needs_training else remedy
        if not _is_trained_for(card, factor):
            text = " ".join(f"{number:g}" for number in card.factor)
            remedy = (
                f"{remedy} Alternatively, use the factor of the model with --sr-factor {text} "
                f"(bids-sr-models: --factor {text})."
            )
        raise UsageError(
            f"the model {card.method} does not match the image",
            f"{'; '.join(mismatches if needs_training else rejected)}.",
            remedy,
        )
    return mismatches


def _kind(mismatch: str) -> str:
    """Return the name of a mismatch for ``--allow``."""
    return mismatch.partition(":")[0].removeprefix("slice ")
