"""Survey of a BIDS data set: BOLD runs with events, metadata, T1w image and T2*-weighted pair.

`survey` returns the inputs of the workflows together with all problems that preflight reports.
pybids is imported only when it is called.
"""

from bids_sr.bids.collect import survey
from bids_sr.bids.entities import file_stem, parse_entities
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import BoldRun, LowresScan, ModelInput, Pair, Subject, Survey
from bids_sr.bids.method_options import choose_guide, find_vgg_weights
from bids_sr.bids.pairs import needs_pair
from bids_sr.bids.pretrained_models import find_pretrained, input_of_models
from bids_sr.io.image_header import Header
from bids_sr.structural.survey import survey_structural

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
    "choose_guide",
    "file_stem",
    "find_pretrained",
    "find_vgg_weights",
    "input_of_models",
    "needs_pair",
    "parse_entities",
    "survey",
    "survey_structural",
]
