"""Sampling of a participant's effect maps at the voxels of a template, each map interpolated once.

The way of a run's points is worked out once, and all maps on one grid are interpolated together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.glm.run_combination import RunEstimate, combine_runs
from bids_sr.group.input_maps import MapKey, ParticipantMaps, RunMaps, in_order
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.spatial.composites import linear_values
from bids_sr.spatial.masks import percent_scale
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import moved, points_in


@frozen
class Target:
    """Usable template voxels: grid, boolean mask, and their points (N, 3) in RAS mm.

    `space`: name of the template as in TemplateFlow, cohort after a plus sign.
    """

    space: str
    shape: tuple[int, ...]
    affine: Array
    mask: Array
    background: Array
    points: Array


@lru_cache(maxsize=1)
def target_of(space: str) -> Target:
    """The 2 mm grid of a template and the voxels of its brain.

    `space`: name of the template as in TemplateFlow, cohort after a plus sign.
    """
    from bids_sr.registration.brain import two_mm_grid
    from bids_sr.registration.templates import load_template

    template = load_template(space)
    grid = two_mm_grid(template.t1)
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
    points = points_in(mask > 0.5, grid.affine)
    return Target(
        space=space,
        shape=grid.data.shape,
        affine=grid.affine,
        mask=mask > 0.5,
        background=background,
        points=points,
    )


def sample_points(data: Array, affine: Array, points: Array, *, order: int = 1) -> Array:
    """Sample an image at points (N, 3; RAS mm).

    The values are 0 beyond half a voxel outside its outermost samples.

    `order`: order of the spline: 0 nearest neighbor, 1 linear.
    """
    from scipy import ndimage

    at = moved(np.linalg.inv(affine), points).T
    limits = np.array(data.shape)[:, None] - 0.5
    outside = ((at < -0.5) | (at > limits)).any(axis=0)
    values = ndimage.map_coordinates(data, at, order=order, mode="nearest", output=np.float32)
    values[outside] = 0
    return values


@dataclass(slots=True)
class Sampling:
    """How a run reaches some voxels of the template."""

    run: RunMaps
    target: Target  # of which `at`, (N,) boolean, tells the voxels
    at: Array
    # (voxels of `at`, 3) in boldref's space; None: maps are in the template's space already
    points: Array | None
    inside: Array  # (voxels of `at`,) whether they lie in the run's brain
    scale: float  # turns signal into percent of the mean signal of the run's brain
    # (voxels of `at`,) of the maps, where these are in the template's space and there is no way
    stored: dict[MapKey, Array] = field(default_factory=dict)

    def keep(self, which: Array) -> None:
        """Go on with some of the voxels."""
        self.at = self.at.copy()
        self.at[self.at] = which
        self.points = None if self.points is None else self.points[which]
        self.inside = self.inside[which]
        self.stored = {key: values[which] for key, values in self.stored.items()}

    def sampled(self, maps: Mapping[MapKey, tuple[Array, Array]]) -> dict[MapKey, Array]:
        """Sample maps (data, affine) at the points, those on one grid together."""
        out: dict[MapKey, Array] = {}
        if self.points is None:  # maps that are in the template's space are read, not sampled
            return out
        grids: dict[tuple[tuple[int, ...], bytes], list[MapKey]] = {}
        for name, (data, affine) in maps.items():
            grids.setdefault((data.shape, affine.tobytes()), []).append(name)
        for names in grids.values():
            at = moved(np.linalg.inv(maps[names[0]][1]), self.points).T
            found = linear_values(np.stack([maps[name][0] for name in names], axis=-1), at)
            out |= zip(names, found.T, strict=True)
        return out


def way_of(run: RunMaps, target: Target, at: Array) -> Sampling:
    """How a run reaches the template: maps that are there already, else the stored transforms.

    `at`: (N,) boolean; voxels of the target's mask that are still of interest. Returns points of
    the run for these voxels, or None for stored maps, and its scale.
    """
    if run.mask is None or run.boldref is None:
        raise ValueError(f"the outputs of {run.name} contain no brain mask or no boldref")
    mask, affine = load_image(run.mask)
    scale = 1.0 if run.in_percent else percent_scale(load_image(run.boldref)[0], mask > 0)
    way = Sampling(run=run, target=target, at=at, points=None, inside=at[at], scale=scale)
    if run.boldref2t1w and target.space in run.t1w2std:
        from bids_sr.registration.ants import carry_points

        way.points = carry_points(
            target.points[at], [run.boldref2t1w, run.t1w2std[target.space]], seed=1
        )
        way.inside = sample_points(mask, affine, way.points, order=0) > 0.5
        return way
    way.stored = {
        key: values
        for key in run.maps[target.space]
        if key[3] == "effect" and (values := _stored(way, key)) is not None
    }
    way.inside = np.all([values != 0 for values in way.stored.values()], axis=0)
    return way


def _stored(way: Sampling, key: MapKey) -> Array | None:
    """Return the values of a map in the target's space, or None where there is none.

    One on another grid is interpolated where the run has no other way.
    """
    path = way.run.map_file(key, way.target.space)
    target = way.target
    if path is None:
        return None
    data, affine = load_image(path)
    if data.shape == target.shape and np.allclose(affine, target.affine, atol=1e-3):
        return data[target.mask][way.at]
    return sample_points(data, affine, target.points[way.at]) if way.points is None else None


def _values_of(way: Sampling, keys: Sequence[MapKey]) -> dict[MapKey, Array]:
    """Return effect maps of a run on the template's voxels, each file read once.

    Maps that the run lacks are absent.

    `keys`: contrast, series, FWHM (mm) and statistic of each map. Returns values of each map at
    the voxels (N,; percent of the mean signal).
    """
    effects = dict(way.stored)
    maps: dict[MapKey, tuple[Array, Array]] = {}
    for key in keys if way.points is not None else ():
        if (values := _stored(way, key)) is not None:
            effects[key] = values
        elif (path := way.run.map_file(key)) is not None:
            maps[key] = load_image(path)
    effects |= way.sampled(maps)
    return {key: effects[key] * np.float32(way.scale) for key in keys if key in effects}


def _together(effects: Sequence[Array]) -> Array:
    """Combine the effects of runs (N,) with equal weights, as a stored map of all runs is."""
    if len(effects) == 1:
        return effects[0]
    # variances decide only which voxels count, which the brain masks have decided
    known = np.ones_like(effects[0])
    runs = [RunEstimate(effect=effect, variance=known, dof=1.0) for effect in effects]
    return combine_runs(runs, shared=1.0).effect


@dataclass(slots=True)
class ParticipantSampling:
    """How the maps of a participant reach some voxels of the template.

    `combined`: maps of all runs together; None if none is stored. `runs`: the runs; empty if
    every requested map of all runs is stored.
    """

    combined: Sampling | None
    runs: Sequence[Sampling]

    @property
    def ways(self) -> list[Sampling]:
        """Sampling of all maps."""
        return [*([] if self.combined is None else [self.combined]), *self.runs]

    @property
    def inside(self) -> Array:
        """Whether the voxels are in the brain in all maps, (voxels,)."""
        return np.asarray(np.all([way.inside for way in self.ways], axis=0))

    def keep(self, which: Array) -> None:
        """Go on with some of the voxels."""
        for way in self.ways:
            way.keep(which)


def ways_of(
    person: ParticipantMaps, target: Target, at: Array, keys: Sequence[MapKey]
) -> ParticipantSampling:
    """Return how a participant's maps reach the template.

    Runs are only sampled for maps of `keys` that are not stored of all runs together.

    Parameters
    ----------
    person : ParticipantMaps
        Maps of the participant.
    target : Target
        Voxels of the template.
    at : Array
        Voxels of its mask that are still of interest, (N,) boolean.
    keys : Sequence[MapKey]
        Contrast, series, FWHM (mm) and statistic of each map.
    """
    combined = None
    if person.combined is not None:
        combined = way_of(person.combined, target, at)
        _leave_out_unknown(combined, keys)
    stored = set() if person.combined is None else person.combined.map_keys()
    lacking = {*keys} - stored
    runs = [way_of(run, target, at) for run in in_order(person.runs) if lacking & run.map_keys()]
    if len({run.session for run in person.runs}) == 1:
        # runs of one session are combined in signal units, and the map is scaled as a whole
        for way in runs:
            way.scale = runs[0].scale
    return ParticipantSampling(combined=combined, runs=runs)


def _leave_out_unknown(way: Sampling, keys: Sequence[MapKey]) -> None:
    """Restrict a sampling to voxels that all runs of a map have; other voxels of it are 0.

    All series have the same voxels, so one series is read of each contrast.
    """
    if way.points is None:
        return
    for key in {key[0]: key for key in reversed(keys) if way.run.map_file(key)}.values():
        data, affine = load_image(cast(Path, way.run.map_file(key)))
        nearest = sample_points(data, affine, way.points, order=0)
        way.inside = way.inside & (nearest != 0)


def participant_of(ways: ParticipantSampling, keys: Sequence[MapKey]) -> Mapping[MapKey, Array]:
    """Return effects of one participant (N,; percent); those that no run has are absent.

    They are read from the map of all runs, or computed from the runs as that map would have been.

    `keys`: contrast, series, FWHM (mm) and statistic of each map.
    """
    effects = {} if ways.combined is None else _values_of(ways.combined, keys)
    lacking = [key for key in keys if key not in effects]
    runs = [_values_of(way, lacking) for way in ways.runs]
    for key in lacking:
        of_runs = [values[key] for values in runs if key in values]
        if of_runs:
            effects[key] = _together(of_runs)
    return effects
