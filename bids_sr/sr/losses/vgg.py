"""Perceptual loss: squared distance between features of VGG-19 at its sixteenth convolution.

The weights are the user's (`--vgg-weights`): torchvision's tensors as safetensors; nothing is
downloaded.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

# channels of the convolutions between the poolings of VGG-19 (Simonyan & Zisserman 2015, table 1,
# column E)
_STAGES = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _vgg19_features() -> nn.Sequential:
    """Return the sixteen convolutions of VGG-19 and their activations.

    They go up to the activation after the last one; layers count as in torchvision.
    """
    layers: list[nn.Module] = []
    before = 3
    for stage, widths in enumerate(_STAGES):
        if stage:
            layers.append(nn.MaxPool2d(2))
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    return nn.Sequential(*layers)


_CONVERT = (
    "only .safetensors files are read, as a file of torch.save may hold a program. Convert it"
    ' once, where you trust it: python -c "import sys, torch; from safetensors.torch import'
    ' save_file as s; s(torch.load(sys.argv[1], weights_only=True), sys.argv[2])" vgg19.pth'
    " vgg19.safetensors"
)


def _load_vgg19(path: Path) -> nn.Sequential:
    """Load VGG-19's features from a weights file; `ValueError` names file and fault."""
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: {_CONVERT}")
    try:
        state = load_file(path)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as weights of VGG-19: {error}") from error
    net = _vgg19_features()
    wanted = net.state_dict()
    found = {
        key.removeprefix("features."): value
        for key, value in state.items()
        if key.startswith("features.")
    }
    wrong = [
        f"features.{k}" for k, v in wanted.items() if k not in found or found[k].shape != v.shape
    ]
    if wrong:
        raise ValueError(
            f"{path}: not VGG-19 as torchvision stores it: {', '.join(wrong[:3])} missing or"
            " misshapen"
        )
    net.load_state_dict({key: found[key].float() for key in wanted})
    return net.eval().requires_grad_(False)


class VGGPerceptual(nn.Module):
    """Mean squared VGG feature difference of output and target, both (N, 1, Y, X), about 0 … 1.

    Gray images go to all three color channels with the mean and deviation of the weights'
    training. Sides below 16 have no features left after four poolings.

    Source: Ledig et al. 2017, equation 5, layer 5,4 after activation; their factor of .006 is the
    caller's weight.

    `weights`: file of VGG-19 as torchvision stores it (.safetensors).
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.features = _load_vgg19(weights)
        with weights.open("rb") as stream:
            self.checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("sd", torch.tensor(_SD).view(1, 3, 1, 1))

    def _features(self, image: Tensor) -> Tensor:
        return self.features((image.expand(-1, 3, -1, -1) - self.mean) / self.sd)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared difference of features.

        `output`: what the network makes (N, 1, Y, X). `target`: what the output is compared with
        (N, 1, Y, X).
        """
        return (self._features(output) - self._features(target).detach()).square().mean()
