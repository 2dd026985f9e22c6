"""Convolutions of VGG-19, their weights, and conversion of the torchvision weights file.

Weights are not distributed with the program. Training reads only safetensors files. A file written
by ``torch.save`` is read once, by `convert_vgg19`, after its checksum was verified and without
executing code.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from bids_sr.io.notices import InvalidInput

# output channels of convolutions between poolings (Simonyan & Zisserman 2015, table 1, column E)
_STAGES = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))
_PREFIX = "features."  # prefix of convolution names in the torchvision file


class ChecksumError(InvalidInput):
    """Error raised for a file whose SHA-256 checksum does not begin with the expected digits."""


def load_vgg19(path: Path) -> nn.Sequential:
    """Load frozen VGG-19 features from a safetensors file with torchvision's names.

    Raises `InvalidInput` if the file is not a safetensors file or does not contain the weights.
    """
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise InvalidInput(
            "VGG-19 weights must be stored in a .safetensors file. Files written by "
            "torch.save are not read, because they can contain code.",
            file=path,
        )
    try:
        state = load_file(path)
    except Exception as error:
        raise InvalidInput(
            f"the file cannot be read as VGG-19 weights ({error})", file=path
        ) from error
    net = build_vgg19_features()
    net.load_state_dict(_select_convolutions(path, state))
    return net.eval().requires_grad_(False)


def convert_vgg19(path: Path, digits: str) -> bytes:
    """Convert the convolutions of a torchvision file to the content of a safetensors file.

    Data are deserialized only after the checksum was verified, and code in the file is never
    executed. The result is reproducible (80 MB).

    The file was written by ``torch.save`` with a state dictionary, whose classifier is not
    converted. `digits` are the first hexadecimal digits of the file's SHA-256 checksum. Tensors
    are in single precision, with the SHA-256 checksum of the source in the metadata. Raises
    `ChecksumError` if the SHA-256 checksum begins with other digits, and `InvalidInput` if it
    is not a state dictionary, or lacks a convolution of VGG-19.
    """
    from safetensors.torch import save

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if not digest.startswith(digits):
            raise ChecksumError(
                f"its SHA-256 checksum is {digest}; expected a checksum that starts with {digits}",
                file=path,
            )
        stream.seek(0)  # same open file, so that it cannot be replaced after the check
        try:
            state = torch.load(stream, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InvalidInput(
                "the file cannot be read as a PyTorch file written by torch.save "
                f"({type(error).__name__})",
                file=path,
            ) from error
    if not isinstance(state, dict):
        raise InvalidInput(
            f"expected a state dictionary, got an object of type {type(state).__name__}", file=path
        )
    weights = {
        f"{_PREFIX}{key}": value for key, value in _select_convolutions(path, state).items()
    }
    # a single metadata entry, because the order of several entries is not fixed
    return save(weights, {"source": f"sha256:{digest}"})


def _select_convolutions(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the `build_vgg19_features` tensors of a torchvision state dictionary, in float32.

    InvalidInput is raised if tensors are missing or have a different shape.
    """
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in build_vgg19_features().state_dict().items()}
    stored_shapes = {
        name: tensor.shape for name, tensor in state.items() if isinstance(tensor, Tensor)
    }
    mismatches = [
        f"{_PREFIX}{key}"
        for key, shape in shapes.items()
        if stored_shapes.get(f"{_PREFIX}{key}") != shape
    ]
    if mismatches:
        raise InvalidInput(
            "the file does not contain torchvision's VGG-19 weights, because these "
            f"tensors are missing or have a different shape: {', '.join(mismatches[:3])}",
            file=path,
        )
    return {key: state[f"{_PREFIX}{key}"].float().contiguous() for key in shapes}


def build_vgg19_features() -> nn.Sequential:
    """Return the sixteen convolutions of VGG-19 and their activations, with random weights.

    The last layer is the activation after the last convolution. Layers are numbered as in
    torchvision.
    """
    layers: list[nn.Module] = []
    in_channels = 3
    for stage_index, widths in enumerate(_STAGES):
        if stage_index > 0:
            layers.append(nn.MaxPool2d(2))
        for width in widths:
            layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()]
            in_channels = width
    return nn.Sequential(*layers)
