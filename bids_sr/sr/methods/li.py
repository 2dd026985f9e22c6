"""Supervised volumetric super-resolution after Li et al. 2024, for one fixed factor ("Super-Li").

Written without its paper, from what tv-self-sr says of it: its trilinear interpolation and network
follow it (section 2.2), and Super-Li is its "fixed-factor supervised version" (section 3.2). So
the network is that of `tv`. What sets it apart from `mse3d` is the loss (ours): absolute error
together with structural similarity, of the same weight in `paper` and a tenth in `fast`, because
it cares as much for a quiet background as for the brain.
"""

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.methods import tv
from bids_sr.sr.methods.mse3d import supervised
from bids_sr.sr.recipe import LossTerm, Recipe, loss


def _compound(similarity: float) -> tuple[LossTerm, LossTerm]:
    """Absolute error, and structural similarity of a given weight."""
    return (
        loss("content", "image.MAE", 1.0),
        loss("ssim", "image.SSIMLoss", similarity),
    )


PAPER: Recipe = supervised(tv.PAPER, *_compound(1.0))
FAST: Recipe = supervised(tv.FAST_PARTS, *_compound(0.1))

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
