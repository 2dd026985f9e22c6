"""Temporal signal-to-noise ratio and noise smoothness of a series, computed in one pass."""

import math
from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array, Float, Float32, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.streamed_fit import StreamedFit

_DEGREE = 2  # polynomial degree of the trend, which does not count as noise
_STRIP_VOXELS = 8192  # voxels per block, whose changes fit into the processor cache
_RELATIVE_ROUNDING = 1e-6  # of the mean; a smaller standard deviation is rounding error


@frozen
class _SeriesQuality:
    """Temporal quality of a series inside a mask.

    All maps are (X, Y, Z), and 0 outside the mask. `mean` is over time, `noise` is the standard
    deviation over time after removal of a quadratic trend, and `tsnr` is mean divided by noise; 0
    in voxels without noise. `fwhm_mm` is the smoothness of the noise along the three voxel axes;
    None if neighbors along an axis do not correlate. `n_volumes` is the number of uncensored
    volumes.
    """

    mean: Float
    noise: Float
    tsnr: Float
    fwhm_mm: tuple[float | None, ...]
    n_volumes: int


class QualitySums:
    """Running sums over the volumes of a series, for the computation of its quality.

    Smoothness is computed from differences of successive volumes, which contain little signal and
    no trend. It is based on the correlation over time of each pair of neighbors inside the mask,
    averaged over pairs.

    `mask` is the brain on the grid of the series (X, Y, Z), `zooms` the voxel size along each axis
    (mm), and `n_volumes` the number of steady-state volumes that will be added. `uncensored` is
    True for volumes that are not censored (n_volumes,), at least four; None includes all volumes.
    Mean, noise and trend are computed from these volumes, and differences from consecutive
    uncensored volumes.
    """

    def __init__(
        self,
        mask: MaskArray,
        zooms: Sequence[float],
        n_volumes: int,
        uncensored: MaskArray | None = None,
    ) -> None:
        self._uncensored = (
            np.ones(n_volumes, dtype=bool) if uncensored is None else np.asarray(uncensored, bool)
        )
        n_uncensored = int(self._uncensored.sum())
        if n_uncensored < _DEGREE + 2:
            raise ValueError(
                f"temporal noise cannot be estimated from only {n_uncensored} volumes; at least "
                f"{_DEGREE + 2} are required"
            )
        self._mask, self._zooms, self._n_uncensored = mask, zooms, n_uncensored
        self._box = bounding_box(mask)
        shape = mask[self._box].shape
        # offset to the next voxel along each axis of the box; the voxels are in one row as in a
        # file
        self._offsets = (1, shape[0], shape[0] * shape[1])
        n_voxels = math.prod(shape)
        # sums over time of squared changes, and of products with the changes of the next voxel
        self._squares, self._products = np.zeros(n_voxels), np.zeros((3, n_voxels))
        times = np.linspace(-1, 1, n_volumes)
        trend = np.vander(times[self._uncensored], _DEGREE + 1, increasing=True)
        self._basis = np.linalg.qr(trend)[0]
        self._n_added = 0
        self._last_number = -1  # number of the last uncensored volume
        self._fit: StreamedFit | None = None

    def add(self, volumes: Sequence[Real]) -> None:
        """Add the next volumes (X, Y, Z) in order of time."""
        volume_numbers = np.arange(self._n_added, self._n_added + len(volumes))
        self._n_added += len(volumes)
        included_indices = np.flatnonzero(self._uncensored[volume_numbers])
        if not included_indices.size:
            return
        box_mask = self._mask[self._box]
        # row 0 is the last volume of the preceding call
        rows = np.empty((1 + len(included_indices), box_mask.size), np.float32)
        for row, index in zip(rows[1:], included_indices, strict=True):
            row.reshape(box_mask.shape, order="F")[...] = volumes[index][self._box]
        if self._fit is None:
            self._last_row = rows[1].copy()
            self._fit = StreamedFit(self._basis.astype(np.float32), self._last_row)
        rows[0] = self._last_row
        self._last_row = rows[-1].copy()
        self._fit.add(rows[1:])
        included_numbers = volume_numbers[included_indices]
        gaps = np.diff([self._last_number, *included_numbers])
        self._last_number = int(included_numbers[-1])
        self._add_changes(rows, np.flatnonzero(gaps == 1))

    def _add_changes(self, rows: Float32, consecutive: Array) -> None:
        """Add squares and products of the changes between volumes, in strips of voxels.

        `rows` are volumes (T, voxels of the box), and `consecutive` the numbers of the changes
        between volumes that were acquired in succession.
        """
        for start in range(0, rows.shape[1], _STRIP_VOXELS):
            # with the voxels after the strip that are neighbors of its last voxels
            change = np.diff(rows[:, start : start + _STRIP_VOXELS + self._offsets[2]], axis=0)
            if len(consecutive) < len(change):
                change = change[consecutive]
            current = change[:, :_STRIP_VOXELS]
            self._squares[start : start + _STRIP_VOXELS] += np.einsum("tn,tn->n", current, current)
            for product, offset in zip(self._products, self._offsets, strict=True):
                neighbor = change[:, offset : offset + _STRIP_VOXELS]
                n = neighbor.shape[1]
                product[start : start + n] += np.einsum("tn,tn->n", current[:, :n], neighbor)

    def quality(self) -> _SeriesQuality:
        """Return the quality of the series after all volumes were added."""
        assert self._fit is not None  # true for at least 4 volumes
        mean = self._select_mask_values(self._fit.mean)
        variance = self._fit.residual_variance(self._n_uncensored - _DEGREE - 1)
        noise = self._select_mask_values(np.sqrt(variance))
        noise[noise <= _RELATIVE_ROUNDING * np.abs(mean)] = 0
        tsnr = np.divide(mean, noise, out=np.zeros_like(mean), where=noise > 0)
        box_mask = self._mask[self._box]
        squares = self._squares.reshape(box_mask.shape, order="F")
        correlations = [
            _correlate_neighbors(
                product.reshape(box_mask.shape, order="F"), squares, box_mask, axis
            )
            for axis, product in enumerate(self._products)
        ]
        return _SeriesQuality(
            mean=self._make_map(mean),
            noise=self._make_map(noise),
            tsnr=self._make_map(tsnr),
            fwhm_mm=smoothness(correlations, self._zooms),
            n_volumes=self._n_uncensored,
        )

    def _select_mask_values(self, row: Float) -> Float:
        """Return the values of the mask voxels (N,) from a row of all voxels of the box."""
        box_mask = self._mask[self._box]
        return row.reshape(box_mask.shape, order="F")[box_mask]

    def _make_map(self, values: Float) -> Float:
        """Return a map (X, Y, Z) with values in the mask (N,), and 0 elsewhere."""
        volume = np.zeros(self._mask.shape)
        volume[self._mask] = values
        return volume


def _correlate_neighbors(products: Float, squares: Float, mask: MaskArray, axis: int) -> float:
    """Return the mean correlation of neighbors along one axis, or 0 if no pair varies."""
    lower, upper = (
        tuple(axis_slice if k == axis else slice(None) for k in range(3))
        for axis_slice in (slice(None, -1), slice(1, None))
    )
    norms = np.sqrt(squares[lower] * squares[upper])
    is_pair = mask[lower] & mask[upper] & (norms > 0)
    return float((products[lower][is_pair] / norms[is_pair]).mean()) if is_pair.any() else 0.0


def smoothness(correlations: Sequence[float], zooms: Sequence[float]) -> tuple[float | None, ...]:
    """Return the FWHM (mm) of Gaussian-smoothed white noise along each axis.

    `correlations` are the correlations of neighboring voxels along each axis, exp(−d²/4σ²) for
    voxel size d in `zooms` (mm). The FWHM is None if the correlation is not between 0 and 1.
    """
    return tuple(
        float(zoom * np.sqrt(2 * np.log(2) / -np.log(r))) if 0 < r < 1 else None
        for r, zoom in zip(correlations, zooms, strict=True)
    )


def quality_metrics(quality: _SeriesQuality, mask: MaskArray) -> dict[str, float | None]:
    """Summarize temporal quality over the mask, see `bids_sr.engine.metric_rows`.

    Parameters
    ----------
    quality : _SeriesQuality
        Maps and smoothness of a series.
    mask : MaskArray
        Brain voxels on the grid of the series (3D, boolean).

    Returns
    -------
    dict[str, float | None]
        Value of each statistic by name; None if a smoothness is not defined.
    """
    widths = [width for width in quality.fwhm_mm if width is not None]
    return {
        "tsnr_median": float(np.median(quality.tsnr[mask])),
        "mean_signal": float(quality.mean[mask].mean()),
        "fwhm_mean": float(np.prod(widths) ** (1 / 3)) if len(widths) == 3 else None,
        "volumes": quality.n_volumes,
    }
