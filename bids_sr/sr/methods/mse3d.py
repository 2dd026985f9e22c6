"""Supervised version of `tv`, trained on high-resolution volumes ("Super-MSE").

Source: tv-self-sr, section 3.2. The loss is the mean squared error. Network, optimizer, schedule
and degradation are the same as in `methods.tv`.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import tv
from bids_sr.sr.recipe import LossTerm, Recipe, loss

_CONTENT = loss("content", "image.MSE", 1.0)


def make_supervised_recipe(recipe: Recipe, *losses: LossTerm) -> Recipe:
    """Return a `tv` recipe for high-resolution volumes, with a fifth of the data held out."""
    return replace(recipe, losses=losses, objective="supervised", hold_out=5)


METHOD = Method(
    name="mse3d",
    ndim=3,
    recipes={
        "fast": make_supervised_recipe(tv.FAST_ON_PATCHES, _CONTENT),
        "paper": make_supervised_recipe(tv.PAPER, _CONTENT),
    },
    reference="tv_self_sr",
    article="",
    summary="the tv network, trained on high-resolution volumes with the mean squared error",
    trained_on="images",
    needs_much_memory=True,
    costs={"fast": RunTime(always=100.0, high=3.0, series=1.01)},
)
