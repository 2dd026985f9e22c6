"""Temporal signal-to-noise ratio and smoothness of the noise of a series, in one pass."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.glm.streamed_fit import StreamedFit, in_batches
from bids_sr.io.arrays import Float, Mask, Real
from bids_sr.spatial.masks import bounding_box

_DEGREE = 2  # of the polynomial trend that is no noise
_STRIP = 8192  # voxels whose changes stay in the processor's cache


@frozen
class _SeriesQuality:
    """Quality of a series inside a mask."""

    # mean, noise, tsnr: (X, Y, Z) mean, standard deviation in time after a quadratic trend, their
    # ratio (0 where there is no noise); 0 outside the mask
    mean: Float
    noise: Float
    tsnr: Float
    # smoothness of the noise along the three voxel axes; None for an axis along which neighbors do
    # not correlate
    fwhm_mm: tuple[float | None, ...]
    n_volumes: int  # that entered


def smoothness(correlations: Sequence[float], zooms: Sequence[float]) -> tuple[float | None, ...]:
    """Return the FWHM (mm) of Gaussian-smoothed white noise along each axis.

    It is estimated from the correlation exp(−d²/4σ²) of neighbors.
    """
    out: list[float | None] = []
    for r, zoom in zip(correlations, zooms, strict=True):
        out.append(float(zoom * np.sqrt(2 * np.log(2) / -np.log(r))) if 0 < r < 1 else None)
    return tuple(out)


class QualitySums:
    """Running sums over the volumes of a series, from which its quality follows.

    Smoothness comes from differences of successive volumes, which hold little signal and no trend:
    for each pair of neighbors inside the mask their correlation over time, averaged over pairs.

    `n_volumes`: number of volumes in the steady state that will come. `kept`: which of them are
    not censored (n_volumes,), four at least; None: all. Mean, noise and trend are of the kept
    volumes, and differences of those that follow each other directly.
    """

    def __init__(
        self, mask: Mask, zooms: Sequence[float], n_volumes: int, kept: Mask | None = None
    ) -> None:
        times = np.linspace(-1, 1, n_volumes)
        self._kept = np.ones(n_volumes, dtype=bool) if kept is None else np.asarray(kept, bool)
        n_volumes = int(self._kept.sum())
        if n_volumes < _DEGREE + 2:
            raise ValueError(
                f"temporal noise cannot be estimated from only {n_volumes} volumes; at least "
                f"{_DEGREE + 2} are required"
            )
        if not mask.any():
            raise ValueError("the mask is empty")
        self._mask, self._zooms, self._n_volumes = mask, zooms, n_volumes
        self._box = bounding_box(mask)
        shape = mask[self._box].shape
        # to the next voxel along each axis of the box, whose voxels are one row as in a file
        self._steps = (1, shape[0], shape[0] * shape[1])
        count = math.prod(shape)
        self._squares, self._products = np.zeros(count), np.zeros((3, count))
        trend = np.vander(times[self._kept], _DEGREE + 1, increasing=True)
        self._basis = np.linalg.qr(trend)[0]
        self._seen = 0
        self._last_seen = -1  # number of the last kept volume
        self._fit: StreamedFit | None = None

    def add(self, volumes: Sequence[Real]) -> None:
        """The next volumes in order of time (X, Y, Z)."""
        if any(volume.shape != self._mask.shape for volume in volumes):
            raise ValueError(
                f"volumes of shape {volumes[0].shape} do not match the mask, which has shape "
                f"{self._mask.shape}"
            )
        numbers = np.arange(self._seen, self._seen + len(volumes))
        self._seen += len(volumes)
        chosen = np.flatnonzero(self._kept[numbers])
        if not chosen.size:
            return
        inside = self._mask[self._box]
        # the first is the last volume of the call before
        rows = np.empty((1 + len(chosen), inside.size), np.float32)
        for row, k in zip(rows[1:], chosen, strict=True):
            row.reshape(inside.shape, order="F")[...] = volumes[k][self._box]
        if self._fit is None:
            self._last = rows[1].copy()
            self._fit = StreamedFit(self._basis.astype(np.float32), self._last)
        rows[0] = self._last
        self._last = rows[-1].copy()
        self._fit.add(rows[1:])
        gaps = np.diff([self._last_seen, *numbers[chosen]])
        adjacent = np.flatnonzero(gaps == 1)
        self._last_seen = int(numbers[chosen[-1]])
        for start in range(0, rows.shape[1], _STRIP):
            change = np.diff(rows[:, start : start + _STRIP + self._steps[2]], axis=0)
            if len(adjacent) < len(change):
                change = change[adjacent]
            part = change[:, :_STRIP]
            self._squares[start : start + _STRIP] += np.einsum("tn,tn->n", part, part)
            for product, step in zip(self._products, self._steps, strict=True):
                near = change[:, step : step + _STRIP]
                n = near.shape[1]
                product[start : start + n] += np.einsum("tn,tn->n", part[:, :n], near)

    def quality(self) -> _SeriesQuality:
        """Return what the sums tell, once all volumes are in them."""
        assert self._fit is not None  # n_volumes is at least 4
        inside = self._mask[self._box]
        mean, noise, tsnr = (np.zeros(self._mask.shape) for _ in range(3))
        found = self._fit.mean.reshape(inside.shape, order="F")[inside]
        variance = self._fit.residual_variance(self._n_volumes - _DEGREE - 1)
        spread = np.sqrt(variance).reshape(inside.shape, order="F")[inside]
        spread[spread <= 1e-6 * np.abs(found)] = 0
        mean[self._mask], noise[self._mask] = found, spread
        tsnr[self._mask] = np.divide(found, spread, out=np.zeros_like(found), where=spread > 0)
        squares = self._squares.reshape(inside.shape, order="F")
        correlations = [
            _neighbors(product.reshape(inside.shape, order="F"), squares, inside, axis)
            for axis, product in enumerate(self._products)
        ]
        widths = smoothness(correlations, self._zooms)
        return _SeriesQuality(
            mean=mean, noise=noise, tsnr=tsnr, fwhm_mm=widths, n_volumes=self._n_volumes
        )


def series_quality(
    volumes: Iterable[Real],
    mask: Mask,
    zooms: Sequence[float],
    *,
    n_volumes: int,
    kept: Mask | None = None,
) -> _SeriesQuality:
    """Measure the quality of a series of volumes (X, Y, Z), without dummies, in one pass.

    `kept`: volumes that are not censored (n_volumes,); None: all.
    """
    sums = QualitySums(mask, zooms, n_volumes, kept)
    for batch in in_batches(volumes):
        sums.add(batch)
    return sums.quality()


def _neighbors(products: Float, squares: Float, mask: Mask, axis: int) -> float:
    """Mean correlation of neighbors along one axis; 0 where no pair of them varies."""
    low, high = (
        tuple(part if k == axis else slice(None) for k in range(3))
        for part in (slice(None, -1), slice(1, None))
    )
    scale = np.sqrt(squares[low] * squares[high])
    pairs = mask[low] & mask[high] & (scale > 0)
    return float((products[low][pairs] / scale[pairs]).mean()) if pairs.any() else 0.0


def quality_metrics(quality: _SeriesQuality, mask: Mask) -> dict[str, float | None]:
    """Summary over the mask, by measure (see `bids_sr.metrics.rows`).

    Parameters
    ----------
    quality : _SeriesQuality
        Maps and smoothness of a series.
    mask : Mask
        Voxels of the brain on the grid of the series (3D, boolean).

    Returns
    -------
    dict[str, float | None]
        Values by measure; None for a smoothness that is not known.
    """
    widths = [w for w in quality.fwhm_mm if w is not None]
    return {
        "tsnr_median": float(np.median(quality.tsnr[mask])),
        "mean_signal": float(quality.mean[mask].mean()),
        "noise_median": float(np.median(quality.noise[mask])),
        **{f"fwhm_{axis}": width for axis, width in zip("xyz", quality.fwhm_mm, strict=True)},
        "fwhm_mean": float(np.prod(widths) ** (1 / 3)) if len(widths) == 3 else None,
        "volumes": quality.n_volumes,
    }
