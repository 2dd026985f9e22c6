"""Networks that tell acquired fine images from generated ones; none normalizes over the batch."""

from __future__ import annotations

from torch import Tensor, nn


class SRGANCritic(nn.Module):
    """SRGAN's discriminator with ten convolutions instead of eight.

    3x3 convolutions, every second one with stride 2, leaky ReLU .2, then 1024 and 1 fully connected.

    Source: stss-srfmri, "Deep learning-based super-resolution" (ten convolutions, no batch norm); SRGAN (Ledig et al.
    2017, figure 4). Ours: the fifth pair keeps 512 channels, and images other than 64 x 64 are averaged to the
    2 x 2 features that a patch of 64 has there.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for width in (64, 128, 256, 512, 512):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = width
        self.features = nn.Sequential(*layers)
        self.score = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * before, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.score(self.features(image))


class PatchCritic(nn.Module):
    """A small critic whose scores each see 30 x 30 voxels: texture is judged, not where it lies.

    Five convolutions, the first and third (4x4) with stride 2; (N, C, X, Y) -> (N, 1, X / 4, Y / 4). Half of the cost
    of a critic that begins at full resolution goes into its first layer, so this one does not.
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
        return self.net(image)
