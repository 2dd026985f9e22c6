"""MRI scanner of the phantom: a finely sampled scene in, a magnitude image with noise out.

Each acquisition samples the scene four times finer in-plane than the low resolution and about every millimeter
through the slice, averages over the slice, gives it a smooth phase, keeps the center of k-space, adds complex noise of
its own and takes the magnitude last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.phantom.fields import polynomial
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert
from bids_sr.sr.resolution.degradation import apply_along, crop_matrix_complex, kspace_crop

Array = npt.NDArray[Any]
Grid = tuple[tuple[int, int, int], Array]
_OVERSAMPLE = 4  # in-plane, samples of the scene per low-resolution voxel
_MARGIN = 10  # fine slices beyond the field of view, for a head that moves
BOLD_FRAME = "Rigid part only: the distortion of the EPI is a file of its own."
READOUT = 0.028  # s from the first to the last line of the EPI
T2S_READOUT = 0.045  # s, mean decay during it


def complex_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Array:
    """Complex Gaussian noise, standard deviation `sigma` in each component; complex64."""
    pair = rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(sigma)
    return pair[0] + 1j * pair[1]


def sub_slices(voxel_z: float) -> int:
    """Samples through a slice: about one a millimeter, an even number."""
    return max(2, 2 * round(voxel_z / 2))


def slice_mean(fine: Array, count: int) -> Array:
    """Mean over groups of `count` fine slices: the slice profile is a box."""
    x, y, z = fine.shape
    return fine.reshape(x, y, z // count, count).mean(-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coil:
    """What belongs to the scanner and not to the head.

    Parameters
    ----------
    seed : of the smooth phase and the smooth receive field
    unevenness : relative deviation of the receive field
    radians : size of the phase
    """

    seed: int
    unevenness: float = 0.06
    radians: float = 2.0

    def field(self, shape: tuple[int, ...], affine: Array) -> Array:
        """Complex sensitivity on a grid, complex64."""
        rng = np.random.default_rng(self.seed)
        phase = self.radians * polynomial(rng, affine, shape)
        size = 1 + self.unevenness * polynomial(rng, affine, shape)
        return np.asarray(size * np.exp(1j * phase), dtype=np.complex64)


def acquire_static(
    scene: Array, scene_affine: Array, grid: Grid, pose: Array, coil: Coil, *, low_shape: tuple[int, int, int],
    sigma: float = 0.0, rng: np.random.Generator | None = None,
) -> Array:  # fmt: skip
    """One image without motion or distortion.

    Parameters
    ----------
    scene, scene_affine : signal in the frame of the head
    grid : (shape, affine) of the image
    pose : 4x4, takes an image point to the head point seen there
    coil : phase and sensitivity
    low_shape : matrix of the coarsest image of this geometry; sets the fine grid, so that every resolution measures the
        very same samples of the scene
    sigma, rng : noise of each component, and its source

    Returns
    -------
    Magnitude, float32, of the grid's shape
    """
    shape, affine = grid
    count = sub_slices(float(affine[2, 2]))
    ratio = (low_shape[0] * _OVERSAMPLE / shape[0], low_shape[1] * _OVERSAMPLE / shape[1])
    fine_shape, fine_affine = hr_grid(shape, affine, (*ratio, count))
    fine = slice_mean(sample_volume(scene, scene_affine, fine_shape, fine_affine, pose), count)
    flat_affine = hr_grid(shape, affine, (*ratio, 1))[1]
    measured, _ = kspace_crop(fine * coil.field(fine.shape, flat_affine), flat_affine, factor=(*ratio, 1.0))
    if sigma > 0 and rng is not None:
        measured = measured + complex_noise(rng, measured.shape, sigma)
    return np.abs(measured).astype(np.float32)


def distortion(rng: np.random.Generator, grid: Grid, inside: Array, size_mm: float) -> Array:
    """Displacement along the phase-encoding axis (y, mm) on a grid, float32.

    Smooth, strongest at the front and below where air is near, and without any part that a rigid or affine motion could
    take: shimming has taken that out. `inside` is the head on the same grid; `size_mm` the largest size there.
    """
    shape, affine = grid
    x, y, z = np.meshgrid(
        *[affine[a, a] * np.arange(n, dtype=np.float32) + affine[a, 3] for a, n in enumerate(shape)],
        indexing="ij", sparse=True,
    )  # fmt: skip
    field = np.zeros(shape, dtype=np.float32)
    for at, width, sign in (((0, 62, 0), 22, 1.0), ((-52, -10, -25), 20, -0.7), ((52, -10, -25), 20, -0.7)):
        cx, cy, cz = np.asarray(at) + rng.uniform(-4, 4, 3)
        field += sign * np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * width**2))
    field += 0.15 * polynomial(rng, affine, shape)
    columns = [np.broadcast_to(c, shape)[inside] for c in (np.float32(1), x, y, z)]
    design = np.stack(columns, axis=1).astype(np.float64)
    fit = np.linalg.lstsq(design, field[inside].astype(np.float64), rcond=None)[0]
    field -= (fit[0] + fit[1] * x + fit[2] * y + fit[3] * z).astype(np.float32)
    return np.asarray(field * (size_mm / np.abs(field[inside]).max()), dtype=np.float32)


def distorted(scene: Array, voxel: float, shift: Array) -> Array:
    """A scene as the EPI displaces it: the value from y + shift (mm), times the local stretch; voxel (mm) of y."""
    coefficients = ndimage.spline_filter1d(scene, order=3, axis=1, output=np.float32, mode="mirror")
    out = np.empty_like(scene)
    along = np.arange(scene.shape[1], dtype=np.float32)[:, None]
    rows = np.broadcast_to(np.arange(scene.shape[2], dtype=np.float32), scene.shape[1:])
    for x in range(scene.shape[0]):
        # along z the points lie on samples, where order 1 takes the sample; the y axis is handled by its spline weights
        out[x] = _line_spline(coefficients[x], along + shift[x] / voxel, rows)
    return out * (1 + np.gradient(shift, voxel, axis=1))


def _line_spline(coefficients: Array, at: Array, rows: Array) -> Array:
    """Cubic B-spline along the first axis of (Y, Z) coefficients at positions (Y, Z) in samples."""
    n = coefficients.shape[0]
    low = np.floor(at)
    t = at - low
    index, column = low.astype(np.int64), rows.astype(np.int64)
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    out = np.zeros_like(at)
    for k, weight in enumerate(weights):
        out += weight * coefficients[np.clip(index + k - 1, 0, n - 1), column]
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One scene ready to be moved: low-passed, averaged over the slice, as spline coefficients.

    Parameters
    ----------
    coefficients, affine : cubic B-spline coefficients on a fine grid, voxel to RAS mm
    window : columns and rows of the sampling grid that it can reach; None for all
    """

    coefficients: Array
    affine: Array
    window: tuple[slice, slice] | None


class EpiScanner:
    """Measures a moving scene volume by volume.

    The scene is brought to the frame of the BOLD (reference volume) with its distortion, averaged over the slice and
    low-passed once, well beyond what the acquisition can see in any pose; each volume is then one spline sampling at
    half again the acquired resolution, and the k-space crop to the acquired matrix. The distortion moves with the head,
    so that the motion of the images is exactly rigid.

    Parameters
    ----------
    shape, affine : BOLD grid
    coil : phase and sensitivity, fixed in the scanner
    head_affine : grid of the scenes that `part` takes
    pose : 4x4, takes a BOLD point of the reference volume to the head point there
    shift : displacement (mm) on `fine_grid`, or None
    """

    def __init__(
        self, shape: tuple[int, int, int], affine: Array, *, coil: Coil, head_affine: Array, pose: Array,
        shift: Array | None = None,
    ) -> None:  # fmt: skip
        self.shape, self.affine = shape, np.asarray(affine, dtype=float)
        self.head_affine, self.pose, self.shift = head_affine, pose, shift
        self.count = sub_slices(float(affine[2, 2]))
        self.fine_grid = self.grid_of_scene(shape, self.affine)
        middle = (shape[0] * 3 // 2, shape[1] * 3 // 2, shape[2])
        ratio = (middle[0] / shape[0], middle[1] / shape[1], 1.0)
        self.middle_shape, self.middle_affine = hr_grid(shape, self.affine, ratio)
        self.coil = coil
        self._field = coil.field(self.middle_shape, self.middle_affine)
        self._crop = [crop_matrix_complex(middle[a], shape[a]).astype(np.complex64) for a in (0, 1)]
        self._crop[1] = (self.readout_blur() @ self._crop[1]).astype(np.complex64)

    @staticmethod
    def grid_of_scene(shape: tuple[int, int, int], affine: Array) -> Grid:
        """Fine grid of the scene for a BOLD grid: oversampled in-plane, with a margin above and below."""
        count = sub_slices(float(affine[2, 2]))
        fine_shape, fine_affine = hr_grid(shape, affine, (_OVERSAMPLE, _OVERSAMPLE, count))
        fine_affine = fine_affine.copy()
        fine_affine[2, 3] -= _MARGIN * fine_affine[2, 2]
        return (fine_shape[0], fine_shape[1], fine_shape[2] + 2 * _MARGIN), fine_affine

    def readout_blur(self) -> Array:
        """(Y, Y) complex matrix of the decay along the lines of k-space: blur along phase encoding."""
        n = self.shape[1]
        k = np.arange(-(n // 2), n - n // 2)
        weight = np.exp(-(k / n) * READOUT / T2S_READOUT)
        fourier = np.exp(-2j * np.pi * np.outer(k, np.arange(n)) / n)
        return np.asarray(fourier.conj().T @ (weight[:, None] * fourier) / n)

    def bring(self, scene: Array) -> Array:
        """A scene (grid of the head) on the fine grid of the BOLD frame, distorted; float32.

        Where the scene is zero but for a small region, only that region's surroundings are computed.
        """
        shape, affine = self.fine_grid
        window = self._reach(scene)
        start = np.eye(4)
        start[:3, 3] = [w.start for w in window]
        grid = (tuple(w.stop - w.start for w in window), affine @ start)
        fine = sample_volume(scene, self.head_affine, grid[0], grid[1], self.pose)
        if self.shift is not None:
            fine = distorted(fine, float(affine[1, 1]), self.shift[window])
        if fine.shape == shape:
            return fine
        out = np.zeros(shape, dtype=np.float32)
        out[window] = fine
        return out

    def _reach(self, scene: Array) -> tuple[slice, slice, slice]:
        """Window of the fine grid that can show what is not zero in a scene, with 10 mm to spare."""
        shape, affine = self.fine_grid
        spans = [np.flatnonzero(scene.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
        if any(span.size == 0 for span in spans):
            spans = [np.array([0, 1])] * 3
        corners = np.array(np.meshgrid(*[[s[0], s[-1]] for s in spans])).reshape(3, -1)
        world = invert(self.pose) @ self.head_affine @ np.vstack([corners, np.ones(corners.shape[1])])
        at = (np.linalg.inv(affine) @ world)[:3]
        spare = 10.0 / np.diag(affine)[:3]
        low = np.clip(np.floor(at.min(1) - spare), 0, np.array(shape) - 2).astype(int)
        high = np.clip(np.ceil(at.max(1) + spare) + 1, low + 2, shape).astype(int)
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def part(self, fine: Array, *, local: bool = False) -> Part:
        """Prepare a scene on the fine grid for `measure`; local: keep only what its surroundings need."""
        shape, affine = self.fine_grid
        box = np.full(self.count + 1, 1.0 / self.count, dtype=np.float32)
        box[[0, -1]] /= 2
        thick = ndimage.convolve1d(fine, box, axis=2, mode="nearest")
        kx = np.fft.fftfreq(shape[0])[:, None] * shape[0] / (0.8 * self.shape[0])
        ky = np.fft.rfftfreq(shape[1])[None, :] * shape[1] / (0.8 * self.shape[1])
        keep = ((kx**2 + ky**2) <= 1).astype(np.float32)
        for z in range(shape[2]):
            thick[..., z] = np.fft.irfft2(np.fft.rfft2(thick[..., z]) * keep, s=shape[:2])
        window = None
        if local:
            thick, affine, window = self._cut(fine, thick, affine)
        return Part(
            coefficients=ndimage.spline_filter(thick, order=3, output=np.float32, mode="mirror"), affine=affine,
            window=window,
        )  # fmt: skip

    def _cut(self, fine: Array, thick: Array, affine: Array) -> tuple[Array, Array, tuple[slice, slice]]:
        """The region that an activation can reach: its extent and 24 mm around, in the fine and the sampling grid."""
        seen = np.argwhere(np.abs(fine).max(axis=2) > 1e-3 * max(float(np.abs(fine).max()), 1e-20))
        if not len(seen):
            seen = np.array([[s // 2 for s in fine.shape[:2]]])
        ratio = [affine[a, a] / self.middle_affine[a, a] for a in (0, 1)]
        fine_window, window = [], []
        for a in (0, 1):
            pad = int(24.0 / affine[a, a])
            low, high = max(0, int(seen[:, a].min()) - pad), min(fine.shape[a], int(seen[:, a].max()) + pad + 1)
            fine_window.append(slice(low, high))
            inner = int(8.0 / self.middle_affine[a, a])
            window.append(
                slice(int(low * ratio[a]) + inner, min(self.middle_shape[a], int(np.ceil(high * ratio[a])) - inner))
            )
        cut = affine.copy()
        cut[:2, 3] += [affine[a, a] * fine_window[a].start for a in (0, 1)]
        return thick[tuple(fine_window)], cut, (window[0], window[1])

    def _sample(self, part: Part, motion: Array) -> Array:
        """A part as it lies in a volume, on the sampling grid (or its window)."""
        window = part.window or (slice(0, self.middle_shape[0]), slice(0, self.middle_shape[1]))
        start = np.eye(4)
        start[:2, 3] = [w.start for w in window]
        matrix = np.linalg.inv(part.affine) @ invert(motion) @ self.middle_affine @ start
        shape = (window[0].stop - window[0].start, window[1].stop - window[1].start, self.middle_shape[2])
        return np.asarray(
            ndimage.affine_transform(
                part.coefficients, matrix[:3, :3], matrix[:3, 3], output_shape=shape, output=np.float32, order=3,
                mode="nearest", prefilter=False,
            )
        )  # fmt: skip

    def measure(
        self, rest: Part, motion: Array, *, active: Mapping[str, Part] | None = None,
        responses: Mapping[str, Array] | None = None, modulation: Array | None = None, sigma: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Array:  # fmt: skip
        """One volume, float32 (X, Y, Z).

        Parameters
        ----------
        rest : resting scene
        motion : 4x4, takes a point of the reference volume to where it lies in this one (RAS mm)
        active, responses : for each condition the change of the scene, and how much of it is there at each slice's time
            (Z,)
        modulation : factor on the sampling grid (drift, physiology, approach to the steady state)
        sigma, rng : noise of each component, and its source
        """
        scene = self._sample(rest, motion)
        for name, part in (active or {}).items():
            weight = np.asarray((responses or {})[name], dtype=np.float32)
            if np.abs(weight).max() > 1e-6 and part.window is not None:
                scene[part.window[0], part.window[1]] += self._sample(part, motion) * weight
        if modulation is not None:
            scene *= modulation
        measured = scene * self._field
        for axis, matrix in enumerate(self._crop):
            measured = apply_along(matrix, measured, axis)
        if sigma > 0 and rng is not None:
            measured = measured + complex_noise(rng, measured.shape, sigma)
        return np.ascontiguousarray(np.abs(measured), dtype=np.float32)

    def ideal(self, fine: Array, factor: tuple[float, float, float]) -> Array:
        """Noise-free image on the grid `factor` times finer than the BOLD's: no readout blur, no motion; complex64."""
        inner = fine[..., _MARGIN:-_MARGIN]
        thick = slice_mean(inner, self.count)
        affine = hr_grid(self.shape, self.affine, (_OVERSAMPLE, _OVERSAMPLE, 1))[1]
        ratio = (_OVERSAMPLE / factor[0], _OVERSAMPLE / factor[1], 1.0)
        return kspace_crop(thick * self.coil.field(thick.shape, affine), affine, factor=ratio)[0]
