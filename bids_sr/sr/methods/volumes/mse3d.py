"""The supervised twin of `tv`: the same network taught with fine volumes by mean squared error ("Super-MSE").

Source: tv-self-sr, section 3.2; network, optimizer and schedule as in `methods.tv`, which says what is ours. Where no
coarse image was measured it is made by the operator that `tv` assumes.
"""

from __future__ import annotations

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.methods.volumes import tv
from bids_sr.sr.recipe import LossTerm, Recipe, loss


def supervised(recipe: Recipe, *losses: LossTerm) -> Recipe:
    """A recipe of `tv` with fine volumes to learn from, a fifth of which is held out to choose the weights by."""
    return replace(recipe, losses=losses, objective="supervised", hold_out=5)


CONTENT = loss("content", "pixel.MSE", 1.0)

METHOD = Method(
    name="mse3d",
    ndim=3,
    needs_pair=True,
    recipes={"fast": supervised(tv.FAST_PARTS, CONTENT), "paper": supervised(tv.PAPER, CONTENT)},
    reference="tv_self_sr",
    summary="the network of tv, taught with fine volumes by mean squared error",
    trained_on="images",
    large=True,
    costs={"fast": Cost(always=100.0, high=3.0, series=1.01)},
)
