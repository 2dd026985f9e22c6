"""PSNR and SSIM of single volumes against the measured high-resolution volumes of the same run.

Both are taken inside the brain, volume by volume, relative to *one* data range: the 99th
percentile inside the brain of the mean over time of the measured volumes that are scored. Smooth
images are favored, as always by these two metrics.

Volumes that follow one another are alike, so the interval of a mean over volumes comes from
stretches of consecutive scored volumes, about as long as there are stretches, drawn with
replacement from the run taken as a circle. Deviations are widened by sqrt(m/(m - 1)), as m
stretches give a variance too small by (m - 1)/m, and by Student's t with m - 1 degrees of freedom
over the normal distribution. Of simulated runs of 60 volumes, each correlated by .6 with the one
before, the interval holds the mean in 92 % (drawing single volumes: 65 %), by .9 in 72 %. The same
stretches are drawn for all series, so that gains are paired.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import special

from bids_sr.io.arrays import Float, Mask
from bids_sr.io.nifti import SeriesReader
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.metrics.similarity import psnr, ssim
from bids_sr.series import IMAGE_REFERENCES, MEASURED

_SCORES = ("psnr", "ssim")
_PERCENTILE = 99
_LEAST_VOLUMES = 4  # two stretches of two


def _scored_volumes(n_volumes: int, n_dummy: int, at_most: int) -> list[int]:
    """Return evenly spaced volumes after the dummies, first and last included.

    Raises ValueError where no volume is left.
    """
    if not 0 <= n_dummy < n_volumes or at_most < 1:
        raise ValueError(
            f"no volumes can be scored, because the run has {n_volumes} volumes, the first "
            f"{n_dummy} volumes are non-steady-state volumes, and at most {at_most} volumes "
            "were requested"
        )
    count = min(at_most, n_volumes - n_dummy)
    return [int(t) for t in np.linspace(n_dummy, n_volumes - 1, count).round()]


def _stretches(n: int, n_boot: int, seed: int) -> tuple[npt.NDArray[np.intp], int]:
    """Return the volumes of n_boot resamples of n, (n_boot, n), and stretches in each.

    The second is the number of stretches. There are none with too few volumes.
    """
    if n < _LEAST_VOLUMES:
        return np.zeros((0, n), dtype=np.intp), 0
    length = round(math.sqrt(n))
    count = math.ceil(n / length)
    starts = np.random.default_rng(seed).integers(0, n, (n_boot, count))
    volumes = (starts[..., None] + np.arange(length)) % n
    return volumes.reshape(n_boot, -1)[:, :n], count


def _mean_interval(values: Float, drawn: npt.NDArray[np.intp], count: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values (n,) over volumes.

    It comes from the resamples of `_stretches`, and is NaN without them.

    `drawn`: positions among the volumes, one resample a row (n_boot, n).
    """
    if not len(drawn) or not np.isfinite(values).all():
        return math.nan, math.nan
    mean = float(values.mean())
    wide = math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, 0.975)
    wide /= special.ndtri(0.975)
    low, high = np.quantile(values[drawn].mean(axis=1) - mean, [0.025, 0.975]) * wide
    return mean + float(low), mean + float(high)


def _measured_range(reader: SeriesReader, volumes: list[int], mask: Mask) -> float:
    """99th percentile inside the mask of the mean of some volumes, read one at a time.

    ValueError where the mask is empty or lies on another grid, or the percentile is not positive.
    """
    if mask.shape != reader.shape[:3] or not mask.any():
        raise ValueError(
            f"{reader.path}: expected a mask of shape {reader.shape[:3]} with at least one "
            f"voxel, got a mask of shape {mask.shape} with {int(mask.sum())} voxels"
        )
    total = np.zeros(mask.shape)
    for t in volumes:
        total += reader.volume(t)
    top = float(np.percentile(total[mask] / len(volumes), _PERCENTILE))
    if not top > 0:
        raise ValueError(f"{reader.path}: the series has no signal within the brain mask")
    return top


def volume_scores(
    readers: Mapping[str, SeriesReader],
    measured: SeriesReader,
    mask: Mask,
    *,
    n_dummy: int,
    max_volumes: int,
) -> dict[str, dict[str, Float]]:
    """Return PSNR (dB) and SSIM of each volume, (n,), of every series.

    PSNR is infinite for a volume that equals the measured one.

    Two volumes are held at a time.

    Parameters
    ----------
    readers : Mapping[str, SeriesReader]
        By series, on the grid of the mask, with the volumes of `measured`; ValueError names a file
        that is not.
    measured : SeriesReader
        Series measured at the high resolution (4D).
    mask : Mask
        (X, Y, Z).
    n_dummy : int
        Number of volumes at the start that are not in the steady state.
    max_volumes : int
        Largest number of volumes to score.

    Returns
    -------
    dict[str, dict[str, Float]]
        Values of the scored volumes by ``psnr`` and ``ssim``, for each series.

    Raises
    ------
    ValueError
        A series has another grid or number of volumes than the measured one.
    """
    for reader in readers.values():
        if reader.shape != measured.shape or not np.allclose(
            reader.affine, measured.affine, atol=1e-3
        ):
            raise ValueError(
                f"{reader.path}: the series has the shape {reader.shape}; expected "
                f"{measured.shape}, as in {measured.path}"
            )
    volumes = _scored_volumes(measured.shape[3], n_dummy, max_volumes)
    data_range = _measured_range(measured, volumes, mask)
    shown = mask.any(axis=(0, 1))  # slices without brain are not compared
    inside = mask[..., shown]
    by_series: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for t in volumes:
        truth = measured.volume(t)[..., shown]
        for name, reader in readers.items():
            image = reader.volume(t)[..., shown]
            how = {"data_range": data_range, "mask": inside}
            by_series[name].append((psnr(truth, image, **how), ssim(truth, image, **how)))  # type: ignore[arg-type]
    return {
        name: dict(zip(_SCORES, np.array(scores).T, strict=True))
        for name, scores in by_series.items()
    }


def image_rows(
    scores: Mapping[str, Mapping[str, Float]], *, seed: int = 0, n_boot: int = 1000
) -> list[MetricRow]:
    """Return mean image scores of every series, and gains over `bspline` and `inject`.

    All are of the same volumes, and gains are given where those two are there.

    Parameters
    ----------
    scores : Mapping[str, Mapping[str, Float]]
        Values of the scored volumes by ``psnr`` and ``ssim``, for each series.
    seed : int, optional
        Seed of the resampling.
    n_boot : int, optional
        Number of resamples of stretches.

    Returns
    -------
    list[MetricRow]
        Rows with intervals, values before gains; empty without series.

    Raises
    ------
    ValueError
        Series have different numbers of scored volumes.
    """
    sizes = {len(each["psnr"]) for each in scores.values()}
    if len(sizes) > 1:
        raise ValueError(
            "all series must have the same number of scored volumes, got "
            f"{', '.join(map(str, sorted(sizes)))}"
        )
    if not sizes:
        return []
    drawn, count = _stretches(sizes.pop(), n_boot, seed)

    def row(series: str, statistic: str, values: Float, minus: str = MISSING) -> MetricRow:
        low, high = _mean_interval(values, drawn, count)
        return MetricRow(
            series=series,
            minus=minus,
            statistic=statistic,
            reference=MEASURED,
            region="brain",
            value=float(values.mean()),
            lower=low,
            upper=high,
            n=count or None,
        )

    rows = [row(s, name, own[name]) for s, own in scores.items() for name in _SCORES]
    for series, own in scores.items():
        for other in (name for name in IMAGE_REFERENCES if name in scores and name != series):
            for name in _SCORES:
                a = own[name]
                b = scores[other][name]
                gain = np.subtract(
                    a, b, out=np.full(len(a), math.nan), where=np.isfinite(a) & np.isfinite(b)
                )
                rows.append(row(series, name, gain, other))
    return rows
