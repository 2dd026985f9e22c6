"""Adversarial loss by binary cross-entropy on the critic's scores (logits).

Plain, as SRGAN has it (Ledig et al. 2017, equations 2 and 6): real images should score high, generated ones low; the
generator wants its own to score high. No clipping is needed, because softplus of a logit is the cross-entropy itself.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class AdversarialBCE(nn.Module):
    """Both sides of the game; scores have any shape, one number an image or a patch."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Critic's loss: mean of -log D(real) - log(1 - D(fake)), halved so that not knowing costs log 2."""
        return 0.5 * (functional.softplus(-real).mean() + functional.softplus(fake).mean())

    def forward(self, fake: Tensor) -> Tensor:
        """Generator's loss: mean of -log D(fake)."""
        return functional.softplus(-fake).mean()
