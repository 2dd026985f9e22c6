"""Attention masks of a network's gates, and Grad-CAM of its critic.

Neither is proof: a mask says how much of a skip went through, Grad-CAM which places raised a
score.
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.sr.networks.critics import Critic
from bids_sr.sr.networks.unet import AttentionGate


def attention_masks(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return masks of all attention gates for images (N, C, X, Y), low to high resolution.

    For each gate (N, 1, X, Y) between 0 and 1, interpolated to the size of the images; none
    without `AttentionGate`s.

    Source: attention_unet, sections 3.7 and 4.7.

    `network`: network from images to images, with or without gates. `images`: images that the
    network is given (N, C, X, Y).
    """
    seen: list[Tensor] = []

    def keep(gate: nn.Module, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        assert isinstance(gate, AttentionGate)
        seen.append(gate.mask(*inputs))

    was_training = network.training
    network.eval()
    with ExitStack() as hooks, torch.no_grad():
        for module in network.modules():
            if isinstance(module, AttentionGate):
                hooks.callback(module.register_forward_hook(keep).remove)
        network(images)
    network.train(was_training)
    (rows, columns), size = seen[-1].shape[-2:] if seen else (0, 0), images.shape[-2:]
    # the images lie in the middle of the padded ones
    x, y = (rows - size[0]) // 2, (columns - size[1]) // 2
    full = (
        functional.interpolate(m, size=(rows, columns), mode="bilinear", align_corners=False)
        for m in seen
    )
    return tuple(mask[..., x : x + size[0], y : y + size[1]] for mask in full)


def grad_cam(critic: nn.Module, images: Tensor) -> Tensor:
    """Return the Grad-CAM of a critic, (N, 1, X, Y), from 0 up.

    It shows where its convolutional features speak for a high score.

    In units of the score, which is taken before the sigmoid, whose slope vanishes where the critic
    is sure; interpolated to the size of the images (N, C, X, Y). ValueError for a network that is
    no `Critic`.

    Source: Selvaraju et al. 2017, equations 1 and 2; attention_unet, sections 3.7 and 4.8.
    """
    if not isinstance(critic, Critic):
        raise ValueError(
            f"Grad-CAM requires a network of type Critic, got {type(critic).__name__}"
        )
    kept: list[Tensor] = []
    was_training = critic.training
    critic.eval()
    hook = critic.features.register_forward_hook(lambda _module, _inputs, out: kept.append(out))
    try:
        with torch.enable_grad():
            score = critic(images.detach().requires_grad_(True)).flatten(1).mean(1).sum()
            slope = torch.autograd.grad(score, kept[0])[0]
    finally:
        hook.remove()
        critic.train(was_training)
    weight = slope.mean(dim=(-2, -1), keepdim=True)
    found = torch.relu((weight * kept[0]).sum(1, keepdim=True)).detach()
    return functional.interpolate(
        found, size=images.shape[-2:], mode="bilinear", align_corners=False
    )
