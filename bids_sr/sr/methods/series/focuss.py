"""FOCUSS: weighted minimum norm, its weights estimated again from its result."""

from bids_sr.sr.method import MAPS, PLACEBOS_OF_A_RUN, Method, maps_cost, maps_recipes
from bids_sr.sr.recipe import Estimator

METHOD = Method(
    ndim=2, trained_on="series", upsampler=MAPS,
    recipes=maps_recipes(Estimator(kind="focuss", fwhm=(2.0,), power=0.7, rounds=2)),
    name="focuss", reference="focuss",
    summary="FOCUSS: weighted minimum norm with weights re-estimated from its result",
    placebos=PLACEBOS_OF_A_RUN, costs=maps_cost(low=30.0), draws=False,
    text={
        "any": "with variances from the standard deviation over time of its own result, re-estimated twice: FOCUSS "
        "[@focuss; @ktfocuss]"
    },
)  # fmt: skip
