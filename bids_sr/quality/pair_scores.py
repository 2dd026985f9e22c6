"""PSNR and SSIM on a held-out pair, with confidence intervals over slices.

Slices are the units of resampling, because the network processes one slice at a time and
neighboring slices share little of its error. If the same slices are resampled for two series, this
also gives the confidence interval of their difference.
"""

from collections.abc import Mapping

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.metrics.similarity import ssim

_N_BOOT = 1000
_RANGE = (2.5, 97.5)


@frozen
class _SliceScores:
    """Sums over the voxels of each of S slices, for the computation of scores."""

    squared: Array  # squared error (S,)
    similar: Array  # structural similarity (S,)
    counts: Array  # voxels in the mask (S,)
    data_range: float  # data range of both scores, in the unit of the images

    def psnr(self, slices: Array) -> Array:
        """Return the PSNR (dB) of sets of slices (..., S'), infinite for equal images."""
        error = self.squared[slices].sum(-1) / self.counts[slices].sum(-1)
        with np.errstate(divide="ignore"):
            return 10 * np.log10(self.data_range**2 / error)

    def ssim(self, slices: Array) -> Array:
        """Return the mean structural similarity of sets of slices (..., S')."""
        return self.similar[slices].sum(-1) / self.counts[slices].sum(-1)


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

    Raises
    ------
    ValueError
        The shapes differ, or the mask is empty.
    """
    if not image.shape == reference.shape == mask.shape:
        raise ValueError(
            f"the image, reference and mask must have the same shape, got {image.shape}, "
            f"{reference.shape} and {mask.shape}"
        )
    slices = [z for z in range(mask.shape[2]) if mask[..., z].any()]
    if not slices:
        raise ValueError("the mask is empty")
    a = image.astype(np.float64)
    b = reference.astype(np.float64)
    counts = np.array([mask[..., z].sum() for z in slices], dtype=float)
    squared = [float(((a[..., z] - b[..., z])[mask[..., z]] ** 2).sum()) for z in slices]
    similar = [
        ssim(b[..., z], a[..., z], data_range=data_range, mask=mask[..., z]) for z in slices
    ]
    return _SliceScores(
        squared=np.array(squared),
        similar=np.array(similar) * counts,
        counts=counts,
        data_range=data_range,
    )


def holdout_rows(scores: Mapping[str, _SliceScores], method: str, *, seed: int) -> list[MetricRow]:
    """Return scores of each series, and the gain of a method over each of the other series.

    The rows are PSNR (dB) and SSIM of the same slices with confidence intervals; gains are only
    computed for PSNR.
    """
    method_scores = scores[method]
    n = len(method_scores.counts)
    all_slices = np.arange(n)
    resampled = np.random.default_rng(seed).integers(0, n, (_N_BOOT, n))
    rows = []
    for name, score in scores.items():
        for statistic, score_of in (("psnr", score.psnr), ("ssim", score.ssim)):
            rows.append(_row(name, statistic, float(score_of(all_slices)), score_of(resampled), n))
    for name, score in scores.items():
        if name != method:
            gain = float(method_scores.psnr(all_slices) - score.psnr(all_slices))
            rows.append(
                _row(
                    method,
                    "psnr",
                    gain,
                    method_scores.psnr(resampled) - score.psnr(resampled),
                    n,
                    minus=name,
                )
            )
    return rows


def _row(
    series: str, statistic: str, value: float, samples: Array, n: int, minus: str = MISSING
) -> MetricRow:
    lower, upper = (
        np.percentile(samples, _RANGE) if np.isfinite(samples).all() else (np.nan, np.nan)
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
        n=n,
    )
