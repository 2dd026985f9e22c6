"""Effects of the contrasts of a run at half the resolution, for tests across runs."""

from dataclasses import field, fields
from pathlib import Path

import numpy as np

from bids_sr.io import atomic_files
from bids_sr.io.arrays import Float, Float32, MaskArray
from bids_sr.io.frozen import frozen

HALF_RESOLUTION_FILE = "half_resolution.npz"
"""Name of the file with the maps in the folder of a step."""


@frozen
class HalfResolutionMaps:
    """Effects of C contrasts of a run, acquired and super-resolved from half the resolution.

    Maps are on the tested part of the acquired grid (x, y, z) and on the grid of the downsampled
    run (lx, ly, lz). Effects are from the linear model of the whole run, and effects of B blocks
    from the model with one regressor per block.

    `widths` are the smoothing of the maps of the downsampled run (FWHM, mm), W values with 0 as
    the first. `affine` and `low_affine` are the voxel-to-world matrices (4 x 4, RAS mm) of both
    grids, and `mask` and `low_mask` the brain on both grids.

    `acquired` are acquired effects in complete slices (C, x, y, z), and `errors` the effects of
    the downsampled and super-resolved run, minus the acquired effects (C, x, y, z).
    `error_variances` are their variances in the linear model, 0 outside the brain (C, x, y, z).
    `task_free` are the effects of the downsampled and super-resolved run with a prior of the run
    without its task (C, x, y, z); C is 0 if there is no task.
    `error_power` is the mean square of the reconstruction errors of samples from the prior (x, y,
    z).

    `low_effects` and `low_variances` are effects of the downsampled run with their variances in
    the linear model, 0 outside the brain (W, C, lx, ly, lz). `low_power` is the mean square of
    samples from the prior (lx, ly, lz). `smoothness` is the in-plane smoothness of the noise of
    the run (FWHM) in acquired voxels.

    `blocks` are effects of blocks for contrasts over runs (K, B, x, y, z): super-resolved,
    acquired and, with a task, super-resolved with a prior of the run without its task; B is 0 if
    they are not needed. `block_weights` are their weights in the effect of each contrast (C, B), 0
    if it cannot be split into halves, and `block_conditions` their conditions.
    """

    contrasts: tuple[str, ...]
    widths: tuple[float, ...]
    affine: Float
    low_affine: Float
    mask: MaskArray
    low_mask: MaskArray
    acquired: Float32
    errors: Float32
    task_free: Float32
    error_variances: Float32
    error_power: Float32
    low_effects: Float32
    low_variances: Float32
    low_power: Float32
    smoothness: float
    blocks: Float32 = field(default_factory=lambda: np.zeros((0, 0, 1, 1, 1), np.float32))
    block_weights: Float = field(default_factory=lambda: np.zeros((0, 0)))
    block_conditions: tuple[str, ...] = ()


def save_half_resolution_maps(maps: HalfResolutionMaps | None, folder: Path) -> Path:
    """Write maps to a file in a folder, atomically; the file is empty if `maps` is None."""
    path = folder / HALF_RESOLUTION_FILE
    names = [] if maps is None else [item.name for item in fields(HalfResolutionMaps)]
    arrays = {name: getattr(maps, name) for name in names}
    with atomic_files.atomic_file(path) as unfinished, open(unfinished, "wb") as stream:
        np.savez(stream, **arrays)
    return path


def load_half_resolution_maps(path: Path) -> HalfResolutionMaps | None:
    """Read maps from a file of `save_half_resolution_maps`; None if the run was not tested."""
    with np.load(path, allow_pickle=False) as data:
        arrays = dict(data)
    if not arrays:
        return None
    contrasts, widths = arrays.pop("contrasts"), arrays.pop("widths")
    return HalfResolutionMaps(
        contrasts=tuple(map(str, contrasts)),
        block_conditions=tuple(map(str, arrays.pop("block_conditions"))),
        widths=tuple(map(float, widths)),
        smoothness=float(arrays.pop("smoothness")),
        **arrays,
    )
