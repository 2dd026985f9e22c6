"""Reconstruction error of effects: maps of the acquired effects, and samples of the error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    check_grid,
    load_volume,
    to_nibabel,
)
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.sr.steps.error_samples import ErrorSamples


@frozen
class AcquiredEffect:
    """Unsmoothed effect of a contrast and its variance, on the acquired grid (x, y, z)."""

    effect: Volume
    variance: Volume


def load_acquired_effects(
    effects: Sequence[ImageLike], variances: Sequence[ImageLike], brain: Volume, folder: Path
) -> list[AcquiredEffect]:
    """Return the maps of all contrasts, which must be on the acquired grid of the brain.

    `folder` is for files. ImageInputError is raised if maps are missing or on another grid.
    """
    if len(effects) != len(variances):
        raise ImageInputError(
            f"{len(variances)} map(s) were passed for {len(effects)} effect(s)",
            "Pass one variance map per effect.",
            "variance",
        )
    acquired_effects = []
    for index, (effect, variance) in enumerate(zip(effects, variances, strict=True)):
        map_folder = folder / f"{index}"  # a map in memory is written to a file of its own
        map_folder.mkdir()
        acquired_effects.append(
            AcquiredEffect(
                effect=_load_map(effect, brain, map_folder, "effect"),
                variance=_load_map(variance, brain, map_folder, "variance"),
            )
        )
    return acquired_effects


def _load_map(image: ImageLike, brain: Volume, folder: Path, argument: str) -> Volume:
    """Return a map on the acquired grid, or raise ImageInputError."""
    volume = load_volume(image, folder, argument)
    check_grid(volume, brain, argument, "Pass a map of the series that correct_motion returns.")
    return volume


def iterate_effect_sds(
    samples: ErrorSamples, acquired_effects: Sequence[AcquiredEffect], fwhm_mm: float
) -> Iterator[nib.Nifti1Image]:
    """Yield the standard deviation of the reconstruction error of each effect (X, Y, Z).

    `fwhm_mm` is the smoothing of the super-resolved effect (FWHM, mm).
    """
    acquired_power = samples.compute_acquired_power(0.0)
    error_power = samples.compute_error_power(fwhm_mm)
    for acquired in acquired_effects:
        scale = samples.compute_scale(acquired.effect.data, acquired.variance.data, acquired_power)
        error_variance = samples.scale_variance(scale, error_power, fwhm_mm)
        yield to_nibabel(samples.brain_hr.like(np.sqrt(error_variance)))
