"""The high-resolution T2*-weighted image of a run (guide), and its pair."""

from __future__ import annotations

from bids_sr.api.image_inputs import ImageInputError, load_transform
from bids_sr.api.run_basics import make_identity_transforms
from bids_sr.api.run_inputs import RunInputs
from bids_sr.engine.artifacts import Facts
from bids_sr.io.frozen import frozen
from bids_sr.io.series import MODEL_FREE_BASELINES, get_need
from bids_sr.sr.method import get_method
from bids_sr.sr.steps.super_resolution import Guide
from bids_sr.workflows.pair import PairFiles


@frozen
class RegisteredGuide:
    """Guide in the frame of a run.

    `guide_facts` describe the quality of the registration; None if it was not estimated.
    """

    guide: Guide
    guide_facts: Facts | None = None


def check_guide(name: str, pretrained: object, inputs: RunInputs) -> None:
    """Raise ImageInputError if a series requires a high-resolution image that is missing.

    `pretrained` are weights that replace training, or None.
    """
    requires_guide = get_need(name) == "pair" or (
        name not in MODEL_FREE_BASELINES and get_method(name).needs_pair and not pretrained
    )
    if inputs.guide is None and requires_guide:
        raise ImageInputError(
            f"the method {name} requires a high-resolution T2*-weighted image",
            "Pass this image as guide (and a low-resolution image of the same contrast as lowres),"
            " or use a method that does not need the images, such as sbl.",
            "guide",
        )


def find_guide(pair: PairFiles, inputs: RunInputs) -> Guide | None:
    """Return the guide in the frame of the run; None if its position has to be estimated."""
    if inputs.guide_xfm is not None:
        xfm = load_transform(inputs.guide_xfm, "guide_xfm")[None]
        return Guide(highres_file=pair.highres_file, highres2boldref_xfm=xfm)
    if pair.is_registered:
        return Guide(
            highres_file=pair.highres_file, highres2boldref_xfm=make_identity_transforms(1)
        )
    return None
