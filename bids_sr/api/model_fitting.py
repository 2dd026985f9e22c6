"""What a method learns from a run: the pair, the calibration, and the model, by the functions of the program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.api.image_inputs import (
    ImageLike,
    InputError,
    Motion,
    Run,
    SuperResolutionWarning,
    opened,
    prepare_run,
    told_tr,
    transform_of,
    undo_motion,
    volume_of,
)
from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.registration.ants import Image
from bids_sr.registration.bold_to_anat import register_pair_to_bold
from bids_sr.registration.calibration_alignment import agreement, calibration_maps, register_to_calibration
from bids_sr.registration.pair_frames import Pair, registered_pair, truncated_pair
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.images import ImageSet
from bids_sr.sr.data.temporal_components import TemporalStatistics
from bids_sr.sr.data.training_pair import TrainingPair
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.method import Method, get_method, get_recipe, method_names, recipe_name
from bids_sr.sr.models.compatibility import check_model, describe
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.models.model_store import Request, obtain_model, training_data
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution.matrices import Factor, kspace_crop
from bids_sr.sr.variance.calibration_sd import CalibrationError
from bids_sr.sr.variance.run_data import measured_on_run, run_data

Maps = tuple[Array, Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """Images that a method may learn from, and what is known of where they lie; a transform of None is estimated."""

    guide: ImageLike | None = None  # high-resolution T2*-weighted image
    lowres: ImageLike | None = None  # the low-resolution one; made by truncating k-space where None
    guide_xfm: Motion | None = None  # boldref point to guide point (RAS mm)
    calibration: ImageLike | None = None  # high-resolution BOLD run
    calibration_xfm: Motion | None = None  # boldref point to calibration point (RAS mm)
    events: str | Path | None = None  # of the calibration
    registered: bool = False  # the headers tell where the images lie, and nothing is estimated
    realigned: bool = False  # of the calibration
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A model, and what was read off the run for it."""

    model: LoadedModel
    log: str
    statistics: TemporalStatistics | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def known_method(name: str, recipe: str, baselines: Sequence[str]) -> Method:
    """The method of a name, which knows the recipe; InputError with all names where there is none."""
    try:
        method = get_method(name)
        get_recipe(method, recipe_name(method, recipe))
    except KeyError as error:
        known = f"Methods: {', '.join(method_names())}; baselines: {', '.join(baselines)}"
        raise InputError(f"method: {error} {known}") from None
    return method


def pair_of(given: Given, factor: Factor, folder: Path) -> Pair:
    """The pair in one frame, as training takes it."""
    assert given.guide is not None
    highres = _image(given.guide, folder, "guide")
    if given.lowres is None:
        return truncated_pair(highres, factor)
    lowres = _image(given.lowres, folder, "lowres")
    if not given.registered:
        return registered_pair(highres, lowres, factor, seed=given.seed, prefix=str(folder / "pair_"))
    shape, grid = hr_grid(lowres.data.shape, lowres.affine, factor)
    fine = sample_volume(highres.data, highres.affine, shape, grid)
    mask = brain_mask(lowres.data, lowres.affine)
    return Pair(highres=Image(data=fine, affine=grid), lowres=lowres, mask=mask, xfm=np.eye(4), facts={})


def guide_of(given: Given, run: Run, folder: Path, start: Array | None) -> tuple[PosedImage, dict[str, Any]]:
    """The high-resolution image in whatever pose it is asked for, and how it was registered.

    `start` takes a lowres point of the pair to its point in highres, and is where the search begins.
    """
    assert given.guide is not None
    highres = _image(given.guide, folder, "guide")
    facts: dict[str, Any] = {}
    if given.guide_xfm is not None:
        xfm = transform_of(given.guide_xfm, "guide_xfm")
    elif given.registered:
        xfm = np.eye(4)
    else:
        boldref = Image(data=run.boldref, affine=run.affine)
        xfm, facts = register_pair_to_bold(boldref, highres, start, seed=given.seed, prefix=str(folder / "guide_"))
    return PosedImage(data=highres.data, affine=highres.affine, from_boldref=xfm), facts


def _image(image: ImageLike, folder: Path, what: str) -> Image:
    data, affine = volume_of(image, folder, what)
    return Image(data=data, affine=affine)


def calibration_of(given: Given, run: Run, factor: Factor, folder: Path) -> tuple[Maps | None, dict[str, Any]]:
    """Standard deviation maps of the calibration on the run's two grids, or None with the reason among the facts.

    Raises
    ------
    InputError : its header tells no repetition time
    """
    assert given.calibration is not None
    facts: dict[str, Any] = {}
    with opened(given.calibration, folder, "calibration", any_order=True) as reader:
        tr = told_tr(reader.header)
        if reader.ndim == 4 and not tr > 0:
            fix = "image.header.set_zooms((*image.header.get_zooms()[:3], tr)) and "
            fix = f"set both, for instance by {fix}image.header.set_xyzt_units('mm', 'sec')"
            raise InputError(f"calibration: its header tells no repetition time, or one without a unit; {fix}")
        own = prepare_run(reader, folder, realigned=given.realigned)
        low, fine = Image(data=run.boldref, affine=run.affine), Image(data=own.boldref, affine=own.affine)
        try:
            if given.calibration_xfm is None and not given.registered:
                xfm, facts = register_to_calibration(
                    low, run.mask, fine, own.mask, factor, seed=given.seed, prefix=str(folder / "calibration_")
                )
            else:
                known = given.calibration_xfm
                xfm = np.eye(4) if known is None else transform_of(known, "calibration_xfm")
                facts = {**agreement(low, run.mask, fine, own.mask, xfm, factor)}
            sd, sd_low, told = calibration_maps(
                reader, own.mask, own.poses, own.params, facts, n_dummy=own.n_dummy, tr=tr, factor=factor,
                events=given.events,
            )  # fmt: skip
        except (CalibrationError, RuntimeError) as error:
            text = f"calibration: it is left out, and the run's own variance is used instead: {error}"
            warnings.warn(text, SuperResolutionWarning, stacklevel=6)
            return None, facts | {"usable": False, "reason": str(error)}
        low_affine = kspace_crop(np.zeros(reader.shape[:3], np.float32), reader.affine, factor=factor)[1]
    maps = measured_on_run((sd, own.affine), (sd_low, low_affine), xfm, run.mask.shape, run.affine, factor)
    return maps, facts | told | {"usable": True}


def fit_model(
    method: Method, request: Request, reader: SeriesReader, run: Run, given: Given, pair: Pair | None, folder: Path
) -> Fitted:  # fmt: skip
    """Train, or take the model that the request names.

    Parameters
    ----------
    reader : series as acquired, which may be read in any order
    pair : of the images given, for methods that learn from one
    folder : for what is written on the way

    Raises
    ------
    ModelError, PairError, SeriesError : see `obtain_model`
    """
    data: Any = None
    statistics: TemporalStatistics | None = None
    facts: dict[str, Any] = {}
    assert request.factor is not None
    contrast = "bold"
    if method.trained_on == "series":
        data, facts = _of_series(method, request, reader, run, given, folder)
        statistics = data.statistics
    elif method.trained_on == "self":
        data = ImageSet.of_run(reader, run.mask, run.n_dummy, request.seed)
    elif pair is not None:
        data = TrainingPair(
            lowres=pair.lowres.data, highres=pair.highres.data, mask=np.asarray(pair.mask > 0.5),
            lowres_affine=pair.lowres.affine, factor=request.factor,
        )  # fmt: skip
        contrast = data.contrast
        training_data(request, data)
    weights, _, log = obtain_model(request, data, folder)
    model = load_model(weights)
    where = run.affine if method.of_the_run or pair is None else pair.lowres.affine
    check_model(model.card, describe(where, contrast, request.factor))
    return Fitted(model=model, log=log.read_text(encoding="utf-8"), statistics=statistics, facts=facts)


def _of_series(
    method: Method, request: Request, reader: SeriesReader, run: Run, given: Given, folder: Path
) -> tuple[Any, dict[str, Any]]:
    """What variance maps are found from, and what is told of the calibration."""
    recipe = get_recipe(method, recipe_name(method, request.recipe))
    assert isinstance(recipe, VarianceRecipe)
    assert request.factor is not None
    maps: Maps | None = None
    facts: dict[str, Any] = {}
    if given.calibration is not None and method.calibrated:
        maps, facts = calibration_of(given, run, request.factor, folder)
    with SeriesReader(undo_motion(reader, run, folder / "raw.nii", run.affine)) as raw:
        data = run_data(
            raw, run.mask, recipe, request.factor, n_dummy=run.n_dummy, poses=run.poses, measured=maps
        )  # fmt: skip
    return data, {"calibration": facts} if facts else {}
