"""Convolutional networks: residual in two and three dimensions, critics, and that of CPCE.

These are SRGAN's generator as the STSS-SRfMRI paper changed it, and ours on the acquired grid.

Those of the mouse paper are the conventional one, the residual one and the critic of `gan3d`.

Source of the former: mouse-sr, section 2.3; kernels 3 x 3 x 3, Glorot weights, an input that is
interpolated (cubic) to the wanted grid. The paper's networks have no long skip connection and
learn their input first; `skip` (ours, for the fast recipes) adds the input to the output and
starts there.

Images (N, C, X, Y). Where a critic ends in dense layers, features of images other than its
training patches are averaged to the size that those of a patch have there (ours).

GAN-CPCE has an encoder-decoder with conveying paths, GAN-CIRCLE densely read feature blocks.

Source: gan-cpce-circle, section II.2. CPCE (figure 1): four convolutions and three deconvolutions
of 32 filters, one deconvolution of one filter, all 3 x 3 with stride 1; early maps are
concatenated into late layers. Ours, as the text does not say: the convolutions are not padded, so
that a map shrinks by two and each deconvolution restores it, which is what makes maps of equal
size meet (Shan et al. 2018); maps are joined without 1 x 1 convolutions, which the text does not
list; ReLU follows all layers but the last, because zero filling rings below zero.

CIRCLE (figures 2 and 3): twelve blocks of 3 x 3 filters, leaky ReLU and dropout, and two branches
that are joined. From what we know of the cited CT paper (You et al. 2020): filters falling from 64
to 16, the outputs of all blocks concatenated, branches of 1 x 1 kernels (24 filters; 8 filters and
then 8 of 3 x 3), and the input added at the end. Ours: dropout of .2, a slope of .1, the two 3 x 3
convolutions of 32 and 16 filters after the branches. Nothing up-samples: both images have one
grid.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from bids_sr.io.grids import Factor
from bids_sr.sr.networks.unet_generator import (
    ResidualBlock,
    ResidualBlock3d,
    glorot,
    shuffle,
    zero,
)
from bids_sr.sr.operators import level_of
from bids_sr.sr.recipe import in_plane


class SRResNet(nn.Module):
    """Sharpen an image on the high-resolution grid, (N, C, X, Y) -> (N, C, X, Y).

    Nothing up-samples in it, nothing is normalized. Source: stss-srfmri, "Deep learning-based
    super-resolution"; widths and kernels are those of SRGAN (Ledig et al. 2017, figure 4). 1.23
    million parameters. No activation follows the last convolution, because intensities have no
    upper end; the paper does not say.

    `width`: 64 in the paper; `blocks`: 16 in the paper.
    """

    def __init__(self, channels: int = 1, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU(width))
        self.body = nn.Sequential(
            *[ResidualBlock(width) for _ in range(blocks)], nn.Conv2d(width, width, 3, padding=1)
        )
        self.tail = nn.Conv2d(width, channels, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened images on the same grid.

        `x`: images on the high-resolution grid (N, C, X, Y).
        """
        features = self.head(x)
        return self.tail(features + self.body(features))


class SubPixelNet(nn.Module):
    """Map (N, 1, x, y) on the acquired grid to (N, 1, X, Y) over the same field of view.

    It predicts what was not measured.

    Output = zero-filled input + the part of the network's image beyond the acquired band. So
    cropping the output's k-space gives back the acquired volume, signal changes and noise
    included, and the network spends its few weights on the missing band: on held-out slices of a
    T2* pair this gained .2 dB.
    """

    def __init__(self, channels: int, factor: Factor, *, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        in_plane(factor)
        self.factor = (factor[0], factor[1])
        whole = all(f == int(f) for f in factor)
        self.steps = (int(factor[0]), int(factor[1])) if whole else None
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(width, start=0.1) for _ in range(blocks)])
        out = channels * (self.steps[0] * self.steps[1] if self.steps else 1)
        self.tail = nn.Conv2d(width, out, 3, padding=1)
        zero(self.tail)  # the untrained network is zero filling

    def forward(self, x: Tensor) -> Tensor:
        """Return zero-filled images with what the network adds beyond the acquired band.

        Images on the high-resolution grid (N, 1, X, Y).
        """
        level = level_of(x, self.factor)
        filled = level.up(x)
        detail = self._detail(x if self.steps else filled)
        return filled + detail - level.low(detail)

    def departure(self, x: Tensor) -> Tensor:
        """What `forward` adds to zero filling, without that; up to rounding.

        `x`: images on the acquired grid (N, 1, x, y). The detail is (N, 1, X, Y).
        """
        level = level_of(x, self.factor)
        detail = self._detail(x if self.steps else level.up(x))
        return detail - level.low(detail)

    def _detail(self, x: Tensor) -> Tensor:
        """The network's image on the high-resolution grid, all of k-space."""
        detail = self.tail(self.body(self.head(x)))
        return shuffle(detail, self.steps) if self.steps else detail


class ConventionalNet3d(nn.Module):
    """SRCNN's three convolutions in 3D, ReLU between (section 2.3.1); keeps (N, C, X, Y, Z).

    57,985 parameters as published (`widths`, channels after the first
    and the second convolution, of (64, 32)); a voxel sees 7 along each axis.
    """

    def __init__(
        self, channels: int = 1, *, widths: tuple[int, int] = (64, 32), skip: bool = False
    ) -> None:
        super().__init__()
        self.skip = skip
        self.body = nn.Sequential(
            nn.Conv3d(channels, widths[0], 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(widths[0], widths[1], 3, padding=1),
            nn.ReLU(),
        )
        self.tail = nn.Conv3d(widths[1], channels, 3, padding=1)
        glorot(self)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened volumes on the same grid.

        `x`: interpolated volumes on the high-resolution grid (N, C, X, Y, Z).
        """
        out = self.tail(self.body(x))
        return x + out if self.skip else out


class ResNet3d(nn.Module):
    """Ten residual blocks of 64 channels (section 2.3.2); (N, C, X, Y, Z) -> the same shape.

    2.22 million parameters as published; a voxel sees ``4 blocks + 5`` along each axis. Ours, as
    the paper is silent: one convolution leads into the blocks and one out of them, without
    activation.
    """

    def __init__(
        self, channels: int = 1, *, width: int = 64, blocks: int = 10, skip: bool = False
    ) -> None:
        super().__init__()
        self.skip = skip
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock3d(width) for _ in range(blocks)])
        self.tail = nn.Conv3d(width, channels, 3, padding=1)
        glorot(self)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened volumes on the same grid.

        `x`: interpolated volumes on the high-resolution grid (N, C, X, Y, Z).
        """
        out = self.tail(self.body(self.head(x)))
        return x + out if self.skip else out


class ResNetCritic3d(nn.Module):
    """Score volumes, (N, C, X, Y, Z) -> (N, 1).

    The critic has ten residual blocks and a dense layer (section 2.3.3).

    The score is a logit: the paper's sigmoid is part of the loss, where it cannot overflow.
    Features are averaged over the patch before the dense layer (ours), so that it serves patches
    of any size.

    `stride`: of the first convolution; 1 in the paper, 2 saves seven eighths of the work (ours,
    for the fast recipe).
    """

    def __init__(
        self, channels: int = 1, *, width: int = 64, blocks: int = 10, stride: int = 1
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(channels, width, 3, stride=stride, padding=1),
            *[ResidualBlock3d(width) for _ in range(blocks)],
        )
        self.score = nn.Linear(width, 1)
        glorot(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores before the sigmoid.

        `image`: volumes to score (N, C, X, Y, Z).
        """
        return self.score(self.features(image).mean((2, 3, 4)))


class DenseResidualNet(nn.Module):
    """Ten dense residual layers of the TV paper, on an interpolated volume of any size.

    The shape (N, C, X, Y, Z) is kept.

    Source: tv-self-sr, section 2.2 (ten dense residual layers, kernel 3, zero padding, after Li et
    al. 2024). Ours, as the paper gives neither widths nor wiring: "dense" is a layer that reads
    all earlier ones (Huang et al. 2017), each adds 32 channels, "residual" is what the last
    convolution adds to the interpolated input; that convolution starts at zero, so that the
    untrained network is the interpolation. 1.53 million parameters.

    Each layer adds `width` channels. A voxel of the output sees ``2 (layers + 2) + 1`` voxels
    along each axis.
    """

    def __init__(self, channels: int = 1, *, width: int = 32, layers: int = 10) -> None:
        super().__init__()
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Conv3d(width * n, width, 3, padding=1) for n in range(1, layers + 1)
        )
        self.tail = nn.Conv3d(width * (layers + 1), channels, 3, padding=1)
        zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return interpolated volumes with what the network adds.

        `x`: interpolated volumes on the high-resolution grid (N, C, X, Y, Z).
        """
        features = self.head(x).relu()
        for layer in self.body:
            features = torch.cat((features, layer(features).relu()), 1)
        return x + self.tail(features)


class Critic(nn.Module):
    """Return convolutional features and their score, before any sigmoid.

    Shapes are (N, C, X, Y) -> (N, 1) or (N, 1, x, y).

    `features`: layers from images to features. `score`: layers from features to scores.
    `smallest`: sides below it are padded to it by zeros (voxels).
    """

    def __init__(
        self, features: Sequence[nn.Module], score: Sequence[nn.Module], *, smallest: int = 1
    ) -> None:
        super().__init__()
        self.smallest = smallest
        self.features, self.score = nn.Sequential(*features), nn.Sequential(*score)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores before any sigmoid.

        `image`: images to score (N, C, X, Y). One score an image (N, 1), or a patch (N, 1, x, y).
        """
        x, y = (max(0, self.smallest - side) for side in image.shape[-2:])
        if x or y:
            image = nn.functional.pad(image, (0, y, 0, x))
        return self.score(self.features(image))


def _stages(
    channels: int, widths: Sequence[int], layers: Callable[[int, int], Sequence[nn.Module]]
) -> list[nn.Module]:
    """Layers of each stage, made of its numbers of channels before and after."""
    return [layer for pair in pairwise((channels, *widths)) for layer in layers(*pair)]


def _pair(before: int, after: int) -> list[nn.Module]:
    """Two 3x3 convolutions, the second with stride 2, each with leaky ReLU."""
    return [
        nn.Conv2d(before, after, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(after, after, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
    ]


def _dense(width: int, side: int, dense: int) -> list[nn.Module]:
    """Features averaged to `side` x `side`, two dense layers, one score an image."""
    return [
        nn.AdaptiveAvgPool2d(side),
        nn.Flatten(),
        nn.Linear(side * side * width, dense),
        nn.LeakyReLU(0.2),
        nn.Linear(dense, 1),
    ]


def srgan_critic(
    channels: int = 1,
    *,
    widths: tuple[int, ...] = (64, 128, 256, 512, 512),
    dense: int = 1024,
    he: bool = False,
) -> Critic:
    """Return SRGAN's discriminator with ten convolutions instead of eight, and no batch norm.

    Source: stss-srfmri, "Deep learning-based super-resolution"; SRGAN (Ledig et al. 2017, figure
    4). Ours: the fifth pair keeps 512 channels. The critic gives one score per image, (N, 1).

    Parameters
    ----------
    channels
        Contrasts of an image.
    widths
        Channels of the pairs of convolutions, the second of which halves the image. Recipe `fast`
        has five narrower pairs.
    dense
        Features between the two dense layers, 1024 in SRGAN.
    he
        Start with the weights of He et al. 2015. With torch's defaults, and without batch
        normalization, hardly anything of an image reaches the score, and a critic that trains for
        some hundred steps learns nothing.
    """
    critic = Critic(_stages(channels, widths, _pair), _dense(widths[-1], 2, dense))
    if he:
        for module in critic.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return critic


def cpce_critic(
    channels: int = 1, *, widths: tuple[int, ...] = (64, 128, 256), dense: int = 1024
) -> Critic:
    """Return the critic of GAN-CPCE: six convolutions, two dense layers.

    Source: gan-cpce-circle, section II.2. Ours: slope of .2; no activation after the score, which
    would take the Wasserstein distance its sign.

    `widths`, `dense`: of the pairs of convolutions and the first dense layer; (64, 128, 256) and
    1024 in the paper.

    Critic that gives each image one score (N, 1).
    """
    return Critic(_stages(channels, widths, _pair), _dense(widths[-1], 8, dense))


def circle_critic(
    channels: int = 1, *, widths: tuple[int, ...] = (64, 128, 256, 512), dense: int = 1024
) -> Critic:
    """Return GAN-CIRCLE's critic: four convolutions with instance norm, two dense layers.

    Sides of at least 32, so that each stage has what to normalize. Instance norm looks at one
    image at a time, which the gradient penalty needs; it has no weights (ours, as are kernels of 4
    and stride 2).

    `widths`, `dense`: of the stages and the first dense layer; (64, 128, 256, 512) and 1024 in the
    paper.
    """

    def stage(before: int, after: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 4, stride=2, padding=1)
        return [convolution, nn.InstanceNorm2d(after), nn.LeakyReLU(0.2)]

    return Critic(_stages(channels, widths, stage), _dense(widths[-1], 4, dense))


def guiding_critic(
    channels: int = 1, *, width: int = 64, grid: int = 16, dropout: float = 0.5
) -> Critic:
    """Return the critic beside the attention U-Net: (N, C, X, Y) -> (N, 1), before the sigmoid.

    Four 4x4 convolutions with stride 2, each with leaky ReLU and dropout .5, one convolution to a
    single channel, one dense layer. Source: attention_unet, section 3.5 and figure 4. Ours where
    the paper is silent: widths double from 64, the slope is .2 as in DCGAN, the convolution to one
    channel is 3x3, 16 x 16 features before the dense layer, and patches below 16 voxels are padded
    to 16, of which the four strides leave one.

    `width`: channels after the first convolution; `grid`: side of the map that the dense layer
    sees; `dropout`: share of values dropped in training.

    Critic that gives each image one score (N, 1).
    """

    def stage(before: int, after: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 4, stride=2, padding=1)
        return [convolution, nn.LeakyReLU(0.2), nn.Dropout(dropout)]

    features = _stages(channels, [width * 2**k for k in range(4)], stage)
    last = nn.Conv2d(8 * width, 1, 3, padding=1)
    score = [last, nn.AdaptiveAvgPool2d(grid), nn.Flatten(), nn.Linear(grid * grid, 1)]
    return Critic(features, score, smallest=16)


class PatchCritic(nn.Module):
    """A small critic whose scores each see 30 x 30 voxels: texture counts, not where it lies.

    Five convolutions, the first and third (4x4) with stride 2; (N, C, X, Y) -> (N, 1, X / 4, Y /
    4). Half of the cost of a critic that begins at full resolution goes into its first layer, so
    this one does not.
    """

    def __init__(self, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 4 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return scores of overlapping patches.

        `image`: images to score (N, C, X, Y).
        """
        return self.net(image)


class CPCENet(nn.Module):
    """Network that sharpens an image on the wanted grid, (N, C, X, Y), sides of at least 9.

    The output has the same shape.

    74,817 parameters as published; a pixel sees 17 x 17.

    `skip`: add the input to the output and start there; off in the paper (ours, for the fast
    recipe).
    """

    def __init__(self, channels: int = 1, *, width: int = 32, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.down = nn.ModuleList(nn.Conv2d(n, width, 3) for n in (channels, width, width, width))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(n, width, 3) for n in (width, 2 * width, 2 * width)
        )
        self.tail = nn.ConvTranspose2d(2 * width, channels, 3)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened images on the same grid.

        `x`: images on the high-resolution grid (N, C, X, Y).
        """
        maps: list[Tensor] = []
        features = x
        for layer in self.down:
            features = layer(features).relu()
            maps.append(features)
        maps.pop()
        for layer in self.up:
            features = torch.cat((layer(features).relu(), maps.pop()), 1)
        out = self.tail(features)
        return x + out if self.skip else out


WIDTHS = (64, 54, 48, 43, 39, 35, 31, 28, 25, 22, 18, 16)


class CircleNet(nn.Module):
    """Network from image to image, (N, C, X, Y) -> the same shape; both G and F of the cycle.

    `widths`: filters of the feature blocks; twelve in the paper. `branches`: filters of the first
    branch, and of both layers of the second. `dropout`: share of features that a training step
    leaves out.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        widths: tuple[int, ...] = WIDTHS,
        branches: tuple[int, int] = (24, 8),
        joined: tuple[int, int] = (32, 16),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Dropout(dropout)
            )
            for before, width in pairwise((channels, *widths))
        )
        total = sum(widths)
        self.first = nn.Sequential(nn.Conv2d(total, branches[0], 1), nn.LeakyReLU(0.1))
        self.second = nn.Sequential(
            nn.Conv2d(total, branches[1], 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(branches[1], branches[1], 3, padding=1),
            nn.LeakyReLU(0.1),
        )
        self.joined = nn.Sequential(
            nn.Conv2d(sum(branches), joined[0], 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(joined[0], joined[1], 3, padding=1),
            nn.LeakyReLU(0.1),
        )
        self.tail = nn.Conv2d(joined[1], channels, 3, padding=1)
        # what is learned is the difference between the images; it starts at none
        zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the other resolution on the same grid."""
        maps: list[Tensor] = []
        features = x
        for block in self.blocks:
            features = block(features)
            maps.append(features)
        every = torch.cat(maps, 1)
        return x + self.tail(self.joined(torch.cat((self.first(every), self.second(every)), 1)))
