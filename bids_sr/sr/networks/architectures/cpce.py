"""Network of GAN-CPCE, an encoder-decoder with conveying paths.

Source: gan-cpce-circle, section II.2. The network (figure 1) has four convolutions and three
deconvolutions of 32 filters, and one deconvolution of one filter. All kernels are 3 x 3 with
stride 1, and early feature maps are concatenated into late layers.

The paper leaves the following details open. Our choices are:

- Convolutions are not padded: each reduces a feature map by two voxels, and each deconvolution
  restores them. Concatenated feature maps thus have equal sizes (Shan et al. 2018).
- Feature maps are concatenated without 1 x 1 convolutions, which the paper does not mention.
- ReLU follows all layers except the last, because zero filling causes negative ringing.
"""

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.architectures.blocks import init_zero


class CPCENet(nn.Module):
    """Network that sharpens images on the high-resolution grid (N, C, X, Y).

    Sides must be at least 9 voxels. The published network has 74,817 parameters and a receptive
    field of 17 x 17 voxels.

    `width` is the number of filters. `skip` adds the input to the output and initializes the
    network as the identity. This is used by our recipe `fast`, but not in the paper.
    """

    def __init__(self, channels: int = 1, *, width: int = 32, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.down = nn.ModuleList(
            nn.Conv2d(in_channels, width, 3) for in_channels in (channels, width, width, width)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(in_channels, width, 3)
            for in_channels in (width, 2 * width, 2 * width)
        )
        self.tail = nn.ConvTranspose2d(2 * width, channels, 3)
        if skip:
            init_zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened images on the same grid."""
        skip_connections: list[Tensor] = []
        features = x
        for layer in self.down:
            features = layer(features).relu()
            skip_connections.append(features)
        skip_connections.pop()  # the smallest feature map is the input of the deconvolutions
        for layer in self.up:
            features = torch.cat((layer(features).relu(), skip_connections.pop()), 1)
        output = self.tail(features)
        return x + output if self.skip else output
