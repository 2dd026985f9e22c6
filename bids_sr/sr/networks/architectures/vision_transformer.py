"""Vision transformer from the patches of an image to the patches of an improved image.

Source: vit_mri (Lin & Heckel 2022), variant ViT-M: patches of 10 x 10 voxels, eight layers, nine
heads of 64 channels, and 32.6 million parameters. Details that the paper leaves open are our
choices: the positional embedding is learned for 32 x 32 patches (320 x 320 voxels) and
interpolated to other sizes, normalization precedes attention and dense layers, and images are
zero-padded to whole patches.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.sr.networks.architectures.blocks import init_zero


class VisionTransformer(nn.Module):
    """Vision transformer between images of the same size (N, C, X, Y).

    `patch` is the side of a patch (voxels), `width` the number of channels of a token over all
    heads, `heads` the number of attention heads, `depth` the number of layers, and `grid` the
    number of patches per side for which positions are learned. The patches are the output if
    `head` is "plain". Their sigmoid is the output for "sigmoid". For "residual", they are added to
    the input, and are zero at first.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        patch: int = 10,
        width: int = 576,
        heads: int = 9,
        depth: int = 8,
        grid: int = 32,
        head: Literal["plain", "sigmoid", "residual"] = "plain",
    ) -> None:
        super().__init__()
        self.patch, self.head = patch, head
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(1, width, grid, grid))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList([_AttentionBlock(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.to_patch = nn.Linear(width, channels * patch * patch)
        if head == "residual":
            init_zero(self.to_patch)

    def forward(self, x: Tensor) -> Tensor:
        """Return improved images on the same grid."""
        rows, columns = x.shape[-2], x.shape[-1]
        padded_image = functional.pad(x, (0, -columns % self.patch, 0, -rows % self.patch))
        tokens = self.embed(padded_image)
        grid = tokens.shape[-2:]
        position: Tensor = self.position
        if grid != position.shape[-2:]:
            position = functional.interpolate(
                position, size=grid, mode="bicubic", align_corners=False
            )
        tokens = (tokens + position).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        patches = self.to_patch(self.norm(tokens)).reshape(
            len(x), *grid, -1, self.patch, self.patch
        )
        image = patches.permute(0, 3, 1, 4, 2, 5).reshape(
            len(x), -1, grid[0] * self.patch, grid[1] * self.patch
        )
        output = image[..., :rows, :columns]
        if self.head == "sigmoid":
            return torch.sigmoid(output)
        return x + output if self.head == "residual" else output


class _AttentionBlock(nn.Module):
    """Attention between all tokens, followed by a dense network applied to each token.

    Both normalize their input, and their output is added to the input.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.joined = nn.Linear(width, width)
        self.before_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape (N, tokens, width)."""
        n_images, n_tokens, width = tokens.shape
        projections = self.to_qkv(self.before_attention(tokens)).reshape(
            n_images, n_tokens, 3, self.heads, width // self.heads
        )
        query, key, value = projections.permute(2, 0, 3, 1, 4).unbind(0)
        attention = functional.scaled_dot_product_attention(query, key, value)
        joined_heads = attention.transpose(1, 2).reshape(n_images, n_tokens, width)
        tokens = tokens + self.joined(joined_heads)
        return tokens + self.mlp(self.before_mlp(tokens))
