"""Losses between images, and their total variation.

Output, target and weight are (N, C, *grid); the weight broadcasts.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# mean squared error (80 dB at a range of 1) below which less error gains hardly more
_FLOOR = 1e-8
# distance from 0 and 1 within which the cross-entropy is straight
_EDGE = 1e-4
_C1, _C2 = 0.01**2, 0.03**2  # constants of the structural similarity, at a range of 1


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    weight = weight.expand_as(error)
    return (weight * error).sum() / weight.sum()


class MSE(nn.Module):
    """Weighted mean of squared differences: the content term of SRGAN before VGG features.

    Source: Ledig et al. 2017, equation 4.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of squared differences.

        `output`: what the network makes (N, C, *grid). `target`: what the output is compared with
        (N, C, *grid). `weight`: weight of each voxel in the losses (N, C or 1, *grid).
        """
        return _mean((output - target).square(), weight)


class MAE(nn.Module):
    """Weighted mean of absolute differences."""

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of absolute differences.

        `output`: what the network makes (N, C, *grid). `target`: what the output is compared with
        (N, C, *grid). `weight`: weight of each voxel in the losses (N, C or 1, *grid).
        """
        return _mean((output - target).abs(), weight)


class BCE(nn.Module):
    """Weighted mean binary cross-entropy of intensities, -t log o - (1 - t) log(1 - o).

    Output o and target t are clipped to [e, 1 - e] with e = 1e-4 (ours), so that the loss is
    finite at 0 and 1; an output outside of that range continues the curve by its tangent, so that
    it is drawn back. The loss of a perfect output is the entropy of the target and not 0.

    Source: attention_unet, section 3.4, which names it as an objective without a formula.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of the cross-entropy.

        `output`: what the network makes (N, C, *grid). `target`: what the output is compared with
        (N, C, *grid). `weight`: weight of each voxel in the losses (N, C or 1, *grid).
        """
        target = target.clamp(_EDGE, 1 - _EDGE)
        inside = output.clamp(_EDGE, 1 - _EDGE)
        entropy = -target * inside.log() - (1 - target) * (1 - inside).log()
        slope = ((inside - target) / (inside * (1 - inside))).detach()
        return _mean(entropy + slope * (output - inside), weight)


class PSNRLoss(nn.Module):
    """PSNR loss (dB from a perfect image), 10 log10(1 + MSE / floor); finite slope at no error.

    The peak value is 1. Source: attention_unet, section 4.3 and equation 4; the floor is ours.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the distance from a perfect image in dB.

        `output`: what the network makes (N, C, *grid). `target`: what the output is compared with
        (N, C, *grid). `weight`: weight of each voxel in the losses (N, C or 1, *grid).
        """
        return (_mean((output - target).square(), weight) / _FLOOR).log1p() * (10 / math.log(10))


class SSIMLoss(nn.Module):
    """1 - weighted mean SSIM of output and target, (N, C, *grid); the weight broadcasts.

    The weight is (N, C, *grid), too.

    Gaussian window of 11 voxels (sigma 1.5), edge values held, constants of .01 and .03 times the
    data range of 1. Sides shorter than half a window are allowed.

    Source: Wang et al. 2004, equation 13, as in attention_unet, equation 5 (which misses a plus
    sign there).
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(-5, 6, dtype=torch.float64)
        window = torch.exp(-0.5 * (at / 1.5) ** 2)
        self.register_buffer("window", window / window.sum(), persistent=False)

    def _mean(self, image: Tensor) -> Tensor:
        """Local mean along every axis of the grid."""
        window = self.window.to(image)
        grid = image.shape[2:]
        flat = image.reshape(-1, 1, *grid)
        radius = len(window) // 2
        convolve = {2: functional.conv2d, 3: functional.conv3d}[len(grid)]
        edges = [pair for _ in grid for pair in (radius, radius)]
        flat = functional.pad(flat, edges, mode="replicate")
        for axis in range(len(grid)):
            shape = [1, 1, *(len(window) if axis == other else 1 for other in range(len(grid)))]
            flat = convolve(flat, window.reshape(shape))
        return flat.reshape(image.shape)

    def similarity(self, output: Tensor, target: Tensor) -> Tensor:
        """The map of structural similarity, of the shape of the images.

        `output`: what the network makes (N, C, *grid). `target`: what the output is compared with
        (N, C, *grid). The similarity is 1 for equal surroundings.
        """
        mean_o, mean_t = self._mean(output), self._mean(target)
        spread_o = self._mean(output * output) - mean_o * mean_o
        spread_t = self._mean(target * target) - mean_t * mean_t
        joint = self._mean(output * target) - mean_o * mean_t
        above = (2 * mean_o * mean_t + _C1) * (2 * joint + _C2)
        below = (mean_o * mean_o + mean_t * mean_t + _C1) * (spread_o + spread_t + _C2)
        return above / below

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return one minus the weighted mean of structural similarity.

        `output`: what the network makes (N, C, *grid). `target`: what the output is compared with
        (N, C, *grid). `weight`: weight of each voxel in the losses (N, C or 1, *grid).
        """
        return 1 - _mean(self.similarity(output, target), weight)


def variation(image: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean length of the first-order spatial difference vector over all voxels.

    The difference beyond the last voxel of an axis is zero. `image`: (N, C, *grid), 2D or 3D.
    `weight`: of each voxel in the mean, broadcasts; None weighs all alike.
    """
    spatial = image.dim() - 2
    steps = []
    for axis in range(2, image.dim()):
        pad = [0] * (2 * spatial)
        pad[2 * (image.dim() - 1 - axis) + 1] = 1
        steps.append(nn.functional.pad(image.diff(dim=axis), pad))
    length = torch.linalg.vector_norm(torch.stack(steps), dim=0)
    return length.mean() if weight is None else _mean(length, weight)


class TotalVariation(nn.Module):
    """`variation` of the output: a mean over the high-resolution voxels.

    Source: tv-self-sr, section 2 (isotropic 3D norm). The mean is ours: next to a fidelity that is
    a mean over the acquired voxels, alpha then does not depend on the factor. Relative to the sums
    of equation 2 (`SummedVariation`), alpha is divided by the product of the three factors.
    """

    def forward(self, output: Tensor, acquired: Tensor) -> Tensor:
        """Return the total variation of the output.

        `output`: image of the network (N, C, *grid). `acquired`: image that the downsampled output
        is compared with (N, C, *coarse grid); its size matters only to `SummedVariation`.
        """
        return variation(output)


class SummedVariation(TotalVariation):
    """Sum of the output's variation over its voxels, divided by the number of acquired voxels.

    Source: tv-self-sr, equation 2, in which both terms are sums. Mean squared error plus alpha
    times this term is equation 2 divided by the number of acquired voxels, so that alpha has the
    paper's meaning and the learning rate does not depend on the size of the image.
    """

    def forward(self, output: Tensor, acquired: Tensor) -> Tensor:
        """Return the summed variation of the output per acquired voxel.

        `output`: image of the network (N, C, *grid). `acquired`: image that the downsampled output
        is compared with (N, C, *coarse grid).
        """
        return variation(output) * (output.numel() / acquired.numel())


class JointSparsify(nn.Module):
    """Smooth image *and* difference to target: tau TV(output) + (1 - tau) TV(target - output).

    Source: gan-cpce-circle, section II.2, L_JST; the paper gives no tau, ours is .5.

    `tau`: share of the output's variation in the loss, from 0 to 1.
    """

    def __init__(self, tau: float = 0.5) -> None:
        super().__init__()
        if not 0 <= tau <= 1:
            raise ValueError(f"tau must be between 0 and 1, got {tau}")
        self.tau = tau

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted variation of the output and of its difference to the target.

        `output`: what the network makes (N, C, *grid). `target`: what the output is compared with
        (N, C, *grid). `weight`: weight of each voxel in the losses (N, C or 1, *grid).
        """
        return self.tau * variation(output, weight) + (1 - self.tau) * variation(
            target - output, weight
        )
