"""The head of one simulated subject: tissue and veins.

It starts from the MNI152 templates that nilearn carries, bent by a random smooth deformation. The
template is a mean of 152 people and has no fine detail of its own; tissue borders are therefore
sharpened and roughened at random, so that each subject has detail that no template or other
subject knows.
"""

from functools import lru_cache

import numpy as np
from nilearn import datasets
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Shape
from bids_sr.phantom.fields import distance, smooth_field, upsample

# mm, field of the scene
_LOW, _HIGH = np.array([-92.0, -126.0, -76.0]), np.array([92.0, 92.0, 104.0])
_DEFORM_STEP = 4.0  # mm, grid on which the deformation is drawn
# gain of the fluid's share: the sulci of a mean brain are closed by averaging, ours are open
_OPEN = 3.2
_SHELLS = {"csf": (0.0, 1.5), "skull": (1.5, 6.5), "scalp": (6.5, 11.5)}  # mm from the brain


@frozen
class Head:
    """Maps of one subject in the frame of the head (RAS mm).

    The head lies approximately as MNI152 does.

    `fractions`: share of each tissue in each voxel, float32; their sum is 1 or less (air).
    `brain`: voxels of the brain (3D, boolean). `veins`: share of venous blood, 0 to 1. `texture`:
    relative deviation of T2* and T1 from the tissue's value. `deformation`: (3, X, Y, Z) mm; a
    head point p shows the template's point p + deformation(p).
    """

    affine: Array
    fractions: dict[str, Array]
    brain: Array
    veins: Array
    texture: Array
    deformation: Array

    def from_template(self, point: tuple[float, float, float]) -> Array:
        """Map a template point (mm) to its head point (3,) in mm."""
        target = at = np.asarray(point, dtype=float)
        inverse = np.linalg.inv(self.affine)
        for _ in range(30):
            index = (inverse[:3, :3] @ at + inverse[:3, 3])[:, None]
            shift = [
                ndimage.map_coordinates(d, index, order=1, mode="nearest")[0]
                for d in self.deformation
            ]
            at = target - np.array(shift)
        return at


@lru_cache(maxsize=2)
def _templates() -> tuple[tuple[Array, ...], Array]:
    """Gray matter, white matter, brain (float32, 1 mm), and the affine they share."""
    loaders = (
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
    )
    images = [load(resolution=1) for load in loaders]
    maps = tuple(np.asarray(image.get_fdata(dtype=np.float32)) for image in images)
    return maps, np.asarray(images[0].affine, dtype=np.float64)


def _scene_grid(voxel: float) -> tuple[Shape, Array]:
    """(shape, affine) of the scene at a voxel size in mm."""
    n = np.ceil((_HIGH - _LOW) / voxel).astype(int) + 1
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = _LOW
    return (int(n[0]), int(n[1]), int(n[2])), affine


def _deformation(rng: np.random.Generator, shape: Shape, affine: Array) -> Array:
    """Return a smooth random displacement in mm, (3, X, Y, Z).

    It is the sum of the size of the head, broad folds and finer ones.
    """
    voxel = affine[0, 0]
    drawn_shape = tuple(int(np.ceil((n - 1) * voxel / _DEFORM_STEP)) + 1 for n in shape)
    scale = rng.uniform(-0.03, 0.03, 3)
    out = np.empty((3, *shape), dtype=np.float32)
    for axis in range(3):
        drawn = 1.8 * smooth_field(rng, drawn_shape, 20.0 / _DEFORM_STEP) + 0.5 * smooth_field(
            rng, drawn_shape, 2.0
        )
        out[axis] = upsample(drawn, shape)
        at = (affine[axis, 3] + voxel * np.arange(shape[axis])) * scale[axis]
        out[axis] += at.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return out


def _deformed(
    maps: tuple[Array, ...], template_affine: Array, affine: Array, deformation: Array
) -> list[Array]:
    """Template maps seen through the deformation, on the scene's grid."""
    shape = deformation.shape[1:]
    inverse = np.linalg.inv(template_affine)
    out = [np.empty(shape, dtype=np.float32) for _ in maps]
    for x in range(0, shape[0], 16):  # by slabs: coordinates are three doubles a voxel
        stop = min(x + 16, shape[0])
        grid = np.indices((stop - x, *shape[1:]), dtype=np.float32)
        grid[0] += x
        points = (
            grid * affine[0, 0]
            + affine[:3, 3].astype(np.float32)[:, None, None, None]
            + deformation[:, x:stop]
        )
        index = points * inverse[0, 0] + inverse[:3, 3].astype(np.float32)[:, None, None, None]
        for target, source in zip(out, maps, strict=True):
            target[x:stop] = ndimage.map_coordinates(source, index, order=1, mode="constant")
    return out


def _fractions(
    rng: np.random.Generator,
    gm: Array,
    wm: Array,
    fluid: Array,
    brain: Array,
    outside: Array,
    voxel: float,
) -> dict[str, Array]:
    """Return the tissue shares.

    They are sharpened and roughened template tissue, then fluid, skull and scalp around the brain.
    """
    shape = gm.shape
    share = {"gm": gm, "wm": wm, "csf": fluid}
    total = np.full(shape, 1e-6, dtype=np.float32)
    for name, prior in share.items():
        rough = np.exp(0.88 * smooth_field(rng, shape, 1.3 / voxel))
        share[name] = np.square(np.square(prior)) * rough
        total += share[name]
    inside = np.clip(brain, 0, 1)
    out = {name: prior / total * inside for name, prior in share.items()}
    thick = 1.0 + 0.2 * smooth_field(rng, shape, 25.0 / voxel)
    air = 1 - inside
    for name, (low, high) in _SHELLS.items():
        ring = _below(outside - high * thick, 0.5 * voxel)
        if low:
            ring -= _below(outside - low * thick, 0.5 * voxel)
        out[name] = out[name] + air * ring if name in out else air * ring
    return out


def _below(value: Array, soft: float) -> Array:
    """1 well below zero, 0 well above, over about `soft` mm."""
    return 0.5 - 0.5 * np.tanh(value / np.float32(2 * soft))


def _tube(first: Array, second: Array, radius: float, voxel: float) -> Array:
    """Return thin tubes (0 to 1) where two smooth functions are both zero.

    The radius is the sigma of their profile in mm.
    """
    rho = np.zeros(first.shape, dtype=np.float32)
    for function in (first, second):
        slope = np.full(first.shape, 1e-8, dtype=np.float32)
        for axis in range(3):
            slope += (np.gradient(function, axis=axis) / voxel) ** 2
        rho += function**2 / slope
    return np.exp(-rho / (2 * radius**2))


def _veins(
    rng: np.random.Generator, fluid: Array, outside: Array, affine: Array, deformation: Array
) -> Array:
    """Return the share of venous blood.

    It is in pial veins on the cortical surface and in the sulci, and in the superior sagittal
    sinus.
    """
    voxel = float(affine[0, 0])
    shape = fluid.shape
    pial = ndimage.gaussian_filter(fluid, 0.8 / voxel) - 0.3
    radius = max(0.55, 0.6 * voxel)
    veins = _tube(pial, smooth_field(rng, shape, 4.0 / voxel), radius, voxel)
    veins *= smooth_field(rng, shape, 12.0 / voxel) > -0.5  # vessels end somewhere
    side, front, up = (
        (affine[a, 3] + voxel * np.arange(shape[a], dtype=np.float32)).reshape(
            [-1 if b == a else 1 for b in range(3)]
        )
        + deformation[a]
        for a in range(3)
    )
    # depth below a hull that does not follow the fissure; the sinus runs along the midline 2.5 mm
    # above the brain
    depth = distance(outside > 10, 2 if voxel <= 1 else 1, voxel)
    sinus = np.exp(-(side**2 + (depth - 7.5) ** 2) / (2 * 1.8**2)) * ((up > 20) & (front < 55))
    return np.asarray(np.clip(np.maximum(veins, sinus), 0, 1), dtype=np.float32)


def make_head(rng: np.random.Generator, voxel: float) -> Head:
    """A head drawn at random; voxel is that of the scene in mm.

    `voxel`: edge length of the voxels (mm). Tissues, veins, texture and deformation on one grid.
    """
    shape, affine = _scene_grid(voxel)
    maps, template_affine = _templates()
    deformation = _deformation(rng, shape, affine)
    gm, wm, brain = _deformed(maps, template_affine, affine, deformation)
    outside = distance(brain > 0.5, 2 if voxel <= 1 else 1, voxel)
    fluid = np.clip(brain - gm - wm, 0, 1) * np.float32(_OPEN)
    fractions = _fractions(rng, gm, wm, fluid, brain, outside, voxel)
    veins = _veins(rng, fluid, outside, affine, deformation)
    texture = 0.06 * smooth_field(rng, shape, 1.5 / voxel) + 0.04 * smooth_field(
        rng, shape, 6.0 / voxel
    )
    return Head(
        affine=affine,
        fractions=fractions,
        brain=brain > 0.5,
        veins=veins,
        texture=texture.astype(np.float32),
        deformation=deformation,
    )
