"""Adversarial losses: binary cross-entropy and the Wasserstein distance.

Wasserstein critics are constrained by clipped weights or by a gradient penalty.

Acquired images score high and generated images low (gan-cpce-circle prints the same objective with
the opposite sign). Scores may have any shape, for example one number per image or per patch. In
each class, `critic` returns the loss of the critic and `forward` the loss of the generator.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AdversarialBCE(nn.Module):
    """Binary cross-entropy of critic logits as in SRGAN (Ledig et al. 2017, equations 2 and 6)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return half the mean of -log D(real) - log(1 - D(fake)).

        Scores are taken before the sigmoid. Because of the factor 1/2, the loss of an uninformed
        critic is log 2.
        """
        return 0.5 * (functional.softplus(-real).mean() + functional.softplus(fake).mean())

    def forward(self, fake: Tensor) -> Tensor:
        """Return the generator's loss, the mean of -log D(fake).

        Scores are taken before the sigmoid.
        """
        return functional.softplus(-fake).mean()


class CriticScore(AdversarialBCE):
    """Cross-entropy for the critic, and 1 - D(fake) for the generator.

    D is the sigmoid of the score. Source: attention_unet, equations 1 and 2. The paper found no
    benefit of this term (section 4.3) and trains the critic only for inspection, which corresponds
    to a weight of 0.
    """

    def forward(self, fake: Tensor) -> Tensor:
        """Return the generator's loss, from 0 (classified as acquired) to 1.

        Scores are taken before the sigmoid.
        """
        return 1 - torch.sigmoid(fake).mean()


class AdversarialWasserstein(nn.Module):
    """Wasserstein distance, estimated from unbounded scores.

    Source: Arjovsky et al. 2017; gan-cpce-circle, section II.2.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's loss, mean D(fake) - mean D(real).

        The loss is the negative of the estimated distance; lower values mean better separation.
        """
        return fake.mean() - real.mean()

    def forward(self, fake: Tensor) -> Tensor:
        """Return the generator's loss, -mean D(fake)."""
        return -fake.mean()


@torch.no_grad()
def clip_weights(critic: nn.Module, limit: float) -> None:
    """Clip the critic's weights to [-limit, limit] in place.

    Arjovsky et al. 2017 use a limit of .01.
    """
    for parameter in critic.parameters():
        parameter.clamp_(-limit, limit)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of (|grad D| - 1)^2 between acquired and generated images.

    Gradients are computed at random points on the lines between acquired and generated images.
    Each image has its own gradient, so the critic must not contain batch normalization. See
    Gulrajani et al. 2017, and gan-cpce-circle, section II.2, last term of L_WGAN.

    `real` and `fake` are images (N, C, *grid), not scores.
    """
    mixing_weight = torch.rand(
        len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype
    )
    mixture = mixing_weight * real.detach() + (1 - mixing_weight) * fake.detach()
    mixture.requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(mixture).sum(), mixture, create_graph=True)
    # A critic that ignores its input has a gradient of zero, for which the slope of vector_norm is
    # finite.
    return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()
