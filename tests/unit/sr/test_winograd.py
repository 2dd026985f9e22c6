"""Residual blocks by tiles give what plain convolutions give, forward and back."""

import copy

import pytest
import torch
from torch import nn

from bids_sr.sr.networks import winograd
from bids_sr.sr.networks.network_blocks import ResidualBlock
from bids_sr.sr.networks.residual2d import SRResNet, SubPixelNet
from bids_sr.sr.threads import torch_threads

SHAPES = [(2, 8, 12, 16), (3, 5, 4, 4), (1, 3, 6, 9), (2, 3, 5, 2), (1, 32, 24, 8)]


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


def blocks_of(width: int, count: int = 2) -> nn.Sequential:
    torch.manual_seed(width)
    blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
    for block in blocks:
        nn.init.normal_(block.activation.weight, std=0.6)  # some slopes below zero
    return blocks


def close(found: torch.Tensor, truth: torch.Tensor) -> None:
    error = (found.double() - truth).abs().max() / truth.abs().max()
    assert float(error) < 5e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_double_precision_but_for_rounding(shape) -> None:
    blocks, x = blocks_of(shape[1]), torch.randn(shape, requires_grad=True)
    exact, x2 = copy.deepcopy(blocks).double(), x.detach().double().requires_grad_(True)
    weight, given = torch.randn(shape), x.detach().clone()
    made, truth = winograd.apply_blocks(blocks, x), exact(x2)
    (made * weight).sum().backward()
    (truth * weight.double()).sum().backward()
    close(made.detach(), truth.detach())
    close(x.grad, x2.grad)
    for found, wanted in zip(blocks.parameters(), exact.parameters(), strict=True):
        close(found.grad, wanted.grad)
    assert torch.equal(x.detach(), given)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_trained_blocks_give_the_same_on_any_number_of_threads(shape, threads) -> None:
    blocks, x = blocks_of(shape[1]), torch.randn(shape)
    given = x.clone()
    with torch.inference_mode(), torch_threads(threads):
        made = winograd.TrainedBlocks(list(blocks))(x)
        close(made, blocks.double()(x.double()))
    assert torch.equal(x, given)


@pytest.mark.parametrize(
    "net", [SubPixelNet(1, (2.0, 2.0, 1.0), width=4, blocks=2), SRResNet(width=4, blocks=2)]
)
def test_networks_take_them_and_learn_the_same(net, monkeypatch) -> None:
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    x, found = torch.rand(2, 1, 8, 11), []
    for serves in (True, False):
        monkeypatch.setattr(winograd, "_fits", lambda x, serves=serves: serves)
        net.zero_grad()
        net(x).square().mean().backward()
        found.append([parameter.grad.clone() for parameter in net.parameters()])
    for tiled, direct in zip(*found, strict=True):
        torch.testing.assert_close(tiled, direct, rtol=1e-4, atol=1e-5 * float(direct.abs().max()))
