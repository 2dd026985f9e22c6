"""Rigid parameters, ITK text and the high-resolution grid."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from nibabel.affines import apply_affine as apply
from nitransforms.linear import load as load_transform

from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.itk_files import read_itk, write_itk
from bids_sr.spatial.transforms import (
    hr_grid,
    rigid_matrix,
    rigid_params,
)

CENTER = np.array([3.0, -12.0, 25.0])


def test_quarter_turn_takes_x_to_y_about_the_center() -> None:
    matrix = rigid_matrix([0, 0, 0, 0, 0, np.pi / 2], CENTER)
    np.testing.assert_allclose(
        apply(matrix, [CENTER, CENTER + np.array([10, 0, 0])]),
        [CENTER, CENTER + np.array([0, 10, 0])],
        atol=1e-12,
    )
    np.testing.assert_allclose(
        apply(rigid_matrix([0, 0, 0, np.pi / 2, 0, 0], CENTER), CENTER + np.array([0, 5, 0])),
        CENTER + np.array([0, 0, 5]),
    )


def test_a_half_turn_is_recovered_and_a_scaling_rejected() -> None:
    matrix = rigid_matrix([0, 0, 0, np.pi, 0, 0], CENTER)
    np.testing.assert_allclose(
        rigid_matrix(rigid_params(matrix, CENTER), CENTER), matrix, atol=1e-9
    )
    with pytest.raises(InvalidInput, match="not a rigid"):
        rigid_params(np.diag([1, 1, 1.1, 1]), CENTER)


def test_itk_text_is_unchanged_after_writing_and_is_read_by_nitransforms(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    mats = np.stack([rigid_matrix(rng.normal(size=6), CENTER) for _ in range(3)])
    write_itk(tmp_path / "x.txt", mats)
    np.testing.assert_allclose(read_itk(tmp_path / "x.txt"), mats, atol=1e-14)
    transform = load_transform(tmp_path / "x.txt", fmt="itk")
    np.testing.assert_allclose(transform.matrix, mats, atol=1e-9)
    point = np.array([[10.0, 20.0, 30.0]])
    np.testing.assert_allclose(
        np.squeeze(transform[1].map(point)), apply(mats[1], point)[0], atol=1e-6
    )


def test_the_center_of_an_itk_file_is_applied(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 0 -1 0 1 0 0 0 0 1 5 0 0\nFixedParameters: 10 0 0\n"
    )
    # ITK, LPS: (x - c) rotated by 90 degrees, + c + t: (11, 0, 0) -> (15, 1, 0). In RAS the first
    # two coordinates change sign.
    np.testing.assert_allclose(
        apply(read_itk(tmp_path / "x.txt")[0], [-11.0, 0, 0]), [-15, -1, 0], atol=1e-12
    )


def test_other_files_are_rejected_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InvalidInput, match=r"x\.txt"):
        read_itk(tmp_path / "x.txt")
    (tmp_path / "y.txt").write_text(
        "#Insight Transform File V1.0\nTransform: BSplineTransform_double_3_3\nParameters:"
        " 0\nFixedParameters: 0\n"
    )
    with pytest.raises(InvalidInput, match=r"y\.txt"):
        read_itk(tmp_path / "y.txt")


@given(
    st.tuples(*[st.integers(3, 70)] * 3),
    st.tuples(*[st.sampled_from([1.0, 1.25, 1.5, 2.0, 3.0])] * 3),
)
def test_high_resolution_grid_keeps_the_outer_edges(
    shape: tuple[int, ...], factor: tuple[float, ...]
) -> None:
    affine = rigid_matrix([1, 2, 3, 0.1, 0.2, 0.3], CENTER) @ np.diag([3.0, 3.0, 4.0, 1.0])
    high_shape, high_affine = hr_grid(shape, affine, factor)
    np.testing.assert_allclose(apply(high_affine, [-0.5] * 3), apply(affine, [-0.5] * 3))
    np.testing.assert_allclose(
        apply(high_affine, np.array(high_shape) - 0.5), apply(affine, np.array(shape) - 0.5)
    )


@pytest.mark.parametrize(("flag", "order"), [("0", "yxz"), ("1", "xyz"), ("", "yxz")])
def test_euler_angles_of_itk_are_read(tmp_path, flag, order):
    """Rotations are Rz Rx Ry by default, as in antspyx, and Rz Ry Rx if the fourth fixed parameter
    is 1.
    """
    center = np.array([1.0, 2, 3])
    rotations = {
        axis: rigid_matrix([0, 0, 0, *turn], [0, 0, 0])[:3, :3]
        for axis, turn in (("x", (0.3, 0, 0)), ("y", (0, -0.2, 0)), ("z", (0, 0, 0.5)))
    }
    (tmp_path / "x.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n"
        f"Parameters: 0.3 -0.2 0.5 4 5 6\nFixedParameters: 1 2 3 {flag}\n"
    )
    # The first axis in `order` rotates first.
    turn = np.linalg.multi_dot([rotations[axis] for axis in reversed(order)])
    lps = np.diag([-1.0, -1, 1])
    point = np.array([10.0, -20, 7])
    expected = lps @ (turn @ (point - center) + center + [4, 5, 6])
    np.testing.assert_allclose(
        apply(read_itk(tmp_path / "x.txt")[0], (lps @ point)[None])[0], expected
    )
