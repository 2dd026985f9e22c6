"""Rigid head motion of a series by Gauss-Newton, with one volume in memory.

The model for a volume I and the reference R, both smoothed, is I(T p) = (1 + sum_k b_k f_k(p))
R(p) + noise for points p of the head in the reference (RAS mm). T is rigid about the center of
these points, and f_k are monomials up to a small degree. The constant monomial accounts for
changes in gain. The other monomials account for a smooth intensity bias that drifts and would
otherwise be mistaken for motion.

Gradients are computed from the reference. They do not change, so the normal matrix is computed
once per run, and only the volume is resampled in each step. Samples outside the field of view are
excluded.

Local signal changes (activation, vessels, eyes) must not affect the motion estimate. Therefore
samples with unusually variable residuals in volumes spread over the run are downweighted
throughout, and samples with outlying residuals in one volume are downweighted in that volume.

Smoothing and tolerances are chosen for human heads, including infants. In a smaller head, such as
a rodent's, they are scaled in proportion.

Along an axis of fewer than `LEAST_SAMPLES` voxels motion is not estimated; the head moves only in
the plane of the other axes.

Over 24 known poses, the mean rms error is .010 mm here, .059 mm with BOLDRigid of ANTs in 18 times
the processor time, and .025 mm with an antsRegistration tuned for accuracy in 130 times.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage

from bids_sr.io.arrays import Array, Float, MaskArray, iterate_parts
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import LEAST_SAMPLES
from bids_sr.spatial import resampling
from bids_sr.spatial.masks import head_scale
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.transforms import invert, rigid_matrix, rigid_params

_LOGGER = logging.getLogger(__name__)
MAD_TO_SD = 1.4826
"""Ratio of standard deviation to median absolute deviation for a Gaussian."""

# The following values are our choices. Lengths in mm are for human heads and are scaled by
# `masks.head_scale`.
_CELL_MM = 40.0  # mm, cells of the head with independent residuals
_FWHM_MM = 5.0  # mm, Gaussian smoothing of reference and volumes at the final level
_LOWRES_FWHM_MM = (16.0, 8.0)  # mm, smoothing at the low-resolution levels for large jumps
_BIAS_DEGREE = 2  # polynomial degree of the intensity bias; with 0, only the gain is fitted
_MAX_ITERATIONS = 25  # Gauss-Newton steps per level
_TOLERANCE_MM = 2e-3  # mm, largest movement of a point at `_RADIUS_MM` in the last step of a level
# tolerances of fits that are refined afterwards, and movement below which samples are weighted,
# relative to `_TOLERANCE_MM`
_SUBSET_TOLERANCE, _LOWRES_TOLERANCE, _WEIGHTING_TOLERANCE = 10, 50, 50
_RADIUS_MM = 70.0  # mm, distance from the center of a point that measures rotations
# samples at the low-resolution levels and in the first steps at the final level
_SUBSET_SAMPLES = 8000
# limit for residuals, in robust standard deviations: samples above it are downweighted, and
# samples above twice the limit are ignored
_OUTLIER_LIMIT = 2.5
# Samples with residual variance r > `_UNSTEADY_RATIO` times the median have weight
# (`_UNSTEADY_RATIO` / r)**2.
_UNSTEADY_RATIO = 1.3
# largest residual, relative to the median, of volumes that are used to detect unsteady samples
_ARTIFACT_RATIO = 3.0
# largest residual, relative to the running median, of a good fit; volumes with a larger residual
# are fitted again from the low-resolution levels
_JUMP_RATIO = 1.3
_MIN_INSIDE_FRACTION = 0.3  # smallest fraction of samples in the field of view
# samples added around the coefficients; at points farther out, only the edge value matters
_PAD_SAMPLES = 3
_MIN_FILTERED_SAMPLES = 24  # samples per axis above which `filter_spline` is exact
_SAMPLES_PER_BLOCK = 4096  # samples per block, whose rows of the Jacobian fit into the cache
_MIN_HEAD_VOXELS = 100
_MIN_CALIBRATION_VOLUMES = 8  # smallest number of volumes that show which samples are unsteady
_N_RECENT_VOLUMES = 50  # preceding volumes, whose median residual is expected of the next volume


@frozen
class MotionEstimates:
    """Head motion of T volumes.

    `matrices` transform a reference point to its position in each volume (T, 4, 4; RAS+ mm).
    `params` are the translation of the head's center (mm) and the rotation vector (rad) of each
    volume (T, 6), as in `transforms.rigid_params`. `residual` is relative to the power of the
    reference (T,).
    """

    matrices: Float
    params: Float
    residual: Float


def estimate_motion(
    volumes: Iterable[Array],
    reference: Array,
    mask: Array,
    affine: Array,
    *,
    margin: int = 2,
    calibration: Iterable[Array] = (),
) -> MotionEstimates:
    """Estimate the rigid motion of each volume relative to a reference.

    Volumes are processed in order, and the transform of the preceding volume is the start. If this
    fit is worse than usual (a jump), the low-resolution levels are run from that transform and
    from the identity, and the better fit is selected.

    Parameters
    ----------
    volumes : Iterable[Array]
        Volumes in the order of acquisition, on the grid of the reference (3D each).
    reference : Array
        Reference image of the registration (3D).
    mask : Array
        Head voxels of the reference (3D).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    margin : int, optional
        Dilation of the mask (voxels), which includes the outline of the head.
    calibration : Iterable[Array], optional
        At least 8 volumes spread over the run from which unsteady samples are detected; if empty,
        all samples have the same weight.

    Returns
    -------
    MotionEstimates
        Transforms, parameters and residuals of all volumes.
    """
    estimator = MotionEstimator(reference, mask, affine, margin)
    estimator.calibrate(calibration)
    matrices: list[Float] = []
    residuals = []
    recent_residuals: deque[float] = deque(maxlen=_N_RECENT_VOLUMES)
    for t, volume in enumerate(volumes):
        expected = _JUMP_RATIO * float(np.median(recent_residuals)) if recent_residuals else np.inf
        starts = [matrices[-1], np.eye(4)] if matrices else [np.eye(4)]
        matrix, residual = estimator.fit(volume, starts, expected)
        if not np.isfinite(residual):
            _LOGGER.warning(
                "Most of volume %d is outside the field of view. The head-motion estimate of "
                "the previous volume is used instead.",
                t,
            )
        else:
            recent_residuals.append(residual)
        matrices.append(matrix)
        residuals.append(residual)
    return MotionEstimates(
        matrices=np.stack(matrices),
        params=np.stack([rigid_params(matrix, estimator.center) for matrix in matrices]),
        residual=np.array(residuals),
    )


class _VolumeFit(NamedTuple):
    """Fit of a volume to the reference.

    `matrix` transforms a reference point to its position in the volume (4 x 4, RAS+ mm). `cost` is
    the root mean square residual relative to the reference; it is infinite if most samples are
    outside the field of view.
    """

    matrix: Float
    cost: float


class _SearchLevel:
    """Reference smoothed for one level of the search, with sample points and normal matrix.

    `reference` and `head` are (X, Y, Z). The centers of `head` voxels are possible samples.
    `affine` is the voxel-to-world matrix of the reference (4 x 4, RAS+ mm), and `fwhm` the
    Gaussian smoothing of reference and volumes (mm). `bias_degree` is the polynomial degree of the
    intensity bias; with 0, only a gain is fitted. `samples` is the approximate number of samples,
    evenly spaced; None uses all voxels.
    """

    def __init__(
        self,
        reference: Array,
        head: Array,
        affine: Array,
        fwhm: float,
        *,
        bias_degree: int,
        samples: int | None,
    ) -> None:
        self.sigma = fwhm / FWHM_PER_SIGMA / voxel_sizes(affine)
        self.inverse = np.linalg.inv(affine)
        smoothed_reference = self.smooth(reference)
        voxels = np.argwhere(head)
        if samples is not None:
            voxels = voxels[:: max(1, len(voxels) // samples)]
        self.points = apply_affine(affine, voxels)
        self.center = self.points.mean(axis=0)
        indices = tuple(voxels.T)
        self.values = smoothed_reference[indices].astype(np.float64)
        thin_axes = _find_thin_axes(smoothed_reference.shape)
        # along thin axes all points count as inside the field of view
        self.unbounded_axes = np.isin(range(3), thin_axes)
        self.motion_basis = _make_motion_basis(smoothed_reference.shape, affine)
        derivatives = [
            np.zeros(len(voxels))
            if axis in thin_axes
            else np.gradient(smoothed_reference, axis=axis)[indices]
            for axis in range(3)
        ]
        gradient = np.stack(derivatives, axis=-1) @ self.inverse[:3, :3]
        basis = _evaluate_bias_basis(self.points, self.center, bias_degree)
        motion_derivatives = (
            np.hstack([gradient, np.cross(self.points - self.center, gradient)])
            @ self.motion_basis
        )
        self.jacobian = np.hstack([motion_derivatives, basis * self.values[:, None]])
        self.scale = np.maximum(np.sqrt((self.jacobian**2).mean(axis=0)), 1e-12)
        self.jacobian /= self.scale
        self.weighted_jacobian = self.jacobian
        self.normal_matrix = self.jacobian.T @ self.jacobian
        self.power = float((self.values**2).mean())

    def weight_samples(self, steady: Float) -> None:
        """Weight the samples by their steadiness (N,), from 0 to 1."""
        self.weighted_jacobian = self.jacobian * steady[:, None]
        self.normal_matrix = self.weighted_jacobian.T @ self.jacobian

    def smooth(self, volume: Array) -> Array:
        """Smooth a volume by the Gaussian of this level."""
        return resampling.smooth(volume, self.sigma, truncate=3.0)

    def compute_coefficients(self, volume: Array) -> Array:
        """Return padded spline coefficients of the smoothed volume (`_PAD_SAMPLES` per side)."""
        smoothed_volume = self.smooth(volume)
        if min(smoothed_volume.shape) < _MIN_FILTERED_SAMPLES:
            inner_coefficients = ndimage.spline_filter(smoothed_volume, order=3, output=np.float32)
        else:
            inner_coefficients = resampling.filter_spline(smoothed_volume)
        return np.pad(inner_coefficients, _PAD_SAMPLES, mode="edge")

    def subtract_reference(self, coefficients: Array, matrix: Array) -> tuple[Float, MaskArray]:
        """Subtract the reference from a volume sampled at moved points.

        `coefficients` are spline coefficients of the volume, from `compute_coefficients`, and
        `matrix` transforms a reference point to its position in the volume (4 x 4, RAS+ mm).
        Returns differences, and True for samples inside the field of view (N,).
        """
        from bids_sr.spatial.spline_kernels import compare_moved

        residual = np.empty(len(self.points))
        is_inside = np.empty(len(self.points), bool)
        to_voxel = np.ascontiguousarray(self.inverse @ matrix)
        compare_moved(
            coefficients,
            self.points,
            to_voxel,
            _PAD_SAMPLES,
            self.unbounded_axes,
            self.values,
            residual,
            is_inside,
        )
        return residual, is_inside

    def fit_step(
        self, residual: Float, is_inside: Array, weights: Float | None
    ) -> tuple[Float, Float]:
        """Fit motion and bias to a residual by weighted least squares.

        `residual`, `is_inside` (the field of view) and `weights` describe the samples (N,); if
        `weights` is None, all samples inside count equally. Returns the translation (mm) and
        rotation vector (rad) of the step (6,), and the remaining residual (N,).
        """
        jacobian = self.jacobian
        if weights is not None:
            weights = np.where(is_inside, weights, 0.0)[:, None]
            n_columns = jacobian.shape[1]
            normal, right_side = np.zeros((n_columns, n_columns)), np.zeros(n_columns)
            for block in iterate_parts(len(jacobian), _SAMPLES_PER_BLOCK):
                weighted_block = self.weighted_jacobian[block] * weights[block]
                normal += weighted_block.T @ jacobian[block]
                right_side += weighted_block.T @ residual[block]
        else:
            normal = self.normal_matrix
            if not is_inside.all():
                normal = normal - self.weighted_jacobian[~is_inside].T @ jacobian[~is_inside]
            right_side = self.weighted_jacobian.T @ residual
        ridge = 1e-9 * np.trace(normal) / len(normal) * np.eye(len(normal))
        solution = np.linalg.solve(normal + ridge, right_side)
        motion = self.motion_basis @ (solution / self.scale)[: self.motion_basis.shape[1]]
        return motion, np.where(is_inside, residual - jacobian @ solution, 0.0)


class MotionEstimator:
    """Rigid registration of volumes to one reference.

    All quantities that do not depend on the volume are computed once, on creation.

    `reference` and `mask` are (X, Y, Z). The mask contains the head voxels of the reference and is
    dilated by `margin` voxels, which includes the outline of the head. `affine` is the
    voxel-to-world matrix of reference and volumes (4 x 4, RAS+ mm). Raises `ValueError` if the
    mask contains too few voxels.
    """

    def __init__(self, reference: Array, mask: Array, affine: Array, margin: int = 2) -> None:
        head = np.asarray(mask) > 0
        if margin:
            head = ndimage.binary_dilation(head, iterations=margin)
        # outermost samples are excluded, because their gradients are one-sided
        for axis, size in enumerate(head.shape):
            if size > 4:
                head[(slice(None),) * axis + ([0, -1],)] = False
        if head.sum() < _MIN_HEAD_VOXELS:
            raise ValueError(
                f"the head mask contains only {int(head.sum())} voxels, but at least "
                f"{_MIN_HEAD_VOXELS} are required to estimate head motion"
            )
        scale = head_scale(np.asarray(mask) > 0, affine)
        self._tolerance_mm = scale * _TOLERANCE_MM
        self._radius_mm = scale * _RADIUS_MM
        # The low-resolution levels fit only a gain, because a polynomial could compensate for a
        # large displacement.
        self._lowres_levels = [
            _SearchLevel(
                reference, head, affine, scale * fwhm, bias_degree=0, samples=_SUBSET_SAMPLES
            )
            for fwhm in _LOWRES_FWHM_MM
        ]
        self._final_level, self._subset_level = (
            _SearchLevel(
                reference, head, affine, scale * _FWHM_MM, bias_degree=_BIAS_DEGREE, samples=n
            )
            for n in (None, _SUBSET_SAMPLES)
        )
        self.center = self._final_level.center

    def estimate_covariance(self, volume: Array) -> Float:
        """Estimate the covariance of the fit of a volume that is aligned with the reference.

        Residuals are correlated within cells of `_CELL_MM`, and independent between cells: the
        result is the jackknife variance over cells, without a fit per cell. Returns the covariance
        (6, 6) of translation (mm) and rotation (rad) about the center.
        """
        level = self._final_level
        residual, is_inside = level.subtract_reference(
            level.compute_coefficients(volume), np.eye(4)
        )
        _, remaining = level.fit_step(residual, is_inside, None)
        _, cells = np.unique(
            np.floor(level.points / _CELL_MM).astype(int), axis=0, return_inverse=True
        )
        n_cells, n_columns = int(cells.max()) + 1, level.jacobian.shape[1]
        scores = np.zeros((n_cells, n_columns))
        np.add.at(scores, cells.ravel(), level.jacobian * remaining[:, None])
        inverse = np.linalg.pinv(level.normal_matrix)
        covariance = (
            inverse @ (scores.T @ scores) @ inverse * n_cells / max(1, n_cells - n_columns)
        )
        n_motion = level.motion_basis.shape[1]
        scaled = (covariance / np.outer(level.scale, level.scale))[:n_motion, :n_motion]
        return np.asarray(level.motion_basis @ scaled @ level.motion_basis.T)

    def calibrate(self, volumes: Iterable[Array]) -> None:
        """Downweight samples whose signal changes for reasons other than motion.

        Volumes with a much larger residual than the others, such as volumes with an artifact, are
        ignored. The volumes (3D) should be spread over the run. With fewer than 8 usable volumes,
        the weights do not change.
        """
        level = self._final_level
        residuals: list[Float] = []
        inside_by_volume: list[MaskArray] = []
        fit = _VolumeFit(np.eye(4), np.inf)
        for volume in volumes:
            coefficients = level.compute_coefficients(volume)
            fit = self._fit_subset(
                volume, coefficients, [fit.matrix, np.eye(4)], fit.cost * _JUMP_RATIO
            )
            residual, is_inside = level.subtract_reference(coefficients, fit.matrix)
            residuals.append(level.fit_step(residual, is_inside, None)[1].astype(np.float32))
            inside_by_volume.append(is_inside)
        if len(residuals) < _MIN_CALIBRATION_VOLUMES:
            return
        power = np.array([np.square(values, dtype=np.float64).mean() for values in residuals])
        # volumes with artifacts are excluded, because a single one could hide the samples that
        # vary throughout the run
        usable_volumes = np.flatnonzero(power <= _ARTIFACT_RATIO**2 * np.median(power))
        if len(usable_volumes) < _MIN_CALIBRATION_VOLUMES:
            return
        variance, n_inside = _compute_residual_variance(
            [residuals[t] for t in usable_volumes], [inside_by_volume[t] for t in usable_volumes]
        )
        variance_limit = _UNSTEADY_RATIO * float(np.median(variance[n_inside > 0]))
        if variance_limit > 0:
            level.weight_samples((variance_limit / np.maximum(variance, variance_limit)) ** 2)

    def fit(
        self, volume: Array, starts: Sequence[Array], expected: float = np.inf
    ) -> tuple[Float, float]:
        """Estimate the transform of a reference point to its position in a volume.

        The volume is on the grid of the reference (3D). `starts` are transforms (4 x 4). Only the
        first is tried unless its residual exceeds `expected`, the relative residual of a good fit;
        with infinity, all starts are tried at the low-resolution levels. Returns the transform (4
        x 4, RAS+ mm) and the relative residual, which is infinite if most samples are outside the
        field of view.
        """
        coefficients = self._final_level.compute_coefficients(volume)
        approximate_fit = self._fit_subset(volume, coefficients, starts, expected)
        if not np.isfinite(approximate_fit.cost):
            return approximate_fit
        return self._iterate(
            self._final_level,
            coefficients,
            approximate_fit.matrix,
            tolerance_mm=self._tolerance_mm,
            robust=True,
        )

    def _fit_subset(
        self, volume: Array, coefficients: Array, starts: Sequence[Array], expected: float
    ) -> _VolumeFit:
        """Estimate the transform as `fit` does, from a subset of samples.

        The subset is accurate to some hundredths of a millimeter.
        """
        subset_tolerance_mm = _SUBSET_TOLERANCE * self._tolerance_mm
        best_fit = _VolumeFit(starts[0], np.inf)
        if np.isfinite(expected):
            best_fit = self._iterate(
                self._subset_level, coefficients, starts[0], tolerance_mm=subset_tolerance_mm
            )
            if best_fit.cost <= expected:
                return best_fit
        lowres_coefficients = [level.compute_coefficients(volume) for level in self._lowres_levels]
        for start in starts:
            matrix = start
            for level, level_coefficients in zip(
                self._lowres_levels, lowres_coefficients, strict=True
            ):
                matrix = self._iterate(
                    level,
                    level_coefficients,
                    matrix,
                    tolerance_mm=_LOWRES_TOLERANCE * self._tolerance_mm,
                ).matrix
            fit = self._iterate(
                self._subset_level, coefficients, matrix, tolerance_mm=subset_tolerance_mm
            )
            best_fit = min(best_fit, fit, key=attrgetter("cost"))
        return best_fit

    def _iterate(
        self,
        level: _SearchLevel,
        coefficients: Array,
        start: Float,
        *,
        tolerance_mm: float,
        robust: bool = False,
    ) -> _VolumeFit:
        """Fit a volume at one level from one start, and return the start if the volume is outside.

        `coefficients` are the spline coefficients of the volume at this level, and `start` is a
        transform (4 x 4, RAS+ mm). The iteration ends if a point at the radius of the head moves
        by less than `tolerance_mm`. If `robust`, samples with outlying residuals are downweighted.
        """
        matrix, weights, cost = start, None, np.inf
        for _ in range(_MAX_ITERATIONS):
            residual, is_inside = level.subtract_reference(coefficients, matrix)
            if is_inside.mean() < _MIN_INSIDE_FRACTION:
                return _VolumeFit(start, np.inf)
            step, remaining_residual = level.fit_step(residual, is_inside, weights)
            cost = float(np.sqrt((remaining_residual**2).sum() / is_inside.sum() / level.power))
            matrix = matrix @ invert(rigid_matrix(step, level.center))
            step_mm = max(np.abs(step[:3]).max(), np.abs(step[3:]).max() * self._radius_mm)
            if step_mm < tolerance_mm and (weights is not None or not robust):
                break
            if robust and step_mm < _WEIGHTING_TOLERANCE * tolerance_mm:
                weights = _weight_residuals(remaining_residual, is_inside)
        return _VolumeFit(matrix, cost)


def _compute_residual_variance(
    residuals: Sequence[Float], inside_by_volume: Sequence[MaskArray]
) -> tuple[Float, Float]:
    """Return the variance of each sample's residual over volumes, and its number of volumes (N,).

    `residuals` (N, each) are 0 for samples outside the field of view (`inside_by_volume` False).
    """
    residual_sum, square_sum, n_inside = (np.zeros(len(residuals[0])) for _ in range(3))
    for residual, is_inside in zip(residuals, inside_by_volume, strict=True):
        residual_sum += residual
        square_sum += np.square(residual, dtype=np.float64)
        n_inside += is_inside
    n_volumes = np.maximum(n_inside, 1)
    return square_sum / n_volumes - (residual_sum / n_volumes) ** 2, n_inside


def _weight_residuals(residual: Float, is_inside: Array) -> Float:
    """Return weights of residuals (N,): 1 up to `_OUTLIER_LIMIT`, and 0 from twice this limit on.

    The limit is in robust standard deviations of the samples inside the field of view
    (`is_inside`).
    """
    sigma = MAD_TO_SD * float(np.median(np.abs(residual[is_inside]))) + 1e-12
    return np.clip(2.0 - np.abs(residual) / (_OUTLIER_LIMIT * sigma), 0.0, 1.0)


def _make_motion_basis(shape: tuple[int, ...], affine: Array) -> Float:
    """Return the degrees of freedom that can be estimated on a grid.

    `affine` is the voxel-to-world matrix of the grid (4 x 4, RAS+ mm). Returns translation (mm)
    and rotation vector (rad) in RAS of each degree of freedom (6, K). K is 6 if no axis is thin
    and 3 if one axis is thin: two translations and one rotation in the plane of the other axes.
    """
    thin_axes = _find_thin_axes(shape)
    if not thin_axes:
        return np.eye(6)
    axes = affine[:3, :3] / voxel_sizes(affine)
    columns = [np.r_[axes[:, axis], np.zeros(3)] for axis in range(3) if axis not in thin_axes]
    if len(thin_axes) == 1:
        first, second = (column[:3] for column in columns)
        columns.append(np.r_[np.zeros(3), np.cross(first, second)])
    return np.stack(columns, axis=1) if columns else np.zeros((6, 0))


def _find_thin_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the axes of a volume (X, Y, Z) along which motion is not estimated."""
    return [axis for axis in range(3) if shape[axis] < LEAST_SAMPLES]


def _evaluate_bias_basis(points: Array, center: Array, degree: int) -> Float:
    """Evaluate monomials of scaled coordinates up to `degree`.

    Coordinates of the points (N, 3; mm) are relative to `center` (3,; mm) and scaled to -1..1.
    Returns the value of each monomial at each point (N, K); the first monomial is constant.
    """
    scaled_points = (np.asarray(points) - center) / max(float(np.abs(points - center).max()), 1e-9)
    columns = [np.ones(len(scaled_points))]
    for order in range(1, degree + 1):
        columns += [
            scaled_points[:, axes].prod(axis=1)
            for axes in map(list, combinations_with_replacement(range(3), order))
        ]
    return np.stack(columns, axis=1)
