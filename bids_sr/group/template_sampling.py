"""Sampling of a participant's effect maps at the voxels of a template, interpolated only once.

The template points of a run are transformed once, and all maps on one grid are interpolated
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from bids_sr.combination import RunEstimate, combine_estimates
from bids_sr.frozen import frozen
from bids_sr.group.input_maps import MapKey, ParticipantMaps, RunMaps, sort_runs
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.registration.head_comparison import signal_ratio
from bids_sr.spatial.composites import interpolate_linearly
from bids_sr.spatial.masks import percent_scale
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import apply_matrix, voxel_centers


@frozen
class Target:
    """Usable voxels of a template.

    Attributes
    ----------
    space : str
        TemplateFlow name of the template, with the cohort after a plus sign.
    shape, affine
        Grid.
    mask : Array
        Brain mask on the grid, boolean.
    background : Array
        T1w template on the grid.
    points : Array
        Coordinates of the mask's voxels, (N, 3) in RAS mm.
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
    from bids_sr.registration.brain import empty_grid_2mm
    from bids_sr.registration.templates import load_template

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


def sample_at_points(data: Array, affine: Array, points: Array, *, order: int = 1) -> Array:
    """Sample an image at points (N, 3; RAS mm).

    Values are 0 at points more than half a voxel beyond the outermost voxel centers.

    Parameters
    ----------
    data : Array
        Image (x, y, z).
    affine : Array
        Affine of the image (4, 4).
    points : Array
        Points (N, 3) in RAS mm.
    order : int
        Spline order: 0 for nearest neighbor, 1 for linear.
    """
    from scipy import ndimage

    indices = apply_matrix(np.linalg.inv(affine), points).T
    limits = np.array(data.shape)[:, None] - 0.5
    outside = ((indices < -0.5) | (indices > limits)).any(axis=0)
    values = ndimage.map_coordinates(data, indices, order=order, mode="nearest", output=np.float32)
    values[outside] = 0
    return values


@dataclass(slots=True)
class RunSampling:
    """Positions of template voxels in a run, with the scale of its effects."""

    run: RunMaps
    target: Target
    selection: Array  # (N,) boolean; the n selected voxels of the template's mask
    points: Array | None  # (n, 3) in boldref space; None if stored maps are in template space
    inside: Array  # (n,) boolean; inside the brain mask of the run
    scale: float  # factor from signal units to percent of the run's mean brain signal
    # effects (n,) from maps stored in template space, used without transforms
    stored: dict[MapKey, Array] = field(default_factory=dict)

    def restrict(self, selected: Array) -> None:
        """Restrict the sampling to the selected voxels."""
        self.selection = self.selection.copy()
        self.selection[self.selection] = selected
        self.points = None if self.points is None else self.points[selected]
        self.inside = self.inside[selected]
        self.stored = {key: values[selected] for key, values in self.stored.items()}

    def sample(self, maps: Mapping[MapKey, tuple[Array, Array]]) -> dict[MapKey, Array]:
        """Sample maps (data, affine) at the points, with all maps on one grid together."""
        effects: dict[MapKey, Array] = {}
        if self.points is None:  # stored maps in template space need no sampling
            return effects
        grids: dict[tuple[tuple[int, ...], bytes], list[MapKey]] = {}
        for key, (data, affine) in maps.items():
            grids.setdefault((data.shape, affine.tobytes()), []).append(key)
        for keys in grids.values():
            _, affine = maps[keys[0]]
            indices = apply_matrix(np.linalg.inv(affine), self.points).T
            grid_values = interpolate_linearly(
                np.stack([maps[key][0] for key in keys], axis=-1), indices
            )
            effects |= zip(keys, grid_values.T, strict=True)
        return effects


def prepare_run_sampling(run: RunMaps, target: Target, selection: Array) -> RunSampling:
    """Prepare the sampling of a run at template voxels.

    If the run has transforms to the template, its maps are resampled. Otherwise, its stored maps
    in template space are used.

    Parameters
    ----------
    run : RunMaps
        Run with a brain mask and a boldref.
    target : Target
        Template.
    selection : Array
        Remaining voxels of the target's mask, (N,) boolean.

    Raises
    ------
    ValueError
        If the brain mask or the boldref is missing.
    """
    if run.mask is None or run.boldref is None:
        raise ValueError(f"the outputs of {run.name} contain no brain mask or no boldref")
    mask, affine = load_image(run.mask)
    scale = 1.0 if run.in_percent else percent_scale(load_image(run.boldref)[0], mask > 0)
    sampling = RunSampling(
        run=run,
        target=target,
        selection=selection,
        points=None,
        inside=selection[selection],
        scale=scale,
    )
    if run.boldref2t1w and target.space in run.t1w2std:
        from bids_sr.registration.ants import map_points_with_ants

        sampling.points = map_points_with_ants(
            target.points[selection], [run.boldref2t1w, run.t1w2std[target.space]], seed=1
        )
        sampling.inside = sample_at_points(mask, affine, sampling.points, order=0) > 0.5
        return sampling
    sampling.stored = {
        key: values
        for key in run.maps[target.space]
        if key[3] == "effect" and (values := _load_template_map(sampling, key)) is not None
    }
    sampling.inside = np.all([values != 0 for values in sampling.stored.values()], axis=0)
    return sampling


def _load_template_map(sampling: RunSampling, key: MapKey) -> Array | None:
    """Return the values of a stored map in template space (n,), or None if it cannot be used.

    A map on another grid is only interpolated if the run has no transforms.
    """
    target = sampling.target
    path = sampling.run.map_file(key, target.space)
    if path is None:
        return None
    data, affine = load_image(path)
    if data.shape == target.shape and np.allclose(affine, target.affine, atol=1e-3):
        return data[target.mask][sampling.selection]
    if sampling.points is None:
        return sample_at_points(data, affine, target.points[sampling.selection])
    return None


def _sample_effects(sampling: RunSampling, keys: Sequence[MapKey]) -> dict[MapKey, Array]:
    """Return effects of a run at the template voxels (N,; percent of the mean signal), by map.

    Each file is read once. Maps that the run does not have are absent.
    """
    effects = dict(sampling.stored)
    boldref_maps: dict[MapKey, tuple[Array, Array]] = {}
    # without points, only the stored maps can be used
    for key in keys if sampling.points is not None else ():
        if (values := _load_template_map(sampling, key)) is not None:
            effects[key] = values
        elif (path := sampling.run.map_file(key)) is not None:
            boldref_maps[key] = load_image(path)
    effects |= sampling.sample(boldref_maps)
    return {key: effects[key] * np.float32(sampling.scale) for key in keys if key in effects}


def _combine_effects(effects: Sequence[Array]) -> Array:
    """Combine the effects of runs (N,) with equal weights, as in a stored map of all runs."""
    if len(effects) == 1:
        return effects[0]
    # With equal weights, variances would only select voxels. The brain masks already select them,
    # so that all variances can be set to 1.
    unit_variance = np.ones_like(effects[0])
    runs = [RunEstimate(effect=effect, variance=unit_variance, dof=1.0) for effect in effects]
    return combine_estimates(runs, shared=1.0).effect


@dataclass(slots=True)
class ParticipantSampling:
    """Sampling of a participant's maps at template voxels.

    Attributes
    ----------
    combined : RunSampling or None
        Sampling of the stored maps of all runs; None if no such map is stored.
    runs : Sequence[RunSampling]
        Samplings of the runs; empty if all requested maps of all runs are stored.
    """

    combined: RunSampling | None
    runs: Sequence[RunSampling]

    @property
    def samplings(self) -> list[RunSampling]:
        """Samplings of the combined maps and of the runs."""
        return [*([] if self.combined is None else [self.combined]), *self.runs]

    @property
    def inside(self) -> Array:
        """Voxels inside the brain in all maps, (voxels,) boolean."""
        return np.asarray(np.all([sampling.inside for sampling in self.samplings], axis=0))

    def restrict(self, selected: Array) -> None:
        """Restrict all samplings to the selected voxels."""
        for sampling in self.samplings:
            sampling.restrict(selected)


def prepare_participant_sampling(
    participant: ParticipantMaps, target: Target, selection: Array, keys: Sequence[MapKey]
) -> ParticipantSampling:
    """Prepare the sampling of a participant's maps at template voxels.

    Runs are only sampled if a map of `keys` is not stored for all runs together.

    Parameters
    ----------
    participant : ParticipantMaps
        Maps of the participant.
    target : Target
        Template.
    selection : Array
        Remaining voxels of the target's mask, (N,) boolean.
    keys : Sequence[MapKey]
        Contrast, series, FWHM (mm) and statistic of each map.
    """
    combined = None
    if participant.combined is not None:
        combined = prepare_run_sampling(participant.combined, target, selection)
        _restrict_to_combined_voxels(combined, keys)
    stored = set() if participant.combined is None else participant.combined.map_keys()
    missing = {*keys} - stored
    runs = [
        prepare_run_sampling(run, target, selection)
        for run in sort_runs(participant.runs)
        if missing & run.map_keys()
    ]
    if len({run.session for run in participant.runs}) == 1:
        # As in stored maps of all runs, runs of one session are combined at the scale of the first
        # run, and the combined map is then scaled to percent of the first run.
        for sampling in runs[1:]:
            ratio_to_first = _compute_signal_ratio(runs[0], sampling)
            if ratio_to_first is not None:
                sampling.scale = runs[0].scale / ratio_to_first
    return ParticipantSampling(combined=combined, runs=runs)


def _compute_signal_ratio(first: RunSampling, sampling: RunSampling) -> float | None:
    """Return the signal of a run relative to the first run, at template voxels in both brains.

    None if a run has no transforms to the template. Its effects then keep the scale of its own
    mean brain signal.
    """
    if first.points is None or sampling.points is None:
        return None
    images = [
        sample_at_points(*load_image(cast(Path, run.boldref)), points)
        for run, points in ((first.run, first.points), (sampling.run, sampling.points))
    ]
    return signal_ratio(images[0], images[1], np.asarray(first.inside & sampling.inside))


def _restrict_to_combined_voxels(sampling: RunSampling, keys: Sequence[MapKey]) -> None:
    """Restrict a sampling to nonzero voxels of the combined map.

    Combined maps are 0 in voxels that some runs do not contain. These voxels are the same for all
    series, so only one series is read per contrast.
    """
    if sampling.points is None:
        return
    key_by_contrast = {key[0]: key for key in reversed(keys) if sampling.run.map_file(key)}
    for key in key_by_contrast.values():
        data, affine = load_image(cast(Path, sampling.run.map_file(key)))
        nearest = sample_at_points(data, affine, sampling.points, order=0)
        sampling.inside = sampling.inside & (nearest != 0)


def compute_participant_effects(
    participant_sampling: ParticipantSampling, keys: Sequence[MapKey]
) -> Mapping[MapKey, Array]:
    """Return the effects of one participant (N,; percent), by map.

    Effects are read from the stored map of all runs, or computed from the runs in the same way.
    Maps that no run has are absent.

    Parameters
    ----------
    participant_sampling : ParticipantSampling
        Sampling of the participant's maps.
    keys : Sequence[MapKey]
        Contrast, series, FWHM (mm) and statistic of each map.
    """
    effects = (
        {}
        if participant_sampling.combined is None
        else _sample_effects(participant_sampling.combined, keys)
    )
    missing = [key for key in keys if key not in effects]
    runs = [_sample_effects(sampling, missing) for sampling in participant_sampling.runs]
    for key in missing:
        run_effects = [values[key] for values in runs if key in values]
        if run_effects:
            effects[key] = _combine_effects(run_effects)
    return effects
