"""Temporal signal-to-noise ratio and smoothness of the noise of a series, in one pass."""

from collections.abc import Iterable, Sequence

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Mask, Real
from bids_sr.stats.glm.streamed_fit import StreamedFit

_DEGREE = 2  # of the polynomial trend that is no noise


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

    Parameters
    ----------
    correlations : Sequence[float]
        Correlation of neighbors along each axis.
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Returns
    -------
    tuple[float | None, ...]
        Widths (mm); None for a correlation not between 0 and 1.
    """
    out: list[float | None] = []
    for r, zoom in zip(correlations, zooms, strict=True):
        out.append(float(zoom * np.sqrt(2 * np.log(2) / -np.log(r))) if 0 < r < 1 else None)
    return tuple(out)


def series_quality(
    volumes: Iterable[Real], mask: Mask, zooms: Sequence[float], *, n_volumes: int
) -> _SeriesQuality:
    """Measure the quality of a series of volumes (X, Y, Z), without dummies, in one pass.

    The series is read once, volume by volume.

    Smoothness comes from differences of successive volumes, which hold little signal and no trend:
    for each pair of neighbors inside the mask their correlation over time, averaged over pairs.
    ValueError where the mask is on another grid or empty, or the series has too few volumes.

    Parameters
    ----------
    volumes : Iterable[Real]
        Volumes in the steady state, in order of time (3D each).
    mask : Mask
        Voxels of the brain on the grid of the series (3D, boolean).
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    n_volumes : int
        Number of volumes that will come, four at least.

    Returns
    -------
    _SeriesQuality
        Mean, noise, tSNR and smoothness inside the mask.

    Raises
    ------
    ValueError
        Volumes are too few or on another grid, or the mask is empty.
    """
    if n_volumes < _DEGREE + 2:
        raise ValueError(f"{n_volumes} volumes are too few for noise over time")
    if not mask.any():
        raise ValueError("the mask is empty")
    basis = np.linalg.qr(np.vander(np.linspace(-1, 1, n_volumes), _DEGREE + 1, increasing=True))[0]
    fit = previous = None
    squares = np.zeros(mask.shape)
    products = [
        np.zeros(tuple(n - (i == axis) for i, n in enumerate(mask.shape))) for axis in range(3)
    ]
    for volume in volumes:
        if volume.shape != mask.shape:
            raise ValueError(f"volumes of {volume.shape}, mask of {mask.shape}")
        current = np.where(mask, volume, 0).astype(np.float64)
        if fit is None or previous is None:
            fit, previous = StreamedFit(basis, current), current
        fit.add(current.reshape(1, -1))
        step, previous = current - previous, current
        squares += step**2
        for axis, product in enumerate(products):
            n = step.shape[axis]
            product += np.take(step, range(1, n), axis) * np.take(step, range(n - 1), axis)
    assert fit is not None  # n_volumes is at least 2
    mean = fit.mean.reshape(mask.shape)
    noise = np.sqrt(fit.residual_variance(n_volumes - _DEGREE - 1)).reshape(mask.shape)
    noise[noise <= 1e-6 * np.abs(mean)] = 0
    correlations = [
        _neighbors(product, squares, mask, axis) for axis, product in enumerate(products)
    ]
    tsnr = np.divide(mean, noise, out=np.zeros_like(mean), where=noise > 0)
    widths = smoothness(correlations, zooms)
    return _SeriesQuality(mean=mean, noise=noise, tsnr=tsnr, fwhm_mm=widths, n_volumes=n_volumes)


def _neighbors(product: Float, squares: Float, mask: Mask, axis: int) -> float:
    """Mean correlation of neighbors along one axis; 0 where no pair of them varies."""
    n = mask.shape[axis]
    if n < 2:
        return 0.0
    low, high = range(n - 1), range(1, n)
    scale = np.sqrt(np.take(squares, low, axis) * np.take(squares, high, axis))
    pairs = np.take(mask, low, axis) & np.take(mask, high, axis) & (scale > 0)
    return float((product[pairs] / scale[pairs]).mean()) if pairs.any() else 0.0


def quality_metrics(quality: _SeriesQuality, mask: Mask) -> dict[str, float | None]:
    """Summary over the mask, by measure (see `bids_sr.metrics.registry`).

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
