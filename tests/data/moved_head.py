"""A folded head that moves by known rigid motions, as scanned in volumes of 5 mm."""

from functools import cache

import numpy as np
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.spatial.transforms import displacement, rigid_matrix

SHAPE = (40, 40, 18)
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])
AFFINE[:3, 3] = [-100, -100, -42]
NOISE = 0.01


@cache
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return a folded head at 2.5 mm, wider than the slices, as spline coefficients, and its
    affine.
    """
    rng = np.random.default_rng(7)
    shape = (80, 80, 64)
    points = (np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2) * 2.5
    radius = np.sqrt((points[0] / 68) ** 2 + (points[1] / 82) ** 2 + (points[2] / 62) ** 2)
    folds = ndimage.gaussian_filter(rng.normal(size=shape), 2.2)
    image = (0.7 + 0.3 * np.tanh(folds / folds.std())) * ndimage.gaussian_filter(
        (radius < 1).astype(float), 1.2
    )
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * 2.5
    return ndimage.spline_filter(image, order=3), affine


def scan(motion: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return the head as scanned after `motion`, which maps points of the reference to their new
    positions.
    """
    coefficients, affine = scene()
    points = np.indices(SHAPE).reshape(3, -1).T
    coordinates = apply(np.linalg.inv(affine) @ np.linalg.inv(motion) @ AFFINE, points)
    image = ndimage.map_coordinates(
        coefficients, coordinates.T, order=3, prefilter=False, cval=0.0
    ).reshape(SHAPE)
    return image + rng.normal(0, NOISE, SHAPE) if rng is not None else image


@cache
def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mask, brain points (mm) and their center."""
    mask = scan(np.eye(4)) > 0.2
    points = apply(AFFINE, np.argwhere(mask))
    return mask, points, points.mean(axis=0)


def draw_motion(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Draw a rigid motion of low..high mm and degrees in random directions."""

    def vector() -> np.ndarray:
        direction = rng.normal(size=3)
        return (
            direction / np.linalg.norm(direction) * np.exp(rng.uniform(np.log(low), np.log(high)))
        )

    return rigid_matrix([*vector(), *np.deg2rad(vector())], head()[2])


def motion_errors(estimated: np.ndarray, truth: list[np.ndarray]) -> np.ndarray:
    points = head()[1]
    return np.array(
        [
            np.sqrt((displacement(a, b, points) ** 2).mean())
            for a, b in zip(estimated, truth, strict=True)
        ]
    )


def make_reference(rng: np.random.Generator) -> np.ndarray:
    return scan(np.eye(4)) + rng.normal(0, NOISE / 4, SHAPE)
