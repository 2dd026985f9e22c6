"""Test the networks of papers 2, 3 and 4: parameter counts, receptive fields, sizes and initial
output.
"""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from bids_sr.sr.networks.architectures.blocks import ResidualBlock
from bids_sr.sr.networks.architectures.circle import (
    WIDTHS,
    CircleNet,
    CircleResamplingNet,
    decreasing_widths,
)
from bids_sr.sr.networks.architectures.cpce import CPCENet
from bids_sr.sr.networks.architectures.critics import circle_critic, cpce_critic
from bids_sr.sr.networks.architectures.residual import ResNet
from bids_sr.sr.networks.architectures.volumetric import (
    ConventionalNet3d,
    DenseResidualNet,
    ResNetCritic3d,
    ScaledResidualBlock3d,
    ScaledResNet3d,
)


def conv(before, after, taps):
    """Return the number of weights and biases of one layer."""
    return before * after * taps + after


# Dense layer n of ten has 32 n input channels; the tail gets all eleven feature maps.
DENSE = conv(1, 32, 27) + sum(conv(32 * n, 32, 27) for n in range(1, 11)) + conv(352, 1, 27)
SCALED = conv(1, 96, 27) + 21 * conv(96, 96, 27) + conv(96, 1, 27)
RESNET = conv(1, 64, 27) + 20 * conv(64, 64, 27) + conv(64, 1, 27)
RESNET_CRITIC = conv(1, 64, 27) + 20 * conv(64, 64, 27) + conv(64, 1, 1)
CPCE = conv(1, 32, 9) + 4 * conv(32, 32, 9) + 2 * conv(64, 32, 9) + conv(64, 1, 9)
CPCE_CRITIC = (
    conv(1, 64, 9) + conv(64, 64, 9) + conv(64, 128, 9) + conv(128, 128, 9) + conv(128, 256, 9)
    + conv(256, 256, 9) + conv(256 * 8 * 8, 1024, 1) + conv(1024, 1, 1)
)  # fmt: skip
CIRCLE = (
    sum(conv(before, after, 9) for before, after in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True))
    + conv(423, 24, 1)
    + conv(423, 8, 1)
    + conv(8, 8, 9)
    + conv(32, 32, 9)
    + conv(32, 16, 9)
    + conv(16, 1, 9)
)
PUBLISHED = (128, 105, 92, 80, 70, 61, 53, 45, 37, 30, 22, 16)
RESAMPLING = (
    sum(conv(before, after, 9) for before, after in pairwise((1, *PUBLISHED)))
    + conv(739, 64, 1)
    + conv(739, 32, 1)
    + conv(32, 8, 9)
    + conv(72, 72, 9)
    + conv(72, 36, 16)
    + 36 * 9  # the last convolution has no bias
)
CIRCLE_CRITIC = (
    conv(1, 64, 16) + conv(64, 128, 16) + conv(128, 256, 16) + conv(256, 512, 16)
    + conv(512 * 16, 1024, 1) + conv(1024, 1, 1)
)  # fmt: skip


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (DenseResidualNet, DENSE),
        (ScaledResNet3d, SCALED),
        (ConventionalNet3d, 57_985),
        (ResNet, RESNET),
        (ResNetCritic3d, RESNET_CRITIC),
        (CPCENet, CPCE),
        (cpce_critic, CPCE_CRITIC),
        (CircleNet, CIRCLE),
        (CircleResamplingNet, RESAMPLING),
        (circle_critic, CIRCLE_CRITIC),
    ],
)
def test_published_sizes_have_the_parameters_of_their_layers(build, expected):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == expected


def receptive_field(net, ndim, size):
    """Return the receptive field of the middle output voxel along each axis (voxels), by
    gradient.
    """
    net = net.double().eval()
    for parameter in net.parameters():
        # Positive weights and inputs: no ReLU is inactive and nothing cancels.
        nn.init.uniform_(parameter, 0.1, 1.0)
    image = torch.ones(1, 1, *[size] * ndim, dtype=torch.float64, requires_grad=True)
    net(image)[(0, 0, *[size // 2] * ndim)].backward()
    indices = torch.nonzero(image.grad[0, 0])
    return (indices.max(0).values - indices.min(0).values + 1).tolist()


@pytest.mark.parametrize(
    ("net", "ndim", "expected"),
    [
        (DenseResidualNet(width=2, layers=3), 3, 11),
        (ScaledResNet3d(width=2, blocks=2), 3, 15),
        (ConventionalNet3d(widths=(3, 2)), 3, 7),
        (ResNet(width=2, blocks=2), 3, 13),
        (CPCENet(width=2), 2, 17),
        (CircleNet(widths=(2,) * 12, branches=(2, 2), joined=(2, 2), dropout=0.0), 2, 33),
    ],
    ids=["dense", "scaled", "ccnn", "resnet", "cpce", "circle"],
)
def test_the_receptive_field_is_the_sum_of_the_kernels(net, ndim, expected):
    assert receptive_field(net, ndim, expected + 6) == [expected] * ndim


GENERATORS = {
    "dense": (partial(DenseResidualNet, width=3, layers=2), 3),
    "scaled": (partial(ScaledResNet3d, width=3, blocks=2), 3),
    "ccnn": (partial(ConventionalNet3d, widths=(3, 2)), 3),
    "resnet": (partial(ResNet, width=3, blocks=1), 3),
    "cpce": (partial(CPCENet, width=3), 2),
    "circle": (partial(CircleNet, widths=(4, 3), branches=(3, 2), joined=(3, 2)), 2),
    "resampling": (partial(CircleResamplingNet, widths=(4, 3), branches=(3, 2, 1)), 2),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_any_size_and_several_channels_with_independent_images(name):
    build, ndim = GENERATORS[name]
    torch.manual_seed(0)
    net = build(2).eval()
    nn.init.normal_(net.tail.weight, std=0.1)
    x = torch.rand(2, 2, *(13, 9, 11)[:ndim])
    y = net(x)
    assert y.shape == x.shape
    torch.testing.assert_close(net(x[1:]), y[1:], atol=1e-6, rtol=1e-5)


def test_a_scaled_block_adds_a_tenth_of_two_convolutions_with_one_relu():
    block = ScaledResidualBlock3d(1)
    with torch.no_grad():
        for layer, weight in ((block.first, 2.0), (block.second, 5.0)):
            layer.weight.zero_()
            layer.weight[0, 0, 1, 1, 1] = weight
        block.first.bias.fill_(1.0)
        block.second.bias.fill_(-4.0)
    x = torch.tensor([3.0, -3.0]).reshape(1, 1, 2, 1, 1)
    # .1 (5 (2 * 3 + 1) - 4) = 3.1; the negative value only passes the last bias
    expected = torch.tensor([3.0 + 3.1, -3.0 - 0.4]).reshape(x.shape)
    torch.testing.assert_close(block(x), expected)


def test_the_network_of_the_tv_paper_bypasses_its_blocks_but_not_its_last_layer():
    torch.manual_seed(0)
    net = ScaledResNet3d(width=2, blocks=3)
    assert [type(part) for part in net.body] == [ScaledResidualBlock3d] * 3 + [nn.Conv3d]
    nn.init.zeros_(net.body[-1].weight)
    nn.init.zeros_(net.body[-1].bias)
    x = torch.rand(1, 1, 4, 5, 6)
    torch.testing.assert_close(net(x), net.tail(net.head(x)))
    nn.init.zeros_(net.tail.weight)
    assert torch.equal(net(x), torch.full_like(x, float(net.tail.bias.detach())))


def test_the_published_numbers_of_filters_decrease_from_128_to_16():
    assert decreasing_widths(128, 16, 12) == PUBLISHED
    assert decreasing_widths(64, 16, 12) == WIDTHS
    assert sum(WIDTHS) == 423


def test_the_reconstruction_network_of_circle_has_two_branches():
    with torch.device("meta"):
        net = CircleResamplingNet()
    layers = {
        name: [
            (module.out_channels, module.kernel_size[0], module.stride[0])
            for module in getattr(net, name).modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        ]
        for name in ("blocks", "first", "second", "joined", "tail")
    }
    assert layers["blocks"] == [(128, 3, 2), *((width, 3, 1) for width in PUBLISHED[1:])]
    assert layers["first"] == [(64, 1, 1)]
    assert layers["second"] == [(32, 1, 1), (8, 3, 1)]
    assert layers["joined"] == [(72, 3, 1), (36, 4, 2)]
    assert layers["tail"] == [(1, 3, 1)]
    assert sum(isinstance(module, nn.Dropout) for module in net.blocks.modules()) == 12
    net, image = CircleResamplingNet(widths=(4, 3, 2)).eval(), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        output = net(image)
        for branch in (net.first, net.second):
            handle = branch.register_forward_hook(lambda _branch, _inputs, result: result + 1)
            assert not torch.allclose(net(image), output, atol=1e-4)
            handle.remove()


def test_a_residual_block_adds_only_positive_values():
    block = ResidualBlock(2, 3)
    nn.init.zeros_(block.layers[2].weight)
    with torch.no_grad():
        block.layers[2].bias.copy_(torch.tensor([0.5, -0.5]))
    x = torch.zeros(1, 2, 3, 3, 3)
    output = block(x)
    assert torch.equal(output[:, 0], torch.full((1, 3, 3, 3), 0.5))
    assert torch.equal(output[:, 1], torch.zeros(1, 3, 3, 3))


CRITICS = {
    "cpce": (partial(cpce_critic, widths=(2, 3, 4), dense=5), 2),
    "circle": (partial(circle_critic, widths=(2, 3, 4, 5), dense=5), 2),
    "circle, stride 1": (
        partial(circle_critic, widths=(2, 3, 4, 5), dense=5, last_stride=1),
        2,
    ),
    "resnet": (partial(ResNetCritic3d, width=3, blocks=1), 3),
    "resnet, stride 2": (partial(ResNetCritic3d, width=3, blocks=1, stride=2), 3),
}


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("size", [(64, 64, 9), (37, 48, 8)])
def test_a_critic_gives_each_image_its_own_score(name, size):
    build, ndim = CRITICS[name]
    torch.manual_seed(0)
    critic = build()
    shape = size[:2] if ndim == 2 else (size[2], size[2], size[2] + 3)
    x = torch.rand(3, 1, *shape)
    scores = critic(x)
    assert scores.shape == (3, 1)
    torch.testing.assert_close(critic(x[2:]), scores[2:], atol=1e-5, rtol=1e-4)
    assert len(set(scores.flatten().tolist())) == 3


def test_critics_have_the_published_layers():
    with torch.device("meta"):
        cpce, circle, published = cpce_critic(), circle_critic(), circle_critic(last_stride=1)
    strides = {
        critic: [layer.stride[0] for layer in critic.modules() if isinstance(layer, nn.Conv2d)]
        for critic in (cpce, circle, published)
    }
    assert strides == {cpce: [1, 2] * 3, circle: [2] * 4, published: [2, 2, 2, 1]}
    norms = [
        sum("Norm" in type(layer).__name__ for layer in net.modules()) for net in (cpce, circle)
    ]
    assert norms == [0, 4]
    assert published.score[2].in_features == 8 * 8 * 512  # patches of 64 voxels
    # The score has no sigmoid or activation, because the loss contains it or does not allow it.
    assert all(isinstance(critic.score[-1], nn.Linear) for critic in (cpce, circle))
