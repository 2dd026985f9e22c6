"""Adversarial loss by the Wasserstein distance (Arjovsky et al. 2017; gan-cpce-circle, section II.2).

The critic's slope has to be bounded: by clipping its weights after every step of its own, or by a penalty on its
gradient (`losses.penalty`). The recipe says which. The paper prints the generator's term as +E D(G(x)), with the critic
scoring generated images high; here, as in the whole package, real images score high, which is the same game.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdversarialWasserstein(nn.Module):
    """Both sides of the game; scores have any shape and no bounds."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Critic's loss: mean D(fake) - mean D(real), minus the estimated distance; lower tells them apart better."""
        return fake.mean() - real.mean()

    def forward(self, fake: Tensor) -> Tensor:
        """Generator's loss: -mean D(fake)."""
        return -fake.mean()


@torch.no_grad()
def clip_weights(critic: nn.Module, limit: float) -> None:
    """Bring every weight of the critic into [-limit, limit], in place; .01 is the value of Arjovsky et al."""
    for parameter in critic.parameters():
        parameter.clamp_(-limit, limit)
