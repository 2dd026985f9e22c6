"""Critics of adversarial training.

Images (N, C, X, Y). Where a critic ends in dense layers, features of images other than its
training patches are averaged to the size that those of a patch have there (ours).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn


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
