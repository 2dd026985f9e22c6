"""Deep image prior of the TV paper: `tv` without total variation (alpha 0).

The network architecture is the only prior for values between the acquired voxels (Ulyanov et al.
2018). As in tv-self-sr, section 2.1, the method shows the contribution of total variation, and its
input is the interpolated volume rather than noise. `fast` also uses trilinear interpolation,
because the zero-filled volume of `tv` already agrees with the data, so that nothing would be
learned without a prior.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import tv
from bids_sr.sr.recipe import Recipe


def _remove_prior(recipe: Recipe) -> Recipe:
    """Return a recipe without its total variation term."""
    return replace(recipe, losses=tuple(term for term in recipe.losses if term.kind != "tv"))


METHOD = Method(
    name="dip",
    ndim=3,
    recipes={
        "fast": replace(_remove_prior(tv.FAST), upsampled_by="linear"),
        "paper": _remove_prior(tv.PAPER),
    },
    reference="dip",
    summary=(
        "deep image prior, which is tv without total variation; the output matches the "
        "acquired volumes after downsampling"
    ),
    trained_on="self",
    needs_much_memory=True,
    costs={"fast": RunTime(high=575.0, series=0.97, most=tv.MAX_MILLION_VOXELS)},
)
