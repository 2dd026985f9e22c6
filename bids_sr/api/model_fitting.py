"""Fitting of a method to a run: pair, calibration and model, by the steps of the program."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from bids_sr.api.fitted_run import PLAIN
from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    Motion,
    PreparedRun,
    Say,
    SuperResolutionWarning,
    opened,
    prepare_run,
    told_tr,
    transform_of,
    volume_file,
    volume_of,
)
from bids_sr.io.array_types import Array
from bids_sr.io.volume import Volume
from bids_sr.pipeline.graph import Scope
from bids_sr.pipeline.run_here import RunHere
from bids_sr.registration.calibration_alignment import agreement
from bids_sr.series import PAIR_BASELINES
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.temporal_components import TemporalStatistics, load_statistics
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.method import Method, get_method, get_recipe, method_names, recipe_name
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.resolution.matrices import Factor
from bids_sr.stats.glm.confounds import MOTION
from bids_sr.steps.calibration_run import measure_calibration, register_calibration
from bids_sr.steps.registration import register_pair, register_to_pair, truncate_pair
from bids_sr.steps.super_resolution import undo_motion
from bids_sr.steps.training import estimate_variance, train_on_pair, train_on_volumes

_Found = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """Images that a method may learn from, with transforms (None: estimated)."""

    guide: ImageLike | None = None  # high-resolution T2*-weighted image
    # the low-resolution one; made by truncating k-space where None
    lowres: ImageLike | None = None
    guide_xfm: Motion | None = None  # boldref point to guide point (RAS mm)
    calibration: ImageLike | None = None  # high-resolution BOLD run
    calibration_xfm: Motion | None = None  # boldref point to calibration point (RAS mm)
    events: Path | None = None  # of the calibration
    registered: bool = False  # the headers tell where the images lie, and nothing is estimated
    realigned: bool = False  # of the calibration
    seed: int = 0


def known_method(name: str, recipe: str) -> Method:
    """Return the method of a name; ImageInputError lists all names if there is none."""
    try:
        method = get_method(name)
        if method.variance is None:
            get_recipe(method, recipe_name(method, recipe))
    except KeyError as error:
        known = f"Methods: {', '.join(method_names())}; baselines: {', '.join(PLAIN)}"
        raise ImageInputError(f"method: {error} {known}") from None
    return method


def refuse_without_guide(name: str, pretrained: object, given: Given) -> None:
    """ImageInputError where a series needs a high-resolution image, and none is given."""
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

    Parameters
    ----------
    scope : of the run
    paired : whether the two images are needed in one frame, as training takes them, or to start
        from
    guided : whether the image is needed in the frame of the run
    """
    if given.guide is not None and (paired or guided):
        scope.give(highres_file=volume_file(given.guide, folder, "guide"))
    if paired and given.lowres is None:
        scope.add(truncate_pair)
    elif paired and given.registered:
        _give_registered(scope, given, folder)
    elif paired:
        scope.give(lowres_file=volume_file(given.lowres, folder, "lowres"))  # type: ignore[arg-type]
        scope.add(register_pair)
    if guided and given.guide_xfm is not None:
        scope.give(highres2boldref_xfm=transform_of(given.guide_xfm, "guide_xfm")[None])
    elif guided and given.registered:
        scope.give(highres2boldref_xfm=np.eye(4)[None])
    elif guided:
        scope.add(register_to_pair)


def _give_registered(scope: Scope, given: Given, folder: Path) -> None:
    """The pair in one frame, which the headers of its images tell."""
    assert given.guide is not None
    assert given.lowres is not None
    highres, lowres = (
        volume_of(given.guide, folder, "guide"),
        volume_of(given.lowres, folder, "lowres"),
    )
    shape, grid = hr_grid(lowres.data.shape, lowres.affine, scope.setting("factor"))  # type: ignore[arg-type]
    scope.give(
        train_highres=Volume(sample_volume(highres.data, highres.affine, shape, grid), grid),
        train_lowres=lowres,
        pair_mask=lowres.like(brain_mask(lowres.data, lowres.affine)),
    )


def _calibration_of(
    given: Given, run: PreparedRun, factor: Factor, folder: Path
) -> tuple[Volume, Array, _Found]:
    """Return the calibration's patterns, its xfm from boldref, and whether it is usable.

    Raises
    ------
    ImageInputError : its header tells no repetition time
    """
    assert given.calibration is not None
    with opened(given.calibration, folder, "calibration", any_order=True) as reader:
        tr = told_tr(reader.header)
        if reader.ndim == 4 and not tr > 0:
            fix = "image.header.set_zooms((*image.header.get_zooms()[:3], tr)) and "
            fix = f"set both, for instance by {fix}image.header.set_xyzt_units('mm', 'sec')"
            raise ImageInputError(
                f"calibration: its header tells no repetition time, or one without a unit; {fix}"
            )
        own = prepare_run(reader, folder, realigned=given.realigned)
        told: _Found
        if given.calibration_xfm is None and not given.registered:
            xfm, told = register_calibration(
                run.boldref,
                run.brain,
                own.boldref,
                own.brain,
                folder,
                factor=factor,
                random_seed=given.seed,
            )
        else:
            known = given.calibration_xfm
            xfm = (np.eye(4) if known is None else transform_of(known, "calibration_xfm"))[None]
            told = agreement(
                run.boldref, run.brain.data, own.boldref, own.brain.data, xfm[0], factor
            )
        motion = pd.DataFrame(own.params, columns=list(MOTION))
        patterns, facts = measure_calibration(
            reader, own.brain, own.poses, motion, told, given.events, n_dummy=own.n_dummy, tr=tr
        )
    if not facts["usable"]:
        text = (
            "calibration: it is left out, and the run's own variance is used instead:"
            f" {facts['reason']}"
        )
        warnings.warn(text, SuperResolutionWarning, stacklevel=6)
    return patterns, xfm, facts


def learn(
    name: str,
    method: Method | None,
    acquired: Path,
    run: PreparedRun,
    given: Given,
    factor: Factor,
    settings: Mapping[str, object],
    folder: Path,
    say: Say,
) -> tuple[LoadedModel | None, TemporalStatistics | None, PosedImage | None, dict[str, _Found]]:
    """Train, or take the model that is given, and register the guide; of both what a series needs.

    Parameters
    ----------
    name, method : of the series; a plain baseline has no method
    acquired : series as acquired, not compressed
    settings : of the steps of training, by name
    folder : for what is made on the way

    Returns
    -------
    Model; of variance methods, statistics of the run; the high-resolution image in whatever pose
    it is asked for; what was measured of calibration, registration and pair

    Raises
    ------
    ModelError, TrainingDataError, SeriesError : see `bids_sr.steps.training`
    """
    estimated = method is not None and method.trained_on == "series"
    trained = method is not None and method.needs_pair and given.guide is not None
    guided = given.guide is not None and (name in PAIR_BASELINES or estimated)
    scope = Scope("run", {**settings, "method": name, "factor": factor, "n_dummy": run.n_dummy})
    scope.give(stc=acquired, boldref=run.boldref, bold_mask=run.brain, hmc_xfms=run.poses)
    place_images(
        scope,
        given,
        folder,
        paired=trained or (guided and given.lowres is not None),
        guided=guided,
    )
    here, model, statistics, guide, facts = (
        RunHere(scope, folder),
        None,
        None,
        None,
        dict[str, _Found](),
    )
    if method is not None:
        say(f"learning {name}")
        if estimated and method.calibrated and given.calibration is not None:
            patterns, xfm, found = _calibration_of(given, run, factor, folder)
            scope.give(
                calibration_patterns=patterns, boldref2calibration_xfm=xfm, calibration_facts=found
            )
            facts["calibration"] = found
        by_source = {"series": (undo_motion, estimate_variance), "self": (train_on_volumes,)}
        scope.add(*by_source.get(method.trained_on, (train_on_pair,)), quiet=True)
        model = load_model(*here.load(scope["model_file"]))  # type: ignore[arg-type]
        if estimated:
            statistics = load_statistics(*here.load(scope["temporal"]))[0]  # type: ignore[arg-type]
        elif method.trained_on != "self" and not trained:
            check_model(model.card, run.boldref.affine, "bold", factor)
    if guided:
        say("registration of the guide")
        image = volume_of(given.guide, folder, "guide")  # type: ignore[arg-type]
        (xfm,) = cast("list[Array]", here.load(scope["highres2boldref_xfm"]))
        guide = PosedImage(data=image.data, affine=image.affine, from_boldref=xfm[0])
    for what, made in (("registration", "guide_facts"), ("pair", "pair_facts")):
        if made in scope.makers and (told := cast("_Found", here.load(scope[made])[0])):
            facts[what] = told
    return model, statistics, guide, facts
