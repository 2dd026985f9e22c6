"""Sparse Bayesian learning: variance maps that maximize the likelihood of the acquired components."""

from bids_sr.sr.method import PLACEBOS_OF_A_RUN, maps_cost, maps_method
from bids_sr.sr.recipe import Estimator

METHOD = maps_method(
    Estimator(kind="sbl"),
    name="sbl", reference="sparse_bayes",
    summary="sparse Bayesian learning: variance maps that maximize the likelihood of the acquired data",
    placebos=PLACEBOS_OF_A_RUN, costs=maps_cost(low=300.0), calibrated=True,
    text={
        "any": "with variances that maximize the marginal likelihood of the run's temporal components: sparse Bayesian "
        "learning [@sparse_bayes]"
    },
)  # fmt: skip
