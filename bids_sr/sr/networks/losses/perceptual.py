"""Perceptual loss on VGG-19 features.

The weights are not distributed with the program (see `bids_sr.sr.networks.vgg19`).
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.vgg19 import load_vgg19

# mean and standard deviation of the color channels of ImageNet, as in torchvision
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGGPerceptual(nn.Module):
    """Mean squared difference of VGG-19 features between output and target.

    Images have intensities from about 0 to 1. They are copied to the three color channels, with
    the mean and standard deviation of the network's training images. Images with a side below 16
    voxels have no features after four poolings.

    Source: Ledig et al. 2017, equation 5, layer 5,4 after activation. Their factor of .006 is the
    weight of this term in the recipe.

    `weights` is a file of VGG-19 weights with torchvision's names (.safetensors).
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.features = load_vgg19(weights)
        with weights.open("rb") as stream:
            self.checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("sd", torch.tensor(_SD).view(1, 3, 1, 1))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared difference of features between images (N, 1, Y, X)."""
        output_features = self._compute_features(output)
        target_features = self._compute_features(target).detach()
        return (output_features - target_features).square().mean()

    def _compute_features(self, image: Tensor) -> Tensor:
        """Return the features of images (N, 1, Y, X)."""
        return self.features((image.expand(-1, 3, -1, -1) - self.mean) / self.sd)
