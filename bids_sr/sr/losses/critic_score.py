"""The critic's score as a loss: how far generated images are from a full score."""

from __future__ import annotations

import torch
from torch import Tensor

from bids_sr.sr.losses.bce import AdversarialBCE


class CriticScore(AdversarialBCE):
    """The critic is taught by cross-entropy; the generator pays 1 - D(fake), D being the sigmoid of the score.

    Unlike the logarithm, its slope vanishes for images that the critic is sure to be generated. Source:
    attention_unet, equations 1 and 2. The paper found no gain from it (section 4.3) and trains the critic beside the
    network, to be looked at: that is this term with a weight of nothing.
    """

    def forward(self, fake: Tensor) -> Tensor:
        """Generator's loss, from 0 (taken for acquired) to 1."""
        return 1 - torch.sigmoid(fake).mean()
