"""Attention masks of a network's gates, and Grad-CAM of its critic.

Neither is proof: a mask says how much of a skip went through, Grad-CAM which places raised a score.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.sr.networks.critics import GuidingCritic
from bids_sr.sr.networks.unet_generator import AttentionGate


def attention_masks(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Masks of all attention gates for images (N, C, X, Y), low to high resolution.

    For each gate (N, 1, X, Y) between 0 and 1, interpolated to the size of the images; none without `AttentionGate`s.

    Source: attention_unet, sections 3.7 and 4.7.
    """
    seen: list[Tensor] = []

    def keep(gate: nn.Module, inputs: tuple[Any, ...], _out: Tensor) -> None:
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
    return tuple(_onto(mask, seen[-1].shape[-2:], images.shape[-2:]) for mask in seen)


def _onto(mask: Tensor, padded: torch.Size, size: torch.Size) -> Tensor:
    """A mask at the size of the images, which lie in the middle of the padded ones."""
    full = functional.interpolate(mask, size=tuple(padded), mode="bilinear", align_corners=False)
    low = [(large - small) // 2 for large, small in zip(padded, size, strict=True)]
    return full[..., low[0] : low[0] + size[0], low[1] : low[1] + size[1]]


def grad_cam(critic: nn.Module, images: Tensor, layer: nn.Module | None = None) -> Tensor:
    """Grad-CAM: where the features of a layer speak for a high score of the critic.

    Scores are taken before the sigmoid, whose slope vanishes where the critic is sure. Raises ValueError: no layer was
    named and the critic is of another kind.

    Parameters
    ----------
    critic : (N, C, X, Y) -> one score an image or a patch, which are averaged
    images : (N, C, X, Y)
    layer : module whose output is weighed; None: the features of a `GuidingCritic`

    Returns
    -------
    (N, 1, X, Y), from 0 up, in units of the score; interpolated to the size of the images

    Source: Selvaraju et al. 2017, equations 1 and 2; attention_unet, sections 3.7 and 4.8.
    """
    if layer is None:
        if not isinstance(critic, GuidingCritic):
            raise ValueError(f"name the layer to look at: {type(critic).__name__} is no GuidingCritic")
        layer = critic.features
    kept: list[Tensor] = []
    was_training = critic.training
    critic.eval()
    hook = layer.register_forward_hook(lambda _module, _inputs, out: kept.append(out))
    try:
        with torch.enable_grad():
            score = critic(images.detach().requires_grad_(True)).flatten(1).mean(1).sum()
            slope = torch.autograd.grad(score, kept[0])[0]
    finally:
        hook.remove()
        critic.train(was_training)
    weight = slope.mean(dim=(-2, -1), keepdim=True)
    found = torch.relu((weight * kept[0]).sum(1, keepdim=True)).detach()
    return functional.interpolate(found, size=images.shape[-2:], mode="bilinear", align_corners=False)
