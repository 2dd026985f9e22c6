"""Effects of the runs of a participant, fused on slices of half the thickness.

Nothing is fused unless the slices of the runs are displaced and a test on the runs passes; see
`bids_sr.glm.fusion_gate`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage
from threadpoolctl import threadpool_limits

from bids_sr.config.memory import Need
from bids_sr.frozen import frozen
from bids_sr.glm.block_effects import Effects, load_effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.fusion_gate import (
    LEAST_DISPLACEMENT,
    check_fusion,
    find_linked_runs,
    median_displacement,
)
from bids_sr.glm.slice_fusion import (
    THIN_PER_THICK,
    SlicedEffects,
    SliceFusionError,
    fuse_slices,
    place_first_run,
    sample_at_columns,
    thin_affine,
    thin_prior_sd,
)
from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.grids import size_text
from bids_sr.io.json_values import real
from bids_sr.io.nifti import save_image
from bids_sr.io.volume import Volume
from bids_sr.pipeline import artifacts
from bids_sr.pipeline.artifacts import Derivative, Facts, File, Image, Map, Series, Transforms
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.series import THIN, map_label
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.method import Cost
from bids_sr.sr.variance.temporal_components import (
    SeriesError,
    motion_courses,
    open_uncompressed,
    temporal_statistics,
)
from bids_sr.steps.combined_runs import FRAME
from bids_sr.steps.memory import EFFECTS

_LOGGER = logging.getLogger(__name__)

FUSED, SPLINED = "Fused", "Splined"
"""Endings of the labels of fused maps, and of the interpolated maps beside them."""
_ACTIVE_T = 4.0
"""Voxels with a larger absolute t value are active."""
_AROUND = 2
"""Voxels around the brain, in plane, in which columns are fused."""
WHAT_TO_ACQUIRE = (
    "To get thinner slices, shift the stack of slices by half a slice in every second run"
    " (docs/acquire.md)"
)
_NO_ERROR = (
    "There is no stat-sd map, no map of the wrong sign, and no reliable region, because the error"
    " of a fusion across slices was not measured in your data. There is no t map, because the"
    " noise of fused effects was not tested"
)
_TEXT = {
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


@step(makes="displaced_runs", memory=Need(always=0.1, high=0.3), cost=Cost(always=0.3, high=0.5))
def measure_displacements(
    maps: list[Map],
    mask: artifacts.Mask,
    masks: dict[str, artifacts.Mask],
    first2run_xfms: dict[str, Transforms],
    *,
    first: str,
) -> Facts:
    """Measure how far the slices of runs lie from each other in active voxels.

    Parameters
    ----------
    maps : list[Map]
        Maps of the first run, of which a t map with the least smoothing selects active voxels.
    mask : MaskArray
        Brain of the first run on the grid of the maps.
    masks : dict[str, MaskArray]
        Brains of the further runs on the grids of their maps, by name of the run.
    first2run_xfms : dict[str, Transforms]
        Transforms from a point of the first run to its point in each further run.
    first : str
        Name of the first run.

    Returns
    -------
    Facts
        ``Displacements``: ``Displacement`` of each pair of ``Runs``, in fractions of the slice
        thickness; None without active voxels. ``Pairs``: pairs that are displaced enough.
    """
    active = _active_voxels(maps, mask.data)
    grids = {first: mask, **masks}
    xfms = _with_first(first2run_xfms, first)
    displacements: list[dict[str, object]] = []
    pairs: list[list[str]] = []
    for one, other in combinations(grids, 2):
        positions = _positions(grids, xfms, one, other)
        inside = _seen_from(active, mask, grids[one], xfms[one])
        found = median_displacement(positions, np.repeat(inside, THIN_PER_THICK, axis=2))
        value = None if np.isnan(found) else round(found, 3)
        displacements.append({"Runs": [one, other], "Displacement": value})
        if found >= LEAST_DISPLACEMENT:
            pairs.append([one, other])
    return {"Displacements": displacements, "Pairs": pairs}


def _active_voxels(maps: Sequence[Derivative], brain: MaskArray) -> MaskArray:
    """Return active voxels (X, Y, m) in the maps with the least smoothing.

    They are selected by the contrast that is most like the mean over conditions, whose effect is
    tested: the one with the most conditions of which none has a negative weight. Without such a
    contrast, voxels that are active in any contrast are taken.
    """
    t_maps = [
        one
        for one in maps
        if one.entities["suffix"] == "statmap" and one.entities.get("stat") == "t"
    ]
    least = min((real(one.sidecar["SmoothingFWHM"]) for one in t_maps), default=0.0)
    t_maps = [one for one in t_maps if real(one.sidecar["SmoothingFWHM"]) == least]
    counts = [_count_conditions(one) for one in t_maps]
    most = max(counts, default=0)
    active = np.zeros(brain.shape, dtype=bool)
    for one, count in zip(t_maps, counts, strict=True):
        if count == most:
            active |= np.abs(one.volume.data) > _ACTIVE_T
    return active & brain


def _count_conditions(made: Derivative) -> int:
    """Return the number of conditions of a contrast; 0 if any of its weights is negative."""
    weights = made.sidecar["ContrastWeights"]
    assert isinstance(weights, Mapping)
    values = [real(weight) for weight in weights.values()]
    return 0 if min(values, default=0.0) < 0 else sum(value > 0 for value in values)


def _with_first(xfms: Mapping[str, Array], first: str) -> dict[str, Float]:
    """Return transforms (4 x 4) from the first run to each run, the first run included."""
    return {first: np.eye(4), **{name: np.asarray(xfm)[0] for name, xfm in xfms.items()}}


def _positions(
    grids: Mapping[str, Volume], xfms: Mapping[str, Float], one: str, other: str
) -> Float:
    """Return positions of the slices of another run at the columns of a run."""
    empty = np.zeros((0, *grids[other].data.shape))
    return sample_at_columns(
        empty,
        grids[other].affine,
        grids[one].data.shape[:2],
        grids[one].affine,
        xfms[other] @ np.linalg.inv(xfms[one]),
    )[1]


def _seen_from(active: MaskArray, first: Volume, grid: Volume, first2run: Float) -> MaskArray:
    """Return active voxels of the first run on the grid of another run."""
    seen = sample_volume(
        active.astype(np.float32),
        first.affine,
        grid.data.shape,
        grid.affine,
        np.linalg.inv(first2run),
        order=1,
        zero_outside=True,
    )
    return seen > 0.5


@step(makes="slow_sd", memory=Need(always=0.1, high=0.5), cost=Cost(always=0.5, volumes=0.04))
def measure_slow_sd(
    series: Series,
    mask: artifacts.Mask,
    hmc_xfms: Transforms,
    displaced_runs: Facts,
    here: Path = HERE,
    *,
    run: str,
    n_dummy: int,
) -> Image:
    """Measure the standard deviation over time of the slow fluctuations of a run.

    `displaced_runs`: see `measure_displacements`; the map is 0 if no other run is displaced from
    this one, or if the series is too short. `run`: name of the run.
    """
    nothing = mask.like(np.zeros(mask.data.shape, dtype=np.float32))
    if not any(run == pair[0] for pair in _pairs(displaced_runs)):
        return nothing
    middle = apply_affine(mask.affine, np.argwhere(mask.data).mean(axis=0))
    try:
        with threadpool_limits(1), open_uncompressed(Path(series.path), here) as reader:
            found = temporal_statistics(
                reader, mask.data, n_dummy, nuisance=motion_courses(hmc_xfms, middle)
            )
    except SeriesError as error:
        _LOGGER.warning("%s: slices were not fused: %s", run, error)
        return nothing
    return mask.like(np.sqrt(np.square(found.components).sum(axis=0)))


def _pairs(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the pairs of runs that are displaced, or that passed the test."""
    pairs = facts["Pairs"]
    assert isinstance(pairs, list)
    return [(str(one), str(other)) for one, other in pairs]


@step(makes="fusion", memory=EFFECTS, cost=Cost(always=0.5, high=2.0))
def decide_fusion(
    maps: list[Map],
    mask: artifacts.Mask,
    masks: dict[str, artifacts.Mask],
    first2run_xfms: dict[str, Transforms],
    effects: dict[str, File],
    slow_sds: dict[str, Image],
    displaced_runs: Facts,
    *,
    first: str,
    series_name: str,
) -> Facts:
    """Decide which runs are fused, from the effects of their blocks.

    Parameters
    ----------
    maps, mask, masks, first2run_xfms, first
        See `measure_displacements`.
    effects : dict[str, File]
        Effects of the blocks of all runs, by name of the run.
    slow_sds : dict[str, Image]
        Results of `measure_slow_sd`.
    displaced_runs : Facts
        Result of `measure_displacements`.
    series_name : str
        Name of the series.

    Returns
    -------
    Facts
        ``Applied``, ``Runs`` that are fused, ``Pairs`` of them that passed the test,
        ``RunsNotFused`` with reasons, ``Displacements``, and ``Reason`` with ``Advice`` if nothing
        is fused.
    """
    names, pairs = list(effects), _pairs(displaced_runs)
    active = _active_voxels(maps, mask.data)
    grids, xfms = {first: mask, **masks}, _with_first(first2run_xfms, first)
    passed: list[tuple[str, str]] = []
    for one, other in pairs:
        with threadpool_limits(1):
            if _is_fusable(
                load_effects(effects[one]),
                load_effects(effects[other]),
                slow_sds[one].data,
                _seen_from(active, mask, grids[one], xfms[one]),
                xfms[other] @ np.linalg.inv(xfms[one]),
                f"{one}, {other}",
            ):
                passed.append((one, other))
    fused = _linked(names, passed)
    facts: dict[str, object] = {
        "Series": series_name,
        "Applied": len(fused) > 1,
        "Displacements": displaced_runs["Displacements"],
    }
    if len(fused) > 1:
        reason = "the test did not pass for this run together with a fused run"
        lacking = {name: reason for name in names if name not in fused}
        linked = [[one, other] for one, other in passed if one in fused]
        return {**facts, "Runs": fused, "Pairs": linked, "RunsNotFused": lacking}
    reason = (
        "the slices of the runs are displaced, but the test of the fusion did not pass"
        if pairs
        else f"no slices are displaced by {LEAST_DISPLACEMENT:g} of a slice or more in active"
        " voxels"
    )
    _LOGGER.info("%s: the slices keep their thickness: %s.", enumerated(names), reason)
    return {**facts, "Runs": [], "Reason": reason, "Advice": WHAT_TO_ACQUIRE}


def _linked(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the runs that are linked to the first one by pairs of these runs."""
    known = {(names.index(a), names.index(b)) for a, b in pairs if {a, b} <= set(names)}
    return [names[k] for k in find_linked_runs(len(names), known)]


def _is_fusable(
    effects: Effects,
    other: Effects,
    slow_sd: Array,
    active: MaskArray,
    run_to_other: Float,
    pair: str,
) -> bool:
    """Return whether the test of two runs passes, in the mean over their common conditions."""
    conditions = {block.condition for block in effects.blocks if block.used} & {
        block.condition for block in other.blocks if block.used
    }
    weights = dict.fromkeys(sorted(conditions), 1.0)
    whole = effects.whole(weights) if weights else None
    halves = other.halves(weights) if weights else None
    if whole is None or halves is None:
        return False
    images = np.stack([other.effect(half) for half in halves])
    try:
        values, positions = sample_at_columns(
            images, other.affine, active.shape[:2], effects.affine, run_to_other
        )
        result = check_fusion(
            effects.effect(whole),
            (values[0], values[1]),
            positions,
            thin_prior_sd(slow_sd),
            columns_near(effects.mask),
            np.repeat(active, THIN_PER_THICK, axis=2),
        )
    except SliceFusionError as error:
        _LOGGER.warning("%s: the runs cannot be fused: %s", pair, error)
        return False
    return result.passed


def columns_near(brain: MaskArray) -> MaskArray:
    """Return the columns near the brain (X, Y)."""
    return np.asarray(ndimage.binary_dilation(brain.any(axis=2), iterations=_AROUND))


@frozen
class _Fusion:
    """What maps on thin slices have in common."""

    mask: Volume
    series: str
    runs: Sequence[str]
    left_out: Mapping[str, str]


@step(makes="fused_maps", memory=EFFECTS, cost=Cost(always=0.3, high=8.0))
def fuse_maps(
    mask: artifacts.Mask,
    first2run_xfms: dict[str, Transforms],
    effects: dict[str, File],
    slow_sd: Image,
    fusion: Facts,
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
        Result of `measure_slow_sd` of the first run.
    fusion : Facts
        Result of `decide_fusion`.
    series_name : str
        Name of the series.
    contrasts : Contrasts
        Weights of conditions by contrast.
    runs_of_contrasts : Mapping[str, Sequence[str]]
        Names of the runs with these weights, by contrast.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).

    Returns
    -------
    list[Map]
        Fused effects, and beside each the mean of the interpolated effects of the same runs; empty
        if nothing is fused.
    """
    if not fusion["Applied"]:
        return []
    runs, lacking = fusion["Runs"], fusion["RunsNotFused"]
    assert isinstance(runs, list)
    assert isinstance(lacking, Mapping)
    pairs = _pairs(fusion)
    loaded = {name: load_effects(effects[name]) for name in runs}
    by_runs: dict[tuple[str, ...], list[str]] = {}
    for contrast, names in runs_of_contrasts.items():
        known = [
            name
            for name in runs
            if name in names and loaded[name].whole(contrasts[contrast]) is not None
        ]
        linked = _linked(known, pairs) if known[:1] == [first] else []
        if len(linked) > 1:
            by_runs.setdefault(tuple(linked), []).append(contrast)
    xfms = _with_first(first2run_xfms, first)
    prior_sd, columns = thin_prior_sd(slow_sd.data), columns_near(mask.data)
    maps: list[Derivative] = []
    for members, together in by_runs.items():
        left_out = {
            **{str(name): str(reason) for name, reason in lacking.items()},
            **{
                name: "the contrast is not known in this run, or the runs that have it are not"
                " displaced"
                for name in runs
                if name not in members
            },
        }
        made = _Fusion(mask=mask, series=series_name, runs=members, left_out=left_out)
        images = {
            name: np.stack([_effect(loaded[name], contrasts[contrast]) for contrast in together])
            for name in members
        }
        with threadpool_limits(1):
            fused = _fused(images, loaded, xfms, prior_sd, columns)
            for number, contrast in enumerate(together):
                effect = {name: image[number] for name, image in images.items()}
                splined = _splined(effect, loaded, mask, xfms, prior_sd.shape)
                for kind, values in ((FUSED, fused[number]), (SPLINED, splined)):
                    weights = contrasts[contrast]
                    for one in _thin_maps(values, made, kind, contrast, weights, smoothing):
                        path = here / f"{one.name}.nii"
                        save_image(one.volume.data, one.volume.affine, path)
                        maps.append(Derivative(path, one.entities, one.sidecar))
    return maps


def _effect(effects: Effects, weights: Mapping[str, float]) -> Array:
    """Return the effect of a contrast that the blocks of a run can estimate (X, Y, m)."""
    of_blocks = effects.whole(weights)
    assert of_blocks is not None
    return effects.effect(of_blocks)


def _fused(
    images: Mapping[str, Array],
    loaded: Mapping[str, Effects],
    xfms: Mapping[str, Float],
    prior_sd: Array,
    columns: MaskArray,
) -> Float:
    """Return fused effects (N, X, Y, n); `images`: effects (N, X, Y, m) by name of the run."""
    first, *further = images
    sliced = [place_first_run(images[first])]
    for name in further:
        seen, positions = sample_at_columns(
            images[name], loaded[name].affine, columns.shape, loaded[first].affine, xfms[name]
        )
        sliced.append(SlicedEffects(effects=seen, positions=positions))
    return fuse_slices(sliced, prior_sd, columns)


def _splined(
    images: Mapping[str, Array],
    loaded: Mapping[str, Effects],
    mask: Volume,
    xfms: Mapping[str, Float],
    shape: tuple[int, ...],
) -> Float:
    """Return the mean of the interpolated effects (X, Y, n) of some runs."""
    target = thin_affine(mask.affine)
    total: Float = np.zeros(shape)
    for name, effect in images.items():
        seen = sample_volume(effect, loaded[name].affine, shape, target, xfms[name])
        total += seen / len(images)
    return total


def _thin_maps(
    values: Array,
    made: _Fusion,
    kind: str,
    contrast: str,
    weights: Mapping[str, float],
    smoothing: Sequence[float],
) -> Iterator[Derivative]:
    """Yield a map on thin slices for each width of smoothing."""
    affine = thin_affine(made.mask.affine)
    zooms = voxel_sizes(affine).tolist()
    inside = np.repeat(made.mask.data, THIN_PER_THICK, axis=2)
    for width in map(float, smoothing):
        smoothed = np.where(inside, smooth(values, zooms, width), 0).astype(np.float32)
        entities = {
            "space": FRAME,
            "res": THIN,
            "contrast": contrast,
            "stat": "effect",
            "desc": map_label(made.series, width, kind),
            "suffix": "statmap",
        }
        about: dict[str, object] = {
            "Description": _TEXT[kind],
            "Units": "arbitrary",
            "ContrastWeights": dict(weights),
            "SourceSeries": made.series,
            "SmoothingFWHM": width,
            "SkullStripped": True,
            "Resolution": (
                "Grid of the first run with slices of half the thickness (voxel size:"
                f" {size_text(zooms, ' x ')})"
            ),
            "RunsFused": list(made.runs),
            "RunsLeftOut": dict(made.left_out),
            "ErrorOfReconstruction": _NO_ERROR,
        }
        yield Derivative(Volume(smoothed, affine), entities, about)
