"""PSNR and SSIM on a held-out pair, with confidence intervals over slices.

Slices are the units of resampling, because the network processes one slice at a time and
neighboring slices share little of its error. If the same slices are resampled for two series, this
also gives the confidence interval of their difference.
"""

from collections.abc import Mapping

import numpy as np

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.spatial.image_similarity import ssim

_N_BOOT = 1000  # bootstrap resamples of slices
_INTERVAL_PERCENTILES = (2.5, 97.5)  # limits of a 95 % interval


@frozen
class _SliceScores:
    """Sums over the voxels of each of S slices, for the computation of scores.

    `squared_error` is in the squared unit of the images, `similarity` is the structural
    similarity, and `n_voxels` the number of voxels in the mask (S,). `data_range` is the data
    range of both scores, in the unit of the images.
    """

    squared_error: Array
    similarity: Array
    n_voxels: Array
    data_range: float

    def psnr(self, slices: Array) -> Array:
        """Return the PSNR (dB) of sets of slices (..., S'), infinite for equal images."""
        mse = self.squared_error[slices].sum(-1) / self.n_voxels[slices].sum(-1)
        with np.errstate(divide="ignore"):
            return 10 * np.log10(self.data_range**2 / mse)

    def ssim(self, slices: Array) -> Array:
        """Return the mean structural similarity of sets of slices (..., S')."""
        return self.similarity[slices].sum(-1) / self.n_voxels[slices].sum(-1)


def slice_scores(
    image: Array, reference: Array, mask: Array, *, data_range: float
) -> _SliceScores:
    """Compute scores of each slice (third axis) that contains voxels of the mask.

    Parameters
    ----------
    image : Array
        Image to score (3D).
    reference : Array
        High-resolution image as measured (3D).
    mask : Array
        Voxels to include (3D, boolean).
    data_range : float
        Range of possible intensities, in the unit of the images.

    Returns
    -------
    _SliceScores
        Sums over each slice, for the computation of scores.
    """
    slices = [z for z in range(mask.shape[2]) if mask[..., z].any()]
    tested, measured = image.astype(np.float64), reference.astype(np.float64)
    n_voxels = np.array([float(mask[..., z].sum()) for z in slices])
    squared_error = np.array(
        [float(((tested[..., z] - measured[..., z])[mask[..., z]] ** 2).sum()) for z in slices]
    )
    mean_similarity = np.array(
        [
            ssim(measured[..., z], tested[..., z], data_range=data_range, mask=mask[..., z])
            for z in slices
        ]
    )
    return _SliceScores(
        squared_error=squared_error,
        similarity=mean_similarity * n_voxels,
        n_voxels=n_voxels,
        data_range=data_range,
    )


def holdout_rows(scores: Mapping[str, _SliceScores], method: str, *, seed: int) -> list[MetricRow]:
    """Return scores of each series, and the gain of a method over each of the other series.

    The rows are PSNR (dB) and SSIM of the same slices with confidence intervals; gains are only
    computed for PSNR.
    """
    method_scores = scores[method]
    n_slices = len(method_scores.n_voxels)
    all_slices = np.arange(n_slices)
    bootstrap_slices = np.random.default_rng(seed).integers(0, n_slices, (_N_BOOT, n_slices))
    rows = []
    for name, series_scores in scores.items():
        for statistic, compute in (("psnr", series_scores.psnr), ("ssim", series_scores.ssim)):
            score, samples = float(compute(all_slices)), compute(bootstrap_slices)
            rows.append(_make_row(name, statistic, score, samples, n_slices=n_slices))
    for name, series_scores in scores.items():
        if name == method:
            continue
        gain = float(method_scores.psnr(all_slices) - series_scores.psnr(all_slices))
        samples = method_scores.psnr(bootstrap_slices) - series_scores.psnr(bootstrap_slices)
        rows.append(_make_row(method, "psnr", gain, samples, n_slices=n_slices, minus=name))
    return rows


def _make_row(
    series: str,
    statistic: str,
    value: float,
    samples: Array,
    *,
    n_slices: int,
    minus: str = MISSING,
) -> MetricRow:
    """Return a score, or a gain over the series `minus`, with a 95 % interval from its samples.

    The interval is undefined (NaN) if a sample is infinite.
    """
    lower, upper = (
        np.percentile(samples, _INTERVAL_PERCENTILES)
        if np.isfinite(samples).all()
        else (np.nan, np.nan)
    )
    return MetricRow(
        series=series,
        minus=minus,
        statistic=statistic,
        reference="heldOut",
        region="brain",
        value=value,
        lower=float(lower),
        upper=float(upper),
        n=n_slices,
    )
