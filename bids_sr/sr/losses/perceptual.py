"""Loss on features of VGG-19, whose weights do not come with the program (`bids_sr.sr.vgg19`)."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from bids_sr.sr.vgg19 import load_vgg19

_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGGPerceptual(nn.Module):
    """Mean squared VGG feature difference of output and target, both (N, 1, Y, X), about 0 … 1.

    Gray images go to all three color channels with the mean and deviation of the weights'
    training. Sides below 16 have no features left after four poolings.

    Source: Ledig et al. 2017, equation 5, layer 5,4 after activation; their factor of .006 is the
    caller's weight.

    `weights`: file of VGG-19 as torchvision stores it (.safetensors).
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

    def _features(self, image: Tensor) -> Tensor:
        return self.features((image.expand(-1, 3, -1, -1) - self.mean) / self.sd)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared difference of features.

        `output`: what the network makes (N, 1, Y, X). `target`: what the output is compared with
        (N, 1, Y, X).
        """
        return (self._features(output) - self._features(target).detach()).square().mean()
