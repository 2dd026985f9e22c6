"""The single interpolation by which every volume reaches its final grid.

Edges: a point beyond the outermost sample takes that sample's value, however far it lies. Padding with zeros would
blank the edge slices of every volume that moves by more than nothing and put jumps into the time series there; what
lies outside the acquired field of view is for masks to leave out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.spatial.small_motion import is_near, sample_near

Array = npt.NDArray[Any]
Volume = npt.NDArray[np.float32]
Shift = tuple[Array, npt.NDArray[np.float64]]
"""How far each target voxel's source point is moved (the shape of the target), and along what (3,; RAS mm)."""

# Edge samples repeated outwards before the spline coefficients are computed. The mirror beyond them is 16 samples
# away, and a cubic coefficient feels it by 0.27 ** 16: 1e-9 of a step at the edge. A volume that moved by less than
# these samples is sampled without leaving them.
PAD = 8
_WHOLE = 1e-6  # voxels: a transform this close to a whole-voxel shift is one


@dataclass(frozen=True, kw_only=True, slots=True)
class Spline:
    """How images are interpolated: the one home of these defaults."""

    order: int = 3  # B-spline order, 0 (nearest neighbor, labels), 1 (linear) or 3 (cubic)
    # beyond the edge, "nearest" (the edge's value) or "constant" (`cval` beyond half a voxel outside)
    mode: str = "nearest"
    cval: float = 0.0  # value outside where mode is "constant"

    def __post_init__(self) -> None:
        if self.order not in (0, 1, 2, 3, 4, 5) or self.mode not in ("nearest", "constant"):
            raise ValueError(f"no interpolation of order {self.order} and mode {self.mode!r}")


def spline_coefficients(volume: Array, spline: Spline | None = None) -> Volume:
    """Coefficients of a volume (X, Y, Z), `PAD` samples wider at each side; compute once, sample often.

    The first axis of the result is contiguous, as it is in files and as `near` reads it.
    """
    spline = spline or Spline()
    if volume.ndim != 3:
        raise ValueError(f"a volume has 3 axes, not {volume.ndim}")
    padded = np.pad(np.asarray(volume, dtype=np.float32).T, PAD, mode="edge")
    if spline.order < 2:
        return padded.T
    return ndimage.spline_filter(padded, order=spline.order, output=np.float32, mode="mirror").T


def _whole_shift(matrix: Array) -> npt.NDArray[np.int64] | None:
    """The shift in voxels if the voxel-to-voxel matrix is nothing else, or None."""
    shift = np.rint(matrix[:3, 3])
    exact = np.eye(4)
    exact[:3, 3] = shift
    return shift.astype(np.int64) if np.abs(matrix - exact).max() < _WHOLE else None


def _shifted(volume: Array, shape: tuple[int, ...], shift: Array) -> Volume:
    out = np.asarray(volume, dtype=np.float32)
    for axis in range(3):
        index = np.clip(np.arange(shape[axis]) + shift[axis], 0, volume.shape[axis] - 1)
        out = np.take(out, index, axis=axis)
    return out


def _outside(source_shape: tuple[int, ...], shape: tuple[int, ...], matrix: Array) -> npt.NDArray[np.bool_]:
    """Target voxels that lie more than half a voxel beyond the source's outermost samples."""
    axes = [np.arange(n, dtype=np.float64) for n in shape]
    out = np.zeros(shape, dtype=bool)
    for row, size in zip(matrix[:3], source_shape, strict=True):
        at = (
            row[0] * axes[0][:, None, None] + row[1] * axes[1][None, :, None] + row[2] * axes[2][None, None, :] + row[3]
        )
        out |= (at < -0.5 - _WHOLE) | (at > size - 0.5 + _WHOLE)
    return out


def _warped(
    coefficients: Volume, source_shape: tuple[int, ...], matrix: Array, step: Array, amount: Array, spline: Spline
) -> Volume:
    """A volume through a voxel-to-voxel matrix and a shift of `amount` steps (voxels of the volume), slab by slab."""
    out = np.empty(amount.shape, dtype=np.float32)
    rows, columns = (np.arange(n, dtype=np.float64) for n in amount.shape[:2])
    for z in range(amount.shape[2]):  # coordinates of a slice stay in the cache
        at = np.stack([
            row[0] * rows[:, None] + row[1] * columns + (row[2] * z + row[3]) + s * amount[:, :, z]
            for row, s in zip(matrix[:3], step, strict=True)
        ])  # fmt: skip
        out[:, :, z] = ndimage.map_coordinates(
            coefficients, at + PAD, order=spline.order, mode="nearest", prefilter=False, output=np.float32
        )
        if spline.mode == "constant":
            edges = np.array(source_shape)[:, None, None] - 0.5 + _WHOLE
            out[:, :, z][((at < -0.5 - _WHOLE) | (at > edges)).any(0)] = spline.cval
    return out


def sample_volume(
    volume: Array,
    affine: Array,
    target_shape: Sequence[int],
    target_affine: Array,
    xfm: Array | None = None,
    spline: Spline | None = None,
    coefficients: Volume | None = None,
    shift: Shift | None = None,
) -> Volume:
    """A volume as seen on another grid through one transform, in one interpolation.

    Parameters
    ----------
    volume : (X, Y, Z)
    affine : its voxel-to-RAS matrix (mm)
    target_shape, target_affine : the grid of the result
    xfm : 4x4, takes a target point (RAS mm) to the volume's point; identity by default. Example: with a translation of
        +4 mm along x and 4 mm voxels, target voxel i shows the volume's voxel i + 1
    spline : order and edges
    coefficients : of `spline_coefficients(volume, spline)`, where several grids are sampled from one volume
    shift : added to the volume's point after `xfm`, by as much as it says for each target voxel; none by default

    Returns
    -------
    float32 array of `target_shape`. The identity and shifts by whole voxels return the very values of the input.
    """
    spline = spline or Spline()
    shape = (int(target_shape[0]), int(target_shape[1]), int(target_shape[2]))
    matrix = np.linalg.inv(affine) @ (np.eye(4) if xfm is None else np.asarray(xfm)) @ target_affine
    whole = _whole_shift(matrix) if shift is None else None
    if whole is not None:
        out = _shifted(volume, shape, whole)
    elif shift is not None:
        if coefficients is None:
            coefficients = spline_coefficients(volume, spline)
        return _warped(coefficients, volume.shape, matrix, np.linalg.inv(affine)[:3, :3] @ shift[1], shift[0], spline)
    else:
        if coefficients is None:
            coefficients = spline_coefficients(volume, spline)
        if spline.order == 3 and is_near(matrix, volume.shape, shape, PAD):
            out = sample_near(coefficients, matrix, shape, PAD)
        else:
            rows = np.ascontiguousarray(coefficients)  # scipy runs along the last axis
            out = ndimage.affine_transform(
                rows, matrix[:3, :3], matrix[:3, 3] + PAD, output_shape=shape, output=np.float32, order=spline.order,
                mode="nearest", prefilter=False,
            )  # fmt: skip
    if spline.mode == "constant":
        out[_outside(volume.shape, shape, matrix)] = spline.cval
    return out
