"""Points that are mapped through files of transforms, against closed forms."""

from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import apply_affine as apply

from bids_sr.io.notices import InvalidInput
from bids_sr.preproc.ants import apply_to_points, load_ants
from bids_sr.spatial.itk_files import LPS, write_itk
from bids_sr.spatial.transforms import rigid_matrix

POINTS = np.random.default_rng(7).uniform(-40, 40, (500, 3))


def write_text(path: Path, kind: str, parameters: list[float], fixed: list[float]) -> Path:
    """Write a transform as ITK does (text, LPS)."""
    path.write_text(
        f"#Insight Transform File V1.0\n#Transform 0\nTransform: {kind}\n"
        f"Parameters: {' '.join(map(str, parameters))}\n"
        f"FixedParameters: {' '.join(map(str, fixed))}\n"
    )
    return path


def test_the_last_file_is_applied_first(tmp_path: Path) -> None:
    first = rigid_matrix([0, 0, 0, 0, 0, 0.5], [0, 0, 0])
    second = rigid_matrix([30, 0, 0, 0, 0, 0], [0, 0, 0])
    write_itk(tmp_path / "first.txt", first)
    write_itk(tmp_path / "second.txt", second)
    points = apply_to_points(POINTS, [tmp_path / "second.txt", tmp_path / "first.txt"])
    np.testing.assert_allclose(points, apply(second, apply(first, POINTS)), atol=1e-4)


def test_a_composite_applies_its_displacements_before_its_matrix(tmp_path: Path) -> None:
    """The displacement is linear in position, so that its linear interpolation is exact. It is 0
    outside the grid, whose axes are exchanged.
    """
    ants = load_ants(0)
    shape, origin, spacing = (26, 28, 24), np.array([70.0, -75, -80]), np.array([6.0, 6, 7])
    direction = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    slopes = np.array([[0.1, 0, 0.02], [0, -0.1, 0.05], [0.03, 0, 0.1]])
    grid = np.moveaxis(np.indices(shape), 0, -1) * spacing @ direction.T + origin  # LPS
    field = ants.from_numpy(
        (grid @ slopes.T).astype(np.float32),
        origin=tuple(origin),
        spacing=tuple(spacing),
        direction=direction,
        has_components=True,
    )
    matrix = rigid_matrix([4, 2, -3, 0.2, 0, 0.1], [0, 0, 0])
    affine = ants.create_ants_transform(
        transform_type="AffineTransform",
        matrix=(LPS @ matrix @ LPS)[:3, :3],
        translation=(LPS @ matrix)[:3, 3],
    )
    composite = ants.compose_ants_transforms(
        [ants.transform_from_displacement_field(field), affine]
    )
    ants.write_transform(composite, str(tmp_path / "warp.h5"))
    displaced = POINTS + (POINTS * LPS.diagonal()[:3]) @ slopes.T * LPS.diagonal()[:3]
    far_points = POINTS + 500
    np.testing.assert_allclose(
        apply_to_points(np.concatenate([POINTS, far_points]), [tmp_path / "warp.h5"]),
        apply(matrix, np.concatenate([displaced, far_points])),
        atol=1e-4,
    )


def test_splines_and_euler_angles_are_applied(tmp_path: Path) -> None:
    """Equal spline coefficients shift all points within the grid alike."""
    coefficients = np.repeat([3.0, -2.0, 5.0], 8**3).tolist()
    grid = [8, 8, 8, *[-100] * 3, *[30] * 3, *np.eye(3).ravel()]
    spline = write_text(tmp_path / "spline.txt", "BSplineTransform_double_3_3", coefficients, grid)
    np.testing.assert_allclose(
        apply_to_points(POINTS, [spline]) - POINTS, [[-3, 2, 5]] * 500, atol=1e-4
    )
    euler = write_text(
        tmp_path / "euler.txt", "Euler3DTransform_double_3_3", [0, 0, 0.5, 4, 5, 6], [1, 2, 3, 0]
    )
    turn = rigid_matrix([-4, -5, 6, 0, 0, 0.5], [-1, -2, 3])
    np.testing.assert_allclose(apply_to_points(POINTS, [euler]), apply(turn, POINTS), atol=1e-4)


@pytest.mark.parametrize("suffix", [".txt", ".h5"])
def test_a_damaged_file_is_an_error_instead_of_a_crash_in_ants(
    tmp_path: Path, suffix: str
) -> None:
    ants = load_ants(0)
    path = tmp_path / f"xfm{suffix}"
    ants.write_transform(ants.create_ants_transform(dimension=3), str(path))
    assert apply_to_points(POINTS, [path]) == pytest.approx(POINTS, abs=1e-4)
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(InvalidInput, match="xfm"):
            apply_to_points(POINTS, [path])


def test_files_that_ants_cannot_apply_are_rejected_by_name(tmp_path: Path) -> None:
    files = [
        write_text(
            tmp_path / "plane.txt", "AffineTransform_double_2_2", [1, 0, 0, 1, 0, 0], [0, 0]
        ),
        write_text(tmp_path / "short.txt", "BSplineTransform_double_3_3", [1], [1]),
        write_text(tmp_path / "other.txt", "OtherTransform_double_3_3", [1], [1]),
        tmp_path / "missing.txt",
    ]
    for file in files:
        with pytest.raises(InvalidInput, match=file.name):
            apply_to_points(POINTS, [file])
