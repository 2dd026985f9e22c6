"""PSNR and SSIM on a held-out pair, with intervals over slices.

Slices are the units: the network sees one at a time, and neighbors share little of its error.
Resampling them gives the interval of a score, and, with the same slices for both, that of a
difference.
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
    """Sums over the voxels of each slice, from which scores of any set of slices follow."""

    squared: Array  # squared error, (S,)
    similar: Array  # structural similarity, (S,)
    counts: Array  # voxels in the mask, (S,)
    data_range: float  # of both scores, in the images' unit

    def psnr(self, slices: Array) -> Array:
        """PSNR (dB) of sets of slices, (..., S') → (...); infinite for equal images."""
        error = self.squared[slices].sum(-1) / self.counts[slices].sum(-1)
        with np.errstate(divide="ignore"):
            return 10 * np.log10(self.data_range**2 / error)

    def ssim(self, slices: Array) -> Array:
        """Structural similarity of sets of slices."""
        return self.similar[slices].sum(-1) / self.counts[slices].sum(-1)


def slice_scores(image: Array, truth: Array, mask: Array, *, data_range: float) -> _SliceScores:
    """Score the slices (third axis) that contain any of the mask.

    Raise ValueError if there is none, or if shapes differ.

    Parameters
    ----------
    image : Array
        Image to score (3D).
    truth : Array
        High-resolution image as measured (3D).
    mask : Array
        Voxels that count (3D, boolean).
    data_range : float
        Peak value of the images, in their intensity.

    Returns
    -------
    _SliceScores
        Sums over each slice, from which scores follow.

    Raises
    ------
    ValueError
        Shapes differ, or the mask is empty.
    """
    if not image.shape == truth.shape == mask.shape:
        raise ValueError(
            f"the image, reference and mask must have the same shape, got {image.shape}, "
            f"{truth.shape} and {mask.shape}"
        )
    shown = [z for z in range(mask.shape[2]) if mask[..., z].any()]
    if not shown:
        raise ValueError("the mask is empty")
    a = image.astype(np.float64)
    b = truth.astype(np.float64)
    counts = np.array([mask[..., z].sum() for z in shown], dtype=float)
    squared = [float(((a[..., z] - b[..., z])[mask[..., z]] ** 2).sum()) for z in shown]
    similar = [ssim(b[..., z], a[..., z], data_range=data_range, mask=mask[..., z]) for z in shown]
    return _SliceScores(
        squared=np.array(squared),
        similar=np.array(similar) * counts,
        counts=counts,
        data_range=data_range,
    )


def holdout_rows(scores: Mapping[str, _SliceScores], method: str, *, seed: int) -> list[MetricRow]:
    """Return scores of each series on the same slices, and the method's gain over each other.

    Rows of PSNR (dB) and SSIM with intervals; gains in PSNR alone.
    """
    of_method = scores[method]
    n = len(of_method.counts)
    every = np.arange(n)
    drawn = np.random.default_rng(seed).integers(0, n, (_N_BOOT, n))
    rows = []
    for name, score in scores.items():
        for statistic, of in (("psnr", score.psnr), ("ssim", score.ssim)):
            rows.append(_row(name, statistic, float(of(every)), of(drawn), n))
    for name, score in scores.items():
        if name != method:
            gain = float(of_method.psnr(every) - score.psnr(every))
            rows.append(
                _row(
                    method, "psnr", gain, of_method.psnr(drawn) - score.psnr(drawn), n, minus=name
                )
            )
    return rows


def _row(
    series: str, statistic: str, value: float, drawn: Array, n: int, minus: str = MISSING
) -> MetricRow:
    lower, upper = np.percentile(drawn, _RANGE) if np.isfinite(drawn).all() else (np.nan, np.nan)
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
