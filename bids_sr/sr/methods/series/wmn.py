"""Weighted minimum norm: the change weighted by the standard deviation of its zero-filled copy.

The change over time is reconstructed under a Gaussian prior whose variance map comes from the run itself
(`bids_sr.sr.variance`). Nothing is trained. `paper` is the same: no publication has this use.
"""

from __future__ import annotations

from bids_sr.sr.method import Method, VarianceRecipe
from bids_sr.sr.variance.estimator_settings import Estimator

FAST = VarianceRecipe(estimator=Estimator(kind="wmn", fwhm=(2.0,), rounds=0))

METHOD = Method(
    name="wmn",
    ndim=2,
    needs_pair=False,
    recipes={"fast": FAST, "paper": FAST},
    reference="focuss",
    summary="weighted minimum norm: the change weighted by the standard deviation of its zero-filled copy",
    trained_on="series",
)
