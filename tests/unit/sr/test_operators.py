"""Degradations on tensors: adjoint, geometry, and values computed another way."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sr_helpers import AFFINE, blob, block_mean, centroid_mm, gaussian_decimate

from bids_sr.sr import matrices
from bids_sr.sr.operators import _DEGRADATIONS, get_operator

FACTORS = [1, 1.25, 1.5, 1.75, 2, 3, 4 / 3, 7 / 5]


@given(
    name=st.sampled_from(sorted(_DEGRADATIONS)),
    shape=st.lists(st.integers(4, 19), min_size=2, max_size=3),
    data=st.data(),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_adjoint_by_the_dot_product(name, shape, data, seed):
    factor = tuple(data.draw(st.sampled_from(FACTORS)) for _ in shape)
    try:
        operator = get_operator(name, tuple(shape), factor)
    except matrices.ResolutionError:
        assume(False)
    random = torch.Generator().manual_seed(seed)
    x = torch.randn((2, 1, *shape), dtype=torch.float64, generator=random).requires_grad_(True)
    lr = operator.forward(x)
    y = torch.randn(lr.shape, dtype=torch.float64, generator=random)
    (back,) = torch.autograd.grad((lr * y).sum(), x)
    assert back.shape == x.shape
    for m, f, n, (start, stop) in zip(lr.shape[2:], factor, shape, operator.window, strict=True):
        assert stop - start == round(m * f, 9)  # the window is a whole number of coarse voxels
        assert 0 <= start <= n - stop <= start + 1  # in the middle
    left, right = (float((a * b).sum().detach()) for a, b in ((lr, y), (x, back)))
    assert left == pytest.approx(right, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", sorted(_DEGRADATIONS))
@pytest.mark.parametrize(
    ("shape", "factor"),
    [((40, 40, 18), (2, 2, 1)), ((41, 38, 24), (2, 1.75, 2)), ((33, 46, 20), (1.25, 4 / 3, 1.5))],
)
def test_a_known_position_is_kept_to_a_twentieth_of_a_voxel(name, shape, factor):
    fine = blob(shape, [s / 2 + 0.7 for s in shape], (4, 4, 2.4))
    operator = get_operator(name, shape, factor)
    coarse = operator.forward(torch.tensor(fine)).numpy()
    moved = centroid_mm(coarse, operator.lowres_affine(AFFINE)) - centroid_mm(fine, AFFINE)
    assert np.abs(np.linalg.inv(AFFINE)[:3, :3] @ moved).max() < 0.05


@pytest.mark.parametrize("name", sorted(_DEGRADATIONS))
def test_a_given_coarse_grid_covers_the_whole_fine_one(name):
    operator = get_operator(name, (44, 30, 12), (1.25, 1.5, 1), (35, 20, 12))
    assert operator.lowres_shape == (35, 20, 12)
    fine = blob((44, 30, 12), (20.3, 15.6, 5.8), (3, 3, 1.6))
    coarse = operator.forward(torch.tensor(fine)).numpy()
    affine = operator.lowres_affine(AFFINE)
    np.testing.assert_allclose(affine @ [34.5, 19.5, 11.5, 1], AFFINE @ [43.5, 29.5, 11.5, 1])
    assert np.abs(centroid_mm(coarse, affine) - centroid_mm(fine, AFFINE)).max() < 0.05


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("kspace", matrices.kspace_crop),
        ("block", block_mean),
        ("gauss", gaussian_decimate),
    ],
)
def test_the_same_as_on_arrays(name, twin):
    x = np.random.default_rng(0).normal(size=(21, 18, 9))
    for factor in ((2.0, 1.5, 1.0), (1.75, 3.0, 1.25)):
        wanted, affine = twin(x, AFFINE, factor=factor)
        operator = get_operator(name, x.shape, factor)
        np.testing.assert_allclose(operator.forward(torch.tensor(x)).numpy(), wanted, atol=1e-12)
        np.testing.assert_allclose(operator.lowres_affine(AFFINE), affine)


def test_values_that_other_code_gives():
    x = torch.randn(
        (1, 1, 12, 16), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    pooled = get_operator("block", (12, 16), (3, 2)).forward(x)
    torch.testing.assert_close(pooled, torch.nn.functional.avg_pool2d(x, (3, 2)))
    sampled = get_operator("trilinear", (12, 16), (1.5, 2)).forward(x)
    torch.testing.assert_close(
        sampled, torch.nn.functional.interpolate(x, (8, 8), mode="bilinear", align_corners=False)
    )
    # a wave below the coarse Nyquist limit is known between the samples too
    operator = get_operator("kspace", (20, 15), (2, 1.25))
    i, j = torch.arange(20, dtype=torch.float64), torch.arange(15, dtype=torch.float64)
    fine = torch.cos(2 * np.pi * 3 * i / 20)[:, None] * torch.sin(2 * np.pi * 4 * j / 15)
    at_i, at_j = 2 * i[:10] + 0.5, 1.25 * j[:12] + 0.125
    wanted = torch.cos(2 * np.pi * 3 * at_i / 20)[:, None] * torch.sin(2 * np.pi * 4 * at_j / 15)
    torch.testing.assert_close(operator.forward(fine), wanted)
    # and one beyond it is gone
    assert (
        operator.forward(torch.cos(2 * np.pi * 7 * i / 20)[:, None] * torch.ones(15)).abs().max()
        < 1e-12
    )


def test_gauss_is_as_wide_as_a_coarse_voxel():
    x = torch.zeros(61, 3, dtype=torch.float64)
    x[30] = 1
    seen = torch.stack(
        [
            get_operator("gauss", (61, 3), (3, 1)).forward(x.roll(k, 0))[10, 0]
            for k in range(-9, 10)
        ]
    )
    assert float(seen.argmax()) == 10  # fine voxel 31 is the center of coarse voxel 10
    assert float(seen[10 - 3] / seen[10]) == pytest.approx(2**-4.0, rel=1e-3)  # a whole FWHM away


def test_there_is_a_gradient_even_when_inference_came_first():
    operator = get_operator("gauss", (11, 9, 7), (1.75, 1.5, 2))
    with torch.inference_mode():
        operator.forward(torch.ones(11, 9, 7, dtype=torch.float64))
    x = torch.randn(11, 9, 7, dtype=torch.float64, requires_grad=True)
    y = torch.randn(operator.lowres_shape, dtype=torch.float64)
    (operator.forward(x) * y).sum().backward()
    torch.testing.assert_close((x.grad * x).sum(), (operator.forward(x) * y).sum())


def test_what_is_refused():
    for shape, factor in (
        ((8, 8), (2, 2, 1)),
        ((8, 8), (0.5, 2)),
        ((1, 8), (2, 1)),
        ((8, 8), (float("nan"), 2)),
    ):
        with pytest.raises(matrices.ResolutionError):
            get_operator("block", shape, factor)
    with pytest.raises(matrices.ResolutionError, match="low-resolution grid"):
        get_operator("block", (8, 8), (2.0, 2.0), (9, 4))
    with pytest.raises(KeyError, match="kspace, block"):
        get_operator("bicubic", (8, 8), (2.0, 2.0))
    with pytest.raises(matrices.ResolutionError, match=r"image of shape \(8, 8\)"):
        get_operator("block", (8, 8), (2.0, 2.0)).forward(torch.zeros(1, 8, 9))
