"""Inputs: BOLD runs of a BIDS data set with events, metadata, T1w image and T2*-weighted pair.

`collect` gives what the workflows need and raises when something is wrong; `survey` returns everything that speaks
against the run at once, for preflight. pybids and nibabel are imported when they are called.
"""

from bids_sr.bids.collect import collect, survey
from bids_sr.bids.factor import factor_of, has_factor
from bids_sr.bids.inputs import (
    BoldRun,
    Calibration,
    Header,
    InputError,
    Notice,
    Pair,
    Problem,
    RunFiles,
    StructuralPair,
    Subject,
    Survey,
    Truth,
    entities_of,
    stem_of,
)
from bids_sr.bids.method_options import GuideKind, guide_of, pretrained_for
from bids_sr.bids.pairs import needs_pair
from bids_sr.bids.structural_scans import others_of, survey_structural

__all__ = [
    "BoldRun",
    "Calibration",
    "GuideKind",
    "Header",
    "InputError",
    "Notice",
    "Pair",
    "Problem",
    "RunFiles",
    "StructuralPair",
    "Subject",
    "Survey",
    "Truth",
    "collect",
    "entities_of",
    "factor_of",
    "guide_of",
    "has_factor",
    "needs_pair",
    "others_of",
    "pretrained_for",
    "stem_of",
    "survey",
    "survey_structural",
]
