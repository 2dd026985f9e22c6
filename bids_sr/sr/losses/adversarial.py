"""Adversarial losses: binary cross-entropy and the Wasserstein distance.

Critics of the Wasserstein distance have clipped weights or a gradient penalty.

Real images score high and generated ones low (gan-cpce-circle prints the same objective with the
opposite sign); scores have any shape, one number an image or a patch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AdversarialBCE(nn.Module):
    """Binary cross-entropy of critic logits as in SRGAN (Ledig et al. 2017, equations 2 and 6)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss: mean of -log D(real) - log(1 - D(fake)), halved.

        It is halved so that not knowing costs log 2.

        `real`: scores of acquired images before the sigmoid, of any shape. `fake`: scores of
        generated images before the sigmoid, of any shape.
        """
        return 0.5 * (functional.softplus(-real).mean() + functional.softplus(fake).mean())

    def forward(self, fake: Tensor) -> Tensor:
        """Return generator's loss: mean of -log D(fake).

        `fake`: scores of generated images before the sigmoid, of any shape.
        """
        return functional.softplus(-fake).mean()


class CriticScore(AdversarialBCE):
    """Cross-entropy for the critic; 1 - D(fake) for the generator, D the sigmoid of the score.

    Source: attention_unet, equations 1 and 2. The paper found no gain from it (section 4.3) and
    trains the critic beside the network, to be explained: that is this term with a weight of 0.
    """

    def forward(self, fake: Tensor) -> Tensor:
        """Return generator's loss, from 0 (taken for acquired) to 1.

        `fake`: scores of generated images before the sigmoid, of any shape.
        """
        return 1 - torch.sigmoid(fake).mean()


class AdversarialWasserstein(nn.Module):
    """Wasserstein distance with unbounded scores.

    See Arjovsky et al. 2017; gan-cpce-circle, section II.2.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss: mean D(fake) - mean D(real).

        This is minus the estimated distance; a lower value tells them apart better.

        `real`: scores of acquired images without bounds, of any shape. `fake`: scores of generated
        images without bounds, of any shape.
        """
        return fake.mean() - real.mean()

    def forward(self, fake: Tensor) -> Tensor:
        """Return generator's loss: -mean D(fake).

        `fake`: scores of generated images without bounds, of any shape.
        """
        return -fake.mean()


@torch.no_grad()
def clip_weights(critic: nn.Module, limit: float) -> None:
    """Clip the critic's weights to [-limit, limit] in place; Arjovsky et al. use .01."""
    for parameter in critic.parameters():
        parameter.clamp_(-limit, limit)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of (|grad D| - 1)^2 between real and generated images.

    The images are drawn evenly on the lines between real and generated ones.

    Each image has its own length of gradient; the critic may therefore not normalize over the
    batch.

    Source: Gulrajani et al. 2017; gan-cpce-circle, section II.2, last term of L_WGAN.

    `real`: acquired images (N, C, *grid), not their scores. `fake`: generated images (N, C,
    *grid), not their scores.
    """
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # vector_norm has a finite slope at zero, where a critic that ignores its input is
    return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()
