"""Supervised version of `tv` with the loss of Li et al. 2024, for a fixed factor ("Super-Li").

Source: tv-self-sr, section 3.2, "fixed-factor supervised version" of the method of Li et al. The
loss is from the code of the authors of tv-self-sr (zalteck/TV-Deep-SR-fMRI), absolute error minus
0.3 times the structural similarity of the volumes. In this code, network and training are the same
as for `tv`. The local means of our structural similarity repeat the edge of the image instead of
adding zeros.

`fast` is ours: structural similarity has a weight of 0.1, because it weights a quiet background as
much as the brain.
"""

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import tv
from bids_sr.sr.methods.mse3d import make_supervised_recipe
from bids_sr.sr.recipe import LossTerm, Recipe, loss


def _make_compound_terms(similarity: float) -> tuple[LossTerm, LossTerm]:
    """Return absolute error and structural similarity, the latter with a given weight."""
    return (
        loss("content", "image.MAE", 1.0),
        loss("ssim", "image.SSIMLoss", similarity),
    )


PAPER: Recipe = make_supervised_recipe(tv.PAPER, *_make_compound_terms(0.3))
FAST: Recipe = make_supervised_recipe(tv.FAST_ON_PATCHES, *_make_compound_terms(0.1))

METHOD = Method(
    name="li",
    ndim=3,
    recipes={"fast": FAST, "paper": PAPER},
    reference="li_agnostic",
    article="",
    summary=(
        "the tv network, trained on high-resolution volumes with the absolute error and "
        "structural similarity, as in the comparison of the tv paper"
    ),
    trained_on="images",
    needs_much_memory=True,
    costs={"fast": RunTime(always=130.0, high=3.0, series=1.09)},
)
