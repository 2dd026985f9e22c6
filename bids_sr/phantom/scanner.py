"""MRI scanner of the phantom: an oversampled scene in, a magnitude image with noise out.

Each acquisition samples the scene four times denser in-plane than the low resolution and about every millimeter
through the slice, averages over the slice, gives it a smooth phase, keeps the center of k-space, adds complex noise of
its own and takes the magnitude last.
"""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.phantom.fields import polynomial
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert
from bids_sr.sr.resolution.matrices import apply_along, crop_matrix_complex, kspace_crop

Grid = tuple[tuple[int, int, int], Array]
_OVERSAMPLE = 4  # in-plane, samples of the scene per low-resolution voxel
MARGIN = 10  # oversampled slices beyond the field of view, for a head that moves
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


def slice_mean(scene: Array, count: int) -> Array:
    """Mean over groups of `count` thin slices: the slice profile is a box."""
    x, y, z = scene.shape
    return scene.reshape(x, y, z // count, count).mean(-1)


@frozen
class Coil:
    """What belongs to the scanner and not to the head: a smooth phase (radians), a smooth receive field."""

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
    """One image without motion or distortion: magnitude, float32, of the grid's shape.

    Parameters
    ----------
    scene, scene_affine : signal in the frame of the head
    grid, pose : (shape, affine) of the image; 4x4, takes an image point to the head point seen there
    low_shape : matrix of the lowest resolution of this geometry; sets the oversampled grid, so that every resolution
        measures the very same samples of the scene
    sigma, rng : noise of each component, and its source
    """
    shape, affine = grid
    count = sub_slices(float(affine[2, 2]))
    ratio = (low_shape[0] * _OVERSAMPLE / shape[0], low_shape[1] * _OVERSAMPLE / shape[1])
    dense = slice_mean(sample_volume(scene, scene_affine, *hr_grid(shape, affine, (*ratio, count)), pose), count)
    flat_affine = hr_grid(shape, affine, (*ratio, 1))[1]
    measured, _ = kspace_crop(dense * coil.field(dense.shape, flat_affine), flat_affine, factor=(*ratio, 1.0))
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


@frozen
class MovingPart:
    """One scene ready to be moved: low-passed, averaged over the slice, as cubic B-spline coefficients on a grid.

    `window` are the columns and rows of the sampling grid that it can reach; None for all.
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
    shape, affine, coil : BOLD grid; phase and sensitivity, fixed in the scanner
    head_affine, pose : grid of the scenes; 4x4, takes a BOLD point of the reference volume to the head point there
    shift : displacement (mm) on `oversampled_grid`, or None
    """

    def __init__(
        self, shape: tuple[int, int, int], affine: Array, *, coil: Coil, head_affine: Array, pose: Array,
        shift: Array | None = None,
    ) -> None:  # fmt: skip
        self.shape, self.affine = shape, np.asarray(affine, dtype=float)
        self.head_affine, self.pose, self.shift = head_affine, pose, shift
        self.count = sub_slices(float(affine[2, 2]))
        self.oversampled_grid = self.grid_of_scene(shape, self.affine)
        middle = (shape[0] * 3 // 2, shape[1] * 3 // 2, shape[2])
        ratio = (middle[0] / shape[0], middle[1] / shape[1], 1.0)
        self.sampling_grid = hr_grid(shape, self.affine, ratio)
        self.coil = coil
        self._field = coil.field(*self.sampling_grid)
        self._crop = [crop_matrix_complex(middle[a], shape[a]).astype(np.complex64) for a in (0, 1)]
        self._crop[1] = (self.readout_blur() @ self._crop[1]).astype(np.complex64)

    @staticmethod
    def grid_of_scene(shape: tuple[int, int, int], affine: Array) -> Grid:
        """Grid of the scene for a BOLD grid: oversampled, with a margin above and below."""
        (x, y, z), dense = hr_grid(shape, affine, (_OVERSAMPLE, _OVERSAMPLE, sub_slices(float(affine[2, 2]))))
        dense = dense.copy()
        dense[2, 3] -= MARGIN * dense[2, 2]
        return (x, y, z + 2 * MARGIN), dense

    def readout_blur(self) -> Array:
        """(Y, Y) complex matrix of the decay along the lines of k-space: blur along phase encoding."""
        n = self.shape[1]
        k = np.arange(-(n // 2), n - n // 2)
        weight = np.exp(-(k / n) * READOUT / T2S_READOUT)
        fourier = np.exp(-2j * np.pi * np.outer(k, np.arange(n)) / n)
        return np.asarray(fourier.conj().T @ (weight[:, None] * fourier) / n)

    def bring(self, scene: Array) -> Array:
        """A scene (grid of the head) on the oversampled grid of the BOLD frame, distorted; float32.

        Where the scene is zero but for a small region, only that region's surroundings are computed.
        """
        shape, affine = self.oversampled_grid
        window = self._reach(scene)
        start = np.eye(4)
        start[:3, 3] = [w.start for w in window]
        size = tuple(w.stop - w.start for w in window)
        dense = sample_volume(scene, self.head_affine, size, affine @ start, self.pose)
        if self.shift is not None:
            dense = distorted(dense, float(affine[1, 1]), self.shift[window])
        out = np.zeros(shape, dtype=np.float32)
        out[window] = dense
        return out

    def _reach(self, scene: Array) -> tuple[slice, slice, slice]:
        """Window of the oversampled grid that can show what is not zero in a scene, with 10 mm to spare."""
        shape, affine = self.oversampled_grid
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

    def part(self, dense: Array, *, local: bool = False) -> MovingPart:
        """Prepare a scene on the oversampled grid for `measure`; local: keep only what its surroundings need."""
        shape, affine = self.oversampled_grid
        box = np.full(self.count + 1, 1.0 / self.count, dtype=np.float32)
        box[[0, -1]] /= 2
        thick = ndimage.convolve1d(dense, box, axis=2, mode="nearest")
        kx = np.fft.fftfreq(shape[0])[:, None] * shape[0] / (0.8 * self.shape[0])
        ky = np.fft.rfftfreq(shape[1])[None, :] * shape[1] / (0.8 * self.shape[1])
        keep = ((kx**2 + ky**2) <= 1).astype(np.float32)
        for z in range(shape[2]):
            thick[..., z] = np.fft.irfft2(np.fft.rfft2(thick[..., z]) * keep, s=shape[:2])
        window = None
        if local:
            thick, affine, window = self._cut(dense, thick, affine)
        coefficients = ndimage.spline_filter(thick, order=3, output=np.float32, mode="mirror")
        return MovingPart(coefficients=coefficients, affine=affine, window=window)

    def _cut(self, dense: Array, thick: Array, affine: Array) -> tuple[Array, Array, tuple[slice, slice]]:
        """What an activation can reach: its extent and 24 mm around, on the oversampled and the sampling grid."""
        seen = np.argwhere(np.abs(dense).max(axis=2) > 1e-3 * max(float(np.abs(dense).max()), 1e-20))
        if not len(seen):
            seen = np.array([[s // 2 for s in dense.shape[:2]]])
        kept, window = [], []
        for a, (n, voxel) in enumerate(zip(self.sampling_grid[0][:2], np.diag(self.sampling_grid[1])[:2], strict=True)):
            pad, inner, ratio = int(24.0 / affine[a, a]), int(8.0 / voxel), affine[a, a] / voxel
            low, high = max(0, int(seen[:, a].min()) - pad), min(dense.shape[a], int(seen[:, a].max()) + pad + 1)
            kept.append(slice(low, high))
            window.append(slice(int(low * ratio) + inner, min(n, int(np.ceil(high * ratio)) - inner)))
        cut = affine.copy()
        cut[:2, 3] += [affine[a, a] * kept[a].start for a in (0, 1)]
        return thick[tuple(kept)], cut, (window[0], window[1])

    def _sample(self, part: MovingPart, motion: Array) -> Array:
        """A part as it lies in a volume, on the sampling grid (or its window)."""
        (x, y, z), affine = self.sampling_grid
        window = part.window or (slice(0, x), slice(0, y))
        start = np.eye(4)
        start[:2, 3] = [w.start for w in window]
        matrix = np.linalg.inv(part.affine) @ invert(motion) @ affine @ start
        shape = (window[0].stop - window[0].start, window[1].stop - window[1].start, z)
        how = {"order": 3, "mode": "nearest", "prefilter": False, "output_shape": shape, "output": np.float32}
        return np.asarray(ndimage.affine_transform(part.coefficients, matrix[:3, :3], matrix[:3, 3], **how))

    def measure(
        self, rest: MovingPart, motion: Array, *, active: Mapping[str, MovingPart] | None = None,
        responses: Mapping[str, Array] | None = None, modulation: Array | None = None, sigma: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Array:  # fmt: skip
        """One volume, float32 (X, Y, Z), with noise of `sigma` in each component.

        Parameters
        ----------
        rest, motion : resting scene; 4x4, takes a point of the reference volume to where it lies in this one (RAS mm)
        active, responses : by condition the change of the scene, and how much of it is there at each slice's time (Z,)
        modulation : factor on the sampling grid (drift, physiology, approach to the steady state)
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

    def ideal(self, dense: Array, factor: tuple[float, float, float]) -> Array:
        """Noise-free image at `factor` times the BOLD's resolution: no readout blur, no motion; complex64."""
        thick = slice_mean(dense[..., MARGIN:-MARGIN], self.count)
        affine = hr_grid(self.shape, self.affine, (_OVERSAMPLE, _OVERSAMPLE, 1))[1]
        ratio = (_OVERSAMPLE / factor[0], _OVERSAMPLE / factor[1], 1.0)
        return kspace_crop(thick * self.coil.field(thick.shape, affine), affine, factor=ratio)[0]
