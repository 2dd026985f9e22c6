"""How well the effect in one half of a run's blocks agrees with the effect in its other half, and how sure that is.

The correlation over voxels of two sums of block maps follows from inner products of the block maps alone. So for each
set of voxels and each scale there are three small matrices (own, cross, target), and resampled blocks are only other
weights: a thousand resamples cost nothing, and the same resamples serve every series, so that differences between
series have intervals.

Scales: the unit of the signal; percent of *one* mean image, the measured one's (in percent of each series' own mean
sharper static images alone look like better function); and the band beyond the acquired Nyquist limit, which the
acquisition did not contain: in-plane Fourier coefficients of whole slices at or beyond it, taken before masking.

Beside the correlation stand explained variance, recovered amplitude and right share
(`bids_sr.stats.evaluation.explained_variance`), from the same inner products.

Intervals: blocks are drawn with replacement within condition and half (within half and sign of the contrast, where a
condition has a single block there, so that conditions count as a sample). Where that leaves one block alone, there is
no interval: how much other blocks would change cannot be seen from one. A block drawn c times from n weighs
1 + s·sqrt(n/(n - 1))·(c - 1), with s = 1/5, and the deviations from the resamples' mean are divided by s. The usual
bootstrap, s = 1, does not do: repeated blocks average less noise away, which lowers the correlation of every resample;
its percentile interval held the expected correlation in 1 to 99 % of simulated runs, this one in 88 to 99 % (2 to 12
blocks a half; 88 to 91 % with two). An interval says what other blocks of the same run would give, in the same voxels,
and, where networks of several seeds were trained, what another seed would (`with_seeds`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from bids_sr.series import is_variant_of, kind_of
from bids_sr.stats.evaluation.explained_variance import FIGURES, OF_TRUTH, Moments
from bids_sr.stats.glm.blocks import Block

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

    def moments(self, source: Float, target: Float, *, known: bool = False) -> Moments:
        """Inner products of sums of block maps, for weights (K, B) of the series' and of the target's blocks.

        Parameters
        ----------
        known : the target has no noise; else its energy without noise is the inner product of what the blocks of
            the series and what those of the target make of the target
        """
        both = np.einsum("kb,kb->k", target @ self.target, target)
        return Moments(
            shared=np.einsum("kb,kb->k", source @ self.cross, target),
            energy=np.einsum("kb,kb->k", source @ self.own, source),
            target=both,
            true=both if known else np.einsum("kb,kb->k", source @ self.target, target),
        )


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
    """Weights of resampled blocks, (2, n_boot, B), or None where a block stands alone in its stratum.

    Parameters
    ----------
    halves : (2, B) weights of the blocks in each half's effect
    """
    out = np.repeat(halves[:, None], n_boot, axis=1)
    for half, weights in enumerate(halves):
        strata = _strata(blocks, weights)
        if any(len(part) < 2 for part in strata):
            return None
        for part in strata:
            n = len(part)
            counts = rng.multinomial(n, np.full(n, 1 / n), size=n_boot)
            out[half][:, part] *= 1 + _STEP * math.sqrt(n / (n - 1)) * (counts - 1)
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A figure and its resamples, both ways.

    Attributes
    ----------
    ways : (2,) with half 0 of the series as source, and with half 1
    draws : (2, n_boot) the same for resampled blocks; n_boot is 0 where blocks cannot be resampled
    limit : the figure lies within ± this, and so does its interval
    """

    ways: Float
    draws: Float
    limit: float = math.inf

    @property
    def value(self) -> float:
        """Mean of both ways."""
        return float(self.ways.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the value."""
        low, high = interval(self.value, self.draws.mean(axis=0))
        return (low, high) if math.isnan(low) else (max(low, -self.limit), min(high, self.limit))

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


def with_seeds(own: Score, members: Sequence[Score], picks: npt.NDArray[np.intp]) -> Score:
    """A figure of a network whose resamples vary with the seed of its training too.

    Parameters
    ----------
    own : of the series itself, which is one seed
    members : of all seeds, its own among them, M of them
    picks : (n_boot,) which member each resample draws

    Notes
    -----
    Each resample gains the drawn member's deviation from the members' mean, in the same small step as blocks and by
    sqrt(M/(M - 1)), so that the interval has the variance of one seed (not of a mean over seeds) beside that of blocks.
    """
    ways = np.array([member.ways for member in members])
    if len(members) < 2 or own.draws.shape[1] != len(picks) or not np.isfinite(ways).all():
        return own
    apart = (ways - ways.mean(axis=0)) * _STEP * math.sqrt(len(ways) / (len(ways) - 1))
    return Score(ways=own.ways, draws=own.draws + apart[picks].T, limit=own.limit)


def score_moments(found: Moments, draws: Moments | None, figures: Sequence[str]) -> dict[str, tuple[float, Float]]:
    """Figures of one pair of maps, each with its resamples (n_boot,).

    Parameters
    ----------
    found, draws : of the maps (K = 1), and of resampled blocks; None: without
    figures : of `explained_variance.FIGURES`; those of the truth are NaN where its energy is not above 0 for sure
    """
    size = 0 if draws is None else len(draws.true)
    true = float(found.true[0])
    low = true if draws is None else interval(true, draws.true)[0]
    out = {}
    for name in figures:
        if name in OF_TRUTH and not (true > 0 and low > 0):
            out[name] = math.nan, np.full(size, math.nan)
        else:
            out[name] = float(found.figure(name)[0]), np.zeros(0) if draws is None else draws.figure(name)
    return out


def score(
    inners: Sequence[Inner | None], halves: Float, draws: Float | None, figures: Sequence[str] = FIGURES
) -> dict[str, Score]:
    """How each half of the series agrees with the other half of the target, by figure.

    Parameters
    ----------
    inners : of the voxels that belong to the source half 0 and 1; None where there are too few
    halves, draws : (2, B) and (2, n_boot, B)
    figures : of `bids_sr.stats.evaluation.explained_variance.FIGURES`
    """
    size = 0 if draws is None else draws.shape[1]
    ways: list[dict[str, tuple[float, Float]]] = []
    for source, inner in enumerate(inners):
        if inner is None:
            ways.append(dict.fromkeys(figures, (math.nan, np.full(size, math.nan))))
            continue
        found = inner.moments(halves[None, source], halves[None, 1 - source])
        drawn = None if draws is None else inner.moments(draws[source], draws[1 - source])
        ways.append(score_moments(found, drawn, figures))
    return {
        name: Score(
            ways=np.array([way[name][0] for way in ways]), draws=np.array([way[name][1] for way in ways]),
            limit=1.0 if name == "r" else math.inf,
        )
        for name in figures
    }  # fmt: skip


def active_regions(t_maps: Sequence[Array], mask: Mask) -> dict[str, tuple[Mask, Mask]]:
    """Voxels of the mask with |t| above each threshold in half 0 and in half 1, by name of the region."""
    return {
        f"active{round(10 * limit)}": (mask & (np.abs(t_maps[0]) > limit), mask & (np.abs(t_maps[1]) > limit))
        for limit in ACTIVE_T
    }


def enough(region: Mask) -> bool:
    """Whether a region has the voxels that a correlation over them needs."""
    return int(region.sum()) >= _LEAST_VOXELS


def seeded(scores: Mapping[str, dict[Any, Score]], seed: int) -> None:
    """Let the resamples of every network with members of other seeds vary with the seed, in place.

    Parameters
    ----------
    scores : by series, then by figure
    seed : of which member each resample draws; the same for all figures of a method
    """
    for method in [name for name in scores if kind_of(name) == "method"]:
        names = [method, *(name for name in scores if kind_of(name) == "member" and is_variant_of(name, (method,)))]
        if len(names) < 2:
            continue
        rng = np.random.default_rng([seed, *method.encode()])
        sizes = {one.draws.shape[1] for one in scores[method].values()} - {0}
        picks = {size: rng.integers(len(names), size=size) for size in sorted(sizes)}
        for key, own in list(scores[method].items()):
            members = [scores[name][key] for name in names if key in scores[name]]
            if own.draws.shape[1] in picks and len(members) == len(names):
                scores[method][key] = with_seeds(own, members, picks[own.draws.shape[1]])


def gain_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """(method, what it is held against): every baseline, control and other method, and the method's own placebos."""
    return [
        (method, other)
        for method in names
        for other in names
        if kind_of(method) == "method"
        and other != method
        and kind_of(other) not in ("member", "measured")
        and (kind_of(other) != "placebo" or is_variant_of(other, (method,)))
    ]


def halves_of(blocks: Sequence[Block], halves: Mapping[str, Float], n_boot: int, seed: int) -> dict[str, Float | None]:
    """Resampled weights of every contrast; those of one contrast do not depend on which others there are."""
    return {
        name: resampled_weights(blocks, weights, n_boot, np.random.default_rng([seed, *name.encode()]))
        if n_boot
        else None
        for name, weights in halves.items()
    }
