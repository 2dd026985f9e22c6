"""Test patches: their center is in the brain, and symmetries commute with every degradation."""

import numpy as np
import pytest
import torch

from bids_sr.io.notices import InvalidInput
from bids_sr.sr.networks.data.symmetries import apply_symmetry, list_symmetries
from bids_sr.sr.networks.data.windows import find_corners
from bids_sr.sr.operators import get_operator


def ball(shape, radius, center=None):
    offsets = np.indices(shape) - np.reshape(
        center or [(n - 1) / 2 for n in shape], (-1, *[1] * len(shape))
    )
    return (offsets**2).sum(0) <= radius**2


def test_patch_centers_cover_the_brain_evenly():
    mask = ball((24, 30, 26), 6)
    corners = find_corners(mask, (7, 7, 7), (1, 1, 1))
    centers = corners[np.random.default_rng(0).integers(len(corners), size=20000)] + 3
    assert mask[tuple(centers.T)].all()
    counts = np.zeros(mask.shape)
    np.add.at(counts, tuple(centers.T), 1)
    brain_counts = counts[mask]
    assert brain_counts.min() > 0
    # variance of even draws: Poisson
    assert brain_counts.var() == pytest.approx(20000 / mask.sum(), rel=0.15)


def test_too_small_or_empty_masks_are_rejected():
    with pytest.raises(
        match=r"\(21, 21, 21\) voxels does not fit into an image of \(30, 20, 30\)",
    ):
        find_corners(np.ones((30, 20, 30)), (21, 21, 21), (1, 1, 1))
    with pytest.raises(InvalidInput, match="empty"):
        find_corners(np.zeros((8, 8)), (4, 4), (1, 1))


@pytest.mark.parametrize(
    ("patch", "zooms", "factor", "count"),
    [
        ((12, 12, 12), (2, 2, 2), (2, 2, 2), 48),
        ((12, 12, 12), (2, 2, 3.3), (2, 2, 2), 16),
        ((12, 12, 12), (2, 2, 2), (2, 2, 1), 16),
        ((12, 10, 6), (2, 2, 2), (2, 2, 2), 8),
        ((12, 12), (2, 2), (1.5, 1.5), 8),
        ((12, 12), (1000, 1001), (2, 2), 8),  # equal within one part in a thousand
        ((12, 12), (1000, 1001.1), (2, 2), 4),
    ],
)
def test_symmetries_commute_with_every_degradation(patch, zooms, factor, count):
    x = torch.randn(patch, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    all_symmetries = list_symmetries(patch, zooms, factor)
    assert len(all_symmetries) == count
    assert (
        len({apply_symmetry(x, symmetry).numpy().tobytes() for symmetry in all_symmetries})
        == count
    )
    for name in ("kspace", "block", "gauss", "trilinear", "multislice"):
        operator = get_operator(name, patch, factor)
        degraded = operator.forward(x)
        for symmetry in list_symmetries(patch, zooms, factor, name):
            torch.testing.assert_close(
                operator.forward(apply_symmetry(x, symmetry)),
                apply_symmetry(degraded, symmetry),
                atol=1e-12,
                rtol=0,
            )
            assert torch.equal(
                apply_symmetry(apply_symmetry(x, symmetry), symmetry, inverse=True), x
            )
