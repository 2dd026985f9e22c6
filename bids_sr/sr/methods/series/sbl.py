"""Sparse Bayesian learning: variance maps that maximize the likelihood of what was acquired.

The change over time is reconstructed under a Gaussian prior whose variance map comes from the run itself
(`bids_sr.sr.variance`). Nothing is trained. `paper` is the same: no publication has this use.
"""

from __future__ import annotations

from bids_sr.sr.method import Method, VarianceRecipe
from bids_sr.sr.variance.estimator_settings import Estimator

FAST = VarianceRecipe(estimator=Estimator(kind="sbl"))

METHOD = Method(
    name="sbl",
    ndim=2,
    needs_pair=False,
    recipes={"fast": FAST, "paper": FAST},
    reference="sparse_bayes",
    summary="sparse Bayesian learning: variance maps that maximize the likelihood of what was acquired",
    trained_on="series",
)
