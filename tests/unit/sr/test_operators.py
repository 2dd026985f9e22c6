"""Test degradations of tensors: adjoint, geometry, and values computed by other code."""

import numpy as np
import pytest
import torch
from data.known_positions import AFFINE, blob, block_mean, centroid_mm, gaussian_decimate
from hypothesis import assume, given, settings, strategies as st

from bids_sr.spatial import matrices
from bids_sr.sr.operators import get_operator

DEGRADATIONS = ("block", "gauss", "kspace", "multislice", "trilinear")
FACTORS = [1, 1.25, 1.5, 1.75, 2, 3, 4 / 3, 7 / 5]


@given(
    name=st.sampled_from(DEGRADATIONS),
    shape=st.lists(st.integers(4, 19), min_size=2, max_size=3),
    data=st.data(),
    seed=st.integers(0, 99),
)
@settings(max_examples=80)
def test_the_gradient_is_the_adjoint(name, shape, data, seed):
    factor = tuple(data.draw(st.sampled_from(FACTORS)) for _ in shape)
    try:
        operator = get_operator(name, tuple(shape), factor)
    except matrices.ResolutionError:
        assume(False)
    random = torch.Generator().manual_seed(seed)
    x = torch.randn((2, 1, *shape), dtype=torch.float64, generator=random).requires_grad_(True)
    lr = operator.forward(x)
    y = torch.randn(lr.shape, dtype=torch.float64, generator=random)
    (adjoint,) = torch.autograd.grad((lr * y).sum(), x)
    assert adjoint.shape == x.shape
    for m, f, n, (start, stop) in zip(lr.shape[2:], factor, shape, operator.window, strict=True):
        # The window is an integer number of low-resolution voxels …
        assert stop - start == round(m * f, 9)
        assert 0 <= start <= n - stop <= start + 1  # … in the middle.
    left, right = (float((a * b).sum().detach()) for a, b in ((lr, y), (x, adjoint)))
    assert left == pytest.approx(right, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize(
    ("shape", "factor"),
    [((40, 40, 18), (2, 2, 1)), ((41, 38, 24), (2, 1.75, 2)), ((33, 46, 20), (1.25, 4 / 3, 1.5))],
)
def test_a_known_position_is_kept_to_a_twentieth_of_a_voxel(name, shape, factor):
    high_res = blob(shape, [s / 2 + 0.7 for s in shape], (4, 4, 2.4))
    operator = get_operator(name, shape, factor)
    low_res = operator.forward(torch.tensor(high_res)).numpy()
    displacement = centroid_mm(low_res, operator.lowres_affine(AFFINE)) - centroid_mm(
        high_res, AFFINE
    )
    assert np.abs(np.linalg.inv(AFFINE)[:3, :3] @ displacement).max() < 0.05


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_given_low_resolution_grid_covers_the_entire_high_resolution_grid(name):
    operator = get_operator(name, (44, 30, 12), (1.25, 1.5, 1), (35, 20, 12))
    assert operator.lowres_shape == (35, 20, 12)
    high_res = blob((44, 30, 12), (20.3, 15.6, 5.8), (3, 3, 1.6))
    low_res = operator.forward(torch.tensor(high_res)).numpy()
    affine = operator.lowres_affine(AFFINE)
    np.testing.assert_allclose(affine @ [34.5, 19.5, 11.5, 1], AFFINE @ [43.5, 29.5, 11.5, 1])
    assert np.abs(centroid_mm(low_res, affine) - centroid_mm(high_res, AFFINE)).max() < 0.05


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("kspace", matrices.kspace_crop),
        ("block", block_mean),
        ("gauss", gaussian_decimate),
    ],
)
def test_operators_on_tensors_equal_functions_of_arrays(name, function):
    x = np.random.default_rng(0).normal(size=(21, 18, 9))
    for factor in ((2.0, 1.5, 1.0), (1.75, 3.0, 1.25)):
        expected, affine = function(x, AFFINE, factor=factor)
        operator = get_operator(name, x.shape, factor)
        np.testing.assert_allclose(operator.forward(torch.tensor(x)).numpy(), expected, atol=1e-12)
        np.testing.assert_allclose(operator.lowres_affine(AFFINE), affine)


def test_values_equal_other_implementations():
    x = torch.randn(
        (1, 1, 12, 16), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    pooled = get_operator("block", (12, 16), (3, 2)).forward(x)
    torch.testing.assert_close(pooled, torch.nn.functional.avg_pool2d(x, (3, 2)))
    sampled = get_operator("trilinear", (12, 16), (1.5, 2)).forward(x)
    torch.testing.assert_close(
        sampled, torch.nn.functional.interpolate(x, (8, 8), mode="bilinear", align_corners=False)
    )
    # Waves below the low-resolution Nyquist frequency are also known between samples.
    operator = get_operator("kspace", (20, 15), (2, 1.25))
    i, j = torch.arange(20, dtype=torch.float64), torch.arange(15, dtype=torch.float64)
    high_res = torch.cos(2 * np.pi * 3 * i / 20)[:, None] * torch.sin(2 * np.pi * 4 * j / 15)
    at_i, at_j = 2 * i[:10] + 0.5, 1.25 * j[:12] + 0.125
    expected = torch.cos(2 * np.pi * 3 * at_i / 20)[:, None] * torch.sin(2 * np.pi * 4 * at_j / 15)
    torch.testing.assert_close(operator.forward(high_res), expected)
    # Waves above that frequency vanish.
    assert (
        operator.forward(torch.cos(2 * np.pi * 7 * i / 20)[:, None] * torch.ones(15)).abs().max()
        < 1e-12
    )


def test_too_small_grids_and_unknown_degradations_are_rejected():
    with pytest.raises(matrices.ResolutionError):
        get_operator("block", (1, 8), (2, 1))
    with pytest.raises(KeyError, match="kspace, block"):
        get_operator("bicubic", (8, 8), (2.0, 2.0))
