"""Adversarial losses: binary cross-entropy, the critic's score, Wasserstein distance with clipping or gradient penalty.

Real images score high and generated ones low (gan-cpce-circle prints the same objective with the opposite sign); scores
have any shape, one number an image or a patch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AdversarialBCE(nn.Module):
    """Binary cross-entropy of the critic's scores (logits) as in SRGAN (Ledig et al. 2017, equations 2 and 6)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Critic's loss: mean of -log D(real) - log(1 - D(fake)), halved so that not knowing costs log 2."""
        return 0.5 * (functional.softplus(-real).mean() + functional.softplus(fake).mean())

    def forward(self, fake: Tensor) -> Tensor:
        """Generator's loss: mean of -log D(fake)."""
        return functional.softplus(-fake).mean()


class CriticScore(AdversarialBCE):
    """The critic is trained by cross-entropy; the generator pays 1 - D(fake), D being the sigmoid of the score.

    Source: attention_unet, equations 1 and 2. The paper found no gain from it (section 4.3) and trains the critic
    beside the network, to be explained: that is this term with a weight of 0.
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


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|grad D| - 1)^2 at images drawn evenly on the lines between real and generated ones.

    Each image has its own length of gradient; the critic may therefore not normalize over the batch.

    Source: Gulrajani et al. 2017; gan-cpce-circle, section II.2, last term of L_WGAN.
    """
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # vector_norm has a finite slope at zero, where a critic that ignores its input is
    return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()
