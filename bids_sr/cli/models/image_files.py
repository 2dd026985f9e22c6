"""Images of the ``bids-sr-models`` subcommands: contrast, factor, brain and intensities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bids_sr.config import UsageError
from bids_sr.io.arrays import Array, Mask, evenly_spaced
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import ImageError, SeriesReader, load_image
from bids_sr.spatial.masks import MaskError, brain_mask
from bids_sr.spatial.transforms import hr_grid

IN_PLANE: Factor = (2.0, 2.0, 1.0)
# volumes whose mean stands for a run: enough to even out noise, few enough to be read at once from
# a long run
_MEAN_OF = 20
_SAME_AS = {"boldref": "bold", "sbref": "bold"}
_SUFFIXES = (
    "T1w",
    "T2w",
    "T2starw",
    "T2starmap",
    "FLAIR",
    "FLASH",
    "PDw",
    "PDT2",
    "inplaneT1",
    "inplaneT2",
    "angio",
    "UNIT1",
    "bold",
    "dwi",
    "epi",
    "magnitude",
)


def contrast_of(file: Path, contrast: str | None) -> str:
    """BIDS suffix of an image, by the option or its name; raises UsageError.

    `contrast`: suffix that the option names; None takes that of the file's name.
    """
    if contrast is not None:
        return _SAME_AS.get(contrast, contrast)
    match = re.search(r"(?:^|_)([A-Za-z0-9]+)\.nii(?:\.gz)?$", file.name)
    found = _SAME_AS.get(match[1], match[1]) if match else ""
    if found in _SUFFIXES:
        return found
    why = (
        "the contrast cannot be determined because the file name does not end in a BIDS suffix"
        " such as _bold or _T1w; networks are only valid for the contrast they were trained on"
    )
    raise UsageError(f"{file}", why, "specify the contrast, for example --contrast T2starw")


def factor_from(numbers: Sequence[float], default: Factor) -> Factor:
    """Three numbers from one (in plane) or three; `default` where none was given.

    `numbers`: those of the option; empty where it was not given. Returns low- over high-resolution
    voxel size along each axis, as `default` is.
    """
    if not numbers:
        return default
    if len(numbers) == 1:
        return float(numbers[0]), float(numbers[0]), 1.0
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def factor_between(coarse: SeriesReader, fine: SeriesReader, asked: Sequence[float]) -> Factor:
    """Return the factor between two grids.

    Raises UsageError if they cover different fields of view or another factor was asked for.

    `asked`: numbers that the option gives; empty where it was not given. Returns low- over
    high-resolution voxel size along each axis.
    """
    x, y, z = (n / m for n, m in zip(fine.shape[:3], coarse.shape[:3], strict=True))
    factor = (x, y, z)
    shape, affine = hr_grid(coarse.shape[:3], coarse.affine, factor)
    # of a voxel: half a voxel costs 5 dB, a twentieth hardly any
    tolerance = 0.05 * min(fine.zooms)
    corners = np.array(
        [[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]
    ).T
    apart = float(np.abs((affine - fine.affine) @ corners).max())
    if min(factor) < 1 or apart > tolerance:
        why = (
            f"the image does not have the same field of view as {coarse.path.name}: the corners"
            f" of the two images are up to {apart:.2f} mm apart"
        )
        fix = (
            "resample the image to the same field of view, or use --degradation instead of --image"
        )
        raise UsageError(f"{fine.path}", why, fix)
    asked_factor = factor_from(asked, factor)
    if any(abs(a - b) > 0.02 * b for a, b in zip(asked_factor, factor, strict=True)):
        shown = " x ".join(f"{f:.3g}" for f in factor)
        raise UsageError(
            f"--factor {asked_factor}",
            f"the voxel sizes of the two images have a ratio of {shown}",
            "omit --factor",
        )
    return factor


def brain_and_scale(reader: SeriesReader, mask_file: Path | None) -> tuple[Mask, float, str]:
    """Find the brain and the scale of the intensities of an image.

    Returns the mask; the intensity that is 1 for a network, the 99th percentile of the mean in the
    mask; and a note of what the user may not expect, empty for none.
    """
    picked = evenly_spaced(reader.shape[3], _MEAN_OF)
    total = np.zeros(reader.shape[:3])
    for t in picked:
        total += reader.volume(t)
    mean: Array = (total / len(picked)).astype(np.float32)
    if np.ptp(mean) == 0:
        raise ImageError(f"{reader.path}: the image is constant (all voxels have the same value)")
    note = ""
    mask = np.zeros(mean.shape, bool)
    if mask_file is not None:
        mask = load_image(mask_file)[0] > 0.5
        if mask.shape != mean.shape or not mask.any():
            raise ImageError(
                f"{mask_file}: the mask has shape {mask.shape} and contains {mask.sum()}"
                " voxels; expected a non-empty mask with the shape of the image,"
                f" {mean.shape}"
            )
    else:
        with suppress(MaskError):
            mask = np.asarray(brain_mask(mean, reader.affine), bool)
        if not mask.any():
            mask = np.asarray(mean > 0) if (mean > 0).any() else np.ones(mean.shape, bool)
            note = (
                f"{reader.path.name}: no brain was found, so the intensities are scaled by"
                " all nonzero voxels. Use --mask to specify a brain mask."
            )
    scale = float(np.percentile(mean[mask], 99))
    if not scale > 0:
        raise ImageError(f"{reader.path}: the image has no positive intensities inside the mask")
    return mask, scale, note
