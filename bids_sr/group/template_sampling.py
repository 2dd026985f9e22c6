"""Sampling of a participant's effect maps at the voxels of a template, interpolated only once.

The template points of a run are transformed once for all its maps.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from bids_sr.group.combination.run_combination import RunEstimate, combine_estimates
from bids_sr.group.input_maps import MapKey, ParticipantMaps, RunMaps
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.io.nifti import load_image
from bids_sr.io.notices import InvalidInput
from bids_sr.preproc.head_comparison import signal_ratio
from bids_sr.spatial.masks import compute_mean_signal
from bids_sr.spatial.resampling import interpolate_linearly, sample_volume
from bids_sr.spatial.transforms import apply_matrix, voxel_centers

# errors of damaged images and transforms (NiBabel and ANTs)
_READ_ERRORS = (OSError, EOFError, ValueError, KeyError, RuntimeError, zlib.error)


@frozen
class Target:
    """Usable voxels of a template.

    `space` is the TemplateFlow name of the template, with the cohort after a plus sign.
    `background` is the T1w template, and `points` are coordinates of the mask's voxels, (N, 3) in
    RAS mm.
    """

    space: str
    shape: tuple[int, ...]
    affine: Array
    mask: Array
    background: Array
    points: Array


@lru_cache(maxsize=1)
def load_target(space: str) -> Target:
    """Load the brain voxels of a template on its 2 mm grid.

    `space` is the TemplateFlow name of the template, with the cohort after a plus sign.
    """
    from bids_sr.preproc.brain import empty_grid_2mm
    from bids_sr.preproc.templates import load_template

    template = load_template(space)
    grid = empty_grid_2mm(template.t1)
    background, mask = (
        sample_volume(
            np.asarray(image.data, dtype=np.float32),
            image.affine,
            grid.data.shape,
            grid.affine,
            None,
            order=1,
            zero_outside=True,
        )
        for image in (template.t1, template.mask)
    )
    points = voxel_centers(mask > 0.5, grid.affine)
    return Target(
        space=space,
        shape=grid.data.shape,
        affine=grid.affine,
        mask=mask > 0.5,
        background=background,
        points=points,
    )


@frozen
class RunSampling:
    """Positions of template voxels in a run or its stored maps, and the scale of the effects.

    `inside` are the n of N template voxels inside the brain mask of the run, (N,) boolean.
    `points` are their positions in boldref space, (n, 3) in RAS mm; None if the run has no
    transforms, so that its maps in template space are used. `scale` is the factor of effects that
    makes them a percentage of the mean brain signal of the first run.
    """

    run: RunMaps
    target: Target
    inside: Array
    points: Array | None
    scale: float = 1.0


@frozen
class SampledMaps:
    """Effects of a run or participant at the N template voxels.

    `effects` are (N,) in percent of the mean brain signal, by map. `inside` are voxels (N,) inside
    the brain and with a value in all of these maps, by contrast. `unusable` has a reason by map
    that cannot be used, and `files` the files that were read, by map.
    """

    effects: Mapping[MapKey, Array]
    inside: Mapping[str, Array]
    unusable: Mapping[MapKey, str]
    files: Mapping[MapKey, tuple[Path, ...]]


@frozen
class ParticipantSampling:
    """Sampling of a participant's maps at template voxels.

    `combined` is the sampling of the stored maps of all runs; None if no such map is used. `runs`
    are empty if all requested maps of all runs are stored.
    """

    combined: RunSampling | None
    runs: Sequence[RunSampling]

    def sample(self, keys: Sequence[MapKey]) -> SampledMaps:
        """Return the effects of the participant by map.

        They are read from the stored map of all runs, or computed from the runs in the same way.
        Maps that the participant does not have are absent.
        """
        parts = []
        remaining = list(keys)
        if self.combined is not None:
            stored = self.combined.run.map_keys()
            parts.append(_sample_run(self.combined, [key for key in keys if key in stored]))
            remaining = [key for key in keys if key not in stored]
        if self.runs and remaining:
            parts.append(_combine_runs([_sample_run(run, remaining) for run in self.runs]))
        return SampledMaps(
            effects={key: values for part in parts for key, values in part.effects.items()},
            inside=_intersect(parts, {contrast for part in parts for contrast in part.inside}),
            unusable={key: reason for part in parts for key, reason in part.unusable.items()},
            files={key: paths for part in parts for key, paths in part.files.items()},
        )


def _sample_run(sampling: RunSampling, keys: Sequence[MapKey]) -> SampledMaps:
    """Return the effects of a run at the template voxels.

    Maps that the run does not have are absent.
    """
    run = sampling.run
    effects: dict[MapKey, Array] = {}
    inside: dict[str, Array] = {}
    unusable: dict[MapKey, str] = {}
    files: dict[MapKey, tuple[Path, ...]] = {}
    for key in (key for key in keys if key in run.map_keys()):
        try:
            values, path = _sample_map(sampling, key)
        except InvalidInput as error:
            unusable[key] = str(error)
            continue
        effects[key], files[key] = values * np.float32(sampling.scale), (path,)
        inside[key[0]] = inside.get(key[0], sampling.inside) & (values != 0)
    return SampledMaps(effects=effects, inside=inside, unusable=unusable, files=files)


def _sample_map(sampling: RunSampling, key: MapKey) -> tuple[Array, Path]:
    """Return the values (N,) of a map, and its file.

    A map in template space on another grid is only used if there is no map in boldref space.
    """
    target, run = sampling.target, sampling.run
    if path := run.map_file(key, target.space):
        data, affine = _load_map(path)
        if data.shape == target.shape and np.allclose(affine, target.affine, atol=1e-3):
            return data[target.mask], path
        if sampling.points is None or run.map_file(key) is None:
            return sample_at_points(data, affine, target.points), path
    path = run.find_file(key, "")
    data, affine = _load_map(path)
    values = _sample_inside(sampling, data, affine)
    if run.is_combined:
        # Stored maps of all runs are 0 in voxels that some runs do not contain. Interpolated
        # values are mixtures there, so that the nearest voxel decides.
        nearest = _sample_nearest(data, affine, cast(Array, sampling.points))
        values[sampling.inside] *= nearest != 0
    return values, path


def _sample_inside(sampling: RunSampling, data: Array, affine: Array) -> Array:
    """Return the values (N,) of an image in boldref space, 0 outside of the brain of the run."""
    values = np.zeros(sampling.inside.shape, dtype=np.float32)
    values[sampling.inside] = sample_at_points(data, affine, cast(Array, sampling.points))
    return values


def _load_map(path: Path) -> tuple[Array, Array]:
    """Return the values and the affine of a map.

    Raises `InvalidInput` if the file is damaged, contains NaN or infinite values, or is not a
    3D image.
    """
    try:
        data, affine = load_image(path)
    except _READ_ERRORS as error:
        raise InvalidInput(f"the map is damaged. {error}") from error
    if data.ndim != 3:
        raise InvalidInput(f"the map has {data.ndim} axes; expected 3", file=path)
    return data, affine


def _combine_runs(runs: Sequence[SampledMaps]) -> SampledMaps:
    """Combine the effects of runs with equal weights, as in a stored map of all runs.

    A map that cannot be used in one run cannot be used for the participant.
    """
    unusable = {key: reason for run in reversed(runs) for key, reason in run.unusable.items()}
    keys = {key: None for run in runs for key in run.effects if key not in unusable}
    return SampledMaps(
        effects={
            key: _average([run.effects[key] for run in runs if key in run.effects]) for key in keys
        },
        inside=_intersect(runs, {key[0] for key in keys}),
        unusable=unusable,
        files={
            key: tuple(path for run in runs for path in run.files.get(key, ())) for key in keys
        },
    )


def _intersect(parts: Sequence[SampledMaps], contrasts: Iterable[str]) -> dict[str, Array]:
    """Return the voxels (N,) of contrasts that are inside all parts with the contrast."""
    return {
        contrast: np.logical_and.reduce(
            [part.inside[contrast] for part in parts if contrast in part.inside]
        )
        for contrast in contrasts
    }


def _average(effects: Sequence[Array]) -> Array:
    """Average the effects (N,) of runs."""
    if len(effects) == 1:
        return effects[0]
    # With equal weights, variances would only select voxels. The brain masks already select them,
    # so that all variances can be set to 1.
    unit_variance = np.ones_like(effects[0])
    runs = [RunEstimate(effect=effect, variance=unit_variance, dof=1.0) for effect in effects]
    return combine_estimates(runs, shared=1.0).effect


def prepare_participant_sampling(
    participant: ParticipantMaps, target: Target, keys: Sequence[MapKey]
) -> ParticipantSampling:
    """Prepare the sampling of a participant's maps at template voxels.

    Runs are only sampled if a map of `keys` is not stored for all runs together. Raises
    `InvalidInput` as `prepare_run_sampling` does.
    """
    samplings = [
        prepare_run_sampling(source, target) for source in participant.select_sources(keys)
    ]
    combined = next((sampling for sampling in samplings if sampling.run.is_combined), None)
    runs = [sampling for sampling in samplings if not sampling.run.is_combined]
    if runs and len({run.session for run in participant.runs}) == 1:
        # As in stored maps of all runs, runs of one session are combined at the scale of the first
        # run, and the combined map is then scaled to percent of the first run.
        runs = [runs[0], *(_scale_to_first(runs[0], sampling) for sampling in runs[1:])]
    return ParticipantSampling(combined=combined, runs=runs)


def prepare_run_sampling(run: RunMaps, target: Target) -> RunSampling:
    """Prepare the sampling of a run at template voxels.

    `run` has a brain mask and a boldref. Raises `InvalidInput` if the brain mask, the boldref or a
    transform is damaged, the mask is empty, or the boldref has no signal in the mask.
    """
    try:
        mask, affine = load_image(cast(Path, run.mask))
        boldref, _ = load_image(cast(Path, run.boldref))
        transforms = run.transforms_from(target.space)
        points, inside = None, np.ones(len(target.points), dtype=bool)
        if transforms:
            from bids_sr.preproc.ants import apply_to_points

            points = apply_to_points(target.points, transforms)
            inside = _sample_nearest(mask, affine, points) > 0.5
            points = points[inside]
    except _READ_ERRORS as error:
        reason = f"the brain mask, boldref or a transform of {run.name} is damaged. {error}"
        raise InvalidInput(reason) from error
    brain = mask > 0
    if not brain.any():
        raise InvalidInput(f"the brain mask of {run.name} is empty")
    if boldref.shape != brain.shape:
        raise InvalidInput(
            f"the boldref of {run.name} has {size_text(boldref.shape, unit='')} voxels, but the"
            f" brain mask has {size_text(brain.shape, unit='')}"
        )
    if not boldref[brain].mean() > 0:
        raise InvalidInput(f"the boldref of {run.name} has no signal in the brain mask")
    return RunSampling(
        run=run,
        target=target,
        inside=inside,
        points=points,
    )


def _sample_nearest(data: Array, affine: Array, points: Array) -> Array:
    """Return the values of the nearest voxels at points (N, 3; RAS mm); 0 outside."""
    indices = apply_matrix(np.linalg.inv(affine), points).T
    nearest = np.floor(indices + 0.5).astype(np.intp)
    limits = np.array(data.shape)[:, None]
    outside = ((nearest < 0) | (nearest >= limits)).any(axis=0)
    values = data[tuple(np.clip(nearest, 0, limits - 1))]
    values[outside] = 0
    return values


def _scale_to_first(first: RunSampling, sampling: RunSampling) -> RunSampling:
    """Return the sampling of a run at the scale of the first run.

    The signals of both are compared at template voxels in both brains. Without transforms to the
    template, the effects remain in percent of the run's mean brain signal.
    """
    if first.points is None or sampling.points is None:
        return sampling
    signals, means = [], []
    for either in (first, sampling):
        boldref, affine = load_image(cast(Path, either.run.boldref))
        mask, _ = load_image(cast(Path, either.run.mask))
        signals.append(_sample_inside(either, boldref, affine))
        means.append(compute_mean_signal(boldref, mask > 0))
    ratio = signal_ratio(signals[0], signals[1], first.inside & sampling.inside)
    return replace(sampling, scale=means[1] / (ratio * means[0]))


def sample_at_points(data: Array, affine: Array, points: Array) -> Array:
    """Interpolate an image linearly at points (N, 3; RAS mm).

    Values are 0 at points more than half a voxel beyond the outermost voxel centers.
    """
    indices = apply_matrix(np.linalg.inv(affine), points).T
    return interpolate_linearly(data[..., None], indices)[:, 0]
