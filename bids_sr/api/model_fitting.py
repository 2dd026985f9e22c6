"""What a method learns from a run: the pair, the calibration, and the model, by the steps of the program."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.api.fitted_run import PLAIN
from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    Motion,
    PreparedRun,
    SuperResolutionWarning,
    opened,
    prepare_run,
    told_tr,
    transform_of,
    volume_file,
    volume_of,
)
from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.registration.calibration_alignment import agreement
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.temporal_components import TemporalStatistics, load_statistics
from bids_sr.sr.device import Device
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.method import Method, get_method, get_recipe, method_names, recipe_name
from bids_sr.sr.models.compatibility import check_model, describe
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.resolution.matrices import Factor
from bids_sr.stats.glm.confounds import MOTION
from bids_sr.steps.calibration_run import measure_calibration, register_calibration
from bids_sr.steps.registration import register_pair, register_to_pair, truncate_pair
from bids_sr.steps.super_resolution import undo_motion
from bids_sr.steps.training import estimate_variance, train_on_pair, train_on_volumes

Found = Mapping[str, object]
Pair = tuple[Volume, Volume, Volume, Array, Found]
"""What `bids_sr.steps.registration.register_pair` makes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """Images that a method may learn from, and what is known of where they lie; a transform of None is estimated."""

    guide: ImageLike | None = None  # high-resolution T2*-weighted image
    lowres: ImageLike | None = None  # the low-resolution one; made by truncating k-space where None
    guide_xfm: Motion | None = None  # boldref point to guide point (RAS mm)
    calibration: ImageLike | None = None  # high-resolution BOLD run
    calibration_xfm: Motion | None = None  # boldref point to calibration point (RAS mm)
    events: Path | None = None  # of the calibration
    registered: bool = False  # the headers tell where the images lie, and nothing is estimated
    realigned: bool = False  # of the calibration
    seed: int = 0


def known_method(name: str, recipe: str) -> Method:
    """The method of a name, which knows the recipe; ImageInputError with all names where there is none."""
    try:
        method = get_method(name)
        get_recipe(method, recipe_name(method, recipe))
    except KeyError as error:
        known = f"Methods: {', '.join(method_names())}; baselines: {', '.join(PLAIN)}"
        raise ImageInputError(f"method: {error} {known}") from None
    return method


def pair_of(given: Given, factor: Factor, folder: Path) -> Pair:
    """The pair in one frame, as training takes it."""
    assert given.guide is not None
    guide = volume_file(given.guide, folder, "guide")
    if given.lowres is None:
        return truncate_pair(guide, factor=factor)
    if not given.registered:
        lowres_file = volume_file(given.lowres, folder, "lowres")
        return register_pair(guide, lowres_file, here=folder, factor=factor, random_seed=given.seed)
    highres, lowres = volume_of(given.guide, folder, "guide"), volume_of(given.lowres, folder, "lowres")
    shape, grid = hr_grid(lowres.data.shape, lowres.affine, factor)
    fine = Volume(sample_volume(highres.data, highres.affine, shape, grid), grid)
    return fine, lowres, lowres.like(brain_mask(lowres.data, lowres.affine)), np.eye(4)[None], {}


def guide_of(
    given: Given, run: PreparedRun, pair: Pair | None, factor: Factor, folder: Path
) -> tuple[PosedImage, Found]:
    """The high-resolution image in whatever pose it is asked for, and how it was registered."""
    assert given.guide is not None
    facts: Found = {}
    if given.guide_xfm is not None:
        xfm = transform_of(given.guide_xfm, "guide_xfm")
    elif given.registered:
        xfm = np.eye(4)
    else:
        (xfm,), _, facts = register_to_pair(
            run.boldref, volume_file(given.guide, folder, "guide"), None if pair is None else pair[3], here=folder,
            factor=factor, random_seed=given.seed,
        )  # fmt: skip
    highres = volume_of(given.guide, folder, "guide")
    return PosedImage(data=highres.data, affine=highres.affine, from_boldref=xfm), facts


def calibration_of(given: Given, run: PreparedRun, factor: Factor, folder: Path) -> tuple[Volume, Array, Found]:
    """Patterns of the calibration, what takes a boldref point to its point, and whether it is usable.

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
            raise ImageInputError(f"calibration: its header tells no repetition time, or one without a unit; {fix}")
        own = prepare_run(reader, folder, realigned=given.realigned)
        told: Found
        if given.calibration_xfm is None and not given.registered:
            xfm, told = register_calibration(
                run.boldref, run.brain, own.boldref, own.brain, folder, factor=factor, random_seed=given.seed
            )
        else:
            known = given.calibration_xfm
            xfm = (np.eye(4) if known is None else transform_of(known, "calibration_xfm"))[None]
            told = agreement(run.boldref, run.brain.data, own.boldref, own.brain.data, xfm[0], factor)
        motion = pd.DataFrame(own.params, columns=list(MOTION))
        patterns, facts = measure_calibration(
            reader, own.brain, own.poses, motion, told, given.events, n_dummy=own.n_dummy, tr=tr
        )
    if not facts["usable"]:
        text = f"calibration: it is left out, and the run's own variance is used instead: {facts['reason']}"
        warnings.warn(text, SuperResolutionWarning, stacklevel=6)
    return patterns, xfm, facts


def fit_model(
    method: Method, reader: SeriesReader, run: PreparedRun, given: Given, pair: Pair | None, *, here: Path,
    factor: Factor, recipe: RecipeName, pretrained: Path | None, random_seed: int, omp_nthreads: int, device: Device,
    max_train_minutes: float | None,
) -> tuple[LoadedModel, TemporalStatistics | None, Found]:  # fmt: skip
    """Train, or take the model that is given.

    Parameters
    ----------
    reader : series as acquired, which may be read in any order
    pair : of the images given, for methods that learn from one
    here : for what is written on the way

    Returns
    -------
    Model; of variance methods, statistics of the run, and what was measured in its calibration

    Raises
    ------
    ModelError, TrainingDataError, SeriesError : see `bids_sr.steps.training`
    """
    name = method.name
    if method.trained_on == "series":
        measured: tuple[Volume, Array, Found] | tuple[None, None, None] = (None, None, None)
        if given.calibration is not None and method.calibrated:
            measured = calibration_of(given, run, factor, here)
        preproc = undo_motion(reader, run.boldref, run.poses, here=here)
        with preproc:
            weights, _, _, temporal, _, _ = estimate_variance(
                preproc, run.brain, run.poses, *measured, here=here, n_dummy=run.n_dummy, method=name, factor=factor,
                recipe=recipe, model_source="train", pretrained=pretrained, random_seed=random_seed,
                omp_nthreads=omp_nthreads,
            )  # fmt: skip
        return load_model(weights), load_statistics(temporal)[0], measured[2] or {}
    if method.trained_on == "self":
        weights, _, _ = train_on_volumes(
            reader, run.brain, here=here, n_dummy=run.n_dummy, method=name, factor=factor, recipe=recipe,
            model_source="train", pretrained=pretrained, random_seed=random_seed, omp_nthreads=omp_nthreads,
            device=device, max_train_minutes=max_train_minutes,
        )  # fmt: skip
    else:
        weights, _, _ = train_on_pair(
            *(pair[:3] if pair else ()), here=here, method=name, factor=factor, recipe=recipe, model_source="train",
            pretrained=pretrained, random_seed=random_seed, omp_nthreads=omp_nthreads, device=device,
            max_train_minutes=max_train_minutes,
        )  # fmt: skip
    model = load_model(weights)
    if pair is None:
        check_model(model.card, describe(run.boldref.affine, "bold", factor))
    return model, None, {}
