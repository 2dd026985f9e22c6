"""Inputs: BOLD runs of a BIDS data set with events, metadata, T1w image and T2*-weighted pair.

`collect` gives what the workflows need and raises when something is wrong; `survey` returns everything that speaks
against the run at once, for preflight. pybids and nibabel are imported when they are called.
"""

from bids_sr.inputs.collect import collect, factor_of, needs_pair, survey
from bids_sr.inputs.model import (
    BoldRun,
    Header,
    InputError,
    Notice,
    Pair,
    Problem,
    RunFiles,
    Subject,
    Survey,
    entities_of,
    stem_of,
)

__all__ = [
    "BoldRun",
    "Header",
    "InputError",
    "Notice",
    "Pair",
    "Problem",
    "RunFiles",
    "Subject",
    "Survey",
    "collect",
    "entities_of",
    "factor_of",
    "needs_pair",
    "stem_of",
    "survey",
]
