"""Agreement of effect maps with a reference.

Effects of a run, of its halves and of its contrasts are sums of effects of single blocks. Their
agreement over voxels only depends on inner products of the block maps: three small matrices per
set of voxels and band. A comparison weights the elements of these matrices (`BlockComparison`).

The effect e of a series is compared with an effect t of the reference. Their noise is independent,
because it is independent between blocks and between runs. The energy of the true map T is the
product of t and another effect t' of the reference with independent noise:

    reference             e            t             t'
    measured halves       one half     other half    same half as e
    known activation      whole run    known map     known map
    another run           whole run    one half      other half
    measured map          whole run    whole run     (only correlation: noise is shared)

The mean over the voxels is subtracted from each map. The statistics are

    r                     <e, t> / (|e| |t|)
    explained variance    1 - |e - T|² / |T|²  =  (2 <e, t> - <e, e>) / <t', t>
    recovered amplitude   <e, t> / <t', t>, the slope of e over T
    correct fraction      <e, t> |<e, t>| / (<e, e> <t', t>): fraction of the energy of e that is
                          true. It is the square of the correlation with the true map
                          (corrected for attenuation), with the sign of r.

because <e, t> is an unbiased estimate of <e, T>, and <e, e> includes noise. Noise in the reference
therefore does not penalize a series, but noise in the series does: a measured half explains
2 - 1/r of the variance, not 1, if r is the correlation of the halves. A map of zeros explains 0,
and a wrong map less than 0; the correlation does not depend on amplitude. Changes between halves
or runs (habituation, motion) count as error of the series.

It is arbitrary which measured blocks form which half. The inner products of measured halves are
therefore averaged over all balanced splits before they are divided
(`bids_sr.glm.halves.average_splits`). Voxels that are active in a measured half depend on the
split: they are selected in the half of e, without the noise of the other half. In these voxels,
the two halves of a fixed split are compared in both directions, and statistics are averaged. The
same applies to the halves of another run.

Intervals are from resampled blocks. Blocks are drawn with replacement within condition, and within
half if the split is fixed, identically for every series, so that differences between series have
intervals. If a condition has fewer than two blocks per half, they are drawn within the sign of the
contrast. There is no interval if a sign has too few blocks. If a block is drawn c times from n,
the deviation of its effect from the mean of the n blocks is multiplied by
1 + s·sqrt(n/(n - 1))·(c - 1), with s = 1/5, and deviations of statistics from their mean over
resamples are divided by s. The usual bootstrap (s = 1) fails: repeated blocks average out less
noise, which lowers the correlation of every resample.

Coverage of the 95 % intervals in simulated runs (`benchmarks/block_intervals.py`), from the
smallest to the largest of eight kinds of runs, four statistics and both kinds of splits:

===========================  ==================  ==================
statistic                    2 blocks per half   3 to 12 per half
===========================  ==================  ==================
correlation                  85 to 99 %          89 to 100 %
other statistics             81 to 99 %          89 to 99 %
differences                  79 to 98 %          86 to 100 %
===========================  ==================  ==================

The percentile interval of the usual bootstrap covered the expected correlation in 1 to 99 %.
Relative to known activation (two conditions; 4, 8, 12 and 24 blocks), coverage was 78 to 83, 89
to 94, 94 to 96 and 93 to 96 %. An interval describes the variation over other blocks of the same
run in the same voxels. The explained variance of detail by a trained network also depends on the
random seed of its training and on the processor. Its interval therefore also includes the value
of another training, with a half-width of `_TRAINING_SPREAD` times the unexplained variance.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import product
from typing import NamedTuple

import numpy as np

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.evaluation.effects_of_run import MIN_VOXELS, RunEffects, denoise_controls
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import MIN_BLOCKS, TaskBlock
from bids_sr.glm.halves import SplitProducts
from bids_sr.io.arrays import Float, Float32, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.io.series import MEASURED, SMOOTH, get_kind
from bids_sr.sr.method import is_network

_STATISTICS = ("r", "ev", "amplitude", "correct_fraction")
_LOGGER = logging.getLogger(__name__)
_BOOTSTRAP_STEP = 0.2  # s of the module's docstring
# half-width of the 95 % interval for the explained variance of another training of srgan, as a
# fraction of the unexplained variance: 2.36 × √2 × .034 / .96, from 8 trainings (Student's t) in
# the active voxels of one run (benchmarks/results/small_srgan.md)
_TRAINING_SPREAD = 0.12
# voxels whose inner products are summed in the precision of the maps; sums of chunks are double
_CHUNK_VOXELS = 16384


class ComparisonKey(NamedTuple):
    """Quantity that a score describes: contrast, region, band and statistic.

    `band` is ``all``, or ``beyond`` the acquired Nyquist frequency.
    """

    statistic: str
    band: str
    contrast: str
    region: str


_ScoresByKey = dict[ComparisonKey, Float]
"""Scores (ways, 1 + n_boot) by key: of the run itself, then of its resamples."""


@frozen
class BlockResamples:
    """Bootstrap resamples of B blocks.

    `groups` are the indices of blocks that are drawn together. In a resample, a block map x
    becomes x + change · (x - mean of its group). `changes` (1 + n_boot, B) are zeros for the run
    itself in the first row, followed by the resamples.
    """

    changes: Float
    groups: Sequence[Sequence[int]]

    def limit(self, n: int) -> "BlockResamples":
        """Return the run itself and its first resamples, `n` together."""
        return BlockResamples(changes=self.changes[:n], groups=self.groups)

    def center(self, products: Float) -> Float:
        """Subtract from each of the rows of products (B, C) the mean of its group."""
        centered = products.copy()
        for group in self.groups:
            centered[group] -= products[group].mean(axis=0)
        return centered


@frozen
class BlockComparison:
    """Weights of inner products of block maps, for the four products of a contrast's effects.

    With B blocks of the series and C blocks of the reference, `shared` (B, C) is for the product
    of both effects, `energy` (B, B) for the square of the series' effect, `target_energy` (C, C)
    for the square of the reference's effect, and `true_energy` (C, C) for its square without
    noise. `resamples` are of the blocks of the series, and `target_resamples` of the reference.
    """

    contrast: str
    shared: Float
    energy: Float
    target_energy: Float
    true_energy: Float
    resamples: BlockResamples
    target_resamples: BlockResamples


@frozen
class ComparedVoxels:
    """Voxels of a region, and the comparisons with a reference in these voxels.

    `name` is the name of the region, such as ``brain`` or ``active40``. `voxels` selects among the
    N voxels of the brain (N,).
    """

    name: str
    voxels: MaskArray
    comparisons: Sequence[BlockComparison]


def gain_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of a method and a series that the method is compared with.

    A method is compared with every baseline, control and other method, but not with the measured
    series.
    """
    return [
        (method, series)
        for method, series in product(names, names)
        if get_kind(method) == "method" and series != method and get_kind(series) != "measured"
    ]


class _InnerProducts(NamedTuple):
    """Inner products of block maps of a series and a reference: within, between, within."""

    series: Float
    cross: Float
    target: Float


@frozen
class Reference:
    """Reference that series are compared with.

    `targets` are block maps of the reference in the N voxels of the brain, (N, B), by band.
    `block_counts` contains the number of blocks used by contrast; empty if intervals are not
    computed. `select_pairs` returns the pairs of series whose differences are computed.
    `is_scored` returns whether a series is compared with the reference. With `has_controls`,
    denoised controls are computed from the B-spline series.
    """

    name: str
    targets: Mapping[str, Real]
    regions: Sequence[ComparedVoxels]
    block_counts: Mapping[str, int]
    statistics: Sequence[str] = _STATISTICS
    select_pairs: Callable[[Sequence[str]], list[tuple[str, str]]] = gain_pairs
    is_scored: Callable[[str], bool] = lambda _series: True
    has_controls: bool = False
    # inner products of `targets` by band and index of the region, computed once for all series
    _target_products: dict[tuple[str, int], Float] = field(default_factory=dict, init=False)

    def scores(self, maps: Mapping[str, Float32]) -> _ScoresByKey:
        """Return the scores of one series.

        `maps` are block maps of the series by band, (N, B), in the voxels of `targets`. Scores
        have the shape (ways, 1 + n_boot); NaN in regions with fewer than ten voxels.
        """
        values_by_key: dict[ComparisonKey, list[Float]] = {}
        for band, (index, region) in product(self.targets, enumerate(self.regions)):
            products = self._multiply_maps(maps[band], band, index)
            for comparison in region.comparisons:
                values = {} if products is None else _compute_statistics(comparison, *products)
                undefined = np.full(len(comparison.resamples.changes), math.nan)
                for name in self.statistics:
                    key = ComparisonKey(name, band, comparison.contrast, region.name)
                    values_by_key.setdefault(key, []).append(values.get(name, undefined))
        return {key: np.stack(values) for key, values in values_by_key.items()}

    def _multiply_maps(self, maps: Float32, band: str, region_index: int) -> _InnerProducts | None:
        """Return inner products of block maps in a region; None if the region is too small.

        `maps` are the block maps of the series (N, B).
        """
        voxels = np.flatnonzero(self.regions[region_index].voxels)
        if len(voxels) < MIN_VOXELS:
            return None
        series_maps = maps.take(voxels, axis=0).T
        target_maps = self.targets[band].take(voxels, axis=0).T
        if (band, region_index) not in self._target_products:
            self._target_products[band, region_index] = _compute_inner_products(
                target_maps, target_maps
            )
        return _InnerProducts(
            series=_compute_inner_products(series_maps, series_maps),
            cross=_compute_inner_products(series_maps, target_maps),
            target=self._target_products[band, region_index],
        )


def _compute_statistics(
    comparison: BlockComparison,
    series_products: Float,
    cross_products: Float,
    target_products: Float,
) -> dict[str, Float]:
    """Return the agreement of a series with a reference, (1 + n_boot,) for each statistic.

    Values are NaN unless the divisor of the statistic is reliably above 0. Inner products are of
    the series' block maps, of block maps of the series (rows) and the reference (columns), and of
    the reference's block maps.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> whole = np.ones(1), BlockResamples(changes=np.zeros((1, 1)), groups=())
    >>> comparison = compare_sums("a", whole, whole, other_target=np.ones(1))
    >>> scores = _compute_statistics(comparison, one, 2 * one, 4 * one)
    >>> {name: float(values[0]) for name, values in scores.items()}
    {'r': 1.0, 'ev': 0.75, 'amplitude': 0.5, 'correct_fraction': 1.0}
    """
    resamples, target_resamples = comparison.resamples, comparison.target_resamples
    shared, energy, target_energy, true_energy = (
        _sum_products(weights, products, left, right)
        for weights, products, left, right in (
            (comparison.shared, cross_products, resamples, target_resamples),
            (comparison.energy, series_products, resamples, resamples),
            (comparison.target_energy, target_products, target_resamples, target_resamples),
            (comparison.true_energy, target_products, target_resamples, target_resamples),
        )
    )
    if not true_energy[0] > 0 or (len(true_energy) > 1 and not interval(true_energy)[0] > 0):
        true_energy = np.full_like(true_energy, math.nan)
    energy, target_energy = np.maximum(energy, 0), np.maximum(target_energy, 0)
    ratios = {
        "r": (shared, np.sqrt(energy * target_energy)),
        "ev": (2 * shared - energy, true_energy),
        "amplitude": (shared, true_energy),
        "correct_fraction": (shared * np.abs(shared), energy * true_energy),
    }
    return {
        name: np.divide(
            numerator, divisor, out=np.full_like(numerator, math.nan), where=divisor > 0
        )
        for name, (numerator, divisor) in ratios.items()
    }


def _sum_products(
    weights: Float, products: Float, left: BlockResamples, right: BlockResamples
) -> Float:
    """Return the weighted sum of inner products in the run and in its resamples, (1 + n_boot,).

    The inner products (B, C) are of the block maps of `left` (rows) and `right` (columns).
    """
    value = np.vdot(weights, products)
    if len(left.changes) == 1:
        return np.array([value])
    left_deviations = left.center(products)
    right_deviations = right.center(products.T).T
    both_deviations = right.center(left_deviations.T).T
    return (
        value
        + left.changes @ (weights * left_deviations).sum(axis=1)
        + right.changes @ (weights * right_deviations).sum(axis=0)
        + np.einsum("kb,kb->k", left.changes @ (weights * both_deviations), right.changes)
    )


def _compute_inner_products(first: Real, second: Real) -> Float:
    """Return inner products (A, B) of centered maps.

    Maps are the rows of `first` (A, N) and `second` (B, N); the mean over the N voxels is
    subtracted from each map. Sums over chunks of voxels are in double precision.

    >>> _compute_inner_products(np.array([[1.0, 3.0]]), np.array([[0.0, 4.0]]))
    array([[4.]])
    """
    products = np.zeros((len(first), len(second)))
    n_voxels = first.shape[1]
    # A rounding error of a mean only changes the products by its square.
    first_mean, second_mean = (
        maps @ np.full((n_voxels, 1), 1 / n_voxels, maps.dtype) for maps in (first, second)
    )
    for start in range(0, n_voxels, _CHUNK_VOXELS):
        chunk = slice(start, start + _CHUNK_VOXELS)
        centered = first[:, chunk] - first_mean
        products += centered @ (centered if second is first else second[:, chunk] - second_mean).T
    return products


def compare_splits(
    contrast: str, splits: SplitProducts, resamples: BlockResamples
) -> BlockComparison:
    """Return the comparison of halves of a run with the other halves of its measured series."""
    return BlockComparison(
        contrast=contrast,
        shared=splits.between,
        energy=splits.within,
        target_energy=splits.within,
        true_energy=splits.between,
        resamples=resamples,
        target_resamples=resamples,
    )


def compare_sums(
    contrast: str,
    effect: tuple[Float, BlockResamples],
    target: tuple[Float, BlockResamples],
    other_target: Float,
) -> BlockComparison:
    """Return the comparison of a weighted sum of blocks with a weighted sum of other blocks.

    `effect` and `target` are the weights of the blocks of the series (B,) and of the reference
    (C,), with the resamples of these blocks. `other_target` are the weights (C,) of another sum of
    the reference, whose noise is independent of the noise in the target. Resamples are only used
    if both have them.
    """
    (weights, resamples), (target_weights, target_resamples) = effect, target
    n = min(len(resamples.changes), len(target_resamples.changes))
    return BlockComparison(
        contrast=contrast,
        shared=weights[:, None] * target_weights,
        energy=weights[:, None] * weights,
        target_energy=target_weights[:, None] * target_weights,
        true_energy=other_target[:, None] * target_weights,
        resamples=resamples.limit(n),
        target_resamples=target_resamples.limit(n),
    )


def resample_blocks(
    blocks: Sequence[TaskBlock],
    weights: Float,
    n_boot: int,
    seed: int,
    contrast: str,
    min_blocks: int = MIN_BLOCKS,
) -> BlockResamples:
    """Return bootstrap resamples of the blocks of a run.

    Blocks are drawn among the blocks with a nonzero weight in the same row of `weights` (rows, B),
    such as a row per half. Conditions with fewer than `min_blocks` blocks are not drawn
    separately, see `_group_blocks`. There are no resamples if a group is still smaller. Draws only
    depend on `seed` and `contrast`.
    """
    groups = [group for row in weights for group in _group_blocks(blocks, row, min_blocks)]
    if any(len(group) < min_blocks for group in groups):
        return BlockResamples(changes=np.zeros((1, len(blocks))), groups=())
    rng = np.random.default_rng([seed, *contrast.encode()])
    changes = np.zeros((1 + n_boot, len(blocks)))
    for group in groups:
        n = len(group)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=n_boot)
        changes[1:, group] = _BOOTSTRAP_STEP * math.sqrt(n / (n - 1)) * (counts - 1)
    return BlockResamples(changes=changes, groups=groups)


def _group_blocks(blocks: Sequence[TaskBlock], weights: Float, min_blocks: int) -> list[list[int]]:
    """Return groups of exchangeable blocks, as indices of the blocks.

    Blocks with nonzero `weights` (B,) are grouped by condition, or by sign of their weight if a
    condition has fewer than `min_blocks` blocks.
    """
    by_condition: dict[str, list[int]] = {}
    by_sign: dict[bool, list[int]] = {}
    for index in np.flatnonzero(weights):
        by_condition.setdefault(blocks[index].condition, []).append(int(index))
        by_sign.setdefault(bool(weights[index] > 0), []).append(int(index))
    has_small_condition = any(len(indices) < min_blocks for indices in by_condition.values())
    return list(by_sign.values()) if has_small_condition else list(by_condition.values())


def agreement_rows(
    run: RunEffects, *references: Callable[[RunEffects], Reference | None]
) -> list[MetricRow]:
    """Return metric rows of all series of a run relative to references, including differences.

    One series is in memory at a time. Functions return a reference of the run, see
    `bids_sr.evaluation.references`, or None if it is not available. Raises `ValueError` if series
    are from different runs or on different grids.
    """
    run.warn_of_few_voxels()
    candidates = [make_reference(run) for make_reference in references]
    available = [reference for reference in candidates if reference is not None]
    rows = list(_iterate_rows(run, available))
    if rows and not any(math.isfinite(row.value) for row in rows):
        _LOGGER.warning(
            "The agreement with the reference is not defined for the contrasts %s.",
            ", ".join(run.contrasts),
        )
    return rows


def _iterate_rows(run: RunEffects, references: Sequence[Reference]) -> Iterator[MetricRow]:
    """Yield the rows of all series in the same voxels."""
    scores: list[dict[str, _ScoresByKey]] = [{} for _ in references]
    bands = list(dict.fromkeys(band for reference in references for band in reference.targets))
    for series, betas, effects in run.series() if references else ():
        maps = run.maps_by_band(betas, bands)
        for reference, scores_by_series in zip(references, scores, strict=True):
            if reference.is_scored(series):
                scores_by_series[series] = reference.scores(maps)
            if series == "bspline" and reference.has_controls:
                controls = _score_controls(run, reference, effects)
                for control, (control_scores, mean_settings) in controls.items():
                    scores_by_series[control] = control_scores
                    yield from _iterate_setting_rows(control, mean_settings)
    for reference, scores_by_series in zip(references, scores, strict=True):
        yield from _iterate_score_rows(reference, scores_by_series)


class _ControlScores(NamedTuple):
    """Scores of a denoised control, and the mean of the settings that were chosen, by key."""

    scores: _ScoresByKey
    mean_settings: dict[ComparisonKey, float]


def _score_controls(
    run: RunEffects, reference: Reference, bspline: Effects
) -> dict[str, _ControlScores]:
    """Return scores and settings of denoised controls of the B-spline series, by control."""
    scores_by_control: dict[str, dict[float, _ScoresByKey]] = {}
    for control, setting, betas in denoise_controls(bspline):
        scores_by_control.setdefault(control, {})[setting] = reference.scores(
            run.maps_by_band(betas, list(reference.targets))
        )
    return {
        control: _choose_best_settings(scores_by_setting)
        for control, scores_by_setting in scores_by_control.items()
    }


def _choose_best_settings(scores_by_setting: Mapping[float, _ScoresByKey]) -> _ControlScores:
    """Score a denoised control at its best settings, and return the mean settings.

    The setting that scores best in a comparison is chosen with the reference of this comparison. A
    control therefore has more freedom than a user. The setting is chosen per region, band and
    contrast: by correlation for the correlation, by explained variance for statistics that depend
    on amplitude. Scores are by setting (width in mm, or number of components).
    """
    scores: _ScoresByKey = {}
    mean_settings: dict[ComparisonKey, float] = {}
    settings = list(scores_by_setting)
    for key in scores_by_setting[settings[0]]:
        leading_key = key if key.statistic == "r" else key._replace(statistic="ev")
        leading_scores = np.array(
            [setting_scores[leading_key][:, 0] for setting_scores in scores_by_setting.values()]
        )
        if np.isfinite(leading_scores).all():
            best_settings = [settings[index] for index in leading_scores.argmax(axis=0)]
            scores[key] = np.stack(
                [scores_by_setting[best][key][way] for way, best in enumerate(best_settings)]
            )
            mean_settings[key] = sum(best_settings) / len(best_settings)
    return _ControlScores(scores, mean_settings)


def _iterate_setting_rows(
    control: str, settings: Mapping[ComparisonKey, float]
) -> Iterator[MetricRow]:
    """Yield rows with the chosen settings of a denoised control.

    The settings maximize the correlation above the acquired Nyquist frequency.
    """
    statistic = "control_fwhm" if control == SMOOTH else "control_rank"
    for key, value in settings.items():
        if (key.statistic, key.band) == ("r", "beyond"):
            yield MetricRow(
                series=control,
                statistic=statistic,
                value=value,
                reference=MEASURED,
                contrast=key.contrast,
                region=key.region,
            )


def _iterate_score_rows(
    reference: Reference, scores_by_series: Mapping[str, _ScoresByKey]
) -> Iterator[MetricRow]:
    """Yield the scores of all series relative to a reference, and differences between series."""
    for series, series_scores in scores_by_series.items():
        for key, values in series_scores.items():
            mean_values = values.mean(axis=0)
            spread = _get_training_spread(series, key, mean_values)
            yield _make_row(reference, series, key, mean_values, spread=spread)
    for series, comparator in reference.select_pairs(list(scores_by_series)):
        comparator_scores = scores_by_series[comparator]
        for key, values in scores_by_series[series].items():
            if key in comparator_scores:
                both = values.mean(axis=0), comparator_scores[key].mean(axis=0)
                spread = math.hypot(
                    _get_training_spread(series, key, both[0]),
                    _get_training_spread(comparator, key, both[1]),
                )
                yield _make_row(
                    reference, series, key, both[0] - both[1], minus=comparator, spread=spread
                )


def _get_training_spread(series: str, key: ComparisonKey, values: Float) -> float:
    """Return the half-width of the interval of values of other trainings; 0 without a network.

    The first element of `values` is the value of the series.
    """
    if (key.statistic, key.band) != ("ev", "beyond") or not is_network(series):
        return 0.0
    return _TRAINING_SPREAD * abs(1.0 - float(values[0]))


def _make_row(
    reference: Reference,
    series: str,
    key: ComparisonKey,
    values: Float,
    *,
    spread: float,
    minus: str = "",
) -> MetricRow:
    """Return the row of a value (first element) with an interval from its resamples (others).

    `spread` is the half-width of the interval of values of other trainings.

    Explained variance of a measured half, 2 - 1/r, is n/a if it is below 0: noise then exceeds the
    reproducible detail, and the value would make other series appear more accurate.
    """
    value, (lower, upper) = float(values[0]), interval(values)
    if spread:
        lower = value - math.hypot(value - lower, spread)
        upper = value + math.hypot(upper - value, spread)
    if key.statistic == "r" and not minus and math.isfinite(lower):
        lower = max(lower, -1.0)
        upper = min(upper, 1.0)
    is_measured_half = reference.name == series == MEASURED and not minus
    if is_measured_half and key.statistic == "ev" and value < 0:
        value = lower = upper = math.nan
    return MetricRow(
        series=series,
        minus=minus or MISSING,
        statistic=key.statistic,
        band=key.band,
        reference=reference.name,
        region=key.region,
        contrast=key.contrast,
        value=value,
        lower=lower,
        upper=upper,
        n=reference.block_counts.get(key.contrast),
    )


def interval(values: Float) -> tuple[float, float]:
    """Return the 95 % interval of a value (first element) from its resamples (other elements).

    Ends are NaN if there are no resamples or if a resample is not finite. See the docstring of
    this module.
    """
    value = float(values[0])
    samples = values[1:]
    if not samples.size or not np.isfinite(values).all():
        return math.nan, math.nan
    low, high = np.quantile((samples - samples.mean()) / _BOOTSTRAP_STEP, [0.025, 0.975])
    return value + float(low), value + float(high)
