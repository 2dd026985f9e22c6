"""Total variation of an image in 2D or 3D, isotropic."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def variation(image: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over all voxels of the length of the vector of first-order differences along each spatial axis.

    The difference beyond the last voxel of an axis is zero, so that a ramp of slope s along an axis of n voxels has
    s (n - 1)/n. At a voxel without differences the slope is taken as zero: it is finite everywhere.

    Parameters
    ----------
    image : (N, C, *grid), 2D or 3D
    weight : of each voxel in the mean, broadcasts; all alike where None
    """
    spatial = image.dim() - 2
    steps = []
    for axis in range(2, image.dim()):
        pad = [0] * (2 * spatial)
        pad[2 * (image.dim() - 1 - axis) + 1] = 1
        steps.append(nn.functional.pad(image.diff(dim=axis), pad))
    length = torch.linalg.vector_norm(torch.stack(steps), dim=0)
    if weight is None:
        return length.mean()
    weight = weight.expand_as(length)
    return (weight * length).sum() / weight.sum()


class TotalVariation(nn.Module):
    """`variation` of the output.

    Source: tv-self-sr, equation 2 and section 2 (isotropic 3D norm of first-order differences at each voxel). The paper
    leaves open whether it sums or averages. Ours: a mean over the fine voxels, beside a fidelity that is a mean over
    the coarse ones; with sums the same alpha would weigh as many times more as there are fine voxels to a coarse one.
    """

    def forward(self, output: Tensor) -> Tensor:
        return variation(output)
