"""The simplest use of where a run fluctuates: the zero-filled change times its standard deviation over its
surroundings'.

One line of arithmetic, and a control: what does not exceed it needs no prior and no network. It stands among the
baselines (`bids_sr.sr.variance.upsampler.Modulation`) and is applied whatever it explains. `paper` is the same: nobody
published it.
"""

from __future__ import annotations

from bids_sr.sr.method import Method
from bids_sr.sr.recipe import Estimator, VarianceRecipe

FAST = VarianceRecipe(estimator=Estimator(kind="sdmod", fwhm=(), rounds=0), least_explained=None)

METHOD = Method(
    name="sdmod",
    ndim=2,
    needs_pair=False,
    recipes={"fast": FAST, "paper": FAST},
    reference="focuss",
    summary="zero filling times its standard deviation over time over that of its surroundings: a control",
    trained_on="series",
    control=True,
    draws=False,
)
