"""The head of one simulated subject: tissue and veins.

It starts from the MNI152 templates that nilearn carries, bent by a random smooth deformation. The
template is a mean of 152 people and has no fine detail of its own; tissue borders are therefore
sharpened and roughened at random, so that each subject has detail that no template or other
subject knows.

Smooth random fields and separable up-sampling: the building blocks of the simulated head.

Pulse sequences of the phantom: the signal of a head in gradient echo and spin echo.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from nilearn import datasets
from scipy import interpolate, ndimage

from bids_sr.frozen import frozen
from bids_sr.io.grids import Array, Shape


def upsample(samples: Array, shape: Sequence[int]) -> Array:
    """Upsample an array to `shape` by a cubic spline (float32).

    The points are spread evenly from its first to its last sample.

    `samples`: coarse samples, at least four along each axis. `ResolutionError`: the image does not
    have three or four axes. Finer samples of that shape.
    """
    out = np.asarray(samples, dtype=np.float32)
    for axis, n in enumerate(shape):
        m = out.shape[axis]
        weights = interpolate.make_interp_spline(np.arange(m), np.eye(m), k=3)(
            np.linspace(0, m - 1, n)
        )
        out = np.moveaxis(np.tensordot(weights.astype(np.float32), out, (1, axis)), 0, axis)
    return np.ascontiguousarray(out)


def smooth_field(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> Array:
    """Return a float32 random field of zero mean and unit standard deviation.

    It is white noise smoothed by `sigma` (voxels).

    It is drawn on a grid of larger voxels where that loses nothing.
    """
    step = max(1, int(sigma / 1.5))
    noise = rng.standard_normal([max(4, n // step + 1) for n in shape], dtype=np.float32)
    out = ndimage.gaussian_filter(noise, sigma / step, mode="wrap")
    out = upsample(out, shape) if step > 1 else out[tuple(slice(0, n) for n in shape)]
    return np.asarray((out - out.mean()) / out.std(), dtype=np.float32)


def distance(mask: Array, step: int, voxel: float) -> Array:
    """Return the float32 distance (mm) from each voxel to the mask (0 inside).

    It is computed on every `step`-th voxel.

    `voxel`: edge length of the voxels (mm).
    """
    thinned = mask[::step, ::step, ::step]
    far = ndimage.distance_transform_edt(~thinned).astype(np.float32) * (step * voxel)
    if step == 1:
        return far
    axes = [
        np.minimum(np.arange(n) / step, c - 1.0)
        for n, c in zip(mask.shape, thinned.shape, strict=True)
    ]
    for axis, at in enumerate(axes):
        low = np.minimum(at.astype(int), far.shape[axis] - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        far = np.take(far, low, axis) * (1 - weight) + np.take(far, low + 1, axis) * weight
    return np.asarray(far, dtype=np.float32)


def polynomial(rng: np.random.Generator, affine: Array, shape: Sequence[int]) -> Array:
    """Return a random polynomial of second order over a grid, float32.

    It is about -1 to 1 within 100 mm of the grid's center.
    """
    world = [affine[a, a] * (np.arange(n) - (n - 1) / 2) / 100.0 for a, n in enumerate(shape)]
    x, y, z = np.meshgrid(*[w.astype(np.float32) for w in world], indexing="ij", sparse=True)
    c = rng.uniform(-1, 1, 9).astype(np.float32)
    c[:3] *= 0.6
    out = c[0] * x + c[1] * y + c[2] * z + c[3] * x * x + c[4] * y * y + c[5] * z * z
    return np.asarray((out + c[6] * x * y + c[7] * x * z + c[8] * y * z) / 1.5, dtype=np.float32)


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


_DEPHASING = 22.0  # 1/s per share of venous blood, in the tissue around it


@frozen
class _Tissue:
    """Relative proton density, T1, T2* and T2 (s) at 3 T.

    The values are our choice within the range of the literature.

    `t1`: longitudinal relaxation time, T1 (s). `t2s`: decay time of a gradient echo, T2* (s).
    `t2`: decay time of a spin echo, T2 (s).
    """

    pd: float
    t1: float
    t2s: float
    t2: float


TISSUES: dict[str, _Tissue] = {
    "gm": _Tissue(pd=0.84, t1=1.35, t2s=0.051, t2=0.099),
    "wm": _Tissue(pd=0.66, t1=0.85, t2s=0.046, t2=0.069),
    "csf": _Tissue(pd=1.00, t1=4.00, t2s=0.250, t2=1.8),
    "skull": _Tissue(pd=0.06, t1=0.60, t2s=0.008, t2=0.008),
    "scalp": _Tissue(pd=0.75, t1=0.60, t2s=0.030, t2=0.070),
}
_BLOOD = _Tissue(pd=0.9, t1=1.6, t2s=0.013, t2=0.032)  # venous


@frozen
class PulseSequence:
    """A spoiled gradient echo, or a spin echo (`refocused`) with or without inversion.

    The spin echo follows a pulse of 90 degrees.

    `te`, `tr`, `ti`: echo, repetition and inversion time (s); None: no inversion. `refocused`: the
    echo decays by T2, and veins do not dephase what lies around them.
    """

    te: float
    tr: float
    flip: float = 90.0
    ti: float | None = None
    refocused: bool = False
    fat: float = 1.0

    def magnetization(self, t1: Array | float, pulse: int | None = None) -> Array:
        """Longitudinal magnetization before an excitation, relative to equilibrium; `t1` in s.

        `pulse` is the number of excitations before (0: relaxed); None for the steady state.
        Source: M(n+1) = 1 + (M(n) cos(flip) - 1) exp(-TR/T1) of a spoiled sequence; after an
        inversion
        |1 - 2 exp(-TI/T1) + exp(-TR/T1)|, the echo time being short against TR.
        """
        t1 = np.asarray(t1, dtype=np.float32)
        e1 = np.exp(-self.tr / t1)
        if self.ti is not None:
            return np.abs(1 + e1 - 2 * np.exp(-self.ti / t1))
        keep = e1 * np.float32(np.cos(np.deg2rad(self.flip)))
        steady = (1 - e1) / (1 - keep)
        return np.asarray(
            steady if pulse is None else steady + (1 - steady) * keep**pulse, dtype=np.float32
        )

    def signal(
        self, tissue: _Tissue, texture: Array | float = 0.0, pulse: int | None = None
    ) -> Array:
        """Return the magnitude at the echo of a tissue, before the flip.

        T1, T2* and T2 of the tissue deviate by a share (`texture`).

        `tissue`: proton density and relaxation times. `pulse`: number of excitations before,
        without effect after an inversion; None: steady state. Signal for each deviation, in units
        of the proton density.
        """
        times = 1 + np.asarray(texture, dtype=np.float32)
        decay = (tissue.t2 if self.refocused else tissue.t2s) * times
        return tissue.pd * self.magnetization(tissue.t1 * times, pulse) * np.exp(-self.te / decay)

    def scene(self, head: "Head", pulse: int | None = None) -> Array:
        """Return the signal of a head, float32 on its grid (relative units).

        Venous blood replaces tissue by its share.

        `pulse`: number of excitations before, without effect after an inversion; None: steady
        state.
        """
        out = np.zeros(head.veins.shape, dtype=np.float32)
        for name, share in head.fractions.items():
            texture = head.texture if name in ("gm", "wm") else 0.0
            out += (
                share
                * self.signal(TISSUES[name], texture, pulse)
                * (self.fat if name == "scalp" else 1.0)
            )
        if not self.refocused:  # veins dephase what lies within about 1 mm
            out *= np.exp(
                -self.te
                * _DEPHASING
                * ndimage.gaussian_filter(head.veins, 1.0 / head.affine[0, 0])
            )
        out += head.veins * (self.signal(_BLOOD, 0.0, pulse) - out)
        return out * np.float32(np.sin(np.deg2rad(self.flip)))

    def scaled_scene(self, head: "Head", level: float) -> Array:
        """The scene in units in which its mean over the brain is `level`, float32."""
        scene = self.scene(head)
        return scene * np.float32(level / float(scene[head.brain].mean()))

    @property
    def sidecar(self) -> dict[str, object]:
        """Metadata of BIDS."""
        inversion = {} if self.ti is None else {"InversionTime": round(self.ti, 4)}
        return {
            "RepetitionTime": self.tr,
            "EchoTime": self.te,
            "FlipAngle": self.flip,
            **inversion,
        }
