"""Joint sparsifying transform loss of GAN-CIRCLE: a smooth image *and* a smooth difference to the fine one."""

from __future__ import annotations

from torch import Tensor, nn

from bids_sr.sr.losses.total_variation import variation


class JointSparsify(nn.Module):
    """tau TV(output) + (1 - tau) TV(target - output); output, target, weight: (N, C, *grid), weight broadcasts.

    The second part lets a difference that is constant pass and punishes one that has edges.

    Parameters
    ----------
    tau : share of the first part, in 0 … 1; the paper gives none, ours is .5

    Source: gan-cpce-circle, section II.2, L_JST.
    """

    def __init__(self, tau: float = 0.5) -> None:
        super().__init__()
        if not 0 <= tau <= 1:
            raise ValueError(f"tau is a share between 0 and 1, not {tau}")
        self.tau = tau

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return self.tau * variation(output, weight) + (1 - self.tau) * variation(target - output, weight)
