"""Convolutions of VGG-19, and their weights, which are not distributed with the program."""

from pathlib import Path

import torch
from torch import Tensor, nn

from bids_sr.io.notices import InvalidInput

# output channels of convolutions between poolings (Simonyan & Zisserman 2015, table 1, column E)
_STAGES = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))
_PREFIX = "features."  # prefix of convolution names in the torchvision file


def load_vgg19(path: Path) -> nn.Sequential:
    """Load frozen VGG-19 features from torchvision's file, or from its tensors as .safetensors.

    Raises `InvalidInput` if the file cannot be read or does not contain the weights.
    """
    net = build_vgg19_features()
    net.load_state_dict(_select_convolutions(path, _read_tensors(path)))
    return net.eval().requires_grad_(False)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; code in a file of ``torch.save`` is not executed."""
    from safetensors.torch import load_file

    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise InvalidInput(
            f"the file cannot be read as VGG-19 weights ({error})", file=path
        ) from error
    if not isinstance(state, dict):
        raise InvalidInput(
            f"expected a state dictionary, got an object of type {type(state).__name__}", file=path
        )
    return state


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
