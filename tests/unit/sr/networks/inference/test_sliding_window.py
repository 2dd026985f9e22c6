"""Test the combination of patches: identity, no seams from padding, and even coverage."""

import pytest
import torch

from bids_sr.spatial.matrices import ResolutionError
from bids_sr.sr.networks.inference.sliding_window import apply_in_patches


@pytest.mark.parametrize(("ndim", "kind"), [(2, torch.nn.Conv2d), (3, torch.nn.Conv3d)])
def test_patches_without_their_padding_equal_the_full_image(ndim, kind):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        kind(1, 3, 5, padding=2), torch.nn.ReLU(), kind(3, 2, 3, padding=1)
    )
    volume = torch.rand(1, *(33, 26, 19)[:ndim]) + 5
    with torch.no_grad():
        full = network(volume[None])[0]
    result = apply_in_patches(network, volume, patch=13, overlap=8, margin=3)
    torch.testing.assert_close(result, full, atol=2e-6, rtol=0)
    # Patches that keep their padding show seams.
    seams = apply_in_patches(network, volume, patch=13, overlap=8, margin=0)
    assert (seams - full).abs().max() > 0.01


def test_overlapping_patches_are_blended_linearly():
    # Each patch is filled with its index: between two patches the value rises in equal steps.
    calls = iter(range(9))

    def number(x):
        return torch.stack([torch.full_like(part, float(next(calls))) for part in x])

    blended = apply_in_patches(number, torch.zeros(1, 16, 4), patch=10, overlap=4)[0, :, 0]
    expected = torch.cat(
        [torch.zeros(6), torch.tensor([0.125, 0.375, 0.625, 0.875]), torch.ones(6)]
    )
    torch.testing.assert_close(blended, expected)


@pytest.mark.parametrize(
    ("size", "patch", "overlap", "expected"),
    [(64, 64, 8, [0]), (100, 40, 10, [0, 30, 60]), (101, 40, 10, [0, 20, 40, 61])],
)
def test_patches_cover_the_axis_evenly(size, patch, overlap, expected):
    starts = []

    def record(x):
        starts.extend(int(part[0, 0, 0]) for part in x)
        return x

    positions = torch.arange(float(size)).reshape(1, size, 1).expand(1, size, patch)
    apply_in_patches(record, positions, patch=patch, overlap=overlap)
    assert starts == expected


def test_invalid_patches_and_networks_are_rejected():
    image = torch.zeros(1, 20, 20)
    for options in ({"patch": 8, "overlap": 8}, {"patch": 8, "overlap": 4, "margin": 2}):
        with pytest.raises(ResolutionError):
            apply_in_patches(lambda x: x, image, **options)
