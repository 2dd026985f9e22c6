"""Fusion of the effects of several runs on slices of half the thickness (``--fuse-slices``).

Runs are only fused if their slices are displaced and a test on the runs passes; see
`bids_sr.combination.fusion_gate`. Their effects are brought to the scale of the first run.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage
from threadpoolctl import threadpool_limits

from bids_sr.combination.fusion_gate import (
    LEAST_DISPLACEMENT,
    check_fusion,
    find_linked_runs,
    median_displacement,
)
from bids_sr.combination.run_agreement import ACTIVE_T
from bids_sr.combination.slice_fusion import (
    THIN_PER_THICK,
    SlicedEffects,
    SliceFusionError,
    fuse_slices,
    sample_at_columns,
    thin_affine,
    thin_prior_sd,
)
from bids_sr.combination.steps.combined_runs import FRAME
from bids_sr.config.memory import Need
from bids_sr.frozen import frozen
from bids_sr.glm.block_effects import Effects, load_effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.halves import select_split_conditions
from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.grids import size_text
from bids_sr.io.json_values import as_number
from bids_sr.io.nifti import save_image
from bids_sr.io.volume import Volume
from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.pipeline import artifacts
from bids_sr.pipeline.artifacts import Derivative, Facts, File, Image, Map, Series, Transforms
from bids_sr.pipeline.step import HERE, step
from bids_sr.run_time import RunTime
from bids_sr.series import THIN, map_label
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.prior_maps.temporal_components import (
    SeriesError,
    motion_regressors,
    open_uncompressed,
    temporal_statistics,
)
from bids_sr.steps.memory import EFFECTS
from bids_sr.steps.outlier_volumes import reasons_by_volume

_LOGGER = logging.getLogger(__name__)

FUSED, SPLINED = "Fused", "Splined"
"""Label endings of fused maps, and of interpolated maps for comparison."""
_MARGIN = 2
"""Margin (voxels, in plane) around the brain whose columns are also fused."""
WHAT_TO_ACQUIRE = (
    "To get thinner slices in future sessions, shift the stack of slices by half a slice in every"
    " second run (docs/acquire.md)"
)
_NO_ERROR_TEXT = (
    "There is no stat-sd map, no map of the wrong sign, and no reliable region, because the error"
    " of a fusion across slices was not measured in your data. There is no t map, because the"
    " noise of fused effects was not tested"
)
_DESCRIPTIONS = {
    FUSED: (
        "Effect on slices of half the thickness, fused from runs whose slices lie at displaced"
        " positions"
    ),
    SPLINED: (
        "Mean of the effects of the same runs on slices of half the thickness, interpolated by"
        " cubic splines, for comparison with the fused effect"
    ),
}


def describe_fusion(series: str) -> str:
    """Return methods text of the fusion across slices."""
    return (
        f"If the slices of the runs of a task were displaced by at least a quarter of a slice in"
        f" active voxels, it was tested whether the effects of {series} could be fused on slices"
        " of half the thickness: each slice of a run was predicted from another run and from the"
        " other slices of the run, without this slice. If the test passed, the effect in thin"
        " slices was estimated as the posterior mean given all slices, with box-shaped slice"
        " profiles and with the standard deviation over time of the slow fluctuations as prior"
        " standard deviation.\n"
    )


@step(
    makes="displaced_runs", memory=Need(always=0.1, high=0.3), cost=RunTime(always=0.3, high=0.5)
)
def measure_displacements(
    maps: list[Map],
    mask: artifacts.Mask,
    masks: dict[str, artifacts.Mask],
    first2run_xfms: dict[str, Transforms],
    *,
    first: str,
) -> Facts:
    """Measure the displacement between the slices of runs in active voxels.

    Parameters
    ----------
    maps : list[Map]
        Maps of the first run. The t maps with the least smoothing define active voxels.
    mask : Mask
        Brain of the first run on the grid of the maps.
    masks : dict[str, Mask]
        Brains of the further runs on the grids of their maps, by name of the run.
    first2run_xfms : dict[str, Transforms]
        Transforms (1, 4, 4) from points of the first run to points of each further run (RAS+ mm),
        by name of the run.
    first : str
        Name of the first run.

    Returns
    -------
    Facts
        ``Displacements``: ``Displacement`` of each pair of ``Runs``, as a fraction of the slice
        thickness; None if there are no active voxels. ``Pairs``: pairs with a sufficient
        displacement.
    """
    active = _select_active_voxels(maps, mask.data)
    grids = {first: mask, **masks}
    xfms = _include_first(first2run_xfms, first)
    displacements: list[dict[str, object]] = []
    pairs: list[list[str]] = []
    for run, other_run in combinations(grids, 2):
        positions = _sample_slice_positions(grids, xfms, run, other_run)
        inside = _move_to_run(active, mask, grids[run], xfms[run])
        displacement = median_displacement(positions, np.repeat(inside, THIN_PER_THICK, axis=2))
        value = None if np.isnan(displacement) else round(displacement, 3)
        displacements.append({"Runs": [run, other_run], "Displacement": value})
        if displacement >= LEAST_DISPLACEMENT:
            pairs.append([run, other_run])
    return {"Displacements": displacements, "Pairs": pairs}


def _select_active_voxels(maps: Sequence[Derivative], brain: MaskArray) -> MaskArray:
    """Return active voxels (X, Y, m) in the maps with the least smoothing.

    The fusion is tested for the mean over conditions. Active voxels are therefore selected by the
    contrasts that are most similar to this mean: contrasts with the most conditions and without
    negative weights. If there is no such contrast, voxels that are active in any contrast are
    selected.
    """
    t_maps = [
        t_map
        for t_map in maps
        if t_map.entities["suffix"] == "statmap" and t_map.entities.get("stat") == "t"
    ]
    least_fwhm_mm = min(
        (as_number(t_map.sidecar["SmoothingFWHM"]) for t_map in t_maps), default=0.0
    )
    t_maps = [
        t_map for t_map in t_maps if as_number(t_map.sidecar["SmoothingFWHM"]) == least_fwhm_mm
    ]
    counts = [_count_conditions(t_map) for t_map in t_maps]
    highest_count = max(counts, default=0)
    active = np.zeros(brain.shape, dtype=bool)
    for t_map, count in zip(t_maps, counts, strict=True):
        if count == highest_count:
            active |= np.abs(t_map.volume.data) > ACTIVE_T
    return active & brain


def _count_conditions(statmap: Derivative) -> int:
    """Return the number of conditions of a contrast; 0 if any of its weights is negative."""
    weights = statmap.sidecar["ContrastWeights"]
    assert isinstance(weights, Mapping)
    values = [as_number(weight) for weight in weights.values()]
    return 0 if min(values, default=0.0) < 0 else sum(value > 0 for value in values)


def _include_first(xfms: Mapping[str, Array], first: str) -> dict[str, Float]:
    """Return transforms (4 x 4, RAS+ mm) from the first run to each run, including the first."""
    return {first: np.eye(4), **{name: np.asarray(xfm)[0] for name, xfm in xfms.items()}}


def _sample_slice_positions(
    grids: Mapping[str, Volume], xfms: Mapping[str, Float], run: str, other_run: str
) -> Float:
    """Return the positions of another run's slices in each column of a run (X, Y, m_r).

    A column contains the voxels with the same in-plane position. The unit is a thin slice of
    `run`.
    """
    no_images = np.zeros((0, *grids[other_run].data.shape))
    _, positions = sample_at_columns(
        no_images,
        grids[other_run].affine,
        grids[run].data.shape[:2],
        grids[run].affine,
        xfms[other_run] @ np.linalg.inv(xfms[run]),
    )
    return positions


def _move_to_run(active: MaskArray, first: Volume, grid: Volume, first2run: Float) -> MaskArray:
    """Return active voxels of the first run on the grid of another run."""
    sampled = sample_volume(
        active.astype(np.float32),
        first.affine,
        grid.data.shape,
        grid.affine,
        np.linalg.inv(first2run),
        order=1,
        zero_outside=True,
    )
    return sampled > 0.5


@step(makes="slow_sd", memory=Need(always=0.1, high=0.5), cost=RunTime(always=0.5, volumes=0.04))
def measure_slow_sd(
    series: Series,
    mask: artifacts.Mask,
    hmc_xfms: Transforms,
    displaced_runs: Facts,
    outliers: Facts | None = None,
    here: Path = HERE,
    *,
    run: str,
    first: str,
    n_dummy: int,
) -> Image:
    """Measure the standard deviation over time of the slow fluctuations of a run.

    The map is 0 everywhere if no pair is displaced, if `run` is neither the first run nor comes
    first in a displaced pair, or if its fluctuations cannot be estimated, as in a short series.

    Parameters
    ----------
    series : Series
        Motion-corrected series of the run.
    mask : Mask
        Brain on the grid of the series.
    hmc_xfms : Transforms
        Head-motion transforms of the run.
    displaced_runs : Facts
        Result of `measure_displacements`.
    outliers : Facts | None
        Outlier volumes of the run, which are not used.
    run, first : str
        Names of the run and of the first run.
    n_dummy : int
        Number of volumes at the start that are discarded.

    Returns
    -------
    Image
        Standard deviation (3D) in the unit of the series.
    """
    empty_map = mask.like(np.zeros(mask.data.shape, dtype=np.float32))
    pairs = _get_pairs(displaced_runs)
    if not pairs or not (run == first or any(run == pair[0] for pair in pairs)):
        return empty_map
    brain_center = apply_affine(mask.affine, np.argwhere(mask.data).mean(axis=0))
    try:
        with threadpool_limits(1), open_uncompressed(Path(series.path), here) as reader:
            statistics = temporal_statistics(
                reader,
                mask.data,
                n_dummy,
                nuisance=motion_regressors(hmc_xfms, brain_center),
                outliers=list(reasons_by_volume(outliers)),
            )
    except SeriesError as error:
        _LOGGER.warning("%s: slices were not fused: %s", run, error)
        return empty_map
    return mask.like(np.sqrt(np.square(statistics.components).sum(axis=0)))


def _get_pairs(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the pairs of runs in the results of a previous step."""
    pairs = facts["Pairs"]
    assert isinstance(pairs, list)
    return [(str(first), str(second)) for first, second in pairs]


@step(makes="fusion", memory=EFFECTS, cost=RunTime(always=0.5, high=2.0))
def decide_fusion(
    maps: list[Map],
    mask: artifacts.Mask,
    masks: dict[str, artifacts.Mask],
    first2run_xfms: dict[str, Transforms],
    effects: dict[str, File],
    slow_sds: dict[str, Image],
    displaced_runs: Facts,
    run_scales: dict[str, Facts],
    run_agreement: Facts,
    *,
    first: str,
    series_name: str,
) -> Facts:
    """Decide which runs are fused, based on their block effects.

    Parameters
    ----------
    maps, mask, masks, first2run_xfms, first
        See `measure_displacements`.
    effects : dict[str, File]
        Files of block effects, by name of the run.
    slow_sds : dict[str, Image]
        Results of `measure_slow_sd`, by name of the run.
    displaced_runs : Facts
        Result of `measure_displacements`.
    run_scales : dict[str, Facts]
        Signal of each further run relative to the first run.
    run_agreement : Facts
        Result of `combination.steps.sibling_runs.check_runs`, whose left-out runs are not fused.
    series_name : str
        Name of the series.

    Returns
    -------
    Facts
        ``Applied``: whether runs are fused. ``Runs``: fused runs. ``Pairs``: fused pairs that
        passed the test. ``Tested``: displaced pairs with the result of the test. ``RunsNotFused``:
        reasons by name of the run. ``Displacements``: see `measure_displacements`. ``Reason`` and
        ``Advice``: only if nothing is fused.
    """
    names = list(effects)
    left_out = run_agreement["LeftOut"]
    assert isinstance(left_out, Mapping)
    pairs = [pair for pair in _get_pairs(displaced_runs) if not set(pair) & set(left_out)]
    active = _select_active_voxels(maps, mask.data)
    grids, xfms = {first: mask, **masks}, _include_first(first2run_xfms, first)
    test_results: dict[tuple[str, str], bool] = {}
    for run, other_run in pairs if slow_sds[first].data.any() else ():
        with threadpool_limits(1):
            test_results[run, other_run] = _is_fusable(
                _load_scaled(effects[run], run_scales.get(run)),
                _load_scaled(effects[other_run], run_scales.get(other_run)),
                slow_sds[run].data,
                _move_to_run(active, mask, grids[run], xfms[run]),
                xfms[other_run] @ np.linalg.inv(xfms[run]),
                f"{run}, {other_run}",
            )
    passed = [pair for pair, has_passed in test_results.items() if has_passed]
    fused = _select_linked_runs(names, passed)
    facts: dict[str, object] = {
        "Series": series_name,
        "Applied": len(fused) > 1,
        "Tested": [
            {"Runs": list(pair), "Passed": has_passed} for pair, has_passed in test_results.items()
        ],
        "Displacements": displaced_runs["Displacements"],
    }
    if len(fused) > 1:
        not_linked = "no displaced pair of this run and a fused run passed the test"
        runs_not_fused = {
            name: str(left_out.get(name, not_linked)) for name in names if name not in fused
        }
        linked = [[run, other_run] for run, other_run in passed if run in fused]
        return {**facts, "Runs": fused, "Pairs": linked, "RunsNotFused": runs_not_fused}
    reason = (
        "no pair of runs with displaced slices passed the test of the fusion"
        if pairs
        else f"the slices of no two runs are displaced by {LEAST_DISPLACEMENT:g} of a slice or"
        " more in active voxels"
    )
    _LOGGER.info("%s: the slices keep their thickness: %s.", enumerate_words(names), reason)
    return {**facts, "Runs": [], "Reason": reason, "Advice": WHAT_TO_ACQUIRE}


def _select_linked_runs(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the largest set of the listed runs that pairs connect, also through other runs."""
    indices = {name: index for index, name in enumerate(names)}
    index_pairs = {
        (indices[run], indices[other_run])
        for run, other_run in pairs
        if {run, other_run} <= indices.keys()
    }
    return [names[index] for index in find_linked_runs(len(names), index_pairs)]


def _load_scaled(path: Path, run_scale: Mapping[str, object] | None) -> Effects:
    """Load the block effects of a run at the scale of the first run.

    `run_scale`: signal of the run relative to the first run; None for the first run.
    """
    effects = load_effects(path)
    if run_scale is None:
        return effects
    factor = np.float32(1 / as_number(run_scale["SignalRatio"]))
    return replace(effects, betas=effects.betas * factor)


def _is_fusable(
    effects: Effects,
    other_effects: Effects,
    slow_sd: Array,
    active: MaskArray,
    run_to_other: Float,
    pair: str,
) -> bool:
    """Return whether two runs pass the fusion test, for the mean over common conditions.

    Conditions must have two blocks in the other run.

    Parameters
    ----------
    effects, other_effects : Effects
        Block effects of both runs.
    slow_sd : Array
        Slow fluctuations of the first run (X, Y, m).
    active : MaskArray
        Active voxels on the grid of the first run (X, Y, m).
    run_to_other : Float
        Transform (4 x 4, RAS+ mm) from points of the first run to points of the other run.
    pair : str
        Names of the runs, for warnings.
    """
    conditions, other_conditions = (
        {block.condition for block in run_effects.blocks if block.used}
        for run_effects in (effects, other_effects)
    )
    common_weights = dict.fromkeys(sorted(conditions & other_conditions), 1.0)
    if not common_weights:
        return False
    weights = select_split_conditions(other_effects.blocks, common_weights)
    if not weights:
        return False
    block_weights, half_weights = effects.run_weights(weights), other_effects.halves(weights)
    if block_weights is None or half_weights is None:
        return False
    half_images = np.stack([other_effects.effect(half) for half in half_weights])
    try:
        halves, positions = sample_at_columns(
            half_images, other_effects.affine, active.shape[:2], effects.affine, run_to_other
        )
        result = check_fusion(
            effects.effect(block_weights),
            (halves[0], halves[1]),
            positions,
            thin_prior_sd(slow_sd),
            _select_columns(effects.mask),
            np.repeat(active, THIN_PER_THICK, axis=2),
        )
    except SliceFusionError as error:
        _LOGGER.warning("%s: the runs cannot be fused: %s", pair, error)
        return False
    return result.passed


def _select_columns(brain: MaskArray) -> MaskArray:
    """Return the in-plane positions (X, Y) whose columns of voxels are in or near the brain."""
    return np.asarray(ndimage.binary_dilation(brain.any(axis=2), iterations=_MARGIN))


@frozen
class _Fusion:
    """Facts that the fused maps of some contrasts share.

    Attributes
    ----------
    mask : Volume
        Brain of the first run.
    series : str
        Name of the series.
    runs : Sequence[str]
        Names of the fused runs.
    left_out : Mapping[str, str]
        Reasons why runs were skipped, by name of the run.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).
    """

    mask: Volume
    series: str
    runs: Sequence[str]
    left_out: Mapping[str, str]
    smoothing: Sequence[float]


@step(makes="fused_maps", memory=EFFECTS, cost=RunTime(always=0.3, high=8.0))
def fuse_maps(
    mask: artifacts.Mask,
    first2run_xfms: dict[str, Transforms],
    effects: dict[str, File],
    slow_sd: Image,
    fusion: Facts,
    run_scales: dict[str, Facts],
    here: Path = HERE,
    *,
    first: str,
    series_name: str,
    contrasts: Contrasts,
    runs_of_contrasts: Mapping[str, Sequence[str]],
    smoothing: Sequence[float],
) -> list[Map]:
    """Estimate effects on slices of half the thickness from the runs that can be fused.

    Parameters
    ----------
    mask, first2run_xfms, effects, first
        See `decide_fusion`.
    slow_sd : Image
        Result of `measure_slow_sd` for the first run.
    fusion : Facts
        Result of `decide_fusion`.
    run_scales : dict[str, Facts]
        Signal of each further run relative to the first run.
    series_name : str
        Name of the series.
    contrasts : Contrasts
        Weights of conditions by contrast.
    runs_of_contrasts : Mapping[str, Sequence[str]]
        Names of the runs with these contrast weights, by contrast.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).

    Returns
    -------
    list[Map]
        Fused effects, each followed by the mean of the interpolated effects of the same runs.
        Empty if nothing is fused.
    """
    if not fusion["Applied"]:
        return []
    runs, not_fused = fusion["Runs"], fusion["RunsNotFused"]
    assert isinstance(runs, list)
    assert isinstance(not_fused, Mapping)
    run_effects = {name: _load_scaled(effects[name], run_scales.get(name)) for name in runs}
    contrasts_by_runs = _group_contrasts(
        run_effects, contrasts, runs_of_contrasts, _get_pairs(fusion)
    )
    xfms = _include_first(first2run_xfms, first)
    prior_sd, columns = thin_prior_sd(slow_sd.data), _select_columns(mask.data)
    maps: list[Derivative] = []
    for fused_runs, fused_contrasts in contrasts_by_runs.items():
        left_out = {str(name): str(reason) for name, reason in not_fused.items()}
        left_out |= {
            name: "the contrast is not known in this run, or the runs that have it are not"
            " displaced"
            for name in runs
            if name not in fused_runs
        }
        thin_maps = _fuse_contrasts(
            {contrast: contrasts[contrast] for contrast in fused_contrasts},
            run_effects,
            _Fusion(
                mask=mask,
                series=series_name,
                runs=fused_runs,
                left_out=left_out,
                smoothing=smoothing,
            ),
            xfms,
            prior_sd,
            columns,
        )
        maps += [_store_map(thin_map, here) for thin_map in thin_maps]
    return maps


def _fuse_contrasts(
    contrasts: Contrasts,
    run_effects: Mapping[str, Effects],
    fusion: _Fusion,
    xfms: Mapping[str, Float],
    prior_sd: Array,
    columns: MaskArray,
) -> Iterator[Derivative]:
    """Yield the maps of contrasts that are fused from the same runs.

    The maps of the fused effect of a contrast are followed by the maps of the mean of interpolated
    effects. For the parameters, see `fuse_maps` and `_fuse_runs`.
    """
    images = {
        name: np.stack(
            [_compute_effect(run_effects[name], weights) for weights in contrasts.values()]
        )
        for name in fusion.runs
    }
    mask = fusion.mask
    with threadpool_limits(1):
        fused = _fuse_runs(images, run_effects, mask.affine, xfms, prior_sd, columns)
        for index, (contrast, weights) in enumerate(contrasts.items()):
            contrast_images = {name: image[index] for name, image in images.items()}
            splined = _interpolate_mean(contrast_images, run_effects, mask, xfms, prior_sd.shape)
            yield from _make_thin_maps(fused[index], fusion, FUSED, contrast, weights)
            yield from _make_thin_maps(splined, fusion, SPLINED, contrast, weights)


def _group_contrasts(
    run_effects: Mapping[str, Effects],
    contrasts: Contrasts,
    runs_of_contrasts: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str]],
) -> dict[tuple[str, ...], list[str]]:
    """Return the contrasts that can be fused, by the names of the runs that are fused.

    Parameters
    ----------
    run_effects : Mapping[str, Effects]
        Block effects by name of the run.
    contrasts, runs_of_contrasts
        See `fuse_maps`.
    pairs : Sequence[tuple[str, str]]
        Pairs of runs that passed the test.
    """
    contrasts_by_runs: dict[tuple[str, ...], list[str]] = {}
    for contrast, names in runs_of_contrasts.items():
        estimable = [
            name
            for name, effects in run_effects.items()
            if name in names and effects.run_weights(contrasts[contrast]) is not None
        ]
        linked = _select_linked_runs(estimable, pairs)
        if len(linked) > 1:
            contrasts_by_runs.setdefault(tuple(linked), []).append(contrast)
    return contrasts_by_runs


def _store_map(thin_map: Derivative, folder: Path) -> Derivative:
    """Save the image of a map, and return the map with its file."""
    path = folder / f"{thin_map.name}.nii"
    save_image(thin_map.volume.data, thin_map.volume.affine, path)
    return Derivative(path, thin_map.entities, thin_map.sidecar)


def _compute_effect(effects: Effects, weights: Mapping[str, float]) -> Array:
    """Return the effect of a contrast from all blocks of a run (X, Y, m)."""
    block_weights = effects.run_weights(weights)
    assert block_weights is not None
    return effects.effect(block_weights)


def _fuse_runs(
    images: Mapping[str, Array],
    run_effects: Mapping[str, Effects],
    first_affine: Array,
    xfms: Mapping[str, Float],
    prior_sd: Array,
    columns: MaskArray,
) -> Float:
    """Return fused effects (N, X, Y, n) of N contrasts.

    Parameters
    ----------
    images : Mapping[str, Array]
        Effects in thick slices (N, X, Y, m), by name of the run.
    run_effects : Mapping[str, Effects]
        Block effects by name of the run, for the affines.
    first_affine : Array
        Affine of the thick slices of the first run (4 x 4).
    xfms : Mapping[str, Float]
        Transforms (4 x 4, RAS+ mm) from the first run, by name of the run.
    prior_sd : Array
        Prior SD in thin slices (X, Y, n).
    columns : MaskArray
        Columns to fuse (X, Y).
    """
    sliced_runs = []
    for name, image in images.items():
        sampled, positions = sample_at_columns(
            image, run_effects[name].affine, columns.shape, first_affine, xfms[name]
        )
        sliced_runs.append(SlicedEffects(effects=sampled, positions=positions))
    return fuse_slices(sliced_runs, prior_sd, columns)


def _interpolate_mean(
    images: Mapping[str, Array],
    run_effects: Mapping[str, Effects],
    mask: Volume,
    xfms: Mapping[str, Float],
    shape: tuple[int, ...],
) -> Float:
    """Return the mean over runs of spline-interpolated effects (X, Y, n).

    The effects in thick slices (X, Y, m) are given by name of the run.
    """
    target = thin_affine(mask.affine)
    total: Float = np.zeros(shape)
    for name, effect in images.items():
        sampled = sample_volume(effect, run_effects[name].affine, shape, target, xfms[name])
        total += sampled / len(images)
    return total


def _make_thin_maps(
    values: Array,
    fusion: _Fusion,
    kind: str,
    contrast: str,
    weights: Mapping[str, float],
) -> Iterator[Derivative]:
    """Yield one map on thin slices per smoothing width; the effect has the shape (X, Y, n)."""
    affine = thin_affine(fusion.mask.affine)
    zooms = voxel_sizes(affine).tolist()
    inside = np.repeat(fusion.mask.data, THIN_PER_THICK, axis=2)
    for fwhm_mm in map(float, fusion.smoothing):
        smoothed = np.where(inside, smooth(values, zooms, fwhm_mm), 0).astype(np.float32)
        entities = {
            "space": FRAME,
            "res": THIN,
            "contrast": contrast,
            "stat": "effect",
            "desc": map_label(fusion.series, fwhm_mm, kind),
            "suffix": "statmap",
        }
        metadata: dict[str, object] = {
            "Description": _DESCRIPTIONS[kind],
            "Units": "arbitrary",
            "ContrastWeights": dict(weights),
            "SourceSeries": fusion.series,
            "SmoothingFWHM": fwhm_mm,
            "SkullStripped": True,
            "Resolution": (
                "Grid of the first run with slices of half the thickness (voxel size:"
                f" {size_text(zooms, ' x ')})"
            ),
            "RunsFused": list(fusion.runs),
            "RunsLeftOut": dict(fusion.left_out),
            "ErrorOfReconstruction": _NO_ERROR_TEXT,
        }
        yield Derivative(Volume(smoothed, affine), entities, metadata)
