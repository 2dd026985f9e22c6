"""Variance maps as a module that model files are read into."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class VarianceMaps(nn.Module):
    """What is kept of a `Prior`: maps (Q, Z, X, Y) on the whole high-resolution grid (zero where unused), and noise."""

    weight: Tensor
    noise: Tensor

    def __init__(self, *_channels_and_factor: object) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(1, 1, 1, 1))
        self.register_buffer("noise", torch.zeros(()))

    def take_shapes(self, state: Mapping[str, Tensor]) -> None:
        """Make room for the maps of a file, whose grid is that of a run; raises ValueError."""
        found = state.get("weight")
        if found is None:
            return
        if found.ndim != 4:
            raise ValueError(f"its maps {tuple(found.shape)} are not on one grid")
        self.weight = torch.zeros_like(found)
