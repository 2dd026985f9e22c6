"""Sampling of a participant's effect maps at the voxels of a template, each map interpolated once.

The way of a run's points is worked out once, and all maps on one grid are interpolated together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.group.input_maps import MapKey, RunMaps
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.spatial.composites import linear_values
from bids_sr.spatial.masks import percent_scale
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import moved, points_in

_Map = tuple[MapKey, str]


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

    def sampled(self, maps: Mapping[_Map, tuple[Array, Array]]) -> dict[_Map, Array]:
        """Sample maps (data, affine) at the points, those on one grid together."""
        out: dict[_Map, Array] = {}
        if self.points is None:  # maps that are in the template's space are read, not sampled
            return out
        grids: dict[tuple[tuple[int, ...], bytes], list[_Map]] = {}
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
    scale = percent_scale(load_image(run.boldref)[0], mask > 0)
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


def _values_of(
    way: Sampling, keys: Sequence[MapKey], *, several: bool
) -> dict[MapKey, tuple[Array, Array | None]]:
    """Return maps of a run on the template's voxels (percent), each file read once.

    Maps that it lacks are absent.

    `keys`: contrast, series, FWHM (mm) and statistic of each map. `several`: whether it is
    combined with other runs, for which variances are needed. Returns values of each map at the
    voxels (N,; percent of the mean signal), and the variance, (effect / t)², which is not positive
    where it is unknown; None where all of it is.
    """
    facts = dict(way.stored)
    maps: dict[_Map, tuple[Array, Array]] = {}
    for key in keys if way.points is not None else ():
        if (values := _stored(way, key)) is not None:
            facts[key] = values
        paths = [way.run.map_file((*key[:3], stat)) for stat in ("effect", "t")]
        files = [path for path in paths[: 1 + several] if path is not None]
        if paths[0] is None or (key in facts and len(files) < 2):
            continue
        (effect, affine), *others = map(load_image, files)
        maps[key, "effect"] = effect, affine
        for t, _ in others:
            known = t != 0
            variance = np.where(known, (way.scale * effect / np.where(known, t, 1)) ** 2, 0)
            maps[key, "known"] = known.astype(np.float32), affine
            maps[key, "variance"] = variance.astype(np.float32), affine
    sampled = way.sampled(maps)
    spread = {
        key: np.where(sampled[key, "known"] > 1 - 1e-4, values, 0)
        for (key, what), values in sampled.items()
        if what == "variance"
    }
    facts = {key: values for (key, what), values in sampled.items() if what == "effect"} | facts
    return {
        key: (facts[key] * np.float32(way.scale), spread.get(key)) for key in keys if key in facts
    }


def _fixed_effects(effects: Sequence[Array], variances: Sequence[Array | None]) -> Array:
    """Combine the effects of several runs.

    They are weighted by precision where the variance of every run is known, else averaged.
    """
    stack = np.stack(effects).astype(np.float64)
    if any(each is None for each in variances):
        return np.asarray(stack.mean(axis=0))
    spread = np.stack([each for each in variances if each is not None]).astype(np.float64)
    known = (spread > 0).all(axis=0)
    weights = np.where(known, 1 / np.where(known, spread, 1), 1.0)
    return np.asarray((weights * stack).sum(axis=0) / weights.sum(axis=0))


def participant_of(ways: Sequence[Sampling], keys: Sequence[MapKey]) -> Mapping[MapKey, Array]:
    """Effects of one participant (N,; percent), runs combined; those that no run has are absent.

    `keys`: contrast, series, FWHM (mm) and statistic of each map.
    """
    runs = [_values_of(way, keys, several=len(ways) > 1) for way in ways]
    means: dict[MapKey, Array] = {}
    for key in keys:
        of_runs = [values[key] for values in runs if key in values]
        if len(of_runs) == 1:
            means[key] = of_runs[0][0]
        elif of_runs:
            means[key] = _fixed_effects(*zip(*of_runs, strict=True))
    return means
