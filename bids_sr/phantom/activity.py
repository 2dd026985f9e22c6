"""Simulated activity: task and resting-state foci in gray matter, and their amplitudes."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.phantom.fields import smooth_field
from bids_sr.phantom.head import Head
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA

_Point = tuple[float, float, float]
# smallest half side of the cube that contains the map of a focus (mm, and standard deviations of
# the extent)
_MIN_HALF_SIDE_MM, _HALF_SIDE_EXTENTS = 24.0, 3.0
_MAX_SNAP_MM = 6.0  # mm, largest distance from a position in MNI space to the gray matter
_MIN_GRAY_MATTER = 0.4  # smallest fraction of gray matter in voxels of the ribbon
_VEIN_DISTANCE_MM = 6.0  # mm, preferred distance of a draining vein
# head point (mm), origin of the direction toward the skull
_BRAIN_CENTER = (0.0, -20.0, 10.0)
_SPREAD_MM = (2.0, 3.5)  # mm, range of the full width at half maximum of the vascular spread
_PATCH_MM = 4.0  # mm, full width at half maximum of the patches of a finger
# range of (a - b) / (a + b) in the center of a patch, with the responses a of its finger and b of
# the other finger, before the vascular spread. The responses to alternating blocks correlate -.33,
# so that a voxel with a = b correlates at most .58 with either finger: with stronger patches, no
# voxel is in the upper quarter of both fingers
_MODULATION = (0.2, 0.3)


@frozen
class _Focus:
    """Active focus in a simulated head.

    `label` is a key of `select_foci`. `conditions` of the task drive the focus, or one network
    does. `origin` is the head point (3,; mm) of the neuronal activity, and `spread_mm` the full
    width at half maximum of the vascular spread (mm).

    `amplitude` is the signal change during a long block as a fraction of the reference (3D,
    float32), on the grid of the head. `peak_percent` is the largest signal change in the scene, in
    percent of the reference. `reference` is "local" (resting signal of the same voxel) or "brain"
    (mean resting signal of the brain).
    """

    label: str
    conditions: tuple[str, ...]
    origin: Array
    peak_percent: float
    spread_mm: float
    amplitude: Array
    reference: str


def make_foci(
    rng: np.random.Generator, head: Head, labels: Iterable[str], scene: str
) -> tuple[_Focus, ...]:
    """Draw the amplitude maps of foci.

    `labels` are keys of `select_foci`. `scene` is the location of activity relative to the
    anatomy. ``ribbon``: gray matter along the ribbon; ``veins``: most of the change is in the
    draining vein; ``free``: location and borders independent of tissue; ``overlap``: as
    ``ribbon``, with patches of both fingers that alternate along one shared area. In ``free``, the
    change is relative to the mean signal of the brain, because a fraction of the local signal
    would have the borders of the tissue.
    """
    patches = _draw_patches(rng, head) if scene == "overlap" else None
    return tuple(_make_focus(rng, head, label, scene, patches) for label in labels)


def _draw_patches(rng: np.random.Generator, head: Head) -> Array:
    """Return the relative difference of both fingers in each voxel of the head (3D, float32).

    Values are positive in patches of the thumb and negative in patches of the little finger.
    """
    voxel_mm = float(head.affine[0, 0])
    pattern = smooth_field(rng, head.veins.shape, _PATCH_MM / FWHM_PER_SIGMA / voxel_mm)
    return np.float32(rng.uniform(*_MODULATION)) * np.clip(pattern, -1, 1)


def _make_focus(
    rng: np.random.Generator, head: Head, label: str, scene: str, patches: Array | None
) -> _Focus:
    """Draw the amplitude map of a focus, see `make_foci` and `_draw_patches`."""
    voxel_mm = float(head.affine[0, 0])
    spec = select_foci(scene)[label]
    origin = _snap_to_ribbon(head, head.from_template(spec.mni))
    peak_percent, spread_mm = rng.uniform(*spec.peak), rng.uniform(*_SPREAD_MM)
    extent_mm = rng.uniform(*spec.extent)
    if scene == "free":
        origin = origin + rng.uniform(-3.0, 3.0, 3)
    cube = _cut_cube(head, origin, max(_MIN_HALF_SIDE_MM, _HALF_SIDE_EXTENTS * extent_mm))
    sigma = spread_mm / FWHM_PER_SIGMA / voxel_mm
    activity = (
        _draw_irregular_region(rng, cube, voxel_mm)
        if scene == "free"
        else _weight_ribbon(head, cube, extent_mm)
    )
    if patches is not None:
        activity *= 1 + spec.patch_sign * patches[cube.window]
    activity = ndimage.gaussian_filter(activity, sigma)
    activity /= activity.max()
    if scene == "veins":
        blood = ndimage.gaussian_filter(_make_draining_blood(head, cube, origin), sigma)
        activity = 0.25 * activity + blood / blood.max()
        activity /= activity.max()
    amplitude = np.zeros(head.veins.shape, dtype=np.float32)
    amplitude[cube.window] = activity * peak_percent / 100
    return _Focus(
        label=label,
        conditions=spec.conditions,
        origin=origin,
        peak_percent=float(peak_percent),
        spread_mm=float(spread_mm),
        amplitude=amplitude,
        reference="brain" if scene == "free" else "local",
    )


@frozen
class _FocusSpec:
    """Location of a focus with its driver and peak range.

    `mni` is the position in MNI space (mm), and `conditions` are conditions of the task, or one
    network. `peak` is the range of the peak signal change (percent), and `extent` the range of the
    extent along the ribbon, the standard deviation of a Gaussian (mm). `patch_sign` is the sign of
    `_draw_patches` where the focus is strongest, or 0 if the focus has no patches.
    """

    mni: _Point
    conditions: tuple[str, ...]
    peak: tuple[float, float]
    extent: tuple[float, float] = (4.0, 4.8)
    patch_sign: int = 0


def select_foci(scene: str) -> dict[str, _FocusSpec]:
    """Return the foci of a scene by label."""
    return FOCI | OVERLAPPING_FOCI if scene == "overlap" else FOCI


def _make_network(name: str, **points: _Point) -> dict[str, _FocusSpec]:
    """Return the foci of a resting-state network.

    The peak signal change applies to one standard deviation of the fluctuation.
    """
    return {
        label: _FocusSpec(mni=mni, conditions=(name,), peak=(1.0, 1.5))
        for label, mni in points.items()
    }


FOCI: dict[str, _FocusSpec] = {
    "thumb": _FocusSpec(mni=(-40.0, -18.0, 54.0), conditions=("thumb",), peak=(3.0, 4.0)),
    "little": _FocusSpec(mni=(-32.0, -27.0, 59.0), conditions=("little",), peak=(3.0, 4.0)),
    "sma": _FocusSpec(mni=(-4.0, -8.0, 58.0), conditions=("thumb", "little"), peak=(2.0, 3.0)),
    **_make_network("motor", motorLeft=(-36.0, -25.0, 57.0), motorRight=(36.0, -25.0, 57.0)),
    **_make_network(
        "defaultMode",
        posteriorCingulate=(0.0, -53.0, 26.0),
        parietalLeft=(-48.0, -62.0, 36.0),
        parietalRight=(46.0, -62.0, 32.0),
        medialPrefrontal=(0.0, 52.0, -6.0),
    ),
    **_make_network("visual", visualLeft=(-30.0, -88.0, 0.0), visualRight=(30.0, -88.0, 0.0)),
}
"""Two foci are on the ribbon of the left precentral gyrus; the supplementary motor area is driven
by both fingers. Networks are from Van Dijk et al. 2010 (J Neurophysiol 103:297), table 1, and
mirrored to the other hemisphere.
"""
_HAND = _FocusSpec(mni=(-36.0, -22.5, 56.5), conditions=(), peak=(4.0, 5.0), extent=(12.0, 12.0))
OVERLAPPING_FOCI: dict[str, _FocusSpec] = {
    "thumb": replace(_HAND, conditions=("thumb",), patch_sign=1),
    "little": replace(_HAND, conditions=("little",), patch_sign=-1),
}
"""In the scene "overlap", both fingers activate the same area. Each finger is stronger in some
patches of a few millimeters and weaker in the patches between them, which are too small for
voxels of 4 mm or more. The regions of the fingers therefore overlap less at a high resolution.
"""


def _snap_to_ribbon(head: Head, point: Array) -> Array:
    """Return the head point (mm) of the best gray-matter voxel near `point`."""
    cube = _cut_cube(head, point)
    gray_matter = head.fractions["gm"][cube.window]
    # a distance of 15 mm outweighs a gray-matter fraction of 1
    score = np.where(cube.distance < _MAX_SNAP_MM, gray_matter - cube.distance / 15.0, -np.inf)
    return point + cube.get_offset(int(np.argmax(score)))


class _Cube(NamedTuple):
    """Cube around a head point.

    `window` are the voxels of the cube along each axis of the head, and `offset` is the position
    of each voxel relative to the point (3, x, y, z; mm).
    """

    window: tuple[slice, ...]
    offset: Array

    @property
    def squared_distance(self) -> Array:
        """Squared distance of each voxel from the point (x, y, z; mm²)."""
        return (self.offset**2).sum(0)

    @property
    def distance(self) -> Array:
        """Distance of each voxel from the point (x, y, z; mm)."""
        return np.sqrt(self.squared_distance)

    def get_offset(self, index: int) -> Array:
        """Return the offset (3,; mm) of a voxel, given its index in the flattened cube."""
        x, y, z = np.unravel_index(index, self.offset.shape[1:])
        return self.offset[:, x, y, z]


def _cut_cube(head: Head, center: Array, half_side_mm: float = _MIN_HALF_SIDE_MM) -> _Cube:
    """Return the cube around a head point (mm), limited to the scene."""
    voxel_mm = head.affine[0, 0]
    index = (center - head.affine[:3, 3]) / voxel_mm
    half_voxels = int(np.ceil(half_side_mm / voxel_mm))
    window = tuple(
        slice(
            max(0, round(float(position)) - half_voxels),
            min(size, round(float(position)) + half_voxels + 1),
        )
        for position, size in zip(index, head.veins.shape, strict=True)
    )
    grid = np.indices([axis_range.stop - axis_range.start for axis_range in window], dtype=float)
    window_start = np.array([axis_range.start for axis_range in window])[:, None, None, None]
    return _Cube(window, (grid + window_start - index[:, None, None, None]) * voxel_mm)


def _draw_irregular_region(rng: np.random.Generator, cube: _Cube, voxel_mm: float) -> Array:
    """Return a region (3D, 0 or 1) with random borders, independent of the anatomy."""
    roughness = smooth_field(rng, cube.offset.shape[1:], 1.5 / voxel_mm)
    bump = np.exp(-0.5 * cube.squared_distance / 4.8**2)
    return (bump + 0.18 * roughness > 0.62).astype(np.float32)


def _weight_ribbon(head: Head, cube: _Cube, extent_mm: float) -> Array:
    """Weight the gray-matter fraction by a Gaussian of the distance along the ribbon.

    The standard deviation of the Gaussian is `extent_mm` (mm).
    """
    gray_matter = head.fractions["gm"][cube.window]
    seed = tuple(
        int(i) for i in np.unravel_index(int(np.argmin(cube.squared_distance)), gray_matter.shape)
    )
    mask = gray_matter > _MIN_GRAY_MATTER
    mask[seed] = True
    path_mm = _measure_ribbon_distance(mask, seed, float(head.affine[0, 0]), 4 * extent_mm)
    return gray_matter * np.exp(-0.5 * (path_mm / extent_mm) ** 2)


def _measure_ribbon_distance(
    mask: Array, seed: tuple[int, ...], voxel_mm: float, limit_mm: float
) -> Array:
    """Return the distance along the ribbon from a seed voxel.

    The opposite bank of a sulcus may be 2 mm away through the fluid and 20 mm along the ribbon.
    Only the distance along the ribbon is used.

    `mask` are the voxels of the ribbon (3D, boolean), connected by faces, edges and corners, and
    `seed` are the indices of the seed voxel. The result is the length of the shortest path to each
    voxel (3D; mm), infinity beyond the limit and outside the mask.
    """
    from skimage.graph import MCP_Geometric

    costs = np.where(mask, 1.0, -1.0)
    paths = MCP_Geometric(costs, fully_connected=True, sampling=(voxel_mm,) * 3)
    length_mm = paths.find_costs([seed])[0]
    return np.where(length_mm <= limit_mm, length_mm, np.inf)


def _make_draining_blood(head: Head, cube: _Cube, origin: Array) -> Array:
    """Return the venous blood around the vein that drains a focus at the center of a cube.

    A distinct vein about 6 mm away is selected, preferably in the direction of the skull.
    """
    veins = head.veins[cube.window]
    distance = cube.distance
    outwards = origin - np.array(_BRAIN_CENTER)
    outward_offset = np.tensordot(outwards / np.linalg.norm(outwards), cube.offset, 1)
    is_distinct = veins > 0.5 * veins[distance < 15].max()
    cost = np.abs(distance - _VEIN_DISTANCE_MM) + 0.5 * np.maximum(0.0, -outward_offset)
    best_voxel = int(np.argmin(np.where(is_distinct & (distance > 3), cost, np.inf)))
    center = cube.get_offset(best_voxel)[:, None, None, None]
    return veins * np.exp(-0.5 * ((cube.offset - center) ** 2).sum(0) / 5.0**2)
