"""Split-half agreement of effect maps from inner products of block maps, with intervals over resampled blocks.

The agreement over voxels of two sums of block maps follows from inner products of the block maps alone, three small
matrices (own, cross, target) for each set of voxels and each scale. Resampled blocks are only other weights, the same
for every series, so that differences between series have intervals. The metrics are those of
`Moments`.

Blocks are drawn with replacement within condition and half (within half and sign of the contrast, where a condition has
a single block there); where that leaves one block alone, there is no interval. A block drawn c times from n weighs 1 +
s·sqrt(n/(n - 1))·(c - 1), with s = 1/5, and the deviations from the resamples' mean are divided by s. The usual
bootstrap, s = 1, does not do: repeated blocks average less noise away, which lowers the correlation of every resample;
its percentile interval held the expected correlation in 1 to 99 % of simulated runs, this one in 88 to 99 % (2 to 12
blocks a half; 88 to 91 % with two). An interval says what other blocks of the same run would give, in the same voxels,
and, where networks of several seeds were trained, what another seed would (`with_seeds`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Mask, Real
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.metrics.measure_names import parts_of
from bids_sr.series import MEASURED, OTHER_RUN, is_variant_of, kind_of
from bids_sr.series import series as series_named
from bids_sr.stats.glm.blocks import Block

METRICS = ("r", "ev", "amplitude", "right")
OF_TRUTH = METRICS[1:]
"""Metrics that need the energy of the target without its noise."""


@frozen
class Moments:
    """Inner products over voxels of pairs of maps, each less its mean over them; (K,) each, unit of the maps squared.

    Of the map e with the target t, of each with itself, and of the target with itself *without its noise*. The last is
    exact for known activation; for a measured target it is the inner product of the two halves of the blocks, which
    share no noise (``<t_a, t_b>``). With e from half a and t from half b

        explained variance   1 - |e - T|² / |T|²  =  (2 <e_a, t_b> - <e_a, e_a>) / <t_a, t_b>
        recovered amplitude  <e_a, t_b> / <t_a, t_b>, the slope of e over T
        correct fraction     <e_a, t_b> |<e_a, t_b>| / (<e_a, e_a> <t_a, t_b>): how much of the energy of e is the
                             truth's, the square of the correlation with the true map (attenuation corrected), with r's
                             sign

    because ``<e_a, t_b>`` estimates ``<e_a, T>`` without bias, and ``<e_a, e_a>`` is taken as it is, noise included. So
    the target's noise costs a series nothing and its own noise costs it: a measured half explains 2 - 1/r of the
    variance, where r is the correlation of the halves, and not 1. A map of zeros explains 0, a wrong map less than 0;
    the correlation is blind to amplitude. What changes between the halves (habituation, motion) counts as noise of the
    target and as error of the series.

    Intervals of simulated runs held the expected metric in 88 to 99 % with three blocks a half and more, and in 71 to
    83 % with two, where they are too narrow; those of differences in 88 to 98 and 71 to 87 %.
    """

    shared: Float  # of the map under test and the target
    energy: Float  # of the map with itself
    target: Float  # of the target with itself, its noise included
    true: Float  # of the target with itself without its noise

    def metric(self, name: str) -> Float:
        """One of `METRICS` for every pair, (K,); NaN where what it is divided by is not positive.

        Examples
        --------
        >>> half = Moments(shared=np.array([2.0]), energy=np.array([1.0]), target=np.array([4.0]), true=np.array([4.0]))
        >>> [float(half.metric(name)[0]) for name in METRICS]
        [1.0, 0.75, 0.5, 1.0]
        """
        top, below = {
            "r": (self.shared, np.sqrt(np.maximum(self.energy, 0) * np.maximum(self.target, 0))),
            "ev": (2 * self.shared - self.energy, self.true),
            "amplitude": (self.shared, self.true),
            "right": (self.shared * np.abs(self.shared), np.maximum(self.energy, 0) * self.true),
        }[name]
        return np.asarray(np.divide(top, below, out=np.full(len(top), math.nan), where=below > 0))


Key = tuple[str, str, str, str]
"""Of a score: split_r, split_ev, …, self_r, truth_r, …; band; contrast; region."""
_STEP = 0.2
_LEAST_VOXELS = 10
_CHUNK = 16384  # voxels whose inner products are summed in the maps' own precision; the sums are double


@frozen
class Inner:
    """Inner products over a set of voxels of block maps, each map's mean over the voxels taken off; (B, B) each."""

    own: Float  # of the series' block maps among themselves
    cross: Float  # of the series' (rows) with the target's (columns)
    target: Float  # of the target's among themselves

    def moments(self, source: Float, target: Float, *, known: bool = False) -> Moments:
        """Inner products of sums of block maps, for weights (K, B) of the series' and of the target's blocks.

        A `known` target has no noise; else its energy without noise is the inner product of what the blocks of the
        series and what those of the target make of the target.
        """
        both = np.einsum("kb,kb->k", target @ self.target, target)
        return Moments(
            shared=np.einsum("kb,kb->k", source @ self.cross, target),
            energy=np.einsum("kb,kb->k", source @ self.own, source),
            target=both,
            true=both if known else np.einsum("kb,kb->k", source @ self.target, target),
        )


def inner_products(a: Real, b: Real) -> Float:
    """(A, B) inner products of maps in rows, (A, N) and (B, N), each less its own mean over the N voxels.

    Examples
    --------
    >>> inner_products(np.array([[1.0, 3.0]]), np.array([[0.0, 4.0]]))
    array([[4.]])
    """
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
    alone = any(len(part) < 2 for part in by_condition.values())
    return list(by_sign.values()) if alone else list(by_condition.values())


def resampled_weights(blocks: Sequence[Block], halves: Float, n_boot: int, rng: np.random.Generator) -> Float | None:
    """Weights of resampled blocks, (2, n_boot, B), of those of halves (2, B); None where a stratum is one block."""
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


def halves_of(blocks: Sequence[Block], halves: Mapping[str, Float], n_boot: int, seed: int) -> dict[str, Float | None]:
    """Resampled weights of every contrast; those of one contrast do not depend on which others there are."""
    return {
        name: resampled_weights(blocks, weights, n_boot, np.random.default_rng([seed, *name.encode()]))
        if n_boot
        else None
        for name, weights in halves.items()
    }


@frozen
class Score:
    """A metric and its resamples, by way: with half 0 of the series as source, and with half 1; one for whole runs."""

    ways: Float  # (ways,)
    draws: Float  # (ways, n_boot) the same for resampled blocks; n_boot is 0 where blocks cannot be resampled
    limit: float = math.inf  # the value lies within ± this, and so does its interval

    @property
    def value(self) -> float:
        """Mean of the ways."""
        return float(self.ways.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the value."""
        low, high = interval(self.value, self.draws.mean(axis=0))
        return (low, high) if math.isnan(low) else (max(low, -self.limit), min(high, self.limit))

    def less(self, other: "Score") -> tuple[float, float, float]:
        """Difference to another series' score with its interval; the resamples are the same blocks in both."""
        value = self.value - other.value
        if self.draws.shape != other.draws.shape:
            return value, math.nan, math.nan
        return (value, *interval(value, (self.draws - other.draws).mean(axis=0)))


Scores = dict[Key, Score]


def interval(value: float, draws: Float) -> tuple[float, float]:
    """95 % interval of a value from small resampling steps (see the module's text); NaN without resamples."""
    if not draws.size or not np.isfinite(draws).all() or not math.isfinite(value):
        return math.nan, math.nan
    low, high = np.quantile((draws - draws.mean()) / _STEP, [0.025, 0.975])
    return value + float(low), value + float(high)


def with_seeds(own: Score, members: Sequence[Score], picks: npt.NDArray[np.intp]) -> Score:
    """A metric of a network whose resamples vary with the seed of its training too.

    Each resample gains the drawn member's deviation from the members' mean, in the same small step as blocks and by
    sqrt(M/(M - 1)), so that the interval has the variance of one seed (not of a mean over seeds) beside that of blocks.
    `own` is one of the M `members`; `picks` (n_boot,) says which member each resample draws.
    """
    ways = np.array([member.ways for member in members])
    if len(members) < 2 or own.draws.shape[1] != len(picks) or not np.isfinite(ways).all():
        return own
    apart = (ways - ways.mean(axis=0)) * _STEP * math.sqrt(len(ways) / (len(ways) - 1))
    return Score(ways=own.ways, draws=own.draws + apart[picks].T, limit=own.limit)


def score_moments(
    ways: Sequence[tuple[Moments, Moments | None] | None], n_boot: int, metrics: Sequence[str] = METRICS
) -> dict[str, Score]:
    """Scores by metric of the same pair of maps taken one or two ways.

    Parameters
    ----------
    ways : moments of the maps (K = 1), and of `n_boot` resamples or None; None where there are too few voxels
    metrics : of `METRICS`; those that need the energy of the truth are NaN where it is not above 0 for sure
    """
    values: dict[str, list[float]] = {name: [] for name in metrics}
    draws: dict[str, list[Float]] = {name: [] for name in metrics}
    for way in ways:
        sure = False
        if way is not None:
            found, drawn = way
            true = float(found.true[0])
            sure = true > 0 and (drawn is None or interval(true, drawn.true)[0] > 0)
        for name in metrics:
            defined = way is not None and (sure or name not in OF_TRUTH)
            values[name].append(float(found.metric(name)[0]) if defined else math.nan)
            empty = np.full(n_boot, math.nan)
            draws[name].append(drawn.metric(name) if defined and drawn is not None else empty)
    return {
        name: Score(
            ways=np.array(values[name]), draws=np.array(draws[name]), limit=1.0 if name == "r" else math.inf
        )
        for name in metrics
    }  # fmt: skip


def score(
    inners: Sequence[Inner | None], halves: Float, draws: Float | None, metrics: Sequence[str] = METRICS
) -> dict[str, Score]:
    """How each half of the series agrees with the other half of the target, by metric.

    `inners` are of the voxels that belong to the source half 0 and 1 (None: too few), `halves` (2, B), `draws`
    (2, n_boot, B).
    """
    ways = [
        None
        if inner is None
        else (
            inner.moments(halves[None, source], halves[None, 1 - source]),
            None if draws is None else inner.moments(draws[source], draws[1 - source]),
        )
        for source, inner in enumerate(inners)
    ]
    return score_moments(ways, 0 if draws is None else draws.shape[1], metrics)


def enough(region: Mask) -> bool:
    """Whether a region has the voxels that a correlation over them needs."""
    return int(region.sum()) >= _LEAST_VOXELS


def seeded(scores: Mapping[str, Scores], seed: int) -> None:
    """Let the resamples of every network with members of other seeds (`sblSeed1`) vary with the seed, in place.

    The drawn members follow from `seed` and the method, the same for all its metrics.
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
    """(method, what it is compared with): every baseline, control and other method, and the method's own variants."""
    return [
        (method, other)
        for method in names
        for other in names
        if kind_of(method) == "method"
        and other != method
        and kind_of(other) not in ("member", "measured")
        and (not series_named(other).variant or is_variant_of(other, (method,)))
    ]


def score_rows(scores: Mapping[str, Scores], units: Callable[[str, float], int | None]) -> Iterator[MetricRow]:
    """Rows of every series; `units` gives their n from the contrast and the lower end of the interval."""
    against = {"split": MEASURED, "self": "self", "truth": "truth", "other": OTHER_RUN}
    for series, found in scores.items():
        for (stem, band, contrast, region), one in found.items():
            low, high = one.interval
            yield MetricRow(
                series=series, against=against[parts_of(stem).family], measure=f"{stem}_{band}", value=one.value,
                lower=low, upper=high, contrast=contrast, region=region, n=units(contrast, low),
            )  # fmt: skip


def gain_rows(
    scores: Mapping[str, Scores], family: str, units: Callable[[str, float], int | None]
) -> Iterator[MetricRow]:
    """Each method less baselines, controls, other methods and its placebos, in the scores of one family (`split`)."""
    for method, other in gain_pairs(list(scores)):
        for key, found in scores[method].items():
            if parts_of(key[0]).family != family or key not in scores[other]:
                continue
            value, low, high = found.less(scores[other][key])
            stem, band, contrast, region = key
            yield MetricRow(
                series=method, against=other, measure=f"gain_{stem}_{band}", value=value, lower=low, upper=high,
                contrast=contrast, region=region, n=units(contrast, low),
            )  # fmt: skip
