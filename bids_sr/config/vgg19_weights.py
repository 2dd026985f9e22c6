"""Weights of VGG-19 on this machine: where they are kept, and which trainings use them.

``bids-sr-models vgg19`` puts them there (`bids_sr.cli.models.vgg19`). A file that happens to be on
the machine must not change what an analysis does, so it serves only recipes that are published
with features of VGG-19 in the place of squared error.
"""

import os
from pathlib import Path

from bids_sr.sr.method import Method, recipe_name

VGG19_VARIABLE = "BIDS_SR_VGG19"
"""Environment variable that names another file."""
VGG19_COMMAND = "bids-sr-models vgg19"
VGG19_SOURCE = "vgg19-dcbb9e9d.pth"
"""Name of torchvision's file; the SHA-256 of its content begins with the digits."""
VGG19_DIGITS = "dcbb9e9d"


def kept_vgg19() -> Path:
    """Return the path of the kept weights (.safetensors); the file need not exist."""
    if given := os.environ.get(VGG19_VARIABLE):
        return Path(os.path.expanduser(given))
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(cache), "bids-sr", VGG19_SOURCE).with_suffix(".safetensors")


def vgg19_for(method: Method, recipe: str, given: Path | None) -> Path | None:
    """Return the weights of VGG-19 that a training uses.

    Parameters
    ----------
    method : Method
        Method that is trained.
    recipe : str
        Name of the recipe, as ``--recipe`` gives it.
    given : Path | None
        File that the user names with ``--vgg-weights``.

    Returns
    -------
    Path | None
        `given` if the loss has a perceptual term. Without `given`, the kept file, if it exists and
        the recipe is the published one (``paper``) and
        `bids_sr.sr.recipe.Recipe.taught_by_vgg`. Otherwise None.
    """
    name = recipe_name(method, recipe)
    trained = method.recipes.get(name)
    if trained is None or not trained.perceptual:
        return None
    if given is not None:
        return given
    kept = kept_vgg19()
    published = name == "paper" and trained.taught_by_vgg
    return kept if published and kept.is_file() else None
