"""Test the transform of points through files of transforms: as in ANTs; files of other kinds are
rejected.
"""

from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import apply_affine as apply

from bids_sr.registration.ants import map_points_with_ants
from bids_sr.spatial.composites import map_points
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.transforms import (
    TransformError,
    UnsupportedTransformError,
    rigid_matrix,
    voxel_centers,
)

RNG = np.random.default_rng(7)
POINTS = RNG.uniform(-60, 60, (500, 3))


def composite(path: Path, *, field: np.ndarray, matrix: np.ndarray) -> Path:
    """Write a composite transform as ITK does: an affine part (LPS), then a field, which is
    applied first.
    """
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("TransformGroup")
        x, y, z = field.shape[:3]
        # axes exchanged and reversed
        grid = [x, y, z, -70, -75, -80, 5, 6, 7, 0, -1, 0, 1, 0, 0, 0, 0, 1]
        parts = [
            ("CompositeTransform_float_3_3", [], []),
            (
                "AffineTransform_float_3_3",
                [*matrix[:3, :3].ravel(), *matrix[:3, 3]],
                [3.0, -2.0, 5.0],
            ),
            ("DisplacementFieldTransform_float_3_3", field.transpose(2, 1, 0, 3).ravel(), grid),
        ]
        for number, (kind, values, fixed) in enumerate(parts):
            part = group.create_group(str(number))
            part.create_dataset(
                "TransformType", data=[kind.encode()], dtype=h5py.string_dtype("ascii")
            )
            if kind[:2] != "Co":
                part["TransformParameters"] = np.asarray(values, dtype=np.float32)
                part["TransformFixedParameters"] = np.asarray(fixed, dtype=np.float64)
    return path


def test_points_move_through_files_of_several_kinds_as_in_ants(tmp_path: Path) -> None:
    from bids_sr.registration.ants import apply_to_points

    field = RNG.normal(0, 4, (26, 28, 24, 3)).astype(np.float32)
    deformed = composite(
        tmp_path / "d.h5", field=field, matrix=rigid_matrix([4, 2, -3, 0.2, 0, 0.1], [0, 0, 0])
    )
    write_itk(tmp_path / "a.txt", rigid_matrix([8, 0, -3, 0.1, 0.4, -0.2], [0, 0, 0]))
    grid = np.diag([9.0, 9.0, 9.0, 1.0])
    grid[:3, 3] = [-63, -63, -63]
    points = voxel_centers(np.ones((14, 14, 14), dtype=bool), grid)
    for chain in ([deformed, tmp_path / "a.txt"], [tmp_path / "a.txt", deformed]):
        expected = apply_to_points(points, chain, seed=1)
        assert np.abs(expected - points).max() > 20
        assert np.abs(map_points(points, chain) - expected).max() < 1e-3


def test_the_last_file_is_applied_first(tmp_path: Path) -> None:
    first, second = (
        rigid_matrix([0, 0, 0, 0, 0, 0.5], [0, 0, 0]),
        rigid_matrix([30, 0, 0, 0, 0, 0], [0, 0, 0]),
    )
    for name, matrix in (("first", first), ("second", second)):
        write_itk(tmp_path / f"{name}.txt", matrix)
    points = map_points(POINTS, [tmp_path / "second.txt", tmp_path / "first.txt"])
    assert points == pytest.approx(apply(second, apply(first, POINTS)))
    assert np.array_equal(map_points(POINTS, []), POINTS)


def test_other_files_are_rejected_by_name(tmp_path: Path) -> None:
    import h5py

    (tmp_path / "no.h5").write_bytes(b"no")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("TransformGroup/0")["TransformType"] = ["BSplineTransform_double_3_3"]
        file["TransformGroup/0/TransformParameters"] = [1.0]
        file["TransformGroup/0/TransformFixedParameters"] = [1.0]
    write_itk(tmp_path / "two.txt", np.stack([np.eye(4)] * 2))
    (tmp_path / "no.txt").write_text("no")
    for name in ("no.h5", "no.txt", "other.h5", "two.txt"):
        is_damaged = name.startswith("no")
        error = TransformError if is_damaged else UnsupportedTransformError
        with pytest.raises(error, match=name) as raised:
            map_points(POINTS, [tmp_path / name])
        assert isinstance(raised.value, UnsupportedTransformError) != is_damaged


@pytest.mark.parametrize("suffix", [".txt", ".h5"])
def test_a_damaged_transform_is_an_error_instead_of_a_crash_in_ants(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"xfm{suffix}"
    if suffix == ".txt":
        write_itk(path, np.eye(4))
    else:
        import ants

        transform = ants.create_ants_transform(transform_type="AffineTransform", dimension=3)
        ants.write_transform(transform, str(path))
    content = path.read_bytes()
    assert map_points_with_ants(POINTS, [path], seed=1) == pytest.approx(POINTS)
    for size in (0, 10, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(TransformError, match="xfm"):
            map_points_with_ants(POINTS, [path], seed=1)
