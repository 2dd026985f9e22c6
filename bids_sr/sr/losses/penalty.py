"""Gradient penalty: keeps the slope of a Wasserstein critic near one (Gulrajani et al. 2017).

Source: gan-cpce-circle, section II.2, last term of L_WGAN: the mean of (|grad D(y~)| - 1)^2 over images y~ between real
and generated ones. Its weight, not given there, is the recipe's (10 in Gulrajani et al.).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GradientPenalty(nn.Module):
    """Penalty of a critic at images drawn evenly on the lines between real and generated ones.

    A linear critic with weights w has (|w| - 1)^2 wherever it is asked. Each image has its own length of gradient, over
    all channels and voxels; the critic may therefore not normalize over the batch. The place on each line is drawn
    from torch's generator, whose state is in the checkpoint.
    """

    def forward(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        # vector_norm has a finite slope at zero, where a critic that ignores its input is
        return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()
