"""Interpolation to the high-resolution grid, the baseline of every network; one matrix an axis.

The outer edges of the field of view stay: high-resolution voxel j lies at ``(j + 0.5) * m/n - 0.5`` of the acquired
grid.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Array
from bids_sr.sr.resolution.degradation import (
    Factor,
    ResolutionError,
    apply_along,
    check_factor,
    fill_matrix,
    highres_size,
)


def _positions(m: int, n: int) -> Array:
    """Where the centers of n high-resolution voxels lie on a grid of m acquired ones."""
    return (np.arange(n) + 0.5) * m / n - 0.5


def _by_scipy(m: int, n: int, order: int) -> Array:
    """Columns are the interpolated unit vectors; beyond the last center the edge value holds (scipy's ``nearest``)."""
    at = _positions(m, n)[None]
    return np.stack([ndimage.map_coordinates(column, at, order=order, mode="nearest") for column in np.eye(m)], 1)


@lru_cache(maxsize=64)
def nearest_matrix(m: int, n: int) -> Array:
    """n x m matrix that takes the acquired voxel in which a center lies."""
    return np.eye(m)[np.minimum(np.floor((np.arange(n) + 0.5) * m / n), m - 1).astype(int)]


@lru_cache(maxsize=64)
def linear_matrix(m: int, n: int) -> Array:
    """n x m matrix of linear interpolation, edge value held."""
    return _by_scipy(m, n, 1)


@lru_cache(maxsize=64)
def bspline_matrix(m: int, n: int) -> Array:
    """n x m matrix of interpolating cubic B-splines (prefilter included), edge value held."""
    return _by_scipy(m, n, 3)


@lru_cache(maxsize=64)
def lanczos_matrix(m: int, n: int) -> Array:
    """n x m matrix of the windowed sinc with three lobes; taps outside the image are dropped and the rest sums to 1."""
    x = _positions(m, n)[:, None] - np.arange(m)[None]
    out = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return out / out.sum(1, keepdims=True)


MATRICES: dict[str, Callable[[int, int], Array]] = {
    "nearest": nearest_matrix,
    "linear": linear_matrix,
    "bspline": bspline_matrix,
    "lanczos": lanczos_matrix,
    "zerofill": fill_matrix,
}


def matrix_for(name: str, m: int, n: int, axis: int = 0) -> Array:
    """Matrix n x m of one axis. Slices are excited one by one: across them zero filling means nothing, B-splines do."""
    if name not in MATRICES:
        raise KeyError(f"no interpolation named {name}; there are {', '.join(MATRICES)}")
    return MATRICES["bspline" if name == "zerofill" and axis == 2 else name](m, n)


def upsample(name: str, lr: Array, factor: Factor) -> Array:
    """Bring (X, Y, Z[, T]) to the high-resolution grid over the same field of view.

    Parameters
    ----------
    name : nearest, linear, bspline (order 3), lanczos (3 lobes) or zerofill (in-plane k-space zero filling)
    lr : image on the acquired grid, any unit
    factor : acquired over wanted voxel size per axis; sizes become ``floor(m * f + 0.5)``
    """
    out = np.asarray(lr)
    if out.ndim not in (3, 4):
        raise ResolutionError(f"an image has 3 or 4 axes, not {out.ndim}")
    for axis, f in enumerate(check_factor(factor)):
        m, n = lr.shape[axis], highres_size(lr.shape[axis], f)
        out = apply_along(matrix_for(name, m, n, axis), out, axis) if n != m else out
    return np.ascontiguousarray(out)
