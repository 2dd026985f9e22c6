"""Agreement of effect maps with a reference.

It is computed from inner products of block maps, with intervals over resampled blocks.

Effects of a run, of its halves and of its contrasts are sums of the effects of single blocks.
Their agreement over voxels follows from inner products of the block maps alone: three small
matrices for each set of voxels and each band. A *reference* is block maps of its own (`targets`)
and, for each contrast, *ways* of comparing: weights of the blocks of the series (source), of the
reference (target), and of its twin, which shares no noise with either and so tells the energy of
the reference without its noise:

    reference             source       target         twin
    measured halves       half a       half b         half a of the measured series
    known activation      whole run    the truth      the truth
    another run           whole run    half b of it   half a of it
    measured map          whole run    whole run      (correlation alone: noise is shared)

With e from the source, t from the target and T its true map, all less their mean over the voxels,

    r                     <e, t> / (|e| |t|)
    explained variance    1 - |e - T|² / |T|²  =  (2 <e, t> - <e, e>) / <twin, t>
    recovered amplitude   <e, t> / <twin, t>, the slope of e over T
    correct fraction      <e, t> |<e, t>| / (<e, e> <twin, t>): how much of the energy of e is the
    truth's, the square
                          of the correlation with the true map (attenuation corrected), with r's
                          sign

because <e, t> estimates <e, T> without bias, and <e, e> is taken as it is, noise included. So the
target's noise does not penalize a series but its own does: a measured half explains 2 - 1/r
of the variance, where r is the correlation of the halves, and not 1. A map of zeros explains 0, a
wrong map less than 0; the correlation is blind to amplitude. What changes between the halves
(habituation, motion), or between runs, counts as error of the series.

Resampling only changes the weights, identically for every series, so that differences between
series have intervals. Blocks are drawn with replacement within condition and half (within half and
sign of the contrast, where a condition has a single block there); where that leaves one block
alone, there is no interval. A block drawn c times from n weighs 1 + s·sqrt(n/(n - 1))·(c - 1),
with s = 1/5, and the deviations from the resamples' mean are divided by s. The usual bootstrap, s
= 1, fails: repeated blocks average out less noise, which lowers the correlation of every
resample; its percentile interval held the expected correlation in 1 to 99 % of simulated runs,
this one in 88 to 99 % (2 to 12 blocks a half; 88 to 91 % with two). Those of the other statistics
held it in 88 to 99 % with three blocks a half and more, and in 71 to 83 % with two, where they are
too narrow; those of differences in 88 to 98 and 71 to 87 %. Against known activation (two
conditions, 4, 8, 12 and 24 blocks) they held it in 78 to 83, 89 to 94, 94 to 96 and 93 to 96 %. An
interval says what other blocks of the same run would give, in the same voxels, and, where networks
of several seeds were trained, what another seed would (`_vary_seeds`).
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

import numpy as np

from bids_sr.evaluation.effects_of_run import LEAST_VOXELS, RunEffects, denoised
from bids_sr.frozen import frozen
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import Block
from bids_sr.io.arrays import Float, Float32, Mask, Real
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.series import MEASURED, SMOOTH, is_variant_of, kind_of
from bids_sr.series import series as series_named

_STATISTICS = ("r", "ev", "amplitude", "correct_fraction")
_LOGGER = logging.getLogger(__name__)
_STEP = 0.2
# voxels whose inner products are summed in the maps' own precision; the sums are double
_CHUNK = 16384


class Key(NamedTuple):
    """One score of a series against a reference.

    `band`: spatial frequencies: ``all``, or ``within`` or ``beyond`` the acquired Nyquist limit.
    """

    statistic: str
    band: str
    contrast: str
    region: str


_Scores = dict[Key, Float]
"""(ways, 1 + n_boot) by key: each way of comparing in the run itself, then in its resamples."""


@frozen
class Way:
    """Weights for summing block maps, (1 + n_boot, blocks).

    The first are those of the run itself, the others those of resamples.

    `source`: of the series. `target`: of the reference. `twin`: of it, sharing no noise with
    either.
    """

    contrast: str
    source: Float
    target: Float
    twin: Float


@frozen
class ComparedVoxels:
    """A set of voxels, and what is compared in it.

    `name`: of the region, such as ``brain`` or ``active40``. `voxels`: (N,) of those in the brain.
    `ways`: weights of block maps, for each comparison that is made there.
    """

    name: str
    voxels: Mask
    ways: Sequence[Way]


def gain_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs (method, what it is compared with).

    It is compared with every baseline, control and other method, and with its own variants.
    """
    return [
        (method, other)
        for method in names
        for other in names
        if kind_of(method) == "method"
        and other != method
        and kind_of(other) not in ("member", "measured")
        and (not series_named(other).variant or is_variant_of(other, (method,)))
    ]


@frozen
class Reference:
    """What series are held against.

    `targets`: by band, maps of its blocks in the N voxels of the brain, (N, B). `units`: number of
    blocks used, by contrast; empty without intervals. `itself`: series that it was made from, if
    left unscored; empty for none. `has_controls`: whether denoising controls are made of the
    B-spline series.
    """

    name: str
    targets: Mapping[str, Real]
    regions: Sequence[ComparedVoxels]
    units: Mapping[str, int]
    statistics: Sequence[str] = _STATISTICS
    pairs: Callable[[Sequence[str]], list[tuple[str, str]]] = gain_pairs
    itself: str = ""
    has_controls: bool = False
    _grams: dict[tuple[str, int], Float] = field(default_factory=dict, init=False)

    def scores(self, maps: Mapping[str, Float32]) -> _Scores:
        """Return scores of one series, of its block maps by band, (N, B) as of `targets`.

        Values by key (ways, 1 + n_boot); NaN in regions below ten voxels.
        """
        by_key: dict[Key, list[Float]] = {}
        for band, target in self.targets.items():
            for index, region in enumerate(self.regions):
                enough = int(region.voxels.sum()) >= LEAST_VOXELS
                if enough:
                    own_effects, true = maps[band][region.voxels].T, target[region.voxels].T
                    if (band, index) not in self._grams:
                        self._grams[band, index] = _inner_products(true, true)
                    inner = (
                        _inner_products(own_effects, own_effects),
                        _inner_products(own_effects, true),
                        self._grams[band, index],
                    )
                for way in region.ways:
                    made = _statistics(way, *inner) if enough else {}
                    for name in self.statistics:
                        values = made.get(name, np.full(len(way.source), math.nan))
                        by_key.setdefault(Key(name, band, way.contrast, region.name), []).append(
                            values
                        )
        return {key: np.stack(values) for key, values in by_key.items()}


def _inner_products(a: Real, b: Real) -> Float:
    """Return (A, B) inner products of the rows of (A, N) and (B, N), less their means.

    The rows are maps, each less its own mean over the N voxels.

    `b`: other maps over the same voxels, one a row (B, N). The sums are in double precision.

    >>> _inner_products(np.array([[1.0, 3.0]]), np.array([[0.0, 4.0]]))
    array([[4.]])
    """
    out = np.zeros((len(a), len(b)))
    mean_a, mean_b = (x.mean(axis=1, dtype=np.float64)[:, None].astype(x.dtype) for x in (a, b))
    for start in range(0, a.shape[1], _CHUNK):
        at = slice(start, start + _CHUNK)
        out += (a[:, at] - mean_a) @ (b[:, at] - mean_b).T
    return out


def _statistics(way: Way, values: Float, cross: Float, target: Float) -> dict[str, Float]:
    """Return all `_STATISTICS`, (1 + n_boot,); NaN where a divisor is not surely above 0.

    `way`: weights of the blocks in the run itself and in its resamples. `values, cross, target`:
    inner products of the block maps of the series among themselves, with those of the reference
    (columns), and of these among themselves.

    >>> once = np.ones((1, 1))
    >>> way = Way(contrast="a", source=once, target=once, twin=once)
    >>> found = _statistics(way, once, 2 * once, 4 * once)
    >>> {name: float(values[0]) for name, values in found.items()}
    {'r': 1.0, 'ev': 0.75, 'amplitude': 0.5, 'correct_fraction': 1.0}
    """
    shared, energy, whole, true = (
        np.einsum("kb,kb->k", left @ gram, right)
        for left, gram, right in (
            (way.source, cross, way.target),
            (way.source, values, way.source),
            (way.target, target, way.target),
            (way.twin, target, way.target),
        )
    )
    if not true[0] > 0 or (len(true) > 1 and not interval(true)[0] > 0):
        true = np.full_like(true, math.nan)
    energy, whole = np.maximum(energy, 0), np.maximum(whole, 0)
    ratios = {
        "r": (shared, np.sqrt(energy * whole)),
        "ev": (2 * shared - energy, true),
        "amplitude": (shared, true),
        "correct_fraction": (shared * np.abs(shared), energy * true),
    }
    return {
        name: np.divide(top, below, out=np.full_like(top, math.nan), where=below > 0)
        for name, (top, below) in ratios.items()
    }


def _strata(blocks: Sequence[Block], weights: Float) -> list[list[int]]:
    """Blocks that may stand for one another in one half, for weights (B,) of that half."""
    by_condition: dict[str, list[int]] = {}
    by_sign: dict[bool, list[int]] = {}
    for index in np.flatnonzero(weights):
        by_condition.setdefault(blocks[index].condition, []).append(int(index))
        by_sign.setdefault(bool(weights[index] > 0), []).append(int(index))
    alone = any(len(part) < 2 for part in by_condition.values())
    return list(by_sign.values()) if alone else list(by_condition.values())


def resampled(
    blocks: Sequence[Block], weights: Float, n_boot: int, seed: int, contrast: str
) -> Float:
    """Return weights of blocks (H, B), then those of resampled blocks, (H, 1 + n_boot, B).

    The first are alone where none can be resampled.

    The draws follow from seed and contrast, whatever other contrasts and series there are.

    `weights`: weights of the blocks in each half (H, B).
    """
    strata = [_strata(blocks, each) for each in weights]
    if any(len(part) < 2 for parts in strata for part in parts):
        return weights[:, None]
    rng = np.random.default_rng([seed, *contrast.encode()])
    out = np.repeat(weights[:, None], 1 + n_boot, axis=1)
    for half, parts in enumerate(strata):
        for part in parts:
            n = len(part)
            counts = rng.multinomial(n, np.full(n, 1 / n), size=n_boot)
            out[half, 1:][:, part] *= 1 + _STEP * math.sqrt(n / (n - 1)) * (counts - 1)
    return out


def interval(values: Float) -> tuple[float, float]:
    """Return the 95 % interval of a value (first) from small resampling steps (the rest).

    It is NaN without any, or where one is not known.

    See the module's text.
    """
    value = float(values[0])
    draws = values[1:]
    if not draws.size or not np.isfinite(values).all():
        return math.nan, math.nan
    low, high = np.quantile((draws - draws.mean()) / _STEP, [0.025, 0.975])
    return value + float(low), value + float(high)


def _vary_seeds(scores: Mapping[str, _Scores], seed: int) -> None:
    """Let the resamples of networks with other seeds (`sblSeed1`) vary with the seed, in place.

    This holds for every network with members of other seeds.

    Each resample gains the drawn member's deviation from the members' mean, in the same small step
    as blocks and by sqrt(M/(M - 1)), so that the interval has the variance of one seed (not of a
    mean over seeds) beside that of blocks. The drawn members follow from `seed` and the method,
    the same for all its statistics.

    `scores`: values by key for each series; those of resamples are changed.
    """
    for method in [name for name in scores if kind_of(name) == "method"]:
        names = [
            method,
            *(
                name
                for name in scores
                if kind_of(name) == "member" and is_variant_of(name, (method,))
            ),
        ]
        if len(names) < 2:
            continue
        rng = np.random.default_rng([seed, *method.encode()])
        sizes = sorted({values.shape[1] - 1 for values in scores[method].values()} - {0})
        picks = {size: rng.integers(len(names), size=size) for size in sizes}
        for key, of_method in scores[method].items():
            ways = np.array([scores[name][key][:, 0] for name in names])
            if of_method.shape[1] - 1 in picks and np.isfinite(ways).all():
                apart = (ways - ways.mean(axis=0)) * _STEP * math.sqrt(len(ways) / (len(ways) - 1))
                of_method[:, 1:] += apart[picks[of_method.shape[1] - 1]].T


def _best_the_other_way(tried: Mapping[float, _Scores]) -> tuple[_Scores, dict[Key, float]]:
    """Score a control, each way at the setting that scores best the *other* way.

    The mean of both settings is returned too.

    That gives a control more freedom than a user has. The setting is chosen for each region, band
    and contrast: for the correlation by the correlation, for all that counts amplitude by the
    explained variance.

    `tried`: scores, two ways each, by setting (width in mm, or number of components).
    """
    scores: _Scores = {}
    settings: dict[Key, float] = {}
    made, values = list(tried), list(tried.values())
    for key in values[0]:
        leading = key if key.statistic == "r" else key._replace(statistic="ev")
        ways = np.array([found[leading][:, 0] for found in values])
        if np.isfinite(ways).all():
            at = ways.argmax(axis=0)[::-1]
            scores[key] = np.stack([values[k][key][way] for way, k in enumerate(at)])
            settings[key] = sum(made[k] for k in at) / len(at)
    return scores, settings


def _controls_of(
    run: RunEffects, reference: Reference, bspline: Effects
) -> dict[str, tuple[_Scores, dict[Key, float]]]:
    """Return scores and settings, by control, of denoising controls of the B-spline series."""
    tried: dict[str, dict[float, _Scores]] = {}
    for control, setting, betas in denoised(bspline):
        tried.setdefault(control, {})[setting] = reference.scores(
            run.banded(betas, list(reference.targets))
        )
    return {control: _best_the_other_way(by_setting) for control, by_setting in tried.items()}


def agreement_rows(
    run: RunEffects, *references: Callable[[RunEffects], Reference | None]
) -> list[MetricRow]:
    """Return the metric rows of all series of a run against references.

    Rows of the differences between series are among them. One series is in memory at a time.

    `*references`: make a reference of the run, see `bids_sr.evaluation.references`; None
    where there is none. `ValueError`: series of different runs or grids.
    """
    run.warn_of_little()
    rows: list[MetricRow] = []
    for among, told in run.in_common_voxels():
        made = [found for make in references if (found := make(among)) is not None]
        rows += [row for row in _rows_of(among, made) if not told or row.series in told]
    if rows and not any(math.isfinite(row.value) for row in rows):
        _LOGGER.warning(
            "The agreement with the reference is not defined for the contrasts %s.",
            ", ".join(run.contrasts),
        )
    return rows


def _rows_of(run: RunEffects, references: Sequence[Reference]) -> Iterator[MetricRow]:
    """Rows in the same voxels for all series."""
    scores: list[dict[str, _Scores]] = [{} for _ in references]
    bands = list(dict.fromkeys(band for reference in references for band in reference.targets))
    for name, betas, effects in run.series() if references else ():
        maps = run.banded(betas, bands)
        for reference, of_reference in zip(references, scores, strict=True):
            if name != reference.itself:
                of_reference[name] = reference.scores(maps)
            if name == "bspline" and reference.has_controls:
                for control, (control_scores, settings) in _controls_of(
                    run, reference, effects
                ).items():
                    of_reference[control] = control_scores
                    yield from _setting_rows(control, settings)
    for reference, of_reference in zip(references, scores, strict=True):
        _vary_seeds(of_reference, run.seed)
        for name, control_scores in of_reference.items():
            for key, values in control_scores.items():
                yield _row(reference, name, key, values.mean(axis=0))
        for name, other in reference.pairs(list(of_reference)):
            for key in (each for each in of_reference[name] if each in of_reference[other]):
                less = of_reference[name][key] - of_reference[other][key]
                yield _row(reference, name, key, less.mean(axis=0), minus=other)


def _setting_rows(control: str, settings: Mapping[Key, float]) -> Iterator[MetricRow]:
    """What a control was given for the correlation beyond the acquired Nyquist limit."""
    name = "control_fwhm" if control == SMOOTH else "control_rank"
    for key, value in settings.items():
        if (key.statistic, key.band) == ("r", "beyond"):
            yield MetricRow(
                series=control,
                statistic=name,
                value=value,
                reference=MEASURED,
                contrast=key.contrast,
                region=key.region,
            )


def _row(reference: Reference, series: str, key: Key, values: Float, minus: str = "") -> MetricRow:
    """A value (first) with the interval that its resamples (rest) give.

    What a measured half explains of the other, 2 - 1/r, is n/a where it is below 0: its own noise
    is then larger than the detail that repeats, and as a level beside other series it would read
    as if these were more accurate.
    """
    value, (low, high) = float(values[0]), interval(values)
    if key.statistic == "r" and not minus and math.isfinite(low):
        low = max(low, -1.0)
        high = min(high, 1.0)
    if (reference.name, series, key.statistic, minus) == (
        MEASURED,
        MEASURED,
        "ev",
        "",
    ) and value < 0:
        value = low = high = math.nan
    return MetricRow(
        series=series,
        minus=minus or MISSING,
        statistic=key.statistic,
        band=key.band,
        reference=reference.name,
        region=key.region,
        contrast=key.contrast,
        value=value,
        lower=low,
        upper=high,
        n=reference.units.get(key.contrast),
    )
