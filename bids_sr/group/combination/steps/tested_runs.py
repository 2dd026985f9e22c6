"""Test of the detail of the map of all runs at half the resolution, with runs as halves.

Each run was downsampled and super-resolved (`bids_sr.evaluation.steps.half_resolution`). Effects
of the whole runs are moved to the frame of the first run by the interpolation of the map of all
runs. The mean effect of one half of the runs, super-resolved, is then compared with the acquired
mean effect of the other half, over all balanced splits of the runs. Contrasts with a single block
per run can be tested in this way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bids_sr.engine.artifacts import Facts, File, Rows
from bids_sr.engine.memory import Need
from bids_sr.engine.metric_rows import MetricRow, columns_json, metric_rows
from bids_sr.engine.step import Stage, step
from bids_sr.evaluation.detail_support import COVERAGE, SMOOTHNESS
from bids_sr.evaluation.steps.half_resolution_maps import (
    HalfResolutionMaps,
    load_half_resolution_maps,
)
from bids_sr.evaluation.tested_detail import ContrastSplits, HalfResolutionData, score_detail
from bids_sr.glm.activation_regions import Z_95
from bids_sr.glm.blocks import TaskBlock
from bids_sr.glm.halves import balance_splits
from bids_sr.group.combination.interpolated_variance import (
    compute_variance_factor,
    noise_autocorrelation,
)
from bids_sr.group.combination.run_combination import (
    RunEstimate,
    combine_estimates,
    correlate_error,
    weigh_runs,
    widen_error,
)
from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.json_values import as_number
from bids_sr.io.run_time import RunTime
from bids_sr.io.volume import Volume
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.steps.error_samples import interpolate_to_shape

RUNS_AS_HALVES_TEXT = (
    "For maps of all runs, detail at half the resolution was tested with runs as halves: the"
    " super-resolved mean effect of one half of the runs was compared with the acquired mean"
    " effect of the other half, over all balanced splits, in the frame of the first run.\n"
)
"""Methods text of `compare_runs`."""


class _PlacedRun(NamedTuple):
    """Maps of a run on the grids of the frame.

    `maps` are in the unit of the first run of the group, and `xfm` transforms points of the
    group's first run to points of the run (4, 4).
    """

    maps: HalfResolutionMaps
    xfm: Array


@step(
    Stage.COMBINATION,
    makes=("tested_rows", "tested_columns"),
    memory=Need(always=0.1, high=0.3),
    cost=RunTime(always=0.5, low=4.0),
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
    factor: Factor,
    calibrated: bool,
) -> tuple[Rows, Facts]:
    """Test the detail of the mean effect of runs at half the resolution, with runs as halves.

    `half_resolution_maps` are files of `check_intervals` by name of the run, the first run first.
    `first2run_xfms` transform points of the first run to points of each further run (1, 4, 4; RAS+
    mm), and `run_scales` are the signal of each further run relative to the first run.
    `run_agreement` is the result of `sibling_runs.check_runs`, whose left-out
    runs are not used. `own_rows` are rows of `check_intervals` by name of the run. They are used
    if all other runs of a contrast are left out. `contrasts` has the names of the combined runs,
    by contrast. `factor` is the ratio of acquired to high-resolution voxel size, per axis.
    `calibrated` states whether any run was super-resolved with a calibration run.

    Returns rows of the test as for a single run: explained variance of the detail and coverage of
    the intervals of each contrast, and the largest smoothness of the runs. Contrasts that are
    combined but were tested in fewer than two runs have no rows. The second value describes the
    columns.
    """
    left_out = run_agreement["LeftOut"]
    assert isinstance(left_out, Mapping)
    placed_runs: dict[str, _PlacedRun] = {}
    for name, path in half_resolution_maps.items():
        maps = None if name in left_out else load_half_resolution_maps(path)
        if maps is None:
            continue
        ratio = as_number(run_scales[name]["SignalRatio"]) if name in run_scales else 1.0
        xfm = first2run_xfms[name][0] if name in first2run_xfms else np.eye(4)
        frame = next(iter(placed_runs.values()), None)
        placed_runs[name] = _place_run(maps, xfm, 1 / ratio, frame)
    rows: list[MetricRow] = []
    for contrast, contrast_runs in contrasts.items():
        names = [name for name in contrast_runs if name not in left_out]
        runs = [
            run
            for name, run in placed_runs.items()
            if name in names and contrast in run.maps.contrasts
        ]
        if len(names) == 1:
            rows += [row for row in own_rows.get(names[0], ()) if row.contrast == contrast]
        elif len(runs) > 1:
            rows += _test_contrast(contrast, runs, series_name, factor, calibrated=calibrated)
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
        """Interpolate the maps of all contrasts (C, x, y, z)."""
        moved = [self.move(values, order=order) for values in maps]
        return np.reshape(moved, (-1, *self.target.data.shape)).astype(np.float32)

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
                    noise_autocorrelation(_compute_t(effect, variance), self.source.data)
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
    _, error_variances = acquired_move.move_estimates(scaled.errors, scaled.error_variances)
    moved = replace(
        scaled,
        affine=frame.maps.affine,
        low_affine=frame.maps.low_affine,
        mask=acquired_move.move_mask(),
        low_mask=low_move.move_mask(),
        acquired=acquired_move.move_all(scaled.acquired, order=3),
        errors=acquired_move.move_all(scaled.errors, order=3),
        task_free=acquired_move.move_all(scaled.task_free, order=3),
        error_variances=error_variances,
        error_power=acquired_move.move(scaled.error_power, order=1),
        low_effects=np.stack([effects for effects, _ in low_widths]),
        low_variances=np.stack([variances for _, variances in low_widths]),
        low_power=low_move.move(scaled.low_power, order=1),
    )
    return _PlacedRun(moved, xfm)


def _test_contrast(
    contrast: str,
    runs: Sequence[_PlacedRun],
    series_name: str,
    factor: Factor,
    *,
    calibrated: bool,
) -> list[MetricRow]:
    """Return the rows of one contrast; see `compare_runs` for the parameters."""
    maps = [run.maps for run in runs]
    indices = [run_maps.contrasts.index(contrast) for run_maps in maps]
    mask = np.logical_and.reduce([run_maps.mask for run_maps in maps])
    low_mask = np.logical_and.reduce([run_maps.low_mask for run_maps in maps])
    targets = [run_maps.acquired[index] for run_maps, index in zip(maps, indices, strict=True)]
    errors = [run_maps.errors[index] for run_maps, index in zip(maps, indices, strict=True)]
    estimates = [target + error for target, error in zip(targets, errors, strict=True)]
    low_means = {
        width: _average_low_maps(maps, indices, width_index, low_mask)
        for width_index, width in enumerate(maps[0].widths)
    }
    data = HalfResolutionData(
        series=series_name,
        estimates=np.stack(estimates, axis=-1),
        targets=np.stack(targets, axis=-1),
        active_t={
            width: {
                contrast: sample_volume(
                    _compute_t(*low_mean), maps[0].low_affine, mask.shape, maps[0].affine
                )
            }
            for width, low_mean in low_means.items()
        },
        mask=mask,
        zooms=Volume(mask, maps[0].affine).zooms.tolist(),
        task_free=(
            np.stack(
                [run_maps.task_free[index] for run_maps, index in zip(maps, indices, strict=True)],
                axis=-1,
            )
            if all(len(run_maps.task_free) for run_maps in maps)
            else None
        ),
    )
    splits = balance_splits(
        [TaskBlock(condition=contrast, events=())] * len(maps), {contrast: 1.0}
    )
    assert splits is not None  # at least two runs
    error_estimates = _estimate_errors(maps, indices, low_mask)
    return [
        *score_detail(
            data,
            [ContrastSplits(name=contrast, origin=contrast, splits=splits)],
            (factor[0], factor[1], 1.0),
        ),
        *_score_coverage(contrast, error_estimates, series_name, mask, calibrated=calibrated),
    ]


def _average_low_maps(
    maps: Sequence[HalfResolutionMaps], indices: Sequence[int], width: int, low_mask: MaskArray
) -> tuple[Float32, Float32]:
    """Return the mean effect of the downsampled runs and its variance, 0 outside the brain.

    `indices` are the positions of the contrast in each run, and `width` is the position of the
    smoothing.
    """
    pairs = list(zip(maps, indices, strict=True))
    effect = np.mean([run_maps.low_effects[width, index] for run_maps, index in pairs], axis=0)
    variance = np.mean([run_maps.low_variances[width, index] for run_maps, index in pairs], axis=0)
    return np.where(low_mask, effect, 0), np.where(low_mask, variance / len(maps), 0)


def _compute_t(effect: Array, variance: Array) -> Float32:
    """Return an effect over the square root of its variance, 0 without a variance."""
    t: Float32 = np.where(variance > 0, effect / np.sqrt(np.where(variance > 0, variance, 1)), 0)
    return t.astype(np.float32)


def _estimate_errors(
    maps: Sequence[HalfResolutionMaps],
    indices: Sequence[int],
    low_mask: MaskArray,
) -> list[RunEstimate]:
    """Return the reconstruction error of each run with its variance and expected SD.

    As in maps of all runs, the SD is scaled to the effect in all runs
    (`bids_sr.group.combination.steps.shared_error`). For `indices`, see `_average_low_maps`.
    """
    from bids_sr.sr.prior_maps.posterior import effect_scale

    low_estimates = [
        RunEstimate(
            effect=run_maps.low_effects[0, index],
            variance=np.where(low_mask, run_maps.low_variances[0, index], 0),
            dof=1.0,
        )
        for run_maps, index in zip(maps, indices, strict=True)
    ]
    mean = combine_estimates(low_estimates, weigh_runs(low_estimates), shared=1.0)
    low_zooms = Volume(low_mask, maps[0].low_affine).zooms.tolist()
    estimates = []
    for run_maps, index in zip(maps, indices, strict=True):
        scale = effect_scale(mean.effect, mean.variance, run_maps.low_power, low_mask, low_zooms)
        error = run_maps.errors[index]
        error_variance = interpolate_to_shape(scale, error.shape) * run_maps.error_power
        estimates.append(
            RunEstimate(
                effect=error,
                variance=run_maps.error_variances[index],
                dof=1.0,
                sd=np.sqrt(np.maximum(error_variance, 0)),
            )
        )
    return estimates


def _score_coverage(
    contrast: str,
    estimates: Sequence[RunEstimate],
    series_name: str,
    mask: MaskArray,
    *,
    calibrated: bool,
) -> list[MetricRow]:
    """Return the fraction of voxels whose mean error is within its 95 % interval."""
    combined = combine_estimates(
        estimates,
        shared=correlate_error(0.0, calibrated=calibrated, n_runs=len(estimates)),
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
