"""A run of images in a scope of the program's graph: what is given, and steps for the rest.

Fitting of a method to a run: pair, calibration and model, by the steps of the program.

Lists of runs as nilearn takes them, each run processed alone, and output of `verbose`.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard, TypeVar, cast

import numpy as np
import pandas as pd

from bids_sr.api.image_inputs import (
    Dummies,
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    SuperResolutionWarning,
    checked_series,
    mask_on,
    poses_of,
    series_file,
    slices_last,
    there,
    told_tr,
    transform_of,
    volume_file,
    volume_of,
)
from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, Volume
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.pipeline.graph import Scope
from bids_sr.pipeline.run_here import RunHere
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.sr.method import Method, get_method, get_recipe, recipe_name
from bids_sr.steps.imported import import_mask
from bids_sr.steps.motion import count_dummies, find_motion_left, import_series
from bids_sr.steps.registration import mask_bold, register_pair, register_to_pair, truncate_pair
from bids_sr.steps.super_resolution import undo_motion
from bids_sr.workflows.judge import add_calibration, add_motion
from bids_sr.workflows.wanted import TRAINING, learned_from

Truth = ImageLike | Mapping[str, ImageLike]
OF_RUN = ("n_dummy", "boldref", "bold_mask", "bold_mask_hr", "hmc_xfms", "motion")
"""What is found of a run before anything is learned from it, by the names of the steps."""
_MOST_LEFT_MM = 0.5
"""Displacement of the brain (rms) above which a series that is said to be realigned is doubted."""


@frozen
class Given:
    """What `fit` of an estimator was given for one run beside its series; see there.

    `motion`: transforms of a boldref point to its volume point (T, 4, 4); None estimates them.
    `guide`: high-resolution T2*w image (3D); None for none. `lowres`: low-resolution image of the
    T2*w pair (3D); None for none. `guide_xfm`: transform of a boldref point to its guide point;
    None estimates it. `calibration`: short BOLD run at the high resolution (4D); None for none.
    `calibration_xfm`: transform of a boldref point to its calibration point; None estimates it.
    `calibration_events`: path of the BIDS events of the calibration; None for none. `seeds`:
    center of each seed by name (RAS+ mm); None for none. `truth`: series measured at the high
    resolution, or known activation by contrast; None for none. `other_run`: another acquired run
    of the task (4D); None for none. `other_events`: events of that run, or the path of their
    table; None for none. `mask`: voxels of the brain on the acquired grid (3D); None finds them.
    `confounds`: confounds of the run, one row a volume; None takes its head motion. `roi`: voxels
    of the region of interest on the high-resolution grid; None: the brain.
    """

    mask: MaskLike | None = None
    motion: Motion | None = None
    boldref: ImageLike | None = None
    guide: ImageLike | None = None
    lowres: ImageLike | None = None
    guide_xfm: Motion | None = None
    calibration: ImageLike | None = None
    calibration_xfm: Motion | None = None
    calibration_events: str | Path | None = None
    events: pd.DataFrame | str | Path | None = None
    seeds: Mapping[str, Sequence[float]] | None = None
    confounds: pd.DataFrame | None = None
    roi: MaskLike | None = None
    truth: Truth | None = None
    other_run: ImageLike | None = None
    other_events: pd.DataFrame | str | Path | None = None

    @property
    def known(self) -> Mapping[str, ImageLike]:
        """Known activation by contrast."""
        return self.truth if isinstance(self.truth, Mapping) else {}

    @property
    def measured(self) -> ImageLike | None:
        """The series that was measured at the high resolution."""
        return None if isinstance(self.truth, Mapping) else self.truth


def place_run(
    reader: SeriesReader,
    inputs: Given,
    settings: Mapping[str, object],
    folder: Path,
    n_dummy: Dummies,
    found: Mapping[str, object] | None = None,
) -> Scope:
    """Place a run, with the steps that find what is not given of `OF_RUN`.

    `reader`: has to be readable in any order. `settings`: of further steps; ``realigned`` says
    that head motion was undone before, ``registered`` that headers of other images tell where they
    lie. `found`: what was found of the run before (`OF_RUN`), where nothing else is given.
    """
    slices_last(reader)
    total = reader.shape[3]
    known = dict(found or {})
    if n_dummy != "auto" and not 0 <= n_dummy <= total - 2:
        raise ImageInputError(
            f"n_dummy: expected a number from 0 to {total - 2}, got {n_dummy}; at least two of "
            f"the {total} volumes must remain"
        )
    dummies = None if n_dummy == "auto" else int(n_dummy)
    own = {"axis_order": AS_STORED, "origin": "Python", "dummy_scans": dummies}
    scope = Scope("run", {**own, **settings})
    scope.give(bold=reader, stc=reader)
    scope.add(count_dummies, undo_motion, quiet=True)
    if known and inputs.motion is None and inputs.boldref is None:
        scope.give(**{name: known[name] for name in ("boldref", "hmc_xfms", "motion")})
    else:
        _place_motion(scope, reader, inputs, known, folder)
    if known and inputs.mask is None:
        scope.give(**{name: known[name] for name in ("bold_mask", "bold_mask_hr")})
    elif inputs.mask is None:
        scope.add(mask_bold)
    else:
        mask = mask_on(inputs.mask, grid_of(reader), folder)
        scope.give(given_bold_mask=folder / "bold_mask.nii")
        save_image(mask.data, mask.affine, folder / "bold_mask.nii", dtype=np.uint8)
        scope.add(import_mask)
    return scope


def _place_motion(
    scope: Scope,
    reader: SeriesReader,
    inputs: Given,
    known: Mapping[str, object],
    folder: Path,
) -> None:
    """Head motion and reference, as far as they are given."""
    motion = cast("Motion | None", known.get("hmc_xfms"))
    motion = motion if inputs.motion is None else inputs.motion
    image = cast("Volume | None", known.get("boldref"))
    poses = None if motion is None else poses_of(motion, reader.shape[3])
    if poses is None and scope.setting("realigned"):
        poses = still(reader.shape[3])
    if poses is not None:
        scope.give(given_hmc_xfms=poses)
    if inputs.boldref is not None:
        image = volume_of(inputs.boldref, folder, "boldref")
        if image.data.shape != reader.shape[:3] or not np.allclose(
            image.affine, reader.affine, atol=1e-3
        ):
            raise ImageInputError(
                "boldref: the image is not on the grid of the series (its shape is "
                f"{image.data.shape}; expected {reader.shape[:3]})"
            )
    if image is not None:
        name = "boldref" if poses is None else "given_boldref"
        scope.give(**{name: Volume(image.data, reader.affine)})
    add_motion(scope)


def still(n_volumes: int) -> np.ndarray:
    """Return poses (T, 4, 4) of a head that does not move."""
    return np.repeat(np.eye(4)[None], n_volumes, 0)


def grid_of(reader: SeriesReader) -> Volume:
    """An image of nothing on the grid of a series.

    Image with no voxel set (3D, boolean), with the affine of the series.
    """
    return Volume(np.zeros(reader.shape[:3], bool), reader.affine)


def doubt_realigned(
    here: RunHere, scope: Scope, boldref: str = "boldref", mask: str = "bold_mask"
) -> None:
    """Warn where volumes of a series that is said to be realigned lie off its reference."""
    wires = {"boldref": scope[boldref], "bold_mask": scope[mask]}
    scope.add(find_motion_left, wires=wires)
    at, far = here.load(scope["doubtful_volume"], scope["displacement_mm"])
    if cast("float", far) > _MOST_LEFT_MM:
        text = (
            f"realigned=True was passed, but volume {at} is displaced by {far:.1f} "
            "mm relative to the boldref. Head motion would be treated as signal. "
            "Omit realigned, or pass the head-motion transforms with motion."
        )
        warnings.warn(text, SuperResolutionWarning, stacklevel=5)


PLAIN = (*INTERPOLATIONS, *PAIR_BASELINES)
"""Baselines that need no model."""


def known_method(name: str, recipe: str) -> Method:
    """Return the method of a name; ImageInputError lists all names if there is none."""
    try:
        method = get_method(name)
        if method.variance is None:
            get_recipe(method, recipe_name(method, recipe))
    except KeyError as error:
        raise ImageInputError(
            f"method: {error} Available baselines: {', '.join(PLAIN)}."
        ) from None
    return method


def refuse_without_guide(name: str, pretrained: object, inputs: Given) -> None:
    """ImageInputError where a series needs a high-resolution image, and none is given.

    `pretrained`: weights to use instead of training; None for none.
    """
    needed = name in PAIR_BASELINES or (
        name not in PLAIN and get_method(name).needs_pair and not pretrained
    )
    if inputs.guide is None and needed:
        raise ImageInputError(
            f"guide: the method {name} requires a high-resolution T2*-weighted image. Pass "
            "this image as guide (and a low-resolution image of the same contrast as lowres), "
            "or use a method that does not need the images, such as sbl."
        )


def place_images(scope: Scope, inputs: Given, folder: Path, *, paired: bool, guided: bool) -> None:
    """Align the high-resolution image to the low-resolution one, the run's reference, or both.

    `paired`: whether the two images are needed in one frame, as training takes them, or to start
    from. `guided`: whether the image is needed in the frame of the run.
    """
    if inputs.guide is None or not (paired or guided):
        return
    scope.give(highres_file=volume_file(inputs.guide, folder, "guide"))
    if paired and inputs.lowres is None:
        scope.add(truncate_pair, quiet=True)
    elif paired:
        scope.give(lowres_file=volume_file(inputs.lowres, folder, "lowres"))  # type: ignore[arg-type]
        scope.add(register_pair, quiet=True)
    if guided and inputs.guide_xfm is not None:
        scope.give(highres2boldref_xfm=transform_of(inputs.guide_xfm, "guide_xfm")[None])
    elif guided and scope.setting("registered"):
        scope.give(highres2boldref_xfm=still(1))
    elif guided:
        scope.add(register_to_pair, quiet=True)


def _place_calibration(scope: Scope, here: RunHere, inputs: Given, folder: Path) -> None:
    """The calibration of a run, in a scope of its own; a warning where it is not usable."""
    file = series_file(inputs.calibration, folder, "calibration")  # type: ignore[arg-type]
    with SeriesReader(file) as reader:
        checked_series(reader, "calibration")
        slices_last(reader)
        tr = told_tr(reader.header)
        n_volumes = reader.shape[3]
    if not tr > 0:
        fix = "image.header.set_zooms((*image.header.get_zooms()[:3], tr)) and "
        fix = f"Set both, for example with {fix}image.header.set_xyzt_units('mm', 'sec')"
        raise ImageInputError(
            "calibration: the image header does not specify the repetition time or its unit. "
            f"{fix}"
        )
    calibration_scope = scope.within("calibration", axis_order=AS_STORED, tr=tr, dummy_scans=None)
    calibration_scope.give(bold_file=file)
    calibration_scope.add(import_series, quiet=True)
    if inputs.calibration_xfm is not None:
        xfm = transform_of(inputs.calibration_xfm, "calibration_xfm")
        calibration_scope.give(known_calibration_xfm=xfm[None])
    elif scope.setting("registered"):
        calibration_scope.give(known_calibration_xfm=still(1))
    if scope.setting("realigned"):
        calibration_scope.give(given_hmc_xfms=still(n_volumes))
    events = inputs.calibration_events
    add_calibration(
        calibration_scope, None if events is None else there(events, "calibration_events")
    )
    if scope.setting("realigned"):
        doubt_realigned(here, calibration_scope, "calibration_ref", "head_mask")
    (facts,) = cast("list[dict[str, object]]", here.load(scope["calibration_facts"]))
    if not facts["usable"]:
        text = (
            "calibration: the calibration run was not used. Variances are estimated from the "
            f"run itself instead. Reason: {facts['reason']}"
        )
        warnings.warn(text, SuperResolutionWarning, stacklevel=6)


def place_model(
    scope: Scope,
    here: RunHere,
    name: str,
    method: Method | None,
    inputs: Given,
    folder: Path,
) -> None:
    """Place what a series needs: pair, guide, calibration, and training or a model that is given.

    `scope`: has the settings of the steps of training. `method`: None for a plain baseline.
    """
    estimated = method is not None and method.trained_on == "series"
    trained = method is not None and method.needs_pair and inputs.guide is not None
    guided = inputs.guide is not None and (name in PAIR_BASELINES or estimated)
    paired = trained or (guided and inputs.lowres is not None)
    place_images(scope, inputs, folder, paired=paired, guided=guided)
    if method is None:
        return
    if estimated and method.calibrated and inputs.calibration is not None:
        _place_calibration(scope, here, inputs, folder)
    source = learned_from(method, paired=inputs.guide is not None)
    scope.add(TRAINING[source], quiet=True, method=name)


_T = TypeVar("_T")


def is_several(what: object) -> TypeGuard[Sequence[ImageLike]]:
    """Whether something is given run by run: a list or a tuple.

    True for a list or a tuple, also an empty one.
    """
    return isinstance(what, (list, tuple))


def each_run(
    runs: Sequence[_T], values: Mapping[str, object]
) -> Iterator[tuple[_T, dict[str, object]]]:
    """Every run with its own arguments.

    `values`: arguments by name; a list has one for each run, anything else holds for all.
    """
    if not runs:
        raise ImageInputError("the list of runs is empty; expected one image or path per run")
    for name, value in values.items():
        if is_several(value) and len(value) != len(runs):
            raise ImageInputError(
                f"{name}: {len(value)} value(s) were passed for {len(runs)} runs. Pass a list "
                "with one value per run."
            )
    for k, run in enumerate(runs):
        yield (
            run,
            {name: value[k] if is_several(value) else value for name, value in values.items()},
        )


def of_one_run(values: Mapping[str, object]) -> None:
    """ImageInputError where one of the arguments of a single run is a list."""
    for name, value in values.items():
        if is_several(value):
            raise ImageInputError(
                f"{name}: a list was passed, but there is only a single run. Pass a list of "
                f"runs, or a single value of {name}."
            )


def in_lists(fitted: Sequence[object], names: Sequence[str]) -> dict[str, list[object]]:
    """Fitted attributes of the estimators of several runs, each as a list."""
    return {name: [getattr(each, name) for each in fitted] for name in names}


def notes(what: str, verbose: int) -> Callable[[str], object]:
    """What prints the next piece of work, with the seconds so far, where `verbose` asks for it.

    `what`: name of the estimator and its method, in brackets before each line.
    """
    if not verbose:
        return str
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{what}] {time.monotonic() - began:.0f} s: {text}\n")
        sys.stdout.flush()

    return say
