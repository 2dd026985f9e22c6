"""Reference, brain mask and head motion of a run, given or found as the program finds them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bids_sr.api.image_inputs import (
    ImageLike,
    InputError,
    MaskLike,
    Motion,
    SuperResolutionWarning,
    mask_on,
    poses_of,
    volume_of,
)
from bids_sr.io.array_types import Array, Float, Float32, Mask
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.registration.calibration_alignment import moved_mm
from bids_sr.spatial.boldref import estimate_run, make_boldref, mean_in_reference, precomputed_motion
from bids_sr.spatial.hmc import estimate_motion
from bids_sr.spatial.masks import brain_mask
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.stats.glm.confounds import nonsteady_at_start

Dummies = int | Literal["auto"]
MOST_LEFT_MM = 0.5
"""Displacement of the brain (rms) above which a series that is said to be realigned is doubted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run as every series of it needs it, on its acquired grid.

    Attributes
    ----------
    boldref, affine : (x, y, z) reference, in signal units; voxel to RAS mm
    mask : (x, y, z) brain in the reference
    poses, params : (T, 4, 4) boldref point to the volume's point (RAS mm); (T, 6) the same in mm and rad
    n_dummy : volumes at the start that are not in steady state
    """

    boldref: Float32
    affine: Float
    mask: Mask
    poses: Float
    params: Float
    n_dummy: int


def prepare_run(
    reader: SeriesReader, folder: Path, *, mask: MaskLike | None = None, boldref: ImageLike | None = None,
    motion: Motion | None = None, realigned: bool = False, n_dummy: Dummies = "auto",
) -> Run:  # fmt: skip
    """Take what is given and find the rest.

    Parameters
    ----------
    reader : series as acquired, which may be read in any order
    folder : for images that live in memory
    mask, boldref : on the grid of the series; told from the series where None
    motion : transforms of the volumes; None: estimated, unless `realigned`
    realigned : head motion was undone before; doubted aloud where three volumes say otherwise

    Raises
    ------
    InputError : something lies on another grid, or too few volumes
    """
    total = reader.shape[3]
    across = reader.header.get_dim_info()[2]
    if across not in (None, 2):
        raise InputError(
            f"bold: its header says that slices lie along axis {across} (of 0, 1, 2), and they are taken along axis 2; "
            "reorder the axes first, for instance by nibabel.as_closest_canonical"
        )
    dummies = _dummies(reader, n_dummy)
    poses = poses_of(motion, total) if motion is not None else None
    still = poses is None and (realigned or total == 1)
    if still:
        poses = np.repeat(np.eye(4)[None], total, 0)
    if boldref is not None:
        reference, own = volume_of(boldref, folder, "boldref")
        if reference.shape != reader.shape[:3] or not np.allclose(own, reader.affine, atol=1e-3):
            raise InputError(f"boldref: {reference.shape} is not the grid of the series {reader.shape[:3]}")
    elif poses is not None:
        reference = mean_in_reference(reader, poses, n_dummy=dummies)
    else:
        reference = make_boldref(reader, n_dummy=dummies)
    if mask is None:
        brain = brain_mask(reference, reader.affine)
    else:
        brain = mask_on(mask, reader.shape[:3], reader.affine, folder)
    if poses is None:
        found = estimate_run(reader, reference, n_dummy=dummies)
        poses, params = found.matrices, found.params
    else:
        known = precomputed_motion(poses, brain, reader.affine)
        poses, params = known.matrices, known.params
    if still and total > 2:
        _doubt(reader, reference, brain, dummies)
    return Run(boldref=reference, affine=reader.affine, mask=brain, poses=poses, params=params, n_dummy=dummies)


def _dummies(reader: SeriesReader, n_dummy: Dummies) -> int:
    total = reader.shape[3]
    count = min(nonsteady_at_start(reader.path), max(total - 2, 0)) if n_dummy == "auto" else int(n_dummy)
    if not 0 <= count < total or (total > 1 and count > total - 2):
        raise InputError(f"n_dummy: {count} of {total} volumes leave less than two; give a smaller number")
    return count


def _doubt(reader: SeriesReader, reference: Array, mask: Mask, first: int) -> None:
    """Warn where volumes of a series that is said to be realigned lie elsewhere than its reference."""
    at = sorted({first, (first + reader.shape[3]) // 2, reader.shape[3] - 1})
    with np.errstate(all="ignore"):
        found = estimate_motion((reader.volume(t) for t in at), reference, mask, reader.affine)
    far = moved_mm(found.matrices, mask, reader.affine)
    if far.max() > MOST_LEFT_MM:
        warnings.warn(
            f"realigned=True, but volume {at[int(far.argmax())]} lies {far.max():.1f} mm from the reference: head "
            "motion would be taken for signal; leave realigned out, or give motion",
            SuperResolutionWarning, stacklevel=4,
        )  # fmt: skip


def undo_motion(reader: SeriesReader, run: Run, path: Path, affine: Array) -> Path:
    """Write a series of the run on a grid of its matrix (voxel to RAS mm), head motion undone by one interpolation."""
    x, y, z, count = reader.shape
    with SeriesWriter(path, (x, y, z, count), affine, reader.tr, header_like=reader.header) as writer:
        super_resolve_series(
            reader, writer, make_upsampler("raw", (1.0, 1.0, 1.0)), run.poses, (x, y, z), affine,
            factor=(1.0, 1.0, 1.0), consistency="off",
        )  # fmt: skip
    return path


def same_run_as(reader: SeriesReader) -> str:
    """A fingerprint of a series: its grid, and its first, middle and last volume."""
    import hashlib

    seen = hashlib.sha256(repr((reader.shape, np.round(reader.affine, 4).tolist())).encode())
    for t in sorted({0, reader.shape[3] // 2, reader.shape[3] - 1}):
        seen.update(reader.volume(t).tobytes())
    return seen.hexdigest()
