"""Explanations of networks: attention masks of gates, and Grad-CAM of critics.

Neither is evidence of cause: an attention mask shows how much of a skip connection passes a gate,
and Grad-CAM shows the regions that increased a critic's score.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.sr.networks.architectures.critics import Critic
from bids_sr.sr.networks.architectures.unet import AttentionGate


def compute_attention_masks(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return the masks of all attention gates for images, from low to high resolution.

    Images are (N, C, X, Y). Each mask (N, 1, X, Y) is between 0 and 1, and interpolated to the
    size of the images. The tuple is empty if the network has no `AttentionGate`.

    Source: attention_unet, sections 3.7 and 4.7.
    """
    gate_masks: list[Tensor] = []

    def record_mask(gate: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(gate, AttentionGate)
        gate_masks.append(gate.mask(*inputs))

    gates = [module for module in network.modules() if isinstance(module, AttentionGate)]
    with _evaluate_with_hook(network, gates, record_mask), torch.no_grad():
        network(images)
    if not gate_masks:
        return ()
    padded_rows, padded_columns = gate_masks[-1].shape[-2:]
    rows, columns = images.shape[-2:]
    # the padding is removed from the masks; the network pads images equally on both sides
    top, left = (padded_rows - rows) // 2, (padded_columns - columns) // 2
    padded_masks = [
        functional.interpolate(
            mask, size=(padded_rows, padded_columns), mode="bilinear", align_corners=False
        )
        for mask in gate_masks
    ]
    return tuple(mask[..., top : top + rows, left : left + columns] for mask in padded_masks)


def compute_grad_cam(critic: nn.Module, images: Tensor) -> Tensor:
    """Return Grad-CAM maps of a critic (N, 1, X, Y), with non-negative values.

    The maps show which features of the images increase the score. Gradients are computed for the
    score before the sigmoid, because the slope of the sigmoid vanishes if the critic is certain.
    The maps are interpolated to the size of the images (N, C, X, Y).

    Source: Selvaraju et al. 2017, equations 1 and 2; attention_unet, sections 3.7 and 4.8.
    """
    assert isinstance(critic, Critic)
    features: list[Tensor] = []

    def record_features(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        features.append(output)

    with _evaluate_with_hook(critic, [critic.features], record_features), torch.enable_grad():
        score = critic(images.detach().requires_grad_(True)).flatten(1).mean(1).sum()
        gradient = torch.autograd.grad(score, features[0])[0]
    channel_weights = gradient.mean(dim=(-2, -1), keepdim=True)
    maps = torch.relu((channel_weights * features[0]).sum(1, keepdim=True)).detach()
    return functional.interpolate(
        maps, size=images.shape[-2:], mode="bilinear", align_corners=False
    )


@contextmanager
def _evaluate_with_hook(
    network: nn.Module,
    modules: Sequence[nn.Module],
    hook: Callable[[Any, tuple[Tensor, ...], Tensor], None],
) -> Iterator[None]:
    """Switch a network to evaluation mode, and call `hook` after each call of some modules.

    Both changes are undone at the end.
    """
    was_training = network.training
    network.eval()
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
