"""MRI scanner of the phantom, from an oversampled scene to a magnitude image with noise.

Each acquisition samples the scene in-plane at four times the low resolution, and through the slice
about once per millimeter. The scene is distorted if the sequence is an EPI, averaged over the
slice and multiplied by a smooth phase. The center of k-space is then cropped, complex noise is
added, and the magnitude is taken last.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape
from bids_sr.phantom.fields import polynomial
from bids_sr.spatial.matrices import apply_along, crop_matrix_complex, kspace_crop
from bids_sr.spatial.resampling import sample_grid, sample_volume, spline_coefficients
from bids_sr.spatial.transforms import hr_grid, invert

ScanGrid = tuple[Shape, Array]
_SAMPLES_PER_VOXEL = 4  # samples of the scene per low-resolution voxel, in-plane
MARGIN_SAMPLES = 10
"""Samples of the scene above and below the field of view, needed for head motion."""
BOLD_FRAME_TEXT = "This transform is rigid. The EPI distortion is saved in a separate file."
READOUT_S = 0.028
"""Time from the first to the last line of the EPI (s)."""
_READOUT_T2STAR_S = 0.045  # s, mean T2* decay time during the readout
_PHASE_RAD = 2.0  # rad, phase of the coil


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """Geometry of the scan of a still or moving head.

    `grid` is shape and voxel-to-world matrix of the image. `pose` is the transform of an image
    point to its head point (4 x 4, RAS+ mm), and `head_affine` the voxel-to-world matrix of the
    head's maps (4 x 4, RAS+ mm). `coil` is the random seed of phase and receive field, which
    belong to the scanner and not to the head, and `receive_field_size` is the relative size of
    this field.

    `low_shape` is the matrix size of the lowest resolution of this geometry, so that all
    resolutions measure the same samples of the scene; None uses the shape of the grid. `shift` is
    the displacement along +y by susceptibility (mm) on `dense_grid`, or None.
    """

    grid: ScanGrid
    pose: Array
    head_affine: Array
    coil: int
    receive_field_size: float = 0.06
    low_shape: Shape | None = None
    shift: Array | None = None

    @property
    def ratio(self) -> tuple[float, float, int]:
        """Samples of the scene per voxel along each axis.

        Through the slice, there is about one sample per millimeter, and an even number in total.
        """
        (x, y, _), affine = self.grid
        low_x, low_y, _ = self.low_shape or self.grid[0]
        return (
            low_x * _SAMPLES_PER_VOXEL / x,
            low_y * _SAMPLES_PER_VOXEL / y,
            max(2, 2 * round(float(affine[2, 2]) / 2)),
        )

    @cached_property
    def dense_grid(self) -> ScanGrid:
        """Grid of the scene, with a margin above and below."""
        (x, y, z), affine = hr_grid(*self.grid, self.ratio)
        affine[2, 3] -= MARGIN_SAMPLES * affine[2, 2]
        return (x, y, z + 2 * MARGIN_SAMPLES), affine

    @cached_property
    def sampling_grid(self) -> ScanGrid:
        """Sampling grid of moving scenes, with 1.5 times the in-plane resolution."""
        x, y, _ = self.grid[0]
        return hr_grid(*self.grid, (x * 3 // 2 / x, y * 3 // 2 / y, 1.0))

    def resample_scene(self, scene: Array) -> Array:
        """Resample a scene from the grid of the head to the dense grid of the image (float32).

        The displacement by distortion and the resulting change of intensity are applied.
        """
        if self.shift is None:
            return sample_volume(scene, self.head_affine, *self.dense_grid, self.pose)
        shift = (self.shift, self.pose[:3, 1])
        distorted_scene = sample_volume(
            scene, self.head_affine, *self.dense_grid, self.pose, shift=shift
        )
        return distorted_scene * (1 + np.gradient(self.shift, self.dense_grid[1][1, 1], axis=1))

    def acquire_ideal(self, scene: Array, factor: Factor = (1.0, 1.0, 1.0)) -> Array:
        """Return the complex image at `factor` times the resolution (complex64).

        The image has no noise, no blurring by the readout, and no motion.
        """
        x, y, slice_ratio = self.ratio
        # rectangular slice profile
        slices = (
            scene[..., MARGIN_SAMPLES:-MARGIN_SAMPLES]
            .reshape(*scene.shape[:2], -1, slice_ratio)
            .mean(-1)
        )
        affine = hr_grid(*self.grid, (x, y, 1.0))[1]
        ratio = (x / factor[0], y / factor[1], 1.0)
        received_slices = slices * self._compute_sensitivity(slices.shape, affine)
        image, _ = kspace_crop(received_slices, affine, factor=ratio)
        return image

    def acquire_still(
        self, scene: Array, sigma: float = 0.0, rng: np.random.Generator | None = None
    ) -> Array:
        """Return one image of a scene (grid of the head) that does not move.

        `sigma` is the standard deviation of the noise in each complex component, see `magnitude`.
        """
        return magnitude(self.acquire_ideal(self.resample_scene(scene)), sigma, rng)

    def prepare(self, dense: Array) -> Array:
        """Prepare a scene on the dense grid for `acquire_moving`, as spline coefficients.

        The scene is averaged over the slice and low-pass filtered above the frequencies that the
        acquisition can measure in any pose. Each volume then needs only one sampling.
        """
        slice_ratio = self.ratio[2]
        slice_profile = np.full(slice_ratio + 1, 1.0 / slice_ratio, dtype=np.float32)
        slice_profile[[0, -1]] /= 2
        thick_slices = ndimage.convolve1d(dense, slice_profile, axis=2, mode="nearest")
        (x, y, z), (width, height, _) = dense.shape, self.grid[0]
        kx = np.fft.fftfreq(x)[:, None] * x / (0.8 * width)
        ky = np.fft.rfftfreq(y)[None, :] * y / (0.8 * height)
        is_measured = ((kx**2 + ky**2) <= 1).astype(np.float32)
        for slice_number in range(z):
            thick_slices[..., slice_number] = np.fft.irfft2(
                np.fft.rfft2(thick_slices[..., slice_number]) * is_measured, s=(x, y)
            )
        return spline_coefficients(thick_slices)

    def acquire_moving(
        self,
        resting: Array,
        motion: Array,
        changes: Iterable[tuple[Array, Array]] = (),
        *,
        modulation: Array | None = None,
        sigma: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Return one volume of a moving head (X, Y, Z; float32).

        The distortion moves with the head, so that the motion of the images is exactly rigid.

        `changes` are signal changes, each with the fraction of the change at the time of each
        slice (Z,). They and `resting` are as returned by `prepare`. `motion` is the transform of a
        point of the reference volume to its position in this volume (4 x 4, RAS+ mm). `modulation`
        is a factor on the sampling grid (drift, physiology, approach to the steady state). `sigma`
        is the standard deviation of the noise in each complex component. If `rng` is None, no
        noise is added.
        """
        shape, affine = self.sampling_grid
        matrix = np.linalg.inv(self.dense_grid[1]) @ invert(motion) @ affine
        scene = sample_grid(resting, matrix, shape)
        for change, slice_fractions in changes:
            fractions = np.asarray(slice_fractions, dtype=np.float32)
            if np.abs(fractions).max() > 1e-6:
                scene += sample_grid(change, matrix, shape) * fractions
        if modulation is not None:
            scene *= modulation
        measured_image = scene * self._coil_field
        for axis, crop in enumerate(self._crop_matrices):
            measured_image = apply_along(crop, measured_image, axis)
        return magnitude(measured_image, sigma, rng)

    @cached_property
    def _coil_field(self) -> Array:
        """Complex sensitivity of the coil on the sampling grid (complex64)."""
        return self._compute_sensitivity(*self.sampling_grid)

    def _compute_sensitivity(self, shape: tuple[int, ...], affine: Array) -> Array:
        """Return the complex sensitivity of the coil on a grid (complex64)."""
        rng = np.random.default_rng(self.coil)
        phase = _PHASE_RAD * polynomial(rng, affine, shape)
        return np.asarray(
            (1 + self.receive_field_size * polynomial(rng, affine, shape)) * np.exp(1j * phase),
            dtype=np.complex64,
        )

    @cached_property
    def _crop_matrices(self) -> list[Array]:
        """Matrices that crop the center of k-space along both in-plane axes.

        The second matrix includes the blurring by the readout.
        """
        crops = [
            crop_matrix_complex(self.sampling_grid[0][axis], self.grid[0][axis]) for axis in (0, 1)
        ]
        return [
            matrix.astype(np.complex64)
            for matrix in (crops[0], _make_readout_blur(self.grid[0][1]) @ crops[1])
        ]


def magnitude(image: Array, sigma: float = 0.0, rng: np.random.Generator | None = None) -> Array:
    """Return the magnitude of a complex image after adding noise (float32).

    The image may have any shape. `sigma` is the standard deviation of the noise in each complex
    component. If `rng` is None, no noise is added.
    """
    noisy_image = image
    if sigma > 0 and rng is not None:
        noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
        noisy_image = image + (noise[0] + 1j * noise[1])
    return np.ascontiguousarray(np.abs(noisy_image), dtype=np.float32)


def _make_readout_blur(lines: int) -> Array:
    """Return the matrix that blurs along phase encoding by decay during the readout (Y, Y)."""
    k = np.arange(-(lines // 2), lines - lines // 2)  # frequency of each line, in readout order
    decay = np.exp(-(k / lines) * READOUT_S / _READOUT_T2STAR_S)
    fourier = np.exp(-2j * np.pi * np.outer(k, np.arange(lines)) / lines)
    return fourier.conj().T @ (decay[:, None] * fourier) / lines


def draw_distortion(
    rng: np.random.Generator, grid: ScanGrid, is_head: Array, size_mm: float
) -> Array:
    """Draw a displacement along the phase-encoding axis (y).

    The displacement is smooth and largest at the front and bottom of the head, close to air. Its
    affine part is removed, as shimming would do. `grid` is shape and voxel-to-world matrix (4 x 4,
    RAS+ mm), and `is_head` are the voxels of the head on it (3D, boolean). `size_mm` is the
    largest displacement in the head (mm). Returns the displacement (3D, float32; mm).
    """
    shape, affine = grid
    x, y, z = np.ix_(
        *[
            affine[axis, axis] * np.arange(size, dtype=np.float32) + affine[axis, 3]
            for axis, size in enumerate(shape)
        ]
    )
    field = np.zeros(shape, dtype=np.float32)
    for center_mm, sigma_mm, strength in _FIELD_SOURCES:
        cx, cy, cz = np.asarray(center_mm) + rng.uniform(-4, 4, 3)
        squared_distance = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
        field += strength * np.exp(-squared_distance / (2 * sigma_mm**2))
    field += 0.15 * polynomial(rng, affine, shape)
    field -= _fit_affine_part(field, is_head, x, y, z)
    return np.asarray(field * (size_mm / np.abs(field[is_head]).max()), dtype=np.float32)


def _fit_affine_part(field: Array, is_head: Array, x: Array, y: Array, z: Array) -> Array:
    """Return the affine function of position that fits a field in the head best (float32).

    The field and the voxels of the head are 3D. `x`, `y` and `z` are coordinates along each axis
    (mm), in shapes that are broadcast to the field.
    """
    regressors = [
        np.broadcast_to(regressor, field.shape)[is_head] for regressor in (np.float32(1), x, y, z)
    ]
    design = np.stack(regressors, axis=1).astype(np.float64)
    offset, *slopes = np.linalg.lstsq(design, field[is_head].astype(np.float64), rcond=None)[0]
    return (offset + slopes[0] * x + slopes[1] * y + slopes[2] * z).astype(np.float32)


# center (RAS mm), size (SD, mm) and strength of sources of the distortion: front of the head, and
# bottom on the left and on the right
_FIELD_SOURCES = (
    ((0, 62, 0), 22, 1.0),
    ((-52, -10, -25), 20, -0.7),
    ((52, -10, -25), 20, -0.7),
)
