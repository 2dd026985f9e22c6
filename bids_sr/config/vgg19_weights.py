"""Weights of VGG-19 on this machine: location, and training that uses them.

The weights are installed by ``--vgg-weights`` (`bids_sr.cli.vgg19_weights`). Because a file that
happens to exist must not change an analysis, they are only used for recipes published with VGG-19
features instead of squared error. The console names the file, or the loss that replaces the
features.
"""

import os
from pathlib import Path

from bids_sr.sr.method import Method

VGG19_VARIABLE = "BIDS_SR_VGG19"
"""Environment variable with the path of another file."""
VGG19_DOWNLOAD = Path("download")
"""Value of ``--vgg-weights`` that requests the download of the weights."""
VGG19_SOURCE = "vgg19-dcbb9e9d.pth"
"""File name of the weights in torchvision; the SHA-256 of the content begins with its digits."""
VGG19_DIGITS = "dcbb9e9d"
VGG19_HELP = (
    f"VGG-19 weights: a .safetensors file, {VGG19_SOURCE}, or download (575 MB, only if they are"
    " not installed). Without them, srgan and cpce use squared error instead of the published VGG"
    " loss (default with --recipe paper: installed weights)"
)
"""Help of ``--vgg-weights``."""


def find_vgg19(method: Method, recipe: str, user_file: Path | None) -> Path | None:
    """Return the VGG-19 weights that a training uses.

    `user_file` is the file of ``--vgg-weights``, which is returned if the loss has a perceptual
    term. Without `user_file`, the installed file is returned if it exists, the recipe is
    ``paper``, and the published training uses VGG-19 (`bids_sr.sr.recipe.Recipe.relies_on_vgg`).
    Otherwise None.
    """
    method_recipe = method.recipes.get(recipe)
    if method_recipe is None or not method_recipe.perceptual:
        return None
    if user_file is not None:
        return user_file
    installed = installed_vgg19()
    is_published = recipe == "paper" and method_recipe.relies_on_vgg
    return installed if is_published and installed.is_file() else None


def installed_vgg19() -> Path:
    """Return the path of the installed weights (.safetensors); the file need not exist."""
    if custom_path := os.environ.get(VGG19_VARIABLE):
        return Path(os.path.expanduser(custom_path))
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(cache), "bids-sr", VGG19_SOURCE).with_suffix(".safetensors")
