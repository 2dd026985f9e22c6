"""Binary cross-entropy of intensities, as if each were a probability."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class PixelBCE(nn.Module):
    """Weighted mean of -t log o - (1 - t) log(1 - o), less what equal images cost; shapes as in `mse.MSE`.

    Output and target lie in [0, 1]; what lies outside is taken for the nearest end. Source: attention_unet, section
    3.4. Ours: the entropy of the target is subtracted, so that equal images cost nothing; slopes stay as they are.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        weight = weight.expand_as(output)
        inside, aim = output.clamp(1e-6, 1 - 1e-6), target.clamp(1e-6, 1 - 1e-6)
        cost = functional.binary_cross_entropy(inside, aim, reduction="none")
        least = functional.binary_cross_entropy(aim, aim, reduction="none").detach()
        return (weight * (cost - least)).sum() / weight.sum()
