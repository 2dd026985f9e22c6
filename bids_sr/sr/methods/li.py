"""Supervised volumetric super-resolution after Li et al. 2024, for a fixed factor ("Super-Li").

The implementation is based on the description in tv-self-sr, without access to the original paper.
The trilinear interpolation and the network of tv-self-sr follow Li et al. (section 2.2), and
Super-Li is the "fixed-factor supervised version" (section 3.2). Hence, the network is the `tv`
network. The loss differs from `mse3d` and is ours: absolute error plus structural similarity, with
equal weights in `paper`. In `fast`, structural similarity has a tenth of the weight, because it
weights a quiet background as much as the brain.
"""

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.methods import tv
from bids_sr.sr.methods.mse3d import make_supervised_recipe
from bids_sr.sr.recipe import LossTerm, Recipe, loss


def _compound(similarity: float) -> tuple[LossTerm, LossTerm]:
    """Return absolute error and structural similarity, the latter with a given weight."""
    return (
        loss("content", "image.MAE", 1.0),
        loss("ssim", "image.SSIMLoss", similarity),
    )


PAPER: Recipe = make_supervised_recipe(tv.PAPER, *_compound(1.0))
FAST: Recipe = make_supervised_recipe(tv.FAST_PARTS, *_compound(0.1))

METHOD = Method(
    name="li",
    ndim=3,
    recipes={"fast": FAST, "paper": PAPER},
    reference="li_agnostic",
    article="",
    summary=(
        "the tv network, trained on high-resolution volumes with the absolute error and "
        "structural similarity; implemented without access to the original paper"
    ),
    trained_on="images",
    large=True,
    without_paper=True,
    costs={"fast": Cost(always=130.0, high=3.0, series=1.09)},
)
