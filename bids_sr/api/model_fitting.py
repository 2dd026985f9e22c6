"""Fitting of a method to a run: pair, calibration and model, by the steps of the program."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

from bids_sr.api.image_inputs import (
    ImageInputError,
    SuperResolutionWarning,
    checked_series,
    series_file,
    slices_last,
    there,
    told_tr,
    transform_of,
    volume_file,
)
from bids_sr.api.placed_run import Given, doubt_realigned, still
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader
from bids_sr.pipeline.graph import Scope
from bids_sr.pipeline.run_here import RunHere
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.sr.method import Method, get_method, get_recipe, recipe_name
from bids_sr.steps.motion import import_series
from bids_sr.steps.registration import register_pair, register_to_pair, truncate_pair
from bids_sr.workflows.acquired_runs import add_calibration
from bids_sr.workflows.wanted import TRAINING, learned_from

PLAIN = (*INTERPOLATIONS, *PAIR_BASELINES)
"""Baselines that need no model."""


def known_method(name: str, recipe: str) -> Method:
    """Return the method of a name; ImageInputError lists all names if there is none."""
    try:
        method = get_method(name)
        if method.variance is None:
            get_recipe(method, recipe_name(method, recipe))
    except KeyError as error:
        known = f"Baselines: {', '.join(PLAIN)}."
        raise ImageInputError(f"method: {error} {known}") from None
    return method


def refuse_without_guide(name: str, pretrained: object, given: Given) -> None:
    """ImageInputError where a series needs a high-resolution image, and none is given.

    `pretrained`: weights to use instead of training; None for none.
    """
    needed = name in PAIR_BASELINES or (
        name not in PLAIN and get_method(name).needs_pair and not pretrained
    )
    if given.guide is None and needed:
        raise ImageInputError(
            f"guide: {name} takes what it adds from a high-resolution T2*-weighted image; give"
            " guide=... (and lowres=...), or take a method that needs none, such as sbl"
        )


def place_images(scope: Scope, given: Given, folder: Path, *, paired: bool, guided: bool) -> None:
    """Align the high-resolution image to the low-resolution one, the run's reference, or both.

    `paired`: whether the two images are needed in one frame, as training takes them, or to start
    from. `guided`: whether the image is needed in the frame of the run.
    """
    if given.guide is None or not (paired or guided):
        return
    scope.give(highres_file=volume_file(given.guide, folder, "guide"))
    if paired and given.lowres is None:
        scope.add(truncate_pair, quiet=True)
    elif paired:
        scope.give(lowres_file=volume_file(given.lowres, folder, "lowres"))  # type: ignore[arg-type]
        scope.add(register_pair, quiet=True)
    if guided and given.guide_xfm is not None:
        scope.give(highres2boldref_xfm=transform_of(given.guide_xfm, "guide_xfm")[None])
    elif guided and scope.setting("registered"):
        scope.give(highres2boldref_xfm=still(1))
    elif guided:
        scope.add(register_to_pair, quiet=True)


def _place_calibration(scope: Scope, here: RunHere, given: Given, folder: Path) -> None:
    """The calibration of a run, in a scope of its own; a warning where it is not usable."""
    file = series_file(given.calibration, folder, "calibration")  # type: ignore[arg-type]
    with SeriesReader(file) as reader:
        checked_series(reader, "calibration")
        slices_last(reader)
        tr, n_volumes = told_tr(reader.header), reader.shape[3]
    if not tr > 0:
        fix = "image.header.set_zooms((*image.header.get_zooms()[:3], tr)) and "
        fix = f"set both, for instance by {fix}image.header.set_xyzt_units('mm', 'sec')"
        raise ImageInputError(
            f"calibration: its header tells no repetition time, or one without a unit; {fix}"
        )
    own = scope.within("calibration", axis_order=AS_STORED, tr=tr, dummy_scans=None)
    own.give(bold_file=file)
    own.add(import_series, quiet=True)
    if given.calibration_xfm is not None:
        xfm = transform_of(given.calibration_xfm, "calibration_xfm")
        own.give(known_calibration_xfm=xfm[None])
    elif scope.setting("registered"):
        own.give(known_calibration_xfm=still(1))
    if scope.setting("realigned"):
        own.give(given_hmc_xfms=still(n_volumes))
    events = given.calibration_events
    add_calibration(own, None if events is None else there(events, "calibration_events"))
    if scope.setting("realigned"):
        doubt_realigned(here, own, "calibration_ref", "head_mask")
    (facts,) = cast("list[dict[str, object]]", here.load(scope["calibration_facts"]))
    if not facts["usable"]:
        text = (
            "calibration: it is left out, and the run's own variance is used instead:"
            f" {facts['reason']}"
        )
        warnings.warn(text, SuperResolutionWarning, stacklevel=6)


def place_model(
    scope: Scope,
    here: RunHere,
    name: str,
    method: Method | None,
    given: Given,
    folder: Path,
) -> None:
    """Place what a series needs: pair, guide, calibration, and training or a model that is given.

    `name, method`: of the series; a plain baseline has no method.
    """
    estimated = method is not None and method.trained_on == "series"
    trained = method is not None and method.needs_pair and given.guide is not None
    guided = given.guide is not None and (name in PAIR_BASELINES or estimated)
    paired = trained or (guided and given.lowres is not None)
    place_images(scope, given, folder, paired=paired, guided=guided)
    if method is None:
        return
    if estimated and method.calibrated and given.calibration is not None:
        _place_calibration(scope, here, given, folder)
    source = learned_from(method, paired=given.guide is not None)
    scope.add(TRAINING[source], quiet=True, method=name)
