"""Test surface sampling of known values on a sphere and a folded sheet; values beyond the brain
are omitted.
"""

from collections.abc import Callable

import numpy as np
import pytest
from nibabel.affines import apply_affine

from bids_sr.spatial.surfaces import ribbon_means
from bids_sr.spatial.transforms import rigid_matrix

FACES = np.array([[0, 1, 2]])
_Field = Callable[[np.ndarray], np.ndarray]


def directions(count: int) -> np.ndarray:
    """Return points spread evenly over a sphere of radius 1."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)


def volume(
    field: _Field, inside: _Field, half: float = 56.0, zoom: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a field on an oblique grid about the origin, its mask and affine; 0 outside
    the mask.
    """
    size = int(2 * half / zoom)
    affine = np.diag([-zoom, zoom, zoom, 1.0])
    affine[:3, 3] = np.array([zoom, -zoom, -zoom]) * (size - 1) / 2
    affine = rigid_matrix([3, -2, 1, 0.1, -0.2, 0.3], [0, 0, 0]) @ affine
    points = apply_affine(affine, np.argwhere(np.ones((size,) * 3)))
    mask = inside(points).reshape((size,) * 3)
    return np.where(mask, field(points).reshape(mask.shape), 0), mask, affine


def around(points: np.ndarray) -> np.ndarray:
    """Return a value per direction: different on the left and right, in front and behind."""
    x, y, z = points.T / np.linalg.norm(points, axis=1)
    return 100 + 30 * x + 20 * y * z


def radius(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points, axis=1)


def sampled(white: np.ndarray, pial: np.ndarray, field: _Field, inside: _Field) -> np.ndarray:
    values, mask, affine = volume(field, inside)
    [ribbon] = ribbon_means([values], mask, affine, (white, FACES), (pial, FACES))
    assert ribbon.dtype == np.float32
    return ribbon


@pytest.mark.parametrize("edge", [42.8, 41.5])
def test_voxels_outside_the_brain_do_not_dilute_values(edge: float):
    """Let the mask end within the ribbon; beyond it, the map is 0."""
    points = directions(2000)
    values = sampled(40 * points, 43 * points, around, lambda positions: radius(positions) < edge)
    finite = np.isfinite(values)
    assert finite.mean() > 0.95
    assert np.abs(values / around(points) - 1)[finite].max() < 0.02


def test_vertices_outside_the_measurement_have_no_value():
    """Vertices are beyond the mask, or beyond the grid."""
    points = directions(1000)
    upper = points[:, 2] > 0.1
    cut = sampled(40 * points, 43 * points, around, lambda positions: positions[:, 2] > 0)
    assert np.isfinite(cut[upper]).all()
    assert np.isnan(cut[points[:, 2] < -0.1]).all()
    far = sampled(110 * points, 113 * points, around, lambda positions: radius(positions) > 0)
    assert np.isnan(far).all()


def test_values_on_a_folded_sheet_are_recovered():
    """Gyri are 12 mm wide and 10 mm high; the value differs on both banks of a sulcus."""
    wave, height, thick = 24.0, 5.0, 3.0
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-36, 36, 0.5), np.arange(-20, 20, 2.0)))
    slope = height * 2 * np.pi / wave * np.cos(2 * np.pi * x / wave)
    white = np.stack([x, y, height * np.sin(2 * np.pi * x / wave)], axis=1)
    normal = np.stack([-slope, 0 * x, 1 + 0 * x], axis=1) / np.sqrt(1 + slope**2)[:, None]
    pial = white + thick * normal

    def bank(positions: np.ndarray) -> np.ndarray:
        return 100 + 25 * np.sin(2 * np.pi * positions[:, 0] / wave) + 0.3 * positions[:, 1]

    depths = np.linspace(0, 1, 301)
    expected = np.mean([bank(white + depth * (pial - white)) for depth in depths], axis=0)
    values = sampled(white, pial, bank, lambda positions: radius(positions) < 52)
    assert np.abs(values / expected - 1).max() < 0.02
    assert np.ptp(values) > 40, "banks differ"
