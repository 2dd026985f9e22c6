"""Variance maps as a module that model files are read into."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class VarianceMaps(nn.Module):
    """What is kept of a `Prior`: its maps on the whole high-resolution grid, and its noise.

    weight: (Q, Z, X, Y), zero outside the window around the mask and everywhere where the maps were not used; noise:
    ().
    """

    weight: Tensor
    noise: Tensor

    def __init__(self, *_channels_and_factor: object) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(1, 1, 1, 1))
        self.register_buffer("noise", torch.zeros(()))

    def take_shapes(self, state: Mapping[str, Tensor]) -> None:
        """Make room for the maps of a file: their grid is that of a run, and no property of the method.

        Raises
        ------
        ValueError : not on a grid
        """
        found = state.get("weight")
        if found is not None and found.ndim != 4:
            raise ValueError(f"its maps {tuple(found.shape)} are not on one grid")
        if found is not None:
            self.weight = torch.zeros_like(found)
