"""Sparse Bayesian learning: variance maps that maximize the likelihood of what was acquired.

The change over time is reconstructed under a Gaussian prior whose variance map comes from the run itself
(`bids_sr.sr.variance`). Nothing is trained. `paper` is the same: no publication has this use.
"""

from __future__ import annotations

from bids_sr.sr.method import PLACEBOS_OF_A_RUN, Method, maps_cost
from bids_sr.sr.recipe import Estimator, VarianceRecipe

FAST = VarianceRecipe(estimator=Estimator(kind="sbl"))

METHOD = Method(
    name="sbl",
    ndim=2,
    needs_pair=False,
    recipes={"fast": FAST, "paper": FAST},
    reference="sparse_bayes",
    summary="sparse Bayesian learning: variance maps that maximize the likelihood of what was acquired",
    trained_on="series",
    placebos=PLACEBOS_OF_A_RUN,
    costs=maps_cost(low=300.0),
    calibrated=True,
    text={
        "any": "the maps that maximize the marginal likelihood of its temporal components (sparse Bayesian learning) "
        "[@sparse_bayes]"
    },
)
