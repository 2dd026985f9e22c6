"""Images of the ``bids-sr-models`` subcommands: contrast, factor, brain and intensities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array, MaskArray, evenly_spaced
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.spatial.masks import MaskError, brain_mask
from bids_sr.spatial.transforms import hr_grid

IN_PLANE: Factor = (2.0, 2.0, 1.0)
"""Default factor: half the in-plane resolution."""
# number of volumes in the mean of a run: enough to average out noise, and quickly read from a long
# run
_N_MEAN_VOLUMES = 20
_EQUIVALENT_SUFFIXES = {"boldref": "bold", "sbref": "bold"}
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


def parse_contrast(file: Path, contrast: str | None) -> str:
    """Return the contrast of an image as its BIDS suffix; raise `UsageError` if it is unknown.

    `contrast` is the suffix given as an option; None means the suffix in the file name.
    """
    if contrast is not None:
        return _EQUIVALENT_SUFFIXES.get(contrast, contrast)
    match = re.search(r"(?:^|_)([A-Za-z0-9]+)\.nii(?:\.gz)?$", file.name)
    suffix = _EQUIVALENT_SUFFIXES.get(match[1], match[1]) if match else ""
    if suffix in _SUFFIXES:
        return suffix
    reason = (
        "the contrast cannot be determined because the file name does not end in a BIDS suffix"
        " such as _bold or _T1w; networks are only valid for the contrast they were trained on"
    )
    raise UsageError(f"{file}", reason, "specify the contrast, for example --contrast T2starw")


def measure_factor(
    coarse: SeriesReader, fine: SeriesReader, requested_numbers: Sequence[float]
) -> Factor:
    """Return the factor between two grids, as low- divided by high-resolution voxel size per axis.

    `requested_numbers` contains the numbers of the option, if given. Raises `UsageError` if the
    images cover different fields of view, or if another factor was requested.
    """
    x, y, z = (
        fine_size / coarse_size
        for fine_size, coarse_size in zip(fine.shape[:3], coarse.shape[:3], strict=True)
    )
    factor = (x, y, z)
    shape, affine = hr_grid(coarse.shape[:3], coarse.affine, factor)
    # mm; a shift of half a voxel costs 5 dB, a shift of .05 voxels hardly anything
    tolerance = 0.05 * min(fine.zooms)
    corners = np.array(
        [[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]
    ).T
    distance = float(np.abs((affine - fine.affine) @ corners).max())
    if min(factor) < 1 or distance > tolerance:
        reason = (
            f"the image does not have the same field of view as {coarse.path.name}: the corners of"
            f" the two images are up to {distance:.2f} mm apart"
        )
        fix = (
            "resample the image to the same field of view, or use --degradation instead of --image"
        )
        raise UsageError(f"{fine.path}", reason, fix)
    requested_factor = parse_factor(requested_numbers, factor)
    if any(
        abs(requested_ratio - ratio) > 0.02 * ratio
        for requested_ratio, ratio in zip(requested_factor, factor, strict=True)
    ):
        ratio_text = " x ".join(f"{ratio:.3g}" for ratio in factor)
        raise UsageError(
            f"--factor {requested_factor}",
            f"the voxel sizes of the two images have a ratio of {ratio_text}",
            "omit --factor",
        )
    return factor


def parse_factor(numbers: Sequence[float], default: Factor) -> Factor:
    """Return the factor along each axis from one number (in-plane) or three numbers of an option.

    The factor is the low- divided by the high-resolution voxel size. Without numbers, `default` is
    returned.
    """
    if not numbers:
        return default
    if len(numbers) == 1:
        return float(numbers[0]), float(numbers[0]), 1.0
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def downsample(
    images: Iterable[Array],
    shape: tuple[int, ...],
    affine: Array,
    degradation: str | None,
    factor: Factor,
) -> tuple[list[Array], Array, tuple[slice, slice, slice]]:
    """Return downsampled images of the same grid, their affine, and the window that they cover.

    `shape` and `affine` are of the grid of `images`, which are read one after the other.
    """
    import torch

    from bids_sr.sr.operators import get_operator

    operator = get_operator(degradation, shape, factor)
    lowres_images = [
        operator.forward(torch.from_numpy(np.asarray(image, np.float64))).numpy()
        for image in images
    ]
    x, y, z = (slice(start, stop) for start, stop in operator.window)
    return lowres_images, operator.lowres_affine(affine), (x, y, z)


def find_brain_and_scale(
    reader: SeriesReader, mask_file: Path | None
) -> tuple[MaskArray, float, str]:
    """Return the brain mask and intensity scale of an image, and a note about the mask.

    The mask selects all nonzero voxels if no brain was found, which the note tells; it is
    otherwise "". The scale is the intensity that corresponds to 1 in a network: the 99th
    percentile of the mean image in the mask. `mask_file` is a mask on the grid of the image; None
    computes the mask from the image. InvalidInput is raised if the image is constant, or has no
    positive intensities in the mask.
    """
    volumes = evenly_spaced(reader.shape[3], _N_MEAN_VOLUMES)
    total = np.zeros(reader.shape[:3])
    for index in volumes:
        total += reader.volume(index)
    mean = (total / len(volumes)).astype(np.float32)
    if np.ptp(mean) == 0:
        raise InvalidInput(
            "the image is constant (all voxels have the same value)", file=reader.path
        )
    note = ""
    if mask_file is not None:
        mask = _read_mask(mask_file, mean.shape)
    else:
        try:
            mask = np.asarray(brain_mask(mean, reader.affine), bool)
        except MaskError:
            mask = np.zeros(mean.shape, bool)
        if not mask.any():
            mask = np.asarray(mean > 0) if (mean > 0).any() else np.ones(mean.shape, bool)
            note = (
                f"{reader.path.name}: no brain was found, so the intensities are scaled by"
                " all nonzero voxels. Use --mask to specify a brain mask."
            )
    scale = float(np.percentile(mean[mask], 99))
    if not scale > 0:
        raise InvalidInput(
            "the image has no positive intensities inside the mask", file=reader.path
        )
    return mask, scale, note


def _read_mask(file: Path, shape: tuple[int, ...]) -> MaskArray:
    """Return a brain mask from a file; reject an empty mask and another shape."""
    with SeriesReader(file) as reader:
        mask_shape = reader.shape[: reader.ndim]
        mask = reader.volume(0) > 0.5 if mask_shape == shape else np.zeros(0, bool)
    if not mask.any():
        raise InvalidInput(
            f"the mask has shape {mask_shape} and contains {mask.sum()}"
            " voxels; expected a non-empty mask with the shape of the image,"
            f" {shape}",
            file=file,
        )
    return mask
