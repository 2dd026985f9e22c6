"""Weights of VGG-19, which the user specifies with ``--vgg-weights``.

They are not part of the program, which downloads nothing. Because a file that happens to exist
must not change an analysis, only the specified file is used.
"""

from pathlib import Path

from bids_sr.sr.method import Method

VGG19_ADDRESS = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
"""Address of torchvision's file."""
VGG19_HELP = (
    f"VGG-19 weights: torchvision's file (575 MB, {VGG19_ADDRESS}), or its tensors as"
    " .safetensors. Without them, srgan and cpce use squared error instead of the published VGG"
    " loss"
)
"""Help of ``--vgg-weights``."""


def find_vgg19(method: Method, recipe: str, user_file: Path | None) -> Path | None:
    """Return the VGG-19 weights that a training uses.

    `user_file` is the file of ``--vgg-weights``, which is returned if the loss has a perceptual
    term; otherwise None.
    """
    method_recipe = method.recipes.get(recipe)
    return user_file if method_recipe is not None and method_recipe.perceptual else None
