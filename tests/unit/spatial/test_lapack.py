"""Test Cholesky factors and triangular solutions in place against numpy in double precision."""

import numpy as np
import pytest

from bids_sr.spatial.lapack import factor_in_place, solve_in_place


def positive_definite(size, seed=0):
    """Return a well-conditioned symmetric matrix in single precision."""
    draws = np.random.default_rng(seed).standard_normal((size, 2 * size))
    return (draws @ draws.T / (2 * size) + np.eye(size)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 7, 150])
def test_the_lower_triangle_is_the_cholesky_factor(size):
    matrix = positive_definite(size)
    expected = np.linalg.cholesky(matrix.astype(float))
    above = np.triu_indices(size, 1)
    matrix[above] = np.nan  # The upper triangle is not read …
    root = factor_in_place(matrix)
    assert root is matrix
    np.testing.assert_allclose(np.tril(root), expected, atol=2e-5)
    assert np.isnan(root[above]).all()  # … and not changed.


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_are_solved_in_place(transposed):
    matrix = positive_definite(60)
    lower = np.linalg.cholesky(matrix.astype(float))
    root = factor_in_place(matrix)
    root[np.triu_indices(60, 1)] = np.nan
    rows = np.random.default_rng(1).standard_normal((5, 60)).astype(np.float32)
    expected = np.linalg.solve(lower.T if transposed else lower, rows.T).T
    solve_in_place(root, rows, transposed=transposed)
    np.testing.assert_allclose(rows, expected, atol=2e-5)


def test_only_the_given_rows_are_solved():
    root = factor_in_place(positive_definite(20))
    rows = np.ones((4, 20), np.float32)
    solve_in_place(root, rows[:0], transposed=True)
    assert (rows == 1).all()
    solve_in_place(root, rows[:2], transposed=False)
    assert (rows[2:] == 1).all()
    assert not (rows[:2] == 1).all()


def test_a_matrix_that_is_not_positive_definite_is_rejected():
    matrix = np.eye(4, dtype=np.float32)
    matrix[2, 2] = -1
    with pytest.raises(np.linalg.LinAlgError, match="leading 3 rows"):
        factor_in_place(matrix)


@pytest.mark.parametrize(
    ("matrix", "named"),
    [
        (np.eye(4), "float64"),
        (np.ones((2, 3), np.float32), r"\(2, 3\)"),
        (np.eye(6, dtype=np.float32)[::2, ::2], "contiguous"),
        (np.asfortranarray(np.tri(4, dtype=np.float32)), "contiguous"),
        (np.ones(4, np.float32), "1 axes"),
        (np.broadcast_to(np.ones((1, 1), np.float32), (1, 1)), "read-only"),
    ],
)
def test_arrays_that_lapack_would_misread_are_rejected(matrix, named):
    with pytest.raises(ValueError, match=named):
        factor_in_place(matrix)
