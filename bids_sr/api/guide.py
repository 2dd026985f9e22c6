"""The high-resolution T2*-weighted image of a run (guide), and its pair."""

from __future__ import annotations

from pathlib import Path

from bids_sr.api.image_inputs import ImageInputError, load_transform, volume_file
from bids_sr.api.run_basics import identity_transforms
from bids_sr.api.run_inputs import RunInputs
from bids_sr.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.pipeline.artifacts import Facts, Image
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.sr.method import get_method
from bids_sr.steps import registration
from bids_sr.steps.super_resolution import Guide
from bids_sr.workflows.pair import RegisteredPair, register_pair

PLAIN = (*INTERPOLATIONS, *PAIR_BASELINES)
"""Baselines without a model."""


@frozen
class GivenPair:
    """Files of the pair of a run.

    Parameters
    ----------
    highres, lowres : Path, Path | None
        Images at both resolutions; if the low-resolution image is None, it is computed by
        truncating k-space.
    factor : Factor
        Low- over high-resolution voxel size by axis.
    random_seed : int
        Seed of the registrations.
    registered : bool
        Whether positions of the images and the run are taken from their headers.
    """

    highres: Path
    lowres: Path | None
    factor: Factor
    random_seed: int
    registered: bool


@frozen
class RegisteredGuide:
    """Guide in the frame of a run.

    `guide_facts` describe the quality of the registration; None if it was not estimated.
    """

    guide: Guide
    guide_facts: Facts | None = None


def refuse_without_guide(name: str, pretrained: object, inputs: RunInputs) -> None:
    """Raise ImageInputError if a series requires a high-resolution image that is missing.

    `pretrained` are weights that replace training, or None.
    """
    requires_guide = name in PAIR_BASELINES or (
        name not in PLAIN and get_method(name).needs_pair and not pretrained
    )
    if inputs.guide is None and requires_guide:
        raise ImageInputError(
            f"guide: the method {name} requires a high-resolution T2*-weighted image. Pass "
            "this image as guide (and a low-resolution image of the same contrast as lowres), "
            "or use a method that does not need the images, such as sbl."
        )


def load_pair(
    inputs: RunInputs,
    folder: Path,
    *,
    paired: bool,
    factor: Factor,
    random_seed: int,
    registered: bool,
) -> GivenPair | None:
    """Return the files of the pair; None if no high-resolution image is given.

    Parameters
    ----------
    inputs : RunInputs
        Inputs of the run.
    folder : Path
        Folder for images in memory.
    paired : bool
        Whether the low-resolution image is required.
    factor, random_seed, registered
        See `GivenPair`.
    """
    if inputs.guide is None:
        return None
    highres = volume_file(inputs.guide, folder, "guide")
    lowres = None
    if paired and inputs.lowres is not None:
        lowres = volume_file(inputs.lowres, folder, "lowres")
    return GivenPair(
        highres=highres,
        lowres=lowres,
        factor=factor,
        random_seed=random_seed,
        registered=registered,
    )


def align_pair(pair: GivenPair) -> RegisteredPair:
    """Register the images of a pair to each other, as for training."""
    return register_pair(
        pair.highres,
        pair.lowres,
        factor=pair.factor,
        random_seed=pair.random_seed,
        registered=pair.registered,
    )


def find_guide(pair: GivenPair, inputs: RunInputs) -> Guide | None:
    """Return the guide in the frame of the run; None if its position has to be estimated."""
    if inputs.guide_xfm is not None:
        xfm = load_transform(inputs.guide_xfm, "guide_xfm")[None]
        return Guide(highres_file=pair.highres, highres2boldref_xfm=xfm)
    if pair.registered:
        return Guide(highres_file=pair.highres, highres2boldref_xfm=identity_transforms(1))
    return None


def register_guide(
    pair: GivenPair, boldref: Image, aligned: RegisteredPair | None
) -> RegisteredGuide:
    """Register the high-resolution image to the boldref of a run.

    The search starts from the position of the pair `aligned`, or from the headers if it is None.
    """
    xfm, _, facts = registration.register_to_pair(
        boldref,
        pair.highres,
        None if aligned is None else aligned.highres2lowres_xfm,
        factor=pair.factor,
        random_seed=pair.random_seed,
    )
    guide = Guide(highres_file=pair.highres, highres2boldref_xfm=xfm)
    return RegisteredGuide(guide=guide, guide_facts=facts)
