"""Patches lie in the image with their center in the brain; what is done to them commutes with
every degradation.
"""

import numpy as np
import pytest
import torch

from bids_sr.sr.data.images import TrainingDataError
from bids_sr.sr.data.symmetries import symmetries, turned
from bids_sr.sr.data.windows import corners_inside
from bids_sr.sr.operators import _DEGRADATIONS, get_operator


def ball(shape, radius, center=None):
    at = np.indices(shape) - np.reshape(
        center or [(n - 1) / 2 for n in shape], (-1, *[1] * len(shape))
    )
    return (at**2).sum(0) <= radius**2


def test_centers_lie_in_the_brain_and_cover_it_evenly():
    mask = ball((24, 30, 26), 6)
    corners = corners_inside(mask, (7, 7, 7), (1, 1, 1))
    drawn = corners[np.random.default_rng(0).integers(len(corners), size=20000)] + 3
    assert mask[tuple(drawn.T)].all()
    counts = np.zeros(mask.shape)
    np.add.at(counts, tuple(drawn.T), 1)
    seen = counts[mask]
    assert seen.min() > 0
    assert seen.var() == pytest.approx(20000 / mask.sum(), rel=0.15)  # that of even draws: Poisson


def test_patches_at_the_border_are_moved_inside_and_keep_to_the_coarse_grid():
    mask = np.ones((20, 21), bool)
    corners = corners_inside(mask, (6, 9), (2, 3))
    assert corners.min() == 0
    assert corners.max(0).tolist() == [14, 12]
    assert not (corners % [2, 3]).any()


def test_what_is_refused():
    with pytest.raises(
        TrainingDataError,
        match=r"\(21, 21, 21\) voxels does not fit into an image of \(30, 20, 30\)",
    ):
        corners_inside(np.ones((30, 20, 30)), (21, 21, 21), (1, 1, 1))
    with pytest.raises(TrainingDataError, match="empty"):
        corners_inside(np.zeros((8, 8)), (4, 4), (1, 1))


@pytest.mark.parametrize(
    ("patch", "zooms", "factor", "count"),
    [
        ((12, 12, 12), (2, 2, 2), (2, 2, 2), 48),
        ((12, 12, 12), (2, 2, 3.3), (2, 2, 2), 16),
        ((12, 12, 12), (2, 2, 2), (2, 2, 1), 16),
        ((12, 10, 6), (2, 2, 2), (2, 2, 2), 8),
        ((12, 12), (2, 2), (1.5, 1.5), 8),
    ],
)
def test_every_symmetry_commutes_with_every_degradation(patch, zooms, factor, count):
    x = torch.randn(patch, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = symmetries(patch, zooms, factor)
    assert len(found) == count
    assert len({turned(x, symmetry).numpy().tobytes() for symmetry in found}) == count
    for name in _DEGRADATIONS:
        operator = get_operator(name, patch, factor)
        plain = operator.forward(x)
        for symmetry in symmetries(patch, zooms, factor, name):
            torch.testing.assert_close(
                operator.forward(turned(x, symmetry)), turned(plain, symmetry), atol=1e-12, rtol=0
            )
            assert torch.equal(turned(turned(x, symmetry), symmetry, back=True), x)


def test_a_symmetry_acts_on_the_last_axes_as_it_says():
    x = torch.arange(2 * 3 * 3).reshape(1, 2, 3, 3)
    one = ((1, 0), (True, False))
    assert one in symmetries((3, 3), (1, 1), (1, 1))
    torch.testing.assert_close(turned(x, one), x.transpose(-1, -2).flip(-2))
