"""Test of the detail of maps of several runs at half the resolution.

Each run was downsampled and super-resolved (`bids_sr.evaluation.steps.half_resolution`). Effects
are moved to the frame of the first run by the interpolation of the map of all runs.

The mean of runs is tested with runs as halves: the mean effect of one half of the runs,
super-resolved, is compared with the acquired mean effect of the other half, over all balanced
splits of the runs. Contrasts with a single block per run can be tested in this way.

A contrast over runs, such as a difference, is tested with the blocks of all runs: the contrast of
one half of the blocks of each run is compared with the acquired contrast of the other half. Runs
that are displaced by a fraction of a voxel differ in the same way in all of their blocks, which
would be taken for detail of the difference. The displacement is rigid, so that to first order it
changes a map by a sum of six maps: the changes of the mean acquired effect that a small
translation along each axis and a small rotation about it cause. These maps are regressed out of
the detail in each region, whatever the size of the displacement. As in maps of contrasts over
runs, the first run is filtered like the runs that are interpolated.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_sr.engine.artifacts import Facts, File, Rows
from bids_sr.engine.memory import Need
from bids_sr.engine.metric_rows import MetricRow, columns_json, metric_rows
from bids_sr.engine.step import Stage, step
from bids_sr.evaluation.detail_support import COVERAGE, SMOOTHNESS
from bids_sr.evaluation.steps.half_resolution_maps import (
    HalfResolutionMaps,
    load_half_resolution_maps,
)
from bids_sr.evaluation.tested_detail import (
    ContrastSplits,
    HalfResolutionData,
    compare_bands,
    score_detail,
)
from bids_sr.glm.activation_regions import Z_95
from bids_sr.glm.blocks import TaskBlock
from bids_sr.glm.halves import BalancedSplits, balance_splits
from bids_sr.glm.linear_model import compute_t
from bids_sr.group.combination.interpolated_variance import (
    compute_variance_factor,
    noise_autocorrelation,
)
from bids_sr.group.combination.placement import filter_alike
from bids_sr.group.combination.run_combination import (
    RunEstimate,
    combine_estimates,
    correlate_error,
    correlate_opposite,
    weigh_runs,
    widen_error,
)
from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.json_values import as_mapping, as_number
from bids_sr.io.volume import Volume
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import apply_matrix, rigid_matrix
from bids_sr.sr.steps.error_samples import interpolate_to_shape
from bids_sr.survey.preflight.combined_runs import RunTerm

RUNS_AS_HALVES_TEXT = (
    "For maps of all runs, detail at half the resolution was tested with runs as halves: the"
    " super-resolved mean effect of one half of the runs was compared with the acquired mean"
    " effect of the other half, over all balanced splits, in the frame of the first run.\n"
)
"""Methods text of `compare_runs` for means."""
BLOCKS_OF_RUNS_TEXT = (
    "For contrasts over runs, this detail was tested with the blocks of all runs as units. Changes"
    " of the mean acquired effect by small translations and rotations were regressed out of the"
    " detail, so that a displacement between runs does not count as detail of a difference.\n"
)
"""Methods text of `compare_runs` for contrasts over runs."""
_COARSEST_SD = (0.62, 0.62, 0)
"""Smoothing of white noise (voxels) to the smallest fineness that permits detail."""
_DISPLACEMENTS = (0.1, 0.1, 0.1, 0.002, 0.002, 0.002)
"""Small displacements along and about each axis (mm, rad)."""


class _PlacedRun(NamedTuple):
    """Maps of a run on the grids of the frame.

    `maps` are in the unit of the first run of the group, and `xfm` transforms points of the
    group's first run to points of the run (4, 4). `voxel_xfms` transform voxels of the frame to
    voxels of the run before it was moved, acquired and downsampled (4, 4); () for the frame.
    """

    maps: HalfResolutionMaps
    xfm: Array
    voxel_xfms: Sequence[Array] = ()


@frozen
class _WeightedRun:
    """Contrast of a run with its weight in a sum over runs."""

    maps: HalfResolutionMaps
    contrast: str
    weight: float

    @property
    def index(self) -> int:
        """Position of the contrast in the maps."""
        return self.maps.contrasts.index(self.contrast)


@step(
    Stage.COMBINATION,
    makes=("tested_rows", "tested_columns"),
    memory=Need(always=0.1, high=0.3),
)
def compare_runs(
    half_resolution_maps: dict[str, File],
    first2run_xfms: dict[str, Transforms],
    run_scales: dict[str, Facts],
    run_agreement: Facts,
    own_rows: dict[str, Rows],
    *,
    series_name: str,
    contrasts: Mapping[str, Sequence[str]],
    over_runs: Mapping[str, Sequence[RunTerm]],
    factor: Factor,
    calibrated: bool,
) -> tuple[Rows, Facts]:
    """Test the detail of mean effects of runs, and of contrasts over runs, at half the resolution.

    `half_resolution_maps` are files of `check_intervals` by name of the run, the first run first.
    `first2run_xfms` transform points of the first run to points of each further run (1, 4, 4; RAS+
    mm), and `run_scales` are the signal of each further run relative to the first run.
    `run_agreement` is the result of `sibling_runs.check_runs`, whose left-out
    runs are not used; contrasts over runs only leave out runs with another head. `own_rows` are
    rows of `check_intervals` by name of the run. They are used
    if all other runs of a contrast are left out. `contrasts` has the names of the combined runs,
    by contrast, and `over_runs` the terms of contrasts over runs. `factor` is the ratio of
    acquired to high-resolution voxel size, per axis.
    `calibrated` states whether any run was super-resolved with a calibration run.

    Returns rows of the test as for a single run: explained variance of the detail and coverage of
    the intervals of each contrast, and the largest smoothness of the runs. Contrasts that are
    combined but were tested in fewer than two runs have no rows, like contrasts over runs that
    cannot be split into halves. The second value describes the columns.
    """
    factor = (factor[0], factor[1], 1.0)  # slices are kept
    left_out = as_mapping(run_agreement["LeftOut"])
    excluded = as_mapping(run_agreement["OtherHead"]) if over_runs else left_out
    placed_runs: dict[str, _PlacedRun] = {}
    for name, path in half_resolution_maps.items():
        maps = None if name in excluded else load_half_resolution_maps(path)
        if maps is None:
            continue
        ratio = as_number(run_scales[name]["SignalRatio"]) if name in run_scales else 1.0
        xfm = first2run_xfms[name][0] if name in first2run_xfms else np.eye(4)
        frame = next(iter(placed_runs.values()), None)
        placed_runs[name] = _place_run(maps, xfm, 1 / ratio, frame)
    rows: list[MetricRow] = []
    for contrast, contrast_runs in contrasts.items():
        names = [name for name in contrast_runs if name not in left_out]
        maps_of_runs = [
            run.maps
            for name, run in placed_runs.items()
            if name in names and contrast in run.maps.contrasts
        ]
        if len(names) == 1:
            rows += [row for row in own_rows.get(names[0], ()) if row.contrast == contrast]
            continue
        runs = [
            _WeightedRun(maps=maps, contrast=contrast, weight=1 / len(maps_of_runs))
            for maps in maps_of_runs
        ]
        halves = _use_runs_as_halves(contrast, runs)
        rows += _test_contrast(contrast, runs, halves, series_name, factor, calibrated=calibrated)
    for contrast, terms in over_runs.items():
        runs, halves = _split_terms(terms, placed_runs, excluded, factor)
        rows += _test_contrast(contrast, runs, halves, series_name, factor, calibrated=calibrated)
    if rows:
        smoothness = max(run.maps.smoothness for run in placed_runs.values())
        rows += metric_rows(series_name, {SMOOTHNESS: smoothness}, region="brain")
    return rows, columns_json(row.statistic for row in rows)


@frozen
class _Move:
    """Interpolation from the grid of a run to the grid of the frame.

    `source` and `target` are the brain on both grids, and `xfm` transforms points of the frame to
    points of the run (4, 4; RAS+ mm).
    """

    source: Volume
    target: Volume
    xfm: Array

    def move(self, values: Array, *, order: int, zero_outside: bool = False) -> Float32:
        """Interpolate a map; `order` is 3 for effects and 1 for variances."""
        return sample_volume(
            values,
            self.source.affine,
            self.target.data.shape,
            self.target.affine,
            self.xfm,
            order=order,
            zero_outside=zero_outside,
        )

    def move_all(self, maps: Float32, *, order: int) -> Float32:
        """Interpolate maps (…, x, y, z)."""
        shape = self.target.data.shape
        moved = [self.move(values, order=order) for values in maps.reshape(-1, *maps.shape[-3:])]
        return np.reshape(moved, (*maps.shape[:-3], *shape)).astype(np.float32)

    def move_mask(self) -> MaskArray:
        """Return the voxels of the target that are in both brains."""
        covered = self.move(self.source.data.astype(np.float32), order=1, zero_outside=True) > 0.5
        return np.asarray(covered & self.target.data)

    def move_estimates(self, effects: Float32, variances: Float32) -> tuple[Float32, Float32]:
        """Interpolate effects and variances of all contrasts (C, x, y, z).

        Variances account for the averaging of noise by the interpolation.
        """
        factor = compute_variance_factor(
            np.mean(
                [
                    noise_autocorrelation(compute_t(effect, variance), self.source.data)
                    for effect, variance in zip(effects, variances, strict=True)
                ],
                axis=0,
            ),
            self.target.data.shape,
            self.target.affine,
            self.source.affine,
            self.xfm,
            self.source.data,
        )
        return self.move_all(effects, order=3), factor * self.move_all(variances, order=1)


def _place_run(
    maps: HalfResolutionMaps, xfm: Array, scale: float, frame: _PlacedRun | None
) -> _PlacedRun:
    """Move the maps of a run to the grids of the frame, and multiply effects by a scale.

    `frame` is the first tested run, or None for this run itself.
    """
    scaled = replace(
        maps,
        acquired=scale * maps.acquired,
        errors=scale * maps.errors,
        task_free=scale * maps.task_free,
        blocks=scale * maps.blocks,
        error_variances=scale**2 * maps.error_variances,
        low_effects=scale * maps.low_effects,
        low_variances=scale**2 * maps.low_variances,
    )
    if frame is None:
        return _PlacedRun(scaled, xfm)
    frame2run_xfm = xfm @ np.linalg.inv(frame.xfm)
    acquired_move = _Move(
        source=Volume(maps.mask, maps.affine),
        target=Volume(frame.maps.mask, frame.maps.affine),
        xfm=frame2run_xfm,
    )
    low_move = _Move(
        source=Volume(maps.low_mask, maps.low_affine),
        target=Volume(frame.maps.low_mask, frame.maps.low_affine),
        xfm=frame2run_xfm,
    )
    low_widths = [
        low_move.move_estimates(effects, variances)
        for effects, variances in zip(scaled.low_effects, scaled.low_variances, strict=True)
    ]
    errors, error_variances = acquired_move.move_estimates(scaled.errors, scaled.error_variances)
    moved = replace(
        scaled,
        affine=frame.maps.affine,
        low_affine=frame.maps.low_affine,
        mask=acquired_move.move_mask(),
        low_mask=low_move.move_mask(),
        acquired=acquired_move.move_all(scaled.acquired, order=3),
        errors=errors,
        task_free=acquired_move.move_all(scaled.task_free, order=3),
        blocks=acquired_move.move_all(scaled.blocks, order=3),
        error_variances=error_variances,
        error_power=acquired_move.move(scaled.error_power, order=1),
        low_effects=np.stack([effects for effects, _ in low_widths]),
        low_variances=np.stack([variances for _, variances in low_widths]),
        low_power=low_move.move(scaled.low_power, order=1),
    )
    voxel_xfms = [
        np.linalg.inv(move.source.affine) @ frame2run_xfm @ move.target.affine
        for move in (acquired_move, low_move)
    ]
    return _PlacedRun(moved, xfm, voxel_xfms)


def _split_terms(
    terms: Sequence[RunTerm],
    placed_runs: Mapping[str, _PlacedRun],
    excluded: Collection[str],
    factor: Factor,
) -> tuple[list[_WeightedRun], "_Halves | None"]:
    """Return the runs of a contrast over runs, all interpolated alike, and their blocks.

    The latter are None if a term has no run that is not `excluded`, or if a run was not tested or
    cannot be split into halves.
    """
    tested = {name for name, run in placed_runs.items() if run.maps.blocks.size}
    used: dict[str, _PlacedRun] = {}
    weights: dict[tuple[str, str], float] = {}
    for term in terms:
        names = [name for name in term.runs if name not in excluded]
        if not names or not tested >= {*names}:
            return [], None
        used |= {name: placed_runs[name] for name in names}
        weights |= {(name, term.contrast): term.weight / len(names) for name in names}
    moved_xfms = [run.voxel_xfms for run in used.values() if run.voxel_xfms]
    maps = {
        name: run.maps if run.voxel_xfms else _filter_frame(run.maps, moved_xfms)
        for name, run in used.items()
    }
    if not all(contrast in maps[name].contrasts for name, contrast in weights):
        return [], None
    runs = [
        _WeightedRun(maps=maps[name], contrast=contrast, weight=weight)
        for (name, contrast), weight in weights.items()
    ]
    halves = _split_blocks(runs)
    if halves is None:
        return runs, None
    noise = np.random.default_rng(0).normal(size=halves.targets.shape[:3])
    effect = gaussian_filter(noise, _COARSEST_SD)
    alike = filter_alike(effect, [xfms[0] for xfms in moved_xfms]) if moved_xfms else effect
    gain = compare_bands(alike, factor) / compare_bands(effect, factor)
    return runs, replace(halves, nuisance=_displace_effects(runs), fineness_gain=gain)


def _filter_frame(
    maps: HalfResolutionMaps, moved_xfms: Sequence[Sequence[Array]]
) -> HalfResolutionMaps:
    """Filter the maps of the frame as the interpolation filters the maps of moved runs.

    `moved_xfms` are the transforms of voxels to the moved runs, acquired and downsampled.
    """
    if not moved_xfms:
        return maps
    xfms, low_xfms = zip(*moved_xfms, strict=True)

    def filter_all(stack: Float32, voxel_xfms: Sequence[Array]) -> Float32:
        filtered = [
            filter_alike(np.moveaxis(maps, 0, -1), voxel_xfms).astype(np.float32)
            for maps in stack.reshape(-1, *stack.shape[-4:])
        ]
        return np.moveaxis(np.stack(filtered), -1, 1).reshape(stack.shape)

    return replace(
        maps,
        acquired=filter_all(maps.acquired, xfms),
        errors=filter_all(maps.errors, xfms),
        blocks=filter_all(maps.blocks, xfms),
        low_effects=filter_all(maps.low_effects, low_xfms),
    )


@frozen
class _Halves:
    """Effects of units that are split into halves, on the tested grid (x, y, z, U).

    Other than `splits`, the fields are those of `HalfResolutionData`.
    """

    estimates: Float32
    targets: Float32
    task_free: Float32 | None
    splits: BalancedSplits
    nuisance: Float32 | None = None
    fineness_gain: float = 1.0


def _use_runs_as_halves(contrast: str, runs: Sequence[_WeightedRun]) -> _Halves | None:
    """Return the effects of whole runs; None if there are fewer than two."""
    effects = [
        np.stack(
            [
                run.maps.acquired[run.index] + run.maps.errors[run.index],
                run.maps.acquired[run.index],
                *run.maps.task_free[run.index : run.index + 1],
            ]
        )[:, None]
        for run in runs
    ]
    blocks = [TaskBlock(condition=contrast, events=())] * len(runs)
    return _split_units(effects, blocks, {contrast: 1.0})


def _split_units(
    effects: Sequence[Float32], blocks: Sequence[TaskBlock], weights: Mapping[str, float]
) -> _Halves | None:
    """Return the effects of all units; None if they cannot be split into halves.

    `effects` are those of `HalfResolutionMaps.blocks` by run (K, B, x, y, z), and `blocks` the
    units of all runs.
    """
    splits = balance_splits(blocks, weights)
    if splits is None:
        return None
    estimates, targets, *task_free = (
        np.moveaxis(np.concatenate([run_effects[kind] for run_effects in effects]), 0, -1)
        for kind in range(min(map(len, effects)))
    )
    return _Halves(
        estimates=estimates,
        targets=targets,
        task_free=task_free[0] if task_free else None,
        splits=splits,
    )


def _split_blocks(runs: Sequence[_WeightedRun]) -> _Halves | None:
    """Return the effects of the blocks of all runs; None if a run cannot be split into halves."""
    if not all(run.maps.block_weights[run.index : run.index + 1].any() for run in runs):
        return None
    # terms may have the same run with different contrasts, which share blocks
    maps_of_runs = list({id(run.maps): run.maps for run in runs}.values())
    blocks: list[TaskBlock] = []
    weights: dict[str, float] = {}
    for number, maps in enumerate(maps_of_runs):
        terms = [run for run in runs if run.maps is maps]
        block_weights = sum(run.weight * maps.block_weights[run.index] for run in terms)
        for condition, weight in zip(maps.block_conditions, block_weights, strict=True):
            name = f"{number} {condition}"
            weights[name] = weights.get(name, 0.0) + weight
            blocks.append(TaskBlock(condition=name, events=(), used=bool(weight)))
    return _split_units([maps.blocks for maps in maps_of_runs], blocks, weights)


def _displace_effects(runs: Sequence[_WeightedRun]) -> Float32:
    """Return changes of the mean effect of each condition by six displacements (x, y, z, K)."""
    maps = runs[0].maps
    brain = Volume(maps.mask, maps.affine)
    center = apply_matrix(brain.affine, np.argwhere(brain.data).mean(axis=0))
    changes = []
    for contrast in dict.fromkeys(run.contrast for run in runs):
        effects = [run.maps.acquired[run.index] for run in runs if run.contrast == contrast]
        effect = np.mean(effects, axis=0)
        for step_size in np.diag(_DISPLACEMENTS):
            move = _Move(source=brain, target=brain, xfm=rigid_matrix(step_size, center))
            changes.append(move.move(effect, order=3) - effect)
    return np.stack(changes, axis=-1)


def _test_contrast(
    contrast: str,
    runs: Sequence[_WeightedRun],
    halves: _Halves | None,
    series_name: str,
    factor: Factor,
    *,
    calibrated: bool,
) -> list[MetricRow]:
    """Return the rows of one contrast, [] without halves; see `compare_runs` for parameters."""
    if halves is None:
        return []
    maps = [run.maps for run in runs]
    mask = np.logical_and.reduce([run_maps.mask for run_maps in maps])
    low_mask = np.logical_and.reduce([run_maps.low_mask for run_maps in maps])
    low_means = {
        width: _sum_low_maps(runs, width_index, low_mask)
        for width_index, width in enumerate(maps[0].widths)
    }
    data = HalfResolutionData(
        series=series_name,
        estimates=halves.estimates,
        targets=halves.targets,
        active_t={
            width: {
                contrast: sample_volume(
                    compute_t(*low_mean), maps[0].low_affine, mask.shape, maps[0].affine
                )
            }
            for width, low_mean in low_means.items()
        },
        mask=mask,
        zooms=Volume(mask, maps[0].affine).zooms.tolist(),
        task_free=halves.task_free,
        nuisance=halves.nuisance,
        fineness_gain=halves.fineness_gain,
    )
    return [
        *score_detail(
            data,
            [ContrastSplits(name=contrast, origin=contrast, splits=halves.splits)],
            factor,
        ),
        *_score_coverage(contrast, runs, series_name, mask, low_mask, calibrated=calibrated),
    ]


def _sum_low_maps(
    runs: Sequence[_WeightedRun], width: int, low_mask: MaskArray
) -> tuple[Float32, Float32]:
    """Return the weighted effect of the downsampled runs and its variance, 0 outside the brain.

    `width` is the position of the smoothing.
    """
    effect = sum(run.weight * run.maps.low_effects[width, run.index] for run in runs)
    variance = sum(run.weight**2 * run.maps.low_variances[width, run.index] for run in runs)
    return np.where(low_mask, effect, 0), np.where(low_mask, variance, 0)


def _estimate_errors(runs: Sequence[_WeightedRun], low_mask: MaskArray) -> list[RunEstimate]:
    """Return the reconstruction error of each run with its variance and expected SD.

    As in maps of all runs, the SD is scaled to the effect in all runs of a condition
    (`bids_sr.group.combination.steps.shared_error`).
    """
    from bids_sr.sr.prior_maps.posterior import effect_scale

    low_zooms = Volume(low_mask, runs[0].maps.low_affine).zooms.tolist()
    means = {}
    for contrast in {run.contrast for run in runs}:
        low_estimates = [
            RunEstimate(
                effect=run.maps.low_effects[0, run.index],
                variance=np.where(low_mask, run.maps.low_variances[0, run.index], 0),
                dof=1.0,
            )
            for run in runs
            if run.contrast == contrast
        ]
        means[contrast] = combine_estimates(low_estimates, weigh_runs(low_estimates), shared=1.0)
    estimates = []
    for run in runs:
        mean = means[run.contrast]
        scale = effect_scale(mean.effect, mean.variance, run.maps.low_power, low_mask, low_zooms)
        error = run.maps.errors[run.index]
        error_variance = interpolate_to_shape(scale, error.shape) * run.maps.error_power
        estimates.append(
            RunEstimate(
                effect=error,
                variance=run.maps.error_variances[run.index],
                dof=1.0,
                sd=np.sqrt(np.maximum(error_variance, 0)),
            )
        )
    return estimates


def _score_coverage(
    contrast: str,
    runs: Sequence[_WeightedRun],
    series_name: str,
    mask: MaskArray,
    low_mask: MaskArray,
    *,
    calibrated: bool,
) -> list[MetricRow]:
    """Return the fraction of voxels whose combined error is within its 95 % interval."""
    estimates = _estimate_errors(runs, low_mask)
    combined = combine_estimates(
        estimates,
        [run.weight for run in runs],
        shared=correlate_error(0.0, calibrated=calibrated, n_runs=len(estimates)),
        opposite=correlate_opposite(
            0.0,
            [
                replace(estimate, effect=run.maps.acquired[run.index])
                for estimate, run in zip(estimates, runs, strict=True)
            ],
            calibrated=calibrated,
            same_condition=len({run.contrast for run in runs}) == 1,
        ),
        widening=widen_error(0.0, n_runs=len(estimates)),
    )
    voxels = combined.mask & mask
    if not voxels.any():
        return []
    is_covered = (np.square(combined.effect) < Z_95**2 * combined.total_variance)[voxels]
    return metric_rows(
        series_name,
        {COVERAGE: float(is_covered.mean())},
        region="brain",
        contrast=contrast,
        n=int(is_covered.size),
    )
