"""Survey of a BIDS data set: BOLD runs with events, metadata, T1w image and T2*-weighted pair.

`survey` returns the inputs of the workflows together with all problems that preflight reports.
pybids is imported only when it is called.
"""

from bids_sr.bids.collect import survey
from bids_sr.bids.entities import entities_of, stem_of
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.given_models import input_of_models, pretrained_for
from bids_sr.bids.inputs import BoldRun, LowresScan, ModelInput, Pair, Subject, Survey
from bids_sr.bids.method_options import guide_of, vgg_weights_for
from bids_sr.bids.pairs import needs_pair
from bids_sr.bids.structural_scans import survey_structural
from bids_sr.io.image_header import Header

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
