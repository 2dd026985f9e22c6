"""References that effects of a run are compared with.

The references are measured halves of the blocks, known activation, and the measured map.
"""

from collections.abc import Iterator, Mapping, Sequence

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
from bids_sr.io.series import MEASURED
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

    Blocks of both halves are resampled together, within condition. Differences between series
    are not computed if the run has a measured series.

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
        select_pairs=_select_no_pairs if MEASURED in run.files else gain_pairs,
    )


def _select_no_pairs(_names: Sequence[str]) -> list[tuple[str, str]]:
    """Return no pairs of series, whichever series exist."""
    return []


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
