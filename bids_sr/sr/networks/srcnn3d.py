"""The conventional network of the mouse paper: SRCNN's three convolutions with 3D kernels of 3.

Source: mouse-sr, section 2.3.1 (64, 32 and 1 channels; ReLU between; Glorot weights). 57,985 parameters, and a voxel
sees 7 along each axis. The input is interpolated (cubic) to the wanted grid before. The paper's network has no skip
connection and has to learn its input first; `skip` (ours, for the fast recipe) adds it and starts from it.
"""

from __future__ import annotations

from torch import Tensor, nn

from bids_sr.sr.networks.blocks3d import glorot, zero


class ConventionalNet3d(nn.Module):
    """Interpolated volume to a sharper one, (N, C, X, Y, Z) -> the same shape.

    Parameters
    ----------
    channels : of the image
    widths : of the two hidden layers; (64, 32) in the paper
    skip : add the input to the output and start there; off in the paper
    """

    def __init__(self, channels: int = 1, *, widths: tuple[int, int] = (64, 32), skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.body = nn.Sequential(
            nn.Conv3d(channels, widths[0], 3, padding=1), nn.ReLU(),
            nn.Conv3d(widths[0], widths[1], 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.tail = nn.Conv3d(widths[1], channels, 3, padding=1)
        glorot(self)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        out = self.tail(self.body(x))
        return x + out if self.skip else out
