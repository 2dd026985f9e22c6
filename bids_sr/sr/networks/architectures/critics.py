"""Critics for adversarial training on images (N, C, X, Y).

Dense layers require a fixed number of features. If an image is larger than the training patches,
its features are therefore averaged to the size of a patch's features (our choice).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn


class Critic(nn.Module):
    """Critic with convolutional features and a score computed from these features.

    Scores are logits, one per image (N, 1) or one per patch (N, 1, x, y). `features` are the
    layers from images to features, and `score` the layers from features to scores. Images with a
    side below `min_side` voxels are zero-padded.
    """

    def __init__(
        self, features: Sequence[nn.Module], score: Sequence[nn.Module], *, min_side: int = 1
    ) -> None:
        super().__init__()
        self.min_side = min_side
        self.features, self.score = nn.Sequential(*features), nn.Sequential(*score)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of images (N, C, X, Y), before any sigmoid."""
        missing_rows, missing_columns = (max(0, self.min_side - side) for side in image.shape[-2:])
        if missing_rows or missing_columns:
            image = nn.functional.pad(image, (0, missing_columns, 0, missing_rows))
        return self.score(self.features(image))


def srgan_critic(
    channels: int = 1,
    *,
    widths: tuple[int, ...] = (64, 128, 256, 512, 512),
    dense: int = 1024,
) -> Critic:
    """Return SRGAN's discriminator with ten convolutions and without batch normalization.

    Source: stss-srfmri, "Deep learning-based super-resolution"; SRGAN (Ledig et al. 2017, figure
    4), whose discriminator has eight convolutions. The fifth pair of convolutions has 512 channels
    (our choice). The critic returns one score per image (N, 1).

    `widths` are the channels of the pairs of convolutions, whose second convolution halves the
    image. `dense` is the number of features between the two dense layers, 1024 in SRGAN.
    """
    return Critic(
        _build_stages(channels, widths, _build_convolution_pair),
        _build_score_layers(widths[-1], 2, dense),
    )


def cpce_critic(
    channels: int = 1, *, widths: tuple[int, ...] = (64, 128, 256), dense: int = 1024
) -> Critic:
    """Return the critic of GAN-CPCE: six convolutions and two dense layers.

    Source: gan-cpce-circle, section II.2. Our choices: the slope is .2, and no activation follows
    the score, because the Wasserstein distance requires both signs. The critic returns one score
    per image (N, 1).

    `widths` are the channels of the pairs of convolutions, (64, 128, 256) in the paper, and
    `dense` is the number of features between the two dense layers, 1024 in the paper.
    """
    return Critic(
        _build_stages(channels, widths, _build_convolution_pair),
        _build_score_layers(widths[-1], 8, dense),
    )


def _build_convolution_pair(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return two 3x3 convolutions with leaky ReLU, the second with stride 2."""
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
    ]


def circle_critic(
    channels: int = 1,
    *,
    widths: tuple[int, ...] = (64, 128, 256, 512),
    dense: int = 1024,
    last_stride: int = 2,
) -> Critic:
    """Return GAN-CIRCLE's critic: four normalized convolutions and two dense layers.

    Source: gan-cpce-circle, section II.2. Kernels of 4 and the strides are not in the paper and
    are taken from the code of You et al. 2020. Its last stride is 1. Sides must be at least 32
    voxels, so that features can be normalized at each stage. Instance normalization processes each
    image separately, as required by the gradient penalty. It has no weights (our choice).

    `widths` are the channels of the four convolutions, and `dense` is the number of features
    between the two dense layers (our choice). `last_stride` is the stride of the last convolution,
    1 or 2. Features are averaged to the size that they have for patches of 64 voxels.
    """
    strides = [*[2] * (len(widths) - 1), last_stride]
    features: list[nn.Module] = []
    for (in_channels, out_channels), stride in zip(
        pairwise((channels, *widths)), strides, strict=True
    ):
        if stride == 1:
            features.append(nn.ZeroPad2d((1, 2, 1, 2)))  # keeps the size
        padding = 1 if stride == 2 else 0
        features += [
            nn.Conv2d(in_channels, out_channels, 4, stride=stride, padding=padding),
            nn.InstanceNorm2d(out_channels),
            nn.LeakyReLU(0.2),
        ]
    side = 4 if last_stride == 2 else 8
    return Critic(features, _build_score_layers(widths[-1], side, dense))


def _build_score_layers(width: int, side: int, dense: int) -> list[nn.Module]:
    """Return layers from features with `width` channels to one score per image.

    Features are averaged to `side` x `side` voxels, followed by two dense layers with `dense`
    features between them.
    """
    return [
        nn.AdaptiveAvgPool2d(side),
        nn.Flatten(),
        nn.Linear(side * side * width, dense),
        nn.LeakyReLU(0.2),
        nn.Linear(dense, 1),
    ]


def guiding_critic(
    channels: int = 1,
    *,
    width: int = 64,
    grid: int = 16,
    dropout: float = 0.5,
    slope: float = 0.2,
    activated: bool = False,
) -> Critic:
    """Return the critic of the attention U-Net, with one logit per image (N, 1).

    The critic has four 4x4 convolutions with stride 2, each with leaky ReLU and dropout .5, a
    convolution to a single channel, and a dense layer. The source is attention_unet, section 3.5
    and figure 4. The paper leaves the following details open: the number of channels doubles from
    64, and the convolution to one channel is 3x3, as in the code of the authors; 16 x 16 features
    precede the dense layer (our choice). Patches below 16 voxels are padded to 16, so that one
    voxel remains after four strides.

    `width` is the number of channels after the first convolution, and `grid` the side of the
    feature map before the dense layer. `dropout` is the fraction of values dropped in training,
    and `slope` the slope of the leaky ReLU, .01 in the code of the authors and .2 in DCGAN. If
    `activated`, a leaky ReLU follows the convolution to a single channel, as in the code of the
    authors.
    """

    def build_stage(in_channels: int, out_channels: int) -> list[nn.Module]:
        convolution = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
        return [convolution, nn.LeakyReLU(slope), nn.Dropout(dropout)]

    features = _build_stages(channels, [width * 2**k for k in range(4)], build_stage)
    score = [
        nn.Conv2d(8 * width, 1, 3, padding=1),
        *([nn.LeakyReLU(slope)] if activated else []),
        nn.AdaptiveAvgPool2d(grid),
        nn.Flatten(),
        nn.Linear(grid * grid, 1),
    ]
    return Critic(features, score, min_side=16)


def _build_stages(
    channels: int, widths: Sequence[int], layers: Callable[[int, int], Sequence[nn.Module]]
) -> list[nn.Module]:
    """Return the layers of all stages.

    `layers` is a function from input and output channels to the layers of a stage.
    """
    return [
        layer
        for in_channels, out_channels in pairwise((channels, *widths))
        for layer in layers(in_channels, out_channels)
    ]


class PatchCritic(nn.Module):
    """Small critic with a receptive field of 30 x 30 voxels per score.

    The scores depend on texture but not on position. Five convolutions, the first and third (4x4)
    with stride 2, map images (N, C, X, Y) to scores (N, 1, X / 4, Y / 4). The critic begins with a
    stride, because the first layer at full resolution would take half of the computing time.

    `width` is the number of channels after the first convolution.
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
        """Return the scores of overlapping patches of images (N, C, X, Y)."""
        return self.net(image)
