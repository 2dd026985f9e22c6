"""Losses between images, and their total variation.

The network's image `output` is compared with the image `target`, both (N, C, *grid). `weight` (N,
C or 1, *grid) is the weight of each voxel.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# mean squared error (80 dB at an intensity range of 1) below which the PSNR loss saturates
_MIN_MSE = 1e-8
# intensity difference from 0 and 1 within which the cross-entropy is linear
_MIN_DISTANCE = 1e-4
_C1, _C2 = 0.01**2, 0.03**2  # SSIM constants for an intensity range of 1
_SSIM_RADIUS, _SSIM_SIGMA = 5, 1.5  # voxels, Gaussian window of SSIM


class MSE(nn.Module):
    """Weighted mean squared error, the content term of SRGAN without VGG features.

    Source: Ledig et al. 2017, equation 4.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of squared differences."""
        return _weighted_mean((output - target).square(), weight)


class MAE(nn.Module):
    """Weighted mean absolute error."""

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of absolute differences."""
        return _weighted_mean((output - target).abs(), weight)


class BCE(nn.Module):
    """Weighted mean binary cross-entropy of intensities, -t log o - (1 - t) log(1 - o).

    Output o and target t are clipped to [e, 1 - e] with e = 1e-4 (our choice), so that the loss is
    finite at 0 and 1. For an output outside this range, the loss continues linearly, so that its
    gradient does not vanish. The loss of a perfect output is the entropy of the target rather than
    0.

    Source: attention_unet, section 3.4, which names the objective without a formula.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of the cross-entropy."""
        clipped_target = target.clamp(_MIN_DISTANCE, 1 - _MIN_DISTANCE)
        clipped_output = output.clamp(_MIN_DISTANCE, 1 - _MIN_DISTANCE)
        entropy = (
            -clipped_target * clipped_output.log()
            - (1 - clipped_target) * (1 - clipped_output).log()
        )
        slope = (
            (clipped_output - clipped_target) / (clipped_output * (1 - clipped_output))
        ).detach()
        return _weighted_mean(entropy + slope * (output - clipped_output), weight)


class PSNRLoss(nn.Module):
    """PSNR loss in dB, 10 log10(1 + MSE / 1e-8), with finite slope at an error of 0.

    The peak intensity is 1, and 1e-8 is our choice. Source: attention_unet, section 4.3 and
    equation 4.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the distance from a perfect image in dB."""
        return (_weighted_mean((output - target).square(), weight) / _MIN_MSE).log1p() * (
            10 / math.log(10)
        )


class SSIMLoss(nn.Module):
    """One minus the weighted mean structural similarity (SSIM) of output and target.

    The local means use a Gaussian window of 11 voxels (sigma 1.5) with edge values repeated
    outside the image. The constants are .01 and .03 times the intensity range of 1. Images may be
    smaller than half a window.

    Source: Wang et al. 2004, equation 13, and attention_unet, equation 5 (which lacks a plus
    sign).
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1, dtype=torch.float64)
        window = torch.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
        self.register_buffer("window", window / window.sum(), persistent=False)

    def similarity(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the SSIM map of output o and target t, in the shape of the images.

        The similarity of voxels with equal neighborhoods is 1.
        """
        mean_o, mean_t = self._smooth(output), self._smooth(target)
        variance_o = self._smooth(output * output) - mean_o * mean_o
        variance_t = self._smooth(target * target) - mean_t * mean_t
        covariance = self._smooth(output * target) - mean_o * mean_t
        numerator = (2 * mean_o * mean_t + _C1) * (2 * covariance + _C2)
        denominator = (mean_o * mean_o + mean_t * mean_t + _C1) * (variance_o + variance_t + _C2)
        return numerator / denominator

    def _smooth(self, image: Tensor) -> Tensor:
        """Return the local mean of images under the Gaussian window."""
        window = self.window.to(image)
        grid = image.shape[2:]
        flat_images = image.reshape(-1, 1, *grid)
        convolve = {2: functional.conv2d, 3: functional.conv3d}[len(grid)]
        padding = [_SSIM_RADIUS] * (2 * len(grid))
        flat_images = functional.pad(flat_images, padding, mode="replicate")
        for axis in range(len(grid)):
            shape = [1, 1, *(len(window) if axis == k else 1 for k in range(len(grid)))]
            flat_images = convolve(flat_images, window.reshape(shape))
        return flat_images.reshape(image.shape)

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return one minus the weighted mean of structural similarity."""
        return 1 - _weighted_mean(self.similarity(output, target), weight)


class TotalVariation(nn.Module):
    """Total variation of the output, as a mean over high-resolution voxels.

    Source: tv-self-sr, section 2 (isotropic 3D norm, see `compute_variation`). The mean is our
    choice: combined with a data-consistency term that is a mean over acquired voxels, alpha does
    not depend on the factor. Compared with the sums of equation 2 (`SummedVariation`), alpha is
    divided by the product of the three factors.
    """

    def forward(self, output: Tensor, _acquired: Tensor) -> Tensor:
        """Return the total variation of the output."""
        return compute_variation(output)


class SummedVariation(TotalVariation):
    """Variation of the output summed over its voxels, divided by the number of acquired voxels.

    Source: tv-self-sr, equation 2; both terms are sums there. Mean squared error plus alpha
    times this term is equation 2 divided by the number of acquired voxels. Thus, alpha has the
    same meaning as in the paper, and the learning rate does not depend on the image size.
    """

    def forward(self, output: Tensor, acquired: Tensor) -> Tensor:
        """Return the summed variation of the output per acquired voxel.

        `acquired` is the image (N, C, *coarse grid) for comparison with the downsampled output.
        """
        return compute_variation(output) * (output.numel() / acquired.numel())


class JointSparsify(nn.Module):
    """Variation of the output and its difference to the target, tau TV(o) + (1 - tau) TV(t - o).

    The weight of the first term, `tau`, is from 0 to 1. Source: gan-cpce-circle, section II.2,
    L_JST. The paper does not report tau, which is .1 in the code of You et al. 2020.
    """

    def __init__(self, tau: float = 0.5) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted variation of the output and of its difference to the target."""
        output_variation = compute_variation(output, weight)
        difference_variation = compute_variation(target - output, weight)
        return self.tau * output_variation + (1 - self.tau) * difference_variation


def compute_variation(image: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean length of the vector of first-order spatial differences.

    Differences across the upper image border are zero. Images are (N, C, *grid), 2D or 3D.
    `weight` is the weight of each voxel in the mean, and is broadcast; None means equal weights.
    """
    n_spatial_axes = image.dim() - 2
    differences = []
    for axis in range(2, image.dim()):
        padding = [0] * (2 * n_spatial_axes)  # pairs of (before, after), last axis first
        padding[2 * (image.dim() - 1 - axis) + 1] = 1
        differences.append(functional.pad(image.diff(dim=axis), padding))
    length = torch.linalg.vector_norm(torch.stack(differences), dim=0)
    return length.mean() if weight is None else _weighted_mean(length, weight)


def _weighted_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of an error map; the weight is broadcast to its shape."""
    voxel_weight = weight.expand_as(error)
    return (voxel_weight * error).sum() / voxel_weight.sum()


class SquaredVariation(TotalVariation):
    """Sum of the squared first-order differences of the output, divided by its number of voxels.

    Source: code of the authors of tv-self-sr, which weights this term by .07. Unlike the isotropic
    norm of their equation 2 (`SummedVariation`), it penalizes edges more than gradual changes.
    """

    def forward(self, output: Tensor, _acquired: Tensor) -> Tensor:
        """Return the mean of squared differences."""
        sums = [output.diff(dim=axis).square().sum() for axis in range(2, output.dim())]
        return torch.stack(sums).sum() / output.numel()
