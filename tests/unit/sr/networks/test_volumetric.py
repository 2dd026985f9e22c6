"""Networks of papers 2, 3 and 4: parameters worked out by hand, receptive fields by gradient,
sizes, and the start.
"""

from functools import partial

import pytest
import torch
from torch import nn

from bids_sr.sr.networks.blocks import ResidualBlock3d
from bids_sr.sr.networks.circle import WIDTHS, CircleNet
from bids_sr.sr.networks.cpce import CPCENet
from bids_sr.sr.networks.critics import circle_critic, cpce_critic
from bids_sr.sr.networks.volumetric import (
    ConventionalNet3d,
    DenseResidualNet,
    ResNet3d,
    ResNetCritic3d,
)


def conv(before, after, taps):
    """Weights and biases of one layer."""
    return before * after * taps + after


# dense layer n of ten reads 32 n channels; the tail reads all eleven maps
DENSE = conv(1, 32, 27) + sum(conv(32 * n, 32, 27) for n in range(1, 11)) + conv(352, 1, 27)
RESNET = conv(1, 64, 27) + 20 * conv(64, 64, 27) + conv(64, 1, 27)
RESNET_CRITIC = conv(1, 64, 27) + 20 * conv(64, 64, 27) + conv(64, 1, 1)
CPCE = conv(1, 32, 9) + 4 * conv(32, 32, 9) + 2 * conv(64, 32, 9) + conv(64, 1, 9)
CPCE_CRITIC = (
    conv(1, 64, 9) + conv(64, 64, 9) + conv(64, 128, 9) + conv(128, 128, 9) + conv(128, 256, 9)
    + conv(256, 256, 9) + conv(256 * 8 * 8, 1024, 1) + conv(1024, 1, 1)
)  # fmt: skip
CIRCLE = (
    sum(conv(a, b, 9) for a, b in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True))
    + conv(423, 24, 1)
    + conv(423, 8, 1)
    + conv(8, 8, 9)
    + conv(32, 32, 9)
    + conv(32, 16, 9)
    + conv(16, 1, 9)
)
CIRCLE_CRITIC = (
    conv(1, 64, 16) + conv(64, 128, 16) + conv(128, 256, 16) + conv(256, 512, 16)
    + conv(512 * 16, 1024, 1) + conv(1024, 1, 1)
)  # fmt: skip


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (DenseResidualNet, DENSE),
        (ConventionalNet3d, 57_985),
        (ResNet3d, RESNET),
        (ResNetCritic3d, RESNET_CRITIC),
        (CPCENet, CPCE),
        (cpce_critic, CPCE_CRITIC),
        (CircleNet, CIRCLE),
        (circle_critic, CIRCLE_CRITIC),
    ],
)
def test_the_published_size_has_the_parameters_that_its_layers_add_up_to(build, expected):
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == expected


def test_the_sizes_named_in_the_docstrings():
    for net, size in (
        (DenseResidualNet, f"{DENSE / 1e6:.2f} million"),
        (ResNet3d, f"{RESNET / 1e6:.2f} million"),
        (CPCENet, f"{CPCE:,}"),
        (ConventionalNet3d, "57,985"),
    ):
        assert f"{size} parameters" in " ".join(net.__doc__.split()), net
    assert len(WIDTHS) == 12
    assert sum(WIDTHS) == 423


def seen(net, ndim, size):
    """Voxels along each axis on which the middle voxel of the output depends, by gradient."""
    net = net.double().eval()
    for p in net.parameters():
        # positive weights and inputs: no ReLU closes and nothing cancels
        nn.init.uniform_(p, 0.1, 1.0)
    image = torch.ones(1, 1, *[size] * ndim, dtype=torch.float64, requires_grad=True)
    net(image)[(0, 0, *[size // 2] * ndim)].backward()
    found = torch.nonzero(image.grad[0, 0])
    return (found.max(0).values - found.min(0).values + 1).tolist()


@pytest.mark.parametrize(
    ("net", "ndim", "expected"),
    [
        (DenseResidualNet(width=2, layers=3), 3, 11),
        (ConventionalNet3d(widths=(3, 2)), 3, 7),
        (ResNet3d(width=2, blocks=2), 3, 13),
        (CPCENet(width=2), 2, 17),
        (CircleNet(widths=(2,) * 12, branches=(2, 2), joined=(2, 2), dropout=0.0), 2, 33),
    ],
    ids=["dense", "ccnn", "resnet", "cpce", "circle"],
)
def test_the_middle_voxel_sees_what_the_kernels_add_up_to(net, ndim, expected):
    assert seen(net, ndim, expected + 6) == [expected] * ndim


GENERATORS = {
    "dense": (partial(DenseResidualNet, width=3, layers=2), 3),
    "ccnn": (partial(ConventionalNet3d, widths=(3, 2)), 3),
    "resnet": (partial(ResNet3d, width=3, blocks=1), 3),
    "cpce": (partial(CPCENet, width=3), 2),
    "circle": (partial(CircleNet, widths=(4, 3), branches=(3, 2), joined=(3, 2)), 2),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_any_size_several_channels_and_images_apart(name):
    build, ndim = GENERATORS[name]
    torch.manual_seed(0)
    net = build(2).eval()
    nn.init.normal_(net.tail.weight, std=0.1)
    x = torch.rand(2, 2, *(13, 9, 11)[:ndim])
    y = net(x)
    assert y.shape == x.shape
    torch.testing.assert_close(net(x[1:]), y[1:], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["dense", "circle"])
def test_residual_nets_start_as_their_input(name):
    build, ndim = GENERATORS[name]
    x = torch.rand(1, 1, *[10] * ndim)
    assert torch.equal(build()(x), x)


@pytest.mark.parametrize("name", ["ccnn", "resnet", "cpce"])
def test_the_skip_is_ours_and_off_as_published(name):
    build, ndim = GENERATORS[name]
    x = torch.rand(1, 1, *[10] * ndim)
    assert torch.equal(build(skip=True)(x), x)
    torch.manual_seed(0)
    net = build()
    nn.init.zeros_(net.tail.weight)
    assert torch.equal(net(x), torch.zeros_like(x) + net.tail.bias.detach())


def test_a_dense_layer_reads_every_earlier_one():
    torch.manual_seed(0)
    net = DenseResidualNet(width=2, layers=3)
    nn.init.normal_(net.tail.weight)
    x = torch.rand(1, 1, 5, 5, 5)
    before = net(x)
    nn.init.zeros_(net.body[1].weight)
    nn.init.zeros_(net.body[1].bias)
    after = net(x)
    # with layer 2 silent, what layers 1 and 3 say still arrives
    assert not torch.equal(before, after)
    nn.init.zeros_(net.body[0].weight)
    nn.init.zeros_(net.body[0].bias)
    assert not torch.equal(after, net(x))


def test_the_conveying_paths_bring_the_first_map_past_the_bottleneck():
    torch.manual_seed(0)
    net = CPCENet(width=4)
    for layer in net.up:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    image = torch.rand(1, 1, 12, 12, requires_grad=True)
    net(image).sum().backward()
    # only the path from the first convolution to the last deconvolution is left
    assert float(image.grad.abs().max()) > 0
    assert float(net.down[0].weight.grad.abs().max()) > 0
    assert float(net.down[1].weight.grad.abs().max()) == 0


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    net = CircleNet(widths=(8, 8), branches=(4, 2), joined=(4, 2))
    nn.init.normal_(net.tail.weight)
    x = torch.rand(1, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_a_residual_block_adds_what_is_not_negative():
    block = ResidualBlock3d(2)
    nn.init.zeros_(block.layers[2].weight)
    with torch.no_grad():
        block.layers[2].bias.copy_(torch.tensor([0.5, -0.5]))
    x = torch.zeros(1, 2, 3, 3, 3)
    out = block(x)
    assert torch.equal(out[:, 0], torch.full((1, 3, 3, 3), 0.5))
    assert torch.equal(out[:, 1], torch.zeros(1, 3, 3, 3))


def test_glorot_weights_have_the_deviation_that_fan_in_and_fan_out_give():
    torch.manual_seed(0)
    layer = ResNet3d(width=32, blocks=1).body[0].layers[0]
    wanted = (2 / (27 * 32 + 27 * 32)) ** 0.5
    assert float(layer.weight.detach().std()) == pytest.approx(wanted, rel=0.02)
    assert float(layer.bias.detach().abs().max()) == 0


CRITICS = {
    "cpce": (partial(cpce_critic, widths=(2, 3, 4), dense=5), 2),
    "circle": (partial(circle_critic, widths=(2, 3, 4, 5), dense=5), 2),
    "resnet": (partial(ResNetCritic3d, width=3, blocks=1), 3),
    "resnet, stride 2": (partial(ResNetCritic3d, width=3, blocks=1, stride=2), 3),
}


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("size", [(64, 64, 9), (37, 48, 8)])
def test_a_critic_gives_each_image_one_score_of_its_own(name, size):
    build, ndim = CRITICS[name]
    torch.manual_seed(0)
    critic = build()
    shape = size[:2] if ndim == 2 else (size[2], size[2], size[2] + 3)
    x = torch.rand(3, 1, *shape)
    scores = critic(x)
    assert scores.shape == (3, 1)
    torch.testing.assert_close(critic(x[2:]), scores[2:], atol=1e-5, rtol=1e-4)
    assert len(set(scores.flatten().tolist())) == 3


def test_critics_have_the_layers_of_their_papers():
    with torch.device("meta"):
        cpce, circle, resnet = cpce_critic(), circle_critic(), ResNetCritic3d()
    strides = [m.stride[0] for m in cpce.modules() if isinstance(m, nn.Conv2d)]
    assert strides == [1, 2, 1, 2, 1, 2]
    assert not [m for m in cpce.modules() if "Norm" in type(m).__name__]
    assert sum(isinstance(m, nn.InstanceNorm2d) for m in circle.modules()) == 4
    assert [m.out_features for m in circle.score if isinstance(m, nn.Linear)] == [1024, 1]
    assert sum(isinstance(m, ResidualBlock3d) for m in resnet.modules()) == 10
    # no sigmoid, no activation after the score: the loss has it, or the game forbids it
    assert all(isinstance(c.score[-1], nn.Linear) for c in (cpce, circle))
