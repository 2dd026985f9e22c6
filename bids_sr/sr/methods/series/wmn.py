"""Weighted minimum norm: the change weighted by the standard deviation of its zero-filled copy."""

from bids_sr.sr.method import MAPS, PLACEBOS_OF_A_RUN, Method, maps_cost, maps_recipes
from bids_sr.sr.recipe import Estimator

METHOD = Method(
    ndim=2, trained_on="series", upsampler=MAPS, recipes=maps_recipes(Estimator(kind="wmn", fwhm=(2.0,), rounds=0)),
    name="wmn", reference="focuss",
    summary="weighted minimum norm: the signal change weighted by the standard deviation of its zero-filled copy",
    placebos=PLACEBOS_OF_A_RUN, costs=maps_cost(low=30.0), draws=False,
    text={
        "any": "with variances from the standard deviation over time of the zero-filled change: weighted minimum norm "
        "[@focuss]"
    },
)  # fmt: skip
