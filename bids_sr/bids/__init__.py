"""BIDS inputs: BOLD runs of a data set with events, metadata, T1w image and T2*-weighted pair.

`survey` returns what the workflows need, and everything that speaks against the run at once, for
preflight. pybids is imported when it is called.
"""

from bids_sr.bids.collect import survey, survey_structural
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import (
    BoldRun,
    LowresScan,
    ModelInput,
    Pair,
    Subject,
    Survey,
    entities_of,
    guide_of,
    input_of_models,
    pretrained_for,
    stem_of,
    vgg_weights_for,
)
from bids_sr.bids.pairs import needs_pair
from bids_sr.io.grids import Header

__all__ = [
    "BoldRun",
    "Findings",
    "Header",
    "InputError",
    "LowresScan",
    "ModelInput",
    "Pair",
    "Subject",
    "Survey",
    "entities_of",
    "guide_of",
    "input_of_models",
    "needs_pair",
    "pretrained_for",
    "stem_of",
    "survey",
    "survey_structural",
    "vgg_weights_for",
]
