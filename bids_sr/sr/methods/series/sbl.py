"""Sparse Bayesian learning: maximum-likelihood variance maps of the acquired components."""

from bids_sr.sr.method import MAPS, PLACEBOS_OF_A_RUN, Method, maps_cost, maps_recipes
from bids_sr.sr.recipe import Estimator

METHOD = Method(
    ndim=2,
    trained_on="series",
    upsampler=MAPS,
    recipes=maps_recipes(Estimator(kind="sbl")),
    name="sbl",
    reference="sparse_bayes",
    summary=(
        "sparse Bayesian learning: variance maps that maximize the likelihood of the acquired data"
    ),
    placebos=PLACEBOS_OF_A_RUN,
    costs=maps_cost(low=300.0),
    calibrated=True,
    text={
        "any": (
            "with variances that maximize the marginal likelihood of the run's temporal"
            " components: sparse Bayesian learning [@sparse_bayes]"
        )
    },
)
