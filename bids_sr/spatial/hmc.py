"""Rigid head motion of a series by Gauss-Newton, one volume in memory.

Model for a volume I and the reference R, both smoothed: I(T p) = (1 + sum_k b_k f_k(p)) R(p) +
noise, for points p of the head in the reference (RAS mm), T rigid about their center, f_k the
monomials up to a small degree: the constant takes gain changes, the others a smooth intensity bias
that drifts and would otherwise be read as motion. The step is taken on the reference's side: its
gradients never change, so the normal matrix is made once a run; what is sampled anew is only the
volume. Samples that leave the field of view are dropped. Local signal changes (activation,
vessels, eyes) must not move the head: samples whose residuals vary over time more than most, as
learned from volumes spread over the run, lose weight for good, and residuals that stand out in one
volume lose it there.

Smoothing and tolerances are made for human heads, infants' included; in a smaller head, such as a
rodent's, they are in proportion.

Along an axis of fewer than `LEAST_SAMPLES` voxels motion is not estimated: the head moves in the
plane of the others.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Float, Mask, parts_of
from bids_sr.io.grids import LEAST_SAMPLES
from bids_sr.spatial import resampling
from bids_sr.spatial.masks import head_scale
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.transforms import invert, rigid_matrix, rigid_params

_LOGGER = logging.getLogger(__name__)


# Choices of the estimate, ours; lengths in mm are those for human heads (`masks.head_scale`)
_FWHM_MM = 5.0  # Gaussian smoothing of reference and volumes at the final level
_COARSE_FWHM_MM = (16.0, 8.0)  # the same at the levels that catch large jumps, coarsest first
_BIAS_DEGREE = 2  # of the polynomial of the intensity bias; 0 is a gain
_MAX_ITERATIONS = 25  # Gauss-Newton steps a level
_TOLERANCE_MM = 2e-3  # a step that moves no point at `_RADIUS_MM` by more ends a level
_RADIUS_MM = 70.0
_QUICK_SAMPLES = 8000  # of the coarse levels, and of the first steps at the final one
# residuals above this many robust standard deviations lose weight, those above twice it all of it
_OUTLIER = 2.5
# samples whose residual variance is r times the median, r above this, weigh (_UNSTEADY / r) ** 2
_UNSTEADY = 1.3
# volumes whose residual is above this many times the median's tell nothing about unsteady samples
_SPOILED = 3.0
# a relative residual above this many times its running median sends a volume to the coarse levels
_JUMP = 1.3
_MIN_INSIDE = 0.3  # least share of the samples that must lie in the field of view
_PAD = 3  # samples that coefficients are wider: points farther out see the edge alone
_LEAST_FILTERED = 24  # samples along each axis from which `filter_spline` is exact
_STRIP = 4096  # samples whose rows of the Jacobian stay in the cache


@frozen
class MotionEstimates:
    """Head motion of T volumes.

    `params`: (T, 6) translation of the head's center (mm) and rotation vector (rad), as
    `transforms.rigid_params`.
    """

    matrices: Float
    params: Float
    residual: Float


def _bias_basis(points: Array, center: Array, degree: int) -> Float:
    """Return monomials up to `degree` at points (N, 3; mm), (N, K).

    Coordinates are scaled to -1..1. The first monomial is constant.

    `center`: point that becomes the origin of the coordinates (3,; mm). Value of each monomial at
    each point (N, K).
    """
    scaled = (np.asarray(points) - center) / max(float(np.abs(points - center).max()), 1e-9)
    columns = [np.ones(len(scaled))]
    for order in range(1, degree + 1):
        columns += [
            scaled[:, axes].prod(axis=1)
            for axes in map(list, combinations_with_replacement(range(3), order))
        ]
    return np.stack(columns, axis=1)


def _thin_axes(shape: tuple[int, ...]) -> list[int]:
    """Axes of a volume (X, Y, Z) along which no motion is estimated."""
    return [axis for axis in range(3) if shape[axis] < LEAST_SAMPLES]


def _free_motion(shape: tuple[int, ...], affine: Array) -> Float:
    """Return the motion that a grid can show, (6, K).

    Each way to move has a translation (mm) and a rotation vector (rad), in RAS.

    All six where no axis is thin; with one, two translations and one turn in the plane of the
    other axes.
    """
    thin = _thin_axes(shape)
    if not thin:
        return np.eye(6)
    axes = affine[:3, :3] / voxel_sizes(affine)
    columns = [np.r_[axes[:, axis], np.zeros(3)] for axis in range(3) if axis not in thin]
    if len(thin) == 1:
        first, second = (column[:3] for column in columns)
        columns.append(np.r_[np.zeros(3), np.cross(first, second)])
    return np.stack(columns, axis=1) if columns else np.zeros((6, 0))


class _Level:
    """The reference at one smoothness: sample points, values, Jacobian and normal matrix."""

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
        smooth = self.smooth(reference)
        voxels = np.argwhere(head)
        if samples is not None:
            voxels = voxels[:: max(1, len(voxels) // samples)]
        self.points = apply_affine(affine, voxels)
        self.center = self.points.mean(axis=0)
        at = tuple(voxels.T)
        self.values = smooth[at].astype(np.float64)
        thin = _thin_axes(smooth.shape)
        self.always = np.isin(range(3), thin)  # nothing leaves the field of view along these axes
        self.free = _free_motion(smooth.shape, affine)
        along = [
            np.zeros(len(voxels)) if k in thin else np.gradient(smooth, axis=k)[at]
            for k in range(3)
        ]
        gradient = np.stack(along, axis=-1) @ self.inverse[:3, :3]
        basis = _bias_basis(self.points, self.center, bias_degree)
        motion = np.hstack([gradient, np.cross(self.points - self.center, gradient)]) @ self.free
        self.jacobian = np.hstack([motion, basis * self.values[:, None]])
        self.scale = np.maximum(np.sqrt((self.jacobian**2).mean(axis=0)), 1e-12)
        self.jacobian /= self.scale
        self.weighted = self.jacobian
        self.normal = self.jacobian.T @ self.jacobian
        self.power = float((self.values**2).mean())

    def weigh(self, steady: Float) -> None:
        """Give each sample the weight that its residuals over time deserve."""
        self.weighted = self.jacobian * steady[:, None]
        self.normal = self.weighted.T @ self.jacobian

    def smooth(self, volume: Array) -> Array:
        return ndimage.gaussian_filter(
            np.asarray(volume, dtype=np.float32), self.sigma, mode="nearest", truncate=3.0
        )

    def coefficients(self, volume: Array) -> Array:
        """Coefficients of the spline of the smoothed volume, edges repeated `_PAD` times."""
        smooth = np.ascontiguousarray(self.smooth(volume))
        if min(smooth.shape) < _LEAST_FILTERED:
            spline = ndimage.spline_filter(smooth, order=3, output=np.float32)
        else:
            spline = resampling.filter_spline(smooth)
        return np.pad(spline, _PAD, mode="edge")

    def difference(self, coefficients: Array, matrix: Array) -> tuple[Float, Mask]:
        """Return the volume at the moved samples minus the reference, and samples in the FOV."""
        from bids_sr.spatial.spline_kernels import compare_moved

        residual = np.empty(len(self.points))
        inside = np.empty(len(self.points), bool)
        to_voxel = np.ascontiguousarray(self.inverse @ matrix)
        compare_moved(
            coefficients, self.points, to_voxel, _PAD, self.always, self.values, residual, inside
        )
        return residual, inside

    def step(self, residual: Float, inside: Array, weights: Float | None) -> tuple[Float, Float]:
        """Fit motion (6: mm, rad) and bias by least squares, and the residual both leave."""
        j = self.jacobian
        if weights is not None:
            weights = np.where(inside, weights, 0.0)[:, None]
            normal, right = np.zeros((j.shape[1],) * 2), np.zeros(j.shape[1])
            for part in parts_of(len(j), _STRIP):
                weighted = self.weighted[part] * weights[part]
                normal += weighted.T @ j[part]
                right += weighted.T @ residual[part]
        else:
            normal = self.normal
            if not inside.all():
                normal = normal - self.weighted[~inside].T @ j[~inside]
            right = self.weighted.T @ residual
        ridge = 1e-9 * np.trace(normal) / len(normal) * np.eye(len(normal))
        x = np.linalg.solve(normal + ridge, right)
        moved = self.free @ (x / self.scale)[: self.free.shape[1]]
        return moved, np.where(inside, residual - j @ x, 0.0)


class MotionEstimator:
    """Registration of volumes to one reference.

    Everything that does not depend on the volume is computed here, once.

    ValueError where shapes differ, or the mask leaves too little to register.

    `reference`, `mask`: (X, Y, Z), and the head in it, dilated by `margin` voxels so that its
    outline counts; `affine`: voxel to RAS mm of reference and volumes.
    """

    def __init__(self, reference: Array, mask: Array, affine: Array, margin: int = 2) -> None:
        if reference.ndim != 3 or mask.shape != reference.shape:
            raise ValueError(
                f"the reference image {reference.shape} and the mask {mask.shape} must have "
                "the same three-dimensional shape"
            )
        head = np.asarray(mask) > 0
        if margin:
            head = ndimage.binary_dilation(head, iterations=margin)
        for axis, size in enumerate(head.shape):  # the outermost samples have one-sided gradients
            if size > 4:
                head[(slice(None),) * axis + ([0, -1],)] = False
        if head.sum() < 100:
            raise ValueError(
                f"the head mask contains only {int(head.sum())} voxels, but at least 100 are "
                "required to estimate head motion"
            )
        scale = head_scale(np.asarray(mask) > 0, affine)
        self._tolerance, self._radius = scale * _TOLERANCE_MM, scale * _RADIUS_MM
        # Coarse levels see a gain only: a polynomial could explain a large displacement away.
        self._coarse = [
            _Level(reference, head, affine, scale * fwhm, bias_degree=0, samples=_QUICK_SAMPLES)
            for fwhm in _COARSE_FWHM_MM
        ]
        self._fine, self._quick = (
            _Level(reference, head, affine, scale * _FWHM_MM, bias_degree=_BIAS_DEGREE, samples=n)
            for n in (None, _QUICK_SAMPLES)
        )
        self.center = self._fine.center

    def calibrate(self, volumes: Iterable[Array]) -> None:
        """Learn from volumes of the run which samples change without motion; downweight them.

        Volumes that fit much worse than the others, such as those with an artifact, are ignored.
        `volumes`: volumes spread over the run (3D each); fewer than 8 usable ones change nothing.
        """
        fine = self._fine
        unexplained: list[Float] = []
        sampled: list[Mask] = []
        matrix = np.eye(4)
        cost = np.inf
        for volume in volumes:
            coefficients = fine.coefficients(volume)
            matrix, cost = self._near(volume, coefficients, [matrix, np.eye(4)], cost * _JUMP)
            residual, inside = fine.difference(coefficients, matrix)
            unexplained.append(fine.step(residual, inside, None)[1].astype(np.float32))
            sampled.append(inside)
        if len(unexplained) < 8:
            return
        power = np.array([np.square(left, dtype=np.float64).mean() for left in unexplained])
        # an artifact in a single volume would hide the samples that vary throughout the run
        usable = np.flatnonzero(power <= _SPOILED**2 * np.median(power))
        if len(usable) < 8:
            return
        total, square, seen = (np.zeros(len(fine.points)) for _ in range(3))
        for t in usable:
            total += unexplained[t]
            square += np.square(unexplained[t], dtype=np.float64)
            seen += sampled[t]
        variance = square / np.maximum(seen, 1) - (total / np.maximum(seen, 1)) ** 2
        typical = _UNSTEADY * float(np.median(variance[seen > 0]))
        if typical > 0:
            fine.weigh((typical / np.maximum(variance, typical)) ** 2)

    def _run(
        self,
        level: _Level,
        coefficients: Array,
        start: Float,
        *,
        tolerance: float,
        robust: bool = False,
    ) -> tuple[Float, float]:
        """(transform, relative residual) of one level from one start."""
        matrix, weights, cost = start, None, np.inf
        for _ in range(_MAX_ITERATIONS):
            residual, inside = level.difference(coefficients, matrix)
            if inside.mean() < _MIN_INSIDE:
                return start, np.inf
            x, left = level.step(residual, inside, weights)
            cost = float(np.sqrt((left**2).sum() / inside.sum() / level.power))
            matrix = matrix @ invert(rigid_matrix(x, level.center))
            size = max(np.abs(x[:3]).max(), np.abs(x[3:]).max() * self._radius)
            if size < tolerance and (weights is not None or not robust):
                break
            if robust and size < 50 * tolerance:
                # 1 up to `_OUTLIER` robust standard deviations, falling to 0 at twice as many
                sigma = 1.4826 * float(np.median(np.abs(left[inside]))) + 1e-12
                weights = np.clip(2.0 - np.abs(left) / (_OUTLIER * sigma), 0.0, 1.0)
        return matrix, cost

    def fit(
        self, volume: Array, starts: Sequence[Array], expected: float = np.inf
    ) -> tuple[Float, float]:
        """Fit the transform from a reference point to its position in `volume` (RAS mm).

        Also returns the relative residual.

        `starts`: matrices to start from; the first alone is tried unless its residual is above
        `expected`. `expected`: relative residual of a good fit; infinity always goes through the
        coarse levels. Transform (4 x 4), residual (infinite outside the field of view) and steps.
        """
        coefficients = self._fine.coefficients(volume)
        near, cost = self._near(volume, coefficients, starts, expected)
        if not np.isfinite(cost):
            return near, cost
        return self._run(self._fine, coefficients, near, tolerance=self._tolerance, robust=True)

    def _near(
        self, volume: Array, coefficients: Array, starts: Sequence[Array], expected: float
    ) -> tuple[Float, float]:
        """As `fit`, from a part of the samples: within some hundredths of a mm."""
        best = starts[0], np.inf
        if np.isfinite(expected):
            best = self._run(self._quick, coefficients, starts[0], tolerance=10 * self._tolerance)
            if best[1] <= expected:
                return best
        coarse = [level.coefficients(volume) for level in self._coarse]
        for matrix in starts:
            for level, smooth in zip(self._coarse, coarse, strict=True):
                matrix, _ = self._run(level, smooth, matrix, tolerance=50 * self._tolerance)
            found = self._run(self._quick, coefficients, matrix, tolerance=10 * self._tolerance)
            best = min(best, found, key=lambda fit: fit[1])
        return best


def estimate_motion(
    volumes: Iterable[Array],
    reference: Array,
    mask: Array,
    affine: Array,
    *,
    margin: int = 2,
    calibration: Iterable[Array] = (),
) -> MotionEstimates:
    """Estimate the rigid motion of each volume against a reference.

    Volumes are taken one by one, in order, as acquired.

    Each volume starts where the one before it was found. If that fits worse than usual (a jump)
    the coarse levels are run from there and from no motion, and the better fit is kept. Unsteady
    samples are learned from `calibration`, at least 8 volumes spread over the run; `margin` is
    that of `MotionEstimator`.

    Parameters
    ----------
    volumes : Iterable[Array]
        Volumes in the order of acquisition, on the grid of the reference (3D each).
    reference : Array
        Image to which volumes are registered (3D).
    mask : Array
        Voxels of the head in the reference (3D).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    margin : int, optional
        Number of voxels by which the mask is dilated.
    calibration : Iterable[Array], optional
        Volumes spread over the run to learn unsteady samples from; empty: none.

    Returns
    -------
    MotionEstimates
        Transforms, parameters, residuals and steps of all volumes.

    Raises
    ------
    ValueError
        There is not a single volume.
    """
    estimator = MotionEstimator(reference, mask, affine, margin)
    estimator.calibrate(calibration)
    matrices: list[Float] = []
    residuals = []
    recent: deque[float] = deque(maxlen=50)
    for t, volume in enumerate(volumes):
        expected = _JUMP * float(np.median(recent)) if recent else np.inf
        starts = [matrices[-1], np.eye(4)] if matrices else [np.eye(4)]
        matrix, cost = estimator.fit(volume, starts, expected)
        if not np.isfinite(cost):
            _LOGGER.warning(
                "Most of volume %d is outside the field of view. The head-motion estimate of "
                "the previous volume is used instead.",
                t,
            )
        else:
            recent.append(cost)
        matrices.append(matrix)
        residuals.append(cost)
    if not matrices:
        raise ValueError("the list of volumes is empty, so head motion cannot be estimated")
    return MotionEstimates(
        matrices=np.stack(matrices),
        params=np.stack([rigid_params(m, estimator.center) for m in matrices]),
        residual=np.array(residuals),
    )
