"""Test networks: published sizes, initial output, unchanged acquired band, independent slices."""

import numpy as np
import pytest
import torch

from bids_sr.sr.networks.architectures.blocks import shuffle_channels
from bids_sr.sr.networks.architectures.critics import PatchCritic, srgan_critic
from bids_sr.sr.networks.architectures.srresnet import SRResNet, SubPixelNet
from bids_sr.sr.operators import make_plane_conversion


def random_subpixel(factor):
    """Return a generator with random weights in its last layer."""
    torch.manual_seed(0)
    net = SubPixelNet(1, factor)
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    return net


def test_the_published_generator_has_its_number_of_parameters_and_no_normalization():
    net = SRResNet()
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == 1.23
    assert not [module for module in net.modules() if "Norm" in type(module).__name__]
    assert net.head[0].kernel_size == net.tail.kernel_size == (9, 9)
    assert net(torch.rand(1, 1, 12, 11)).shape == (1, 1, 12, 11)


def test_the_published_critic_has_ten_convolutions_and_no_normalization():
    critic = srgan_critic()
    assert sum(isinstance(module, torch.nn.Conv2d) for module in critic.modules()) == 10
    assert not [module for module in critic.modules() if "Norm" in type(module).__name__]
    assert critic(torch.rand(2, 1, 64, 64)).shape == (2, 1)


def test_the_receptive_field_of_the_patch_critic_is_30_voxels():
    torch.manual_seed(0)
    critic = PatchCritic()
    image = torch.zeros(1, 1, 80, 80, requires_grad=True)
    critic(image)[0, 0, 10, 10].backward()
    rows = torch.nonzero(image.grad[0, 0].abs().sum(1))
    assert int(rows.max() - rows.min()) + 1 == 30


@pytest.mark.parametrize(
    "factor", [(2.0, 2.0, 1.0), (3.0, 2.0, 1.0), (1.5, 1.5, 1.0), (1.0, 1.0, 1.0)]
)
@pytest.mark.parametrize("size", [(9, 12), (10, 7)])
def test_an_untrained_network_equals_zero_filling(factor, size):
    x = torch.rand(2, 1, *size)
    net = SubPixelNet(1, factor)
    assert torch.allclose(net(x), make_plane_conversion(x, factor[:2]).upsample(x), atol=1e-6)


@pytest.mark.parametrize("factor", [(2.0, 2.0, 1.0), (3.0, 2.0, 1.0), (1.5, 1.5, 1.0)])
@pytest.mark.parametrize("size", [(10, 12), (9, 7)])
def test_the_acquired_band_is_unchanged(factor, size):
    x = torch.rand(2, 1, *size)
    y = random_subpixel(factor)(x)
    level = make_plane_conversion(x, factor[:2])
    assert not torch.allclose(y, level.upsample(x), atol=1e-2), "the network says nothing"
    assert torch.allclose(level.downsample(y), x, atol=1e-5)


def test_shuffled_pixels_are_centered_in_the_field_of_view():
    channels = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 2, 2)
    high_res = shuffle_channels(channels, (2, 3))[0, 0]
    assert high_res.shape == (4, 6)
    np.testing.assert_array_equal(high_res[:2, :3], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(
        shuffle_channels(channels, (2, 3)), shuffle_channels(channels, (2, 3)).roll((2, 3), (2, 3))
    )
    square = torch.rand(1, 12, 3, 5)
    assert torch.equal(
        shuffle_channels(square, (2, 2)), torch.nn.functional.pixel_shuffle(square, 2)
    )
