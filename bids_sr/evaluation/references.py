"""References that effects of a run are compared with.

The references are measured halves of the blocks, known activation, another run, and the measured
map.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from bids_sr.evaluation.agreement import (
    BlockComparison,
    BlockResamples,
    ComparedVoxels,
    Reference,
    compare_splits,
    compare_sums,
    gain_pairs,
    resample_blocks,
)
from bids_sr.evaluation.effects_of_run import RunEffects, resample_effects
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE, KNOWN
from bids_sr.evaluation.large_effects import OTHERS, select_in_run
from bids_sr.evaluation.reference_maps import (
    BASE_SERIES,
    MEASURED_MAP,
    TRUE_T,
    make_known_effects,
)
from bids_sr.evaluation.tested_detail import TESTED_METHOD
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import MIN_BLOCKS
from bids_sr.glm.halves import SplitContrast, average_splits, split_contrasts
from bids_sr.io.arrays import Float, Float32, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.series import MEASURED, OTHER_RUN
from bids_sr.io.volume import Volume

_ACTIVE_T = (3.0, 4.0, 5.0, 6.0)  # |t| above which voxels are active, one region per value


def make_half_reference(run: RunEffects) -> Reference | None:
    """Return the reference of measured halves; None if there is no measured series.

    The effect of half of the blocks is compared with the measured effect of the other half,
    averaged over all balanced splits. A contrast with conditions that are missing in a half is
    replaced by the contrast of its other conditions (`split_contrasts`).

    Active voxels are selected in the acquired run: its t map includes the blocks of both halves,
    but the noise of this map is limited to the acquired band. They are also selected in the
    measured series, in each half of a fixed split, for the comparison with the other half.
    """
    if MEASURED not in run.files:
        return None
    measured = run.load_first()
    blocks = measured.blocks
    split_comparisons = _compare_halves(run, measured)
    comparisons = {name: (split.comparison,) for name, split in split_comparisons.items()}
    active: list[ComparedVoxels] = []
    for contrast, split in split_comparisons.items():
        half_resamples = resample_blocks(blocks, split.halves, run.n_boot, run.seed, contrast)
        for half, other_half in (split.halves, split.halves[::-1]):
            comparison = compare_sums(
                contrast,
                (half, half_resamples),
                (other_half, half_resamples),
                other_target=half,
            )
            active += _iterate_regions_above(measured, half, run.mask, comparison, _ACTIVE_T)
    return Reference(
        name=MEASURED,
        targets=_make_targets(run, measured, run.bands),
        regions=[
            *_iterate_fixed_regions(run, comparisons),
            *_iterate_acquired_active_voxels(
                run,
                comparisons,
                {name: split.contrast.origin for name, split in split_comparisons.items()},
            ),
            *active,
        ],
        block_counts={
            name: _count_blocks(split.halves) for name, split in split_comparisons.items()
        },
        has_controls=True,
    )


def make_other_effects_reference(run: RunEffects) -> Reference | None:
    """Return the reference of measured halves in active voxels without a large acquired effect.

    Only the explained variance of the detail of `TESTED_METHOD` is computed, for contrasts with a
    large effect in active voxels. None if there is no such contrast, or no measured series.
    """
    if not {MEASURED, TESTED_METHOD} <= run.files.keys() or "beyond" not in run.bands:
        return None
    measured = run.load_first()
    series = Effects.load(run.files[TESTED_METHOD])
    split_comparisons = _compare_halves(run, measured)
    regions = []
    for split in split_comparisons.values():
        large = select_in_run(series, split.contrast.weights, series.mean_signal, run.factor)
        if split.contrast.origin not in run.acquired_t or large is None:
            continue
        active = np.abs(run.acquired_t[split.contrast.origin]) > TRUE_T
        if (active & large & run.mask).any():
            voxels = (active & ~large)[run.mask]
            regions.append(
                ComparedVoxels(name=OTHERS, voxels=voxels, comparisons=(split.comparison,))
            )
    if not regions:
        return None
    return Reference(
        name=MEASURED,
        targets=_make_targets(run, measured, ("beyond",)),
        regions=regions,
        block_counts={
            name: _count_blocks(split.halves) for name, split in split_comparisons.items()
        },
        statistics=("ev",),
        is_scored=lambda series: series == TESTED_METHOD,
    )


@frozen
class _SplitComparison:
    """Comparison of measured halves for one contrast, averaged over all balanced splits.

    `halves` are the block weights of a fixed split (2, B).
    """

    contrast: SplitContrast
    halves: Float
    comparison: BlockComparison


def _compare_halves(run: RunEffects, measured: Effects) -> dict[str, _SplitComparison]:
    """Return the comparison of measured halves for each contrast that can be split."""
    blocks = measured.blocks
    comparisons = {}
    for name, contrast in split_contrasts(blocks, run.contrasts).items():
        splits = average_splits(blocks, contrast.weights, measured.leak)
        halves = measured.halves(contrast.weights)
        if splits is None or halves is None:
            continue
        resamples = resample_blocks(
            blocks,
            halves.sum(axis=0, keepdims=True),
            run.n_boot,
            run.seed,
            name,
            min_blocks=2 * MIN_BLOCKS,
        )
        comparisons[name] = _SplitComparison(
            contrast=contrast, halves=halves, comparison=compare_splits(name, splits, resamples)
        )
    return comparisons


def make_map_reference(run: RunEffects) -> Reference | None:
    """Return the reference of the measured map above the acquired Nyquist frequency.

    Whole-run effects and measured effects are estimated from the same blocks and may share noise.
    Therefore only correlations are computed, without an interval, and their differences to the
    B-spline series. None if there is no measured series, or if no axis is super-resolved.
    """
    if MEASURED not in run.files or "beyond" not in run.bands:
        return None
    measured = run.load_first()
    comparisons: dict[str, tuple[BlockComparison]] = {}
    active: list[ComparedVoxels] = []
    for contrast, weights in run.contrasts.items():
        block_weights = measured.run_weights(weights)
        if block_weights is not None:
            effect = (
                block_weights,
                BlockResamples(changes=np.zeros((1, len(block_weights))), groups=()),
            )
            comparison = compare_sums(contrast, effect, effect, other_target=block_weights)
            comparisons[contrast] = (comparison,)
            active += _iterate_regions_above(
                measured, block_weights, run.mask, comparison, (TRUE_T,)
            )
    return Reference(
        name=MEASURED_MAP,
        targets=_make_targets(run, measured, ("beyond",)),
        regions=[
            *_iterate_fixed_regions(run, comparisons),
            *_iterate_acquired_active_voxels(run, comparisons, {}),
            *active,
        ],
        block_counts={},
        statistics=("r",),
        is_scored=lambda series: series != MEASURED,
        select_pairs=_pair_with_base_series,
    )


def _iterate_acquired_active_voxels(
    run: RunEffects,
    comparisons: Mapping[str, Sequence[BlockComparison]],
    origins: Mapping[str, str],
) -> Iterator[ComparedVoxels]:
    """Yield the voxels active in the acquired run, for each contrast with a t map of this run.

    `origins` are names of t maps by contrast, if they differ from the name of the contrast.
    """
    for contrast, contrast_comparisons in comparisons.items():
        map_name = origins.get(contrast, contrast)
        if map_name in run.acquired_t:
            t = np.abs(run.acquired_t[map_name])[run.mask]
            yield ComparedVoxels(
                name=ACQUIRED_ACTIVE, voxels=t > TRUE_T, comparisons=contrast_comparisons
            )


def _pair_with_base_series(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of a series and the B-spline series, if this series exists."""
    if BASE_SERIES not in names:
        return []
    return [(name, BASE_SERIES) for name in names if name != BASE_SERIES]


def make_known_reference(
    run: RunEffects, known: Mapping[str, tuple[Float32, Float]]
) -> Reference | None:
    """Return the reference of known activation, which shares no noise with any series.

    Blocks of both halves are resampled together, within condition. If the run has a measured
    series, differences are computed only for series of other programs.

    Parameters
    ----------
    run : RunEffects
        Block effects of all series of the run.
    known : Mapping[str, tuple[Float32, Float]]
        Map and voxel-to-RAS-mm matrix by contrast, in the frame of the run.

    Returns
    -------
    Reference | None
        Reference with one comparison per contrast; None if no contrast is known or follows from
        known contrasts.
    """
    first_effects = run.load_first()
    # Effects are filtered in complete slices, but active voxels are selected within the brain.
    full_grid = Volume(np.ones_like(run.mask), run.affine)
    truths = make_known_effects(known, run.contrasts, full_grid)
    brain_truths = make_known_effects(known, run.contrasts, Volume(run.mask, run.affine))
    weights_by_contrast = {
        name: block_weights
        for name in truths
        if (block_weights := first_effects.run_weights(run.contrasts[name])) is not None
    }
    n_contrasts = len(weights_by_contrast)
    if not n_contrasts:
        return None
    comparisons: dict[str, tuple[BlockComparison]] = {}
    for index, (name, weights) in enumerate(weights_by_contrast.items()):
        resamples = resample_blocks(
            first_effects.blocks, weights[None], run.n_boot, run.seed, name
        )
        target = np.eye(n_contrasts)[index]
        known_resamples = BlockResamples(
            changes=np.zeros((len(resamples.changes), n_contrasts)), groups=()
        )
        comparisons[name] = (
            compare_sums(
                name, (weights, resamples), (target, known_resamples), other_target=target
            ),
        )
    active_regions = [
        ComparedVoxels(name="active", voxels=voxels[run.mask], comparisons=comparisons[name])
        for name in comparisons
        if (voxels := brain_truths[name].active) is not None
    ]
    # Double precision, because sums over all voxels would lose digits in single precision.
    effects = np.stack([truths[name].effect for name in comparisons], axis=-1, dtype=np.float64)
    return Reference(
        name=KNOWN.name,
        targets=run.maps_by_band(effects, run.bands),
        regions=[*_iterate_fixed_regions(run, comparisons), *active_regions],
        block_counts={
            name: _count_blocks(weights) for name, weights in weights_by_contrast.items()
        },
        select_pairs=(
            partial(_pair_methods, run.same_widths) if MEASURED in run.files else gain_pairs
        ),
    )


def _pair_methods(methods: Collection[str], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of `gain_pairs` whose first series is one of some methods."""
    return [pair for pair in gain_pairs(names) if pair[0] in methods]


def make_other_run_reference(run: RunEffects, other_effects: Effects) -> Reference | None:
    """Return the reference of another run: one half of its blocks, in the acquired band.

    Noise of the two runs is independent, so only signal can agree. Active voxels are selected in
    the half that is not the target. Effects that differ between the runs, because of habituation
    or position, count as error of every series alike. Blocks of both runs are resampled.

    `other_effects` are block effects of the acquired series of another run of the same task, on
    the high-resolution grid. They include the variance that `smooth_t` needs. The reference has
    both halves as targets; None if either run has too few blocks.
    """
    first_effects = run.load_first()
    comparisons: dict[str, list[BlockComparison]] = {}
    block_counts: dict[str, int] = {}
    active: list[ComparedVoxels] = []
    for contrast, split in split_contrasts(other_effects.blocks, run.contrasts).items():
        block_weights = first_effects.run_weights(split.weights)
        halves = other_effects.halves(split.weights)
        if block_weights is None or halves is None:
            continue
        block_counts[contrast] = _count_blocks(block_weights)
        resamples = resample_blocks(
            first_effects.blocks, block_weights[None], run.n_boot, run.seed, contrast
        )
        other_resamples = resample_blocks(
            other_effects.blocks, halves, run.n_boot, run.seed + 1, contrast
        )
        for half, other_half in (halves, halves[::-1]):
            comparison = compare_sums(
                contrast,
                (block_weights, resamples),
                (other_half, other_resamples),
                other_target=half,
            )
            comparisons.setdefault(contrast, []).append(comparison)
            active += _iterate_regions_above(other_effects, half, run.mask, comparison, (TRUE_T,))
    if not comparisons:
        return None
    return Reference(
        name=OTHER_RUN,
        targets=_make_targets(run, other_effects, ("within",)),
        regions=[*_iterate_fixed_regions(run, comparisons), *active],
        block_counts=block_counts,
        statistics=("r", "ev"),
    )


def _count_blocks(block_weights: Float) -> int:
    """Return the number of blocks with a weight, (B,) or (halves, B)."""
    return int(np.count_nonzero(block_weights))


def _iterate_regions_above(
    effects: Effects,
    block_weights: Float,
    mask: MaskArray,
    comparison: BlockComparison,
    limits: Sequence[float],
) -> Iterator[ComparedVoxels]:
    """Yield the voxels with |t| above each limit in a sum of blocks; none if there is no t."""
    if effects.smooth_variance is not None:
        t = np.abs(effects.smooth_t(block_weights))[mask]
        for limit in limits:
            yield ComparedVoxels(
                name=f"active{round(10 * limit)}", voxels=t > limit, comparisons=[comparison]
            )


def _make_targets(run: RunEffects, reference: Effects, bands: Sequence[str]) -> dict[str, Float32]:
    """Return block maps of a reference by band.

    ValueError if the reference is on another grid.
    """
    return run.maps_by_band(resample_effects(reference, run.mask.shape, run.affine)[1], bands)


def _iterate_fixed_regions(
    run: RunEffects, comparisons: Mapping[str, Sequence[BlockComparison]]
) -> Iterator[ComparedVoxels]:
    """Yield the brain and the region of interest, with the comparisons of all contrasts."""
    for name, voxels in run.regions.items():
        yield ComparedVoxels(
            name=name,
            voxels=voxels[run.mask],
            comparisons=[
                comparison
                for contrast_comparisons in comparisons.values()
                for comparison in contrast_comparisons
            ],
        )
