"""FOCUSS: weighted minimum norm, its weights estimated again from its result.

The change over time is reconstructed under a Gaussian prior whose variance map comes from the run itself
(`bids_sr.sr.variance`). Nothing is trained. `paper` is the same: no publication has this use.
"""

from __future__ import annotations

from bids_sr.sr.method import PLACEBOS_OF_A_RUN, Method, maps_cost
from bids_sr.sr.recipe import Estimator, VarianceRecipe

FAST = VarianceRecipe(estimator=Estimator(kind="focuss", fwhm=(2.0,), power=0.7, rounds=2))

METHOD = Method(
    name="focuss",
    ndim=2,
    needs_pair=False,
    recipes={"fast": FAST, "paper": FAST},
    reference="focuss",
    summary="FOCUSS: weighted minimum norm, its weights estimated again from its result",
    trained_on="series",
    placebos=PLACEBOS_OF_A_RUN,
    costs=maps_cost(low=30.0),
    draws=False,
    text={
        "any": "the standard deviation over time of its own reconstruction, re-estimated twice (FOCUSS) "
        "[@focuss; @ktfocuss]"
    },
)
