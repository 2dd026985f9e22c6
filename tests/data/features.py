"""Replacement of the features of VGG-19, whose weights are not distributed with the program."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from bids_sr.io.checksums import checksum

WEIGHTS = Path(tempfile.mkdtemp()) / "vgg19.safetensors"  # never opened
WEIGHTS.write_bytes(b"stand-in")  # the checksum is part of the key of a model


class FewFeatures(nn.Module):
    """Gradients along both axes, instead of features."""

    def __init__(self, weights):
        super().__init__()
        self.checksum = checksum(Path(weights))

    def forward(self, output, target):
        return sum(
            (output.diff(dim=k) - target.diff(dim=k)).square().mean() for k in (2, 3)
        ) + 0.1 * torch.square(output.mean() - target.mean())


def with_features(recipe):
    """Return a recipe whose perceptual term uses these features."""
    terms = (replace(t, build=FewFeatures) if t.kind == "perceptual" else t for t in recipe.losses)
    return replace(recipe, losses=tuple(terms))
