"""Adversarial losses: binary cross-entropy, the critic's score, Wasserstein distance with clipping or gradient penalty.

Real images should score high and generated ones low; scores have any shape, one number an image or a patch. The slope
of a Wasserstein critic has to be bounded: by clipping its weights after every step of its own, or by a penalty on its
gradient; the recipe says which. gan-cpce-circle prints the generator's term as +E D(G(x)), with the critic scoring
generated images high, which is the same objective.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class AdversarialBCE(nn.Module):
    """Binary cross-entropy of the critic's scores (logits), plain as in SRGAN (Ledig et al. 2017, equations 2 and 6).

    No clipping is needed: softplus of a logit is the cross-entropy itself.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Critic's loss: mean of -log D(real) - log(1 - D(fake)), halved so that not knowing costs log 2."""
        return 0.5 * (functional.softplus(-real).mean() + functional.softplus(fake).mean())

    def forward(self, fake: Tensor) -> Tensor:
        """Generator's loss: mean of -log D(fake)."""
        return functional.softplus(-fake).mean()


class CriticScore(AdversarialBCE):
    """The critic is taught by cross-entropy; the generator pays 1 - D(fake), D being the sigmoid of the score.

    Unlike the logarithm, its slope vanishes for images that the critic is sure to be generated. Source:
    attention_unet, equations 1 and 2. The paper found no gain from it (section 4.3) and trains the critic beside the
    network, to be looked at: that is this term with a weight of nothing.
    """

    def forward(self, fake: Tensor) -> Tensor:
        """Generator's loss, from 0 (taken for acquired) to 1."""
        return 1 - torch.sigmoid(fake).mean()


class AdversarialWasserstein(nn.Module):
    """Wasserstein distance (Arjovsky et al. 2017; gan-cpce-circle, section II.2); scores have no bounds."""

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


class GradientPenalty(nn.Module):
    """Mean of (|grad D| - 1)^2 at images drawn evenly on the lines between real and generated ones.

    A linear critic with weights w has (|w| - 1)^2 wherever it is asked. Each image has its own length of gradient, over
    all channels and voxels; the critic may therefore not normalize over the batch. The place on each line is drawn
    from torch's generator, whose state is in the checkpoint.

    Source: Gulrajani et al. 2017; gan-cpce-circle, section II.2, last term of L_WGAN.
    """

    def forward(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        # vector_norm has a finite slope at zero, where a critic that ignores its input is
        return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()
