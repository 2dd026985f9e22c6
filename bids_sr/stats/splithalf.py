"""How well the effect in one half of a run's blocks agrees with the effect in its other half, and how sure that is.

The correlation over voxels of two sums of block maps follows from inner products of the block maps alone. So for each
set of voxels and each scale there are three small matrices (own, cross, target), and resampled blocks are only other
weights: a thousand resamples cost nothing, and the same resamples serve every series, so that differences between
series have intervals.

Scales: the unit of the signal; percent of *one* mean image, the measured one's (in percent of each series' own mean
sharper static images alone look like better function); and the band beyond the acquired Nyquist limit, which the
acquisition did not contain: in-plane Fourier coefficients of whole slices at or beyond it, taken before masking.

Intervals: blocks are drawn with replacement within condition and half (within half and sign of the contrast, where a
condition has a single block there, so that conditions count as a sample). A block drawn c times from n weighs
1 + s·sqrt(n/(n - 1))·(c - 1), with s = 1/5, and the deviations from the resamples' mean are divided by s. The usual
bootstrap, s = 1, does not do: repeated blocks average less noise away, which lowers the correlation of every resample;
its percentile interval held the expected correlation in 1 to 99 % of simulated runs, this one in 88 to 99 % (2 to 12
blocks a half; 88 to 91 % with two). An interval says what other blocks of the same run would give, in the same voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from bids_sr.stats.blocks import Block

Array = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
BANDS = ("signal", "percent", "beyond")
ACTIVE_T = (3.0, 4.0, 5.0, 6.0)
MAIN_REGION = "active40"
_STEP = 0.2
_LEAST_VOXELS = 10
_CHUNK = 16384  # voxels whose inner products are summed in the maps' own precision; the sums are double


def beyond_nyquist(maps: npt.NDArray[np.floating], factor: Sequence[float]) -> Array:
    """Only the in-plane Fourier coefficients at or beyond the limit of the acquired matrix.

    Parameters
    ----------
    maps : (X, Y, Z[, B]) whole slices on the high-resolution grid
    factor : acquired over high-resolution voxel by axis; n voxels at factor f were acquired as n/f, whose limit is
        n/(2f) cycles over the field of view. An axis of factor 1 has no limit of its own. Where the factor is above 1
        across slices only, the band is the one beyond their limit

    Raises
    ------
    ValueError : no axis has a factor above 1
    """
    axes = [axis for axis in (0, 1) if factor[axis] > 1] or [axis for axis in (2,) if factor[axis] > 1]
    if not axes:
        raise ValueError(f"a factor of {tuple(factor)} leaves nothing beyond the acquired limit")
    spectrum = fft.fftn(np.asarray(maps, dtype=np.float32), axes=axes)
    inner = np.ones((1,) * spectrum.ndim, dtype=bool)
    for axis in axes:
        n = spectrum.shape[axis]
        within = np.abs(fft.fftfreq(n) * n) < n / (2 * factor[axis]) - 1e-6
        inner = inner & within.reshape([-1 if k == axis else 1 for k in range(spectrum.ndim)])
    spectrum *= ~inner
    return np.ascontiguousarray(fft.ifftn(spectrum, axes=axes).real)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    """Inner products over a set of voxels of block maps, each map's mean over the voxels taken off; (B, B) each.

    Attributes
    ----------
    own : of the series' block maps among themselves
    cross : of the series' (rows) with the target's (columns)
    target : of the target's among themselves
    """

    own: Float
    cross: Float
    target: Float

    def correlation(self, source: Float, target: Float) -> Float:
        """r of two sums of block maps, (K,), for weights (K, B) of the series' and of the target's blocks."""
        top = np.einsum("kb,kb->k", source @ self.cross, target)
        left = np.maximum(np.einsum("kb,kb->k", source @ self.own, source), 0)
        right = np.maximum(np.einsum("kb,kb->k", target @ self.target, target), 0)
        return np.divide(top, np.sqrt(left * right), out=np.full(len(top), math.nan), where=(left > 0) & (right > 0))


def inner_products(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Float:
    """(A, B) inner products of maps in rows, (A, N) and (B, N), each less its own mean over the N voxels."""
    out = np.zeros((len(a), len(b)))
    mean_a, mean_b = (x.mean(axis=1, dtype=np.float64)[:, None].astype(x.dtype) for x in (a, b))
    for start in range(0, a.shape[1], _CHUNK):
        at = slice(start, start + _CHUNK)
        out += (a[:, at] - mean_a) @ (b[:, at] - mean_b).T
    return out


def _strata(blocks: Sequence[Block], weights: Float) -> list[list[int]]:
    """Blocks that may stand for one another in one half, for weights (B,) of that half."""
    by_condition: dict[str, list[int]] = {}
    by_sign: dict[bool, list[int]] = {}
    for index in np.flatnonzero(weights):
        by_condition.setdefault(blocks[index].condition, []).append(int(index))
        by_sign.setdefault(bool(weights[index] > 0), []).append(int(index))
    if all(len(part) > 1 for part in by_condition.values()):
        return list(by_condition.values())
    return list(by_sign.values())


def resampled_weights(blocks: Sequence[Block], halves: Float, n_boot: int, rng: np.random.Generator) -> Float | None:
    """Weights of resampled blocks, (2, n_boot, B), or None where a half has a single block.

    Parameters
    ----------
    halves : (2, B) weights of the blocks in each half's effect
    """
    out = np.repeat(halves[:, None], n_boot, axis=1)
    for half, weights in enumerate(halves):
        strata = _strata(blocks, weights)
        if all(len(part) < 2 for part in strata):
            return None
        for part in strata:
            n = len(part)
            if n > 1:
                counts = rng.multinomial(n, np.full(n, 1 / n), size=n_boot)
                out[half][:, part] *= 1 + _STEP * math.sqrt(n / (n - 1)) * (counts - 1)
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A correlation and its resamples, both ways.

    Attributes
    ----------
    ways : (2,) r with half 0 of the series as source, and with half 1
    draws : (2, n_boot) the same for resampled blocks; n_boot is 0 where blocks cannot be resampled
    """

    ways: Float
    draws: Float

    @property
    def value(self) -> float:
        """Mean of both ways."""
        return float(self.ways.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the value, within -1 and 1."""
        low, high = interval(self.value, self.draws.mean(axis=0))
        return (low, high) if math.isnan(low) else (max(low, -1.0), min(high, 1.0))

    def less(self, other: Score) -> tuple[float, float, float]:
        """Difference to another series' score with its interval; the resamples are the same blocks in both."""
        value = self.value - other.value
        if self.draws.shape != other.draws.shape:
            return value, math.nan, math.nan
        return (value, *interval(value, (self.draws - other.draws).mean(axis=0)))


def interval(value: float, draws: Float) -> tuple[float, float]:
    """95 % interval of a value from small resampling steps (see the module's text); NaN without resamples."""
    if not draws.size or not np.isfinite(draws).all() or not math.isfinite(value):
        return math.nan, math.nan
    low, high = np.quantile((draws - draws.mean()) / _STEP, [0.025, 0.975])
    return value + float(low), value + float(high)


def score(inners: Sequence[Inner | None], halves: Float, draws: Float | None) -> Score:
    """r of each half of the series with the other half of the target.

    Parameters
    ----------
    inners : of the voxels that belong to the source half 0 and 1; None where there are too few
    halves, draws : (2, B) and (2, n_boot, B)
    """
    ways, resampled = [], []
    for source, inner in enumerate(inners):
        if inner is None:
            ways.append(math.nan)
            resampled.append(np.zeros(0) if draws is None else np.full(draws.shape[1], math.nan))
            continue
        ways.append(float(inner.correlation(halves[None, source], halves[None, 1 - source])[0]))
        resampled.append(np.zeros(0) if draws is None else inner.correlation(draws[source], draws[1 - source]))
    return Score(ways=np.array(ways), draws=np.array(resampled))


def active_regions(t_maps: Sequence[Array], mask: Mask) -> dict[str, tuple[Mask, Mask]]:
    """Voxels of the mask with |t| above each threshold in half 0 and in half 1, by name of the region."""
    return {
        f"active{round(10 * limit)}": (mask & (np.abs(t_maps[0]) > limit), mask & (np.abs(t_maps[1]) > limit))
        for limit in ACTIVE_T
    }


def enough(region: Mask) -> bool:
    """Whether a region has the voxels that a correlation over them needs."""
    return int(region.sum()) >= _LEAST_VOXELS


def method_of(series: str, methods: Sequence[str]) -> str | None:
    """The method whose placebo or member a series is: its name is the method's and goes on with a capital letter."""
    for name in sorted(methods, key=len, reverse=True):
        if series.startswith(name) and series[len(name) : len(name) + 1].isupper():
            return name
    return None


def gain_pairs(series: Sequence[str], baselines: Sequence[str]) -> list[tuple[str, str]]:
    """(method, what it is held against): every baseline, control and other method, and the method's own placebos.

    Parameters
    ----------
    series : all names; measured is none of them
    baselines : those that are baselines or controls
    """
    learned = [name for name in series if name not in baselines]
    methods = [name for name in learned if method_of(name, learned) is None]
    pairs = []
    for method in methods:
        for other in series:
            owner = method_of(other, methods)
            member = owner is not None and other[len(owner) :].startswith("Seed")
            if other != method and (owner is None or owner == method) and not member:
                pairs.append((method, other))
    return pairs


def halves_of(blocks: Sequence[Block], halves: Mapping[str, Float], n_boot: int, seed: int) -> dict[str, Float | None]:
    """Resampled weights of every contrast; those of one contrast do not depend on which others there are."""
    return {
        name: resampled_weights(blocks, weights, n_boot, np.random.default_rng([seed, *name.encode()]))
        if n_boot
        else None
        for name, weights in halves.items()
    }
