"""Head of a simulated subject: tissue and veins.

The head is the MNI152 template of nilearn, deformed by a smooth random field. The template is an
average of 152 people without fine detail, so the tissue borders are sharpened and randomly
roughened. Each subject thereby has detail that is not in the template or in other subjects.
"""

from functools import lru_cache

import numpy as np
from nilearn import datasets
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Shape
from bids_sr.phantom.fields import (
    align_with_axis,
    distance_to_mask,
    smooth_field,
    smooth_step,
    upsample,
)

# mm, field of view of the scene
_SCENE_LOWEST_MM, _SCENE_HIGHEST_MM = (
    np.array([-92.0, -126.0, -76.0]),
    np.array([92.0, 92.0, 104.0]),
)
_DEFORMATION_STEP_MM = 4.0  # mm, voxel size of the drawn deformation
# gain of the fluid fraction; averaging has closed the sulci of the template, which are open in a
# single brain
_FLUID_GAIN = 3.2
_SHELLS_MM = {"csf": (0.0, 1.5), "skull": (1.5, 6.5), "scalp": (6.5, 11.5)}  # mm from the brain


@frozen
class Head:
    """Maps of one subject in the frame of the head (RAS mm).

    The position of the head is approximately the same as in MNI152.

    `affine` is the voxel-to-world matrix of all maps (4 x 4, RAS+ mm). `fractions` are the
    fraction of each tissue in each voxel (3D, float32); the sum is 1, or less in air. The tissue
    ``lesion`` exists only in heads with lesions. `brain` are voxels (3D, boolean), and `veins` is
    the fraction of venous blood, 0 to 1 (3D).

    `texture` is the relative deviation of T2* and T1 from the value of the tissue (3D).
    `deformation` is a displacement (3, X, Y, Z; mm); a head point p corresponds to the template
    point p + deformation(p).
    """

    affine: Array
    fractions: dict[str, Array]
    brain: Array
    veins: Array
    texture: Array
    deformation: Array

    def from_template(self, point: tuple[float, float, float]) -> Array:
        """Map a template point (mm) to its head point (3,; mm)."""
        target = position = np.asarray(point, dtype=float)
        inverse = np.linalg.inv(self.affine)
        for _ in range(30):  # fixed-point iteration
            index = (inverse[:3, :3] @ position + inverse[:3, 3])[:, None]
            shift = [
                ndimage.map_coordinates(component, index, order=1, mode="nearest")[0]
                for component in self.deformation
            ]
            position = target - np.array(shift)
        return position


def make_head(rng: np.random.Generator, voxel_mm: float) -> Head:
    """Draw a random head.

    `voxel_mm` is the voxel size of the scene (mm).
    """
    shape, affine = _make_scene_grid(voxel_mm)
    maps, template_affine = load_template_maps()
    deformation = _draw_deformation(rng, shape, affine)
    gm, wm, brain = deform_maps(maps, template_affine, affine, deformation)
    is_brain = brain > 0.5
    distance_mm = _measure_distance(is_brain, voxel_mm)
    fluid = np.clip(brain - gm - wm, 0, 1) * np.float32(_FLUID_GAIN)
    fractions = _draw_fractions(rng, gm, wm, fluid, brain, distance_mm, voxel_mm)
    veins = _draw_veins(rng, fluid, distance_mm, affine, deformation)
    texture = 0.06 * smooth_field(rng, shape, 1.5 / voxel_mm) + 0.04 * smooth_field(
        rng, shape, 6.0 / voxel_mm
    )
    return Head(
        affine=affine,
        fractions=fractions,
        brain=is_brain,
        veins=veins,
        texture=texture.astype(np.float32),
        deformation=deformation,
    )


def _make_scene_grid(voxel_mm: float) -> tuple[Shape, Array]:
    """Return shape and affine of the scene at a voxel size in mm."""
    sizes = np.ceil((_SCENE_HIGHEST_MM - _SCENE_LOWEST_MM) / voxel_mm).astype(int) + 1
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = _SCENE_LOWEST_MM
    return (int(sizes[0]), int(sizes[1]), int(sizes[2])), affine


@lru_cache(maxsize=2)
def load_template_maps() -> tuple[tuple[Array, ...], Array]:
    """Return gray matter, white matter and brain (float32, 1 mm), and their affine."""
    loaders = (
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
    )
    images = [load(resolution=1) for load in loaders]
    maps = tuple(np.asarray(image.get_fdata(dtype=np.float32)) for image in images)
    return maps, np.asarray(images[0].affine, dtype=np.float64)


def _draw_deformation(rng: np.random.Generator, shape: Shape, affine: Array) -> Array:
    """Return a smooth random displacement (3, X, Y, Z; mm).

    The displacement is the sum of a change in head size, broad folds and narrow folds.
    """
    voxel_mm = affine[0, 0]
    lowres_shape = tuple(
        int(np.ceil((size - 1) * voxel_mm / _DEFORMATION_STEP_MM)) + 1 for size in shape
    )
    scale = rng.uniform(-0.03, 0.03, 3)
    deformation = np.empty((3, *shape), dtype=np.float32)
    for axis in range(3):
        random_field = 1.8 * smooth_field(
            rng, lowres_shape, 20.0 / _DEFORMATION_STEP_MM
        ) + 0.5 * smooth_field(rng, lowres_shape, 2.0)
        deformation[axis] = upsample(random_field, shape)
        stretch = (affine[axis, 3] + voxel_mm * np.arange(shape[axis])) * scale[axis]
        deformation[axis] += align_with_axis(stretch.astype(np.float32), axis)
    return deformation


def deform_maps(
    maps: tuple[Array, ...], template_affine: Array, affine: Array, deformation: Array
) -> list[Array]:
    """Resample template maps to the grid of the scene through the deformation."""
    shape = deformation.shape[1:]
    inverse = np.linalg.inv(template_affine)
    deformed_maps = [np.empty(shape, dtype=np.float32) for _ in maps]
    # slabs limit memory, as the coordinates are three floats per voxel
    for x in range(0, shape[0], 16):
        stop = min(x + 16, shape[0])
        grid = np.indices((stop - x, *shape[1:]), dtype=np.float32)
        grid[0] += x
        points = (
            grid * affine[0, 0]
            + affine[:3, 3].astype(np.float32)[:, None, None, None]
            + deformation[:, x:stop]
        )
        index = points * inverse[0, 0] + inverse[:3, 3].astype(np.float32)[:, None, None, None]
        for target, source in zip(deformed_maps, maps, strict=True):
            target[x:stop] = ndimage.map_coordinates(source, index, order=1, mode="constant")
    return deformed_maps


def _draw_fractions(
    rng: np.random.Generator,
    gm: Array,
    wm: Array,
    fluid: Array,
    brain: Array,
    distance_mm: Array,
    voxel_mm: float,
) -> dict[str, Array]:
    """Return the fraction of each tissue.

    The template fractions are sharpened and roughened; fluid, skull and scalp are added around the
    brain. `gm`, `wm`, `fluid` (3D) and `brain` (3D, about 0 to 1) are from the deformed template.
    `distance_mm` is the distance from the brain (3D; mm).
    """
    shape = gm.shape
    weights = {"gm": gm, "wm": wm, "csf": fluid}
    total = np.full(shape, 1e-6, dtype=np.float32)
    for name, weight in weights.items():
        roughness = np.exp(0.88 * smooth_field(rng, shape, 1.3 / voxel_mm))
        weights[name] = np.square(np.square(weight)) * roughness
        total += weights[name]
    brain_fraction = np.clip(brain, 0, 1)
    fractions = {name: weight / total * brain_fraction for name, weight in weights.items()}
    thickness = 1.0 + 0.2 * smooth_field(rng, shape, 25.0 / voxel_mm)
    air = 1 - brain_fraction
    for name, (inner_mm, outer_mm) in _SHELLS_MM.items():
        ring = smooth_step(distance_mm - outer_mm * thickness, 0.5 * voxel_mm)
        if inner_mm:
            ring -= smooth_step(distance_mm - inner_mm * thickness, 0.5 * voxel_mm)
        fractions[name] = fractions[name] + air * ring if name in fractions else air * ring
    return fractions


def _draw_veins(
    rng: np.random.Generator, fluid: Array, distance_mm: Array, affine: Array, deformation: Array
) -> Array:
    """Return the fraction of venous blood.

    The veins are pial veins on the cortical surface and in the sulci, and the superior sagittal
    sinus.
    """
    voxel_mm = float(affine[0, 0])
    shape = fluid.shape
    pial = ndimage.gaussian_filter(fluid, 0.8 / voxel_mm) - 0.3
    radius_mm = max(0.55, 0.6 * voxel_mm)
    veins = _make_tubes(pial, smooth_field(rng, shape, 4.0 / voxel_mm), radius_mm, voxel_mm)
    veins *= smooth_field(rng, shape, 12.0 / voxel_mm) > -0.5  # gaps, so that vessels end
    side, front, height = (
        align_with_axis(
            affine[axis, 3] + voxel_mm * np.arange(shape[axis], dtype=np.float32), axis
        )
        + deformation[axis]
        for axis in range(3)
    )
    # depth below a hull that does not follow the fissure; the sinus is in the midline, 2.5 mm
    # above the brain
    depth = _measure_distance(distance_mm > 10, voxel_mm)
    sinus = np.exp(-(side**2 + (depth - 7.5) ** 2) / (2 * 1.8**2)) * ((height > 20) & (front < 55))
    return np.asarray(np.clip(np.maximum(veins, sinus), 0, 1), dtype=np.float32)


def _make_tubes(first: Array, second: Array, radius_mm: float, voxel_mm: float) -> Array:
    """Return thin tubes (0 to 1) along the curves on which two smooth functions are both zero.

    The standard deviation of their profile is `radius_mm` (mm).
    """
    squared_distance = np.zeros(first.shape, dtype=np.float32)
    for function in (first, second):
        squared_gradient = np.full(first.shape, 1e-8, dtype=np.float32)
        for axis in range(3):
            squared_gradient += (np.gradient(function, axis=axis) / voxel_mm) ** 2
        squared_distance += function**2 / squared_gradient
    return np.exp(-squared_distance / (2 * radius_mm**2))


def _measure_distance(mask: Array, voxel_mm: float) -> Array:
    """Return the distance (mm) to a mask, computed at voxels of about 2 mm."""
    return distance_to_mask(mask, 2 if voxel_mm <= 1 else 1, voxel_mm)
