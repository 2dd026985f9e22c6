"""Sparse Bayesian learning, stopped early.

Prior SD maps are estimated from the likelihood of the temporal components.
"""

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import VarianceRecipe

METHOD = Method(
    ndim=2,
    trained_on="series",
    variance=VarianceRecipe(),
    name="sbl",
    reference="sparse_bayes",
    article="",
    summary="sparse Bayesian learning with few iterations and with prior SD maps of the acquired"
    " run",
    costs={"fast": RunTime(always=0.5, low=110.0, volumes=0.005, series=0.08)},
    uses_calibration=True,
    prior_text={"any": "in a variant of sparse Bayesian learning [@sparse_bayes]"},
)
