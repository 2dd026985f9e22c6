"""Check whether a model suits an image: resolution, contrast, slice orientation and factor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, highres_size, size_text
from bids_sr.io.notices import UsageError
from bids_sr.sr.models.card import ModelCard

MAX_SIZE_DIFFERENCE = 0.1
"""Largest relative difference of voxel sizes between a network's training data and an image."""
# largest relative difference for prior SD maps of another run, which are resampled
_MAX_SERIES_DIFFERENCE = 0.5
_ROUNDING = 1e-6  # largest difference between equal factors
# networks trained on T2*-weighted images can be applied to BOLD images, because both contrasts
# depend on T2* (stss-srfmri, introduction)
_SUITABLE_CONTRASTS: Mapping[str, tuple[str, ...]] = {"T2starw": ("T2starw", "bold")}


def describe_grids(
    shape: Sequence[int],
    affine: Array,
    factor: Factor,
    *,
    sizes_mm: tuple[Array, Array] | None = None,
) -> dict[str, object]:
    """Return the card entries ``factor``, ``orientation`` and ``resolution`` of training images.

    `shape` is the shape of the low-resolution image (x, y, z), and `affine` its voxel-to-world
    matrix (4 x 4, RAS+ mm). `sizes_mm` are the voxel sizes at low and high resolution; None to
    derive them from the affine.
    """
    from nibabel.affines import voxel_sizes

    zooms = voxel_sizes(affine)
    lowres_sizes, highres_sizes = sizes_mm or (
        zooms,
        zooms * [n / highres_size(n, ratio) for n, ratio in zip(shape, factor, strict=True)],
    )
    return {
        "factor": list(factor),
        "orientation": slice_orientation(affine),
        "resolution": {
            "lowres_mm": [round(float(size), 4) for size in lowres_sizes],
            "highres_mm": [round(float(size), 4) for size in highres_sizes],
            "lowres_shape": list(shape),
        },
    }


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
        Registration method of structural scans (`anat.align`).
    scale : str | None, optional
        Intensity scaling of structural scans (`anat.scale`).
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
    mismatches = list(_find_mismatches(card, affine, contrast, factor, align, scale))
    rejected = [mismatch for mismatch in mismatches if not (force or mismatch.kind in allow)]
    needs_training = not card.settings.get("upsampled_by") and any(
        mismatch.kind == "factor" for mismatch in mismatches
    )
    if needs_training or rejected:
        reasons = mismatches if needs_training else rejected
        raise UsageError(
            f"the model {card.method} does not match the image",
            f"{'; '.join(mismatch.text for mismatch in reasons)}.",
            _suggest_remedy(card, factor, rejected, needs_training=needs_training),
        )
    return [mismatch.text for mismatch in mismatches]


@frozen
class _Mismatch:
    """Mismatch between a model and an image.

    `kind` is the name for ``--allow``, and `text` a sentence that begins with the property.
    """

    kind: str
    text: str


def _find_mismatches(
    card: ModelCard,
    affine: Array,
    contrast: str,
    factor: Factor,
    align: str | None,
    scale: str | None,
) -> Iterator[_Mismatch]:
    """Yield the mismatches between model and image. See `check_model` for the parameters."""
    if text := _describe_size_mismatch(card, affine):
        yield _Mismatch(kind="resolution", text=text)
    if contrast not in _SUITABLE_CONTRASTS.get(card.contrast, (card.contrast,)):
        yield _Mismatch(
            kind="contrast",
            text=f"contrast: the model was trained on {card.contrast} images, but the image "
            f"contrast is {contrast}",
        )
    slice_axis = slice_orientation(affine)
    if slice_axis != card.orientation:
        yield _Mismatch(
            kind="orientation",
            text=f"slice orientation: the model was trained on slices across {card.orientation}, "
            f"but the slices of the image are across {slice_axis}",
        )
    if card.align and align and card.align != align:  # cards before version 0.2 lack this entry
        yield _Mismatch(
            kind="alignment",
            text="alignment: the model was trained on scans that were aligned with --set "
            f"anat.align={card.align}, but these scans were aligned with --set anat.align={align}",
        )
    if card.align and scale and card.scale != scale:
        yield _Mismatch(
            kind="intensities",
            text="intensities: the model was trained on scans that were scaled with --set "
            f"anat.scale={card.scale}, but these scans were scaled with --set anat.scale={scale}",
        )
    if not _is_trained_for(card, factor):
        range_text = (
            f" and for factors from {min(card.factors):g} to {max(card.factors):g} along the same "
            "axes"
            if card.factors
            else ""
        )
        yield _Mismatch(
            kind="factor",
            text=f"factor: the model was trained for a factor of {card.factor}{range_text}, but a "
            f"factor of {factor} was requested",
        )


def _describe_size_mismatch(card: ModelCard, affine: Array) -> str:
    """Return a sentence if voxel sizes differ too much from the training data, otherwise ""."""
    from nibabel.affines import voxel_sizes

    zooms = voxel_sizes(affine)
    max_difference = _MAX_SERIES_DIFFERENCE if card.trained_on == "series" else MAX_SIZE_DIFFERENCE
    if not any(
        abs(size - trained_size) > max_difference * trained_size
        for size, trained_size in zip(zooms, card.lowres_mm, strict=True)
    ):
        return ""
    return (
        f"resolution: the model was trained at a resolution of {size_text(card.lowres_mm, ' x ')},"
        f" but the image has a resolution of {size_text(zooms.tolist(), ' x ')} (allowed"
        f" difference: {100 * max_difference:.0f} %)"
    )


def slice_orientation(affine: Array) -> str:
    """Return the anatomical axis nearest to the third voxel axis: ``R-L``, ``P-A`` or ``I-S``."""
    direction = np.abs(np.asarray(affine, float)[:3, 2])
    return ("R-L", "P-A", "I-S")[int(np.argmax(direction))]


def _suggest_remedy(
    card: ModelCard, factor: Factor, rejected: Sequence[_Mismatch], *, needs_training: bool
) -> str:
    """Return the remedy for mismatches that are not accepted.

    `needs_training` is true if no option can make the model suit this factor.
    """
    kinds = [mismatch.kind for mismatch in rejected]
    if needs_training:
        remedy = "Train a model for this factor."
    elif "intensities" in kinds:
        remedy = (
            f"Use --set anat.scale={card.scale}, or use --set superres.force=true to apply the"
            " model anyway."
        )
    else:
        remedy = (
            "Train a model on a matching image pair, or use --set superres.force=true to apply "
            f"this model anyway (bids-sr-models: --allow {' '.join(kinds)})."
        )
    if _is_trained_for(card, factor):
        return remedy
    factor_text = " ".join(f"{ratio:g}" for ratio in card.factor)
    return (
        f"{remedy} Alternatively, use the factor of the model with --sr-factor {factor_text} "
        f"(bids-sr-models: --factor {factor_text})."
    )


def _is_trained_for(card: ModelCard, factor: Factor) -> bool:
    """Return whether a model was trained for a factor.

    A model trained with random factors supports all factors between its smallest and largest
    factor, along the same axes.
    """
    pairs = list(zip(factor, card.factor, strict=True))
    if all(abs(ratio - trained_ratio) <= _ROUNDING for ratio, trained_ratio in pairs):
        return True
    if not card.factors:
        return False
    lowest, highest = min(card.factors) - _ROUNDING, max(card.factors) + _ROUNDING
    return all(
        abs(ratio - 1) <= _ROUNDING
        if abs(trained_ratio - 1) <= _ROUNDING
        else lowest <= ratio <= highest
        for ratio, trained_ratio in pairs
    )
