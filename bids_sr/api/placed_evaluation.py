"""Baselines, series of other programs and references of a run, in the scope of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from bids_sr.api import evaluation_inputs as given_as
from bids_sr.api.image_inputs import ImageInputError, ImageLike, mask_on, series_file, told_tr
from bids_sr.api.model_fitting import PLAIN, place_images, refuse_without_guide
from bids_sr.api.placed_run import Given
from bids_sr.config.seed_options import Seed
from bids_sr.glm.design import Seeds
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.pipeline.graph import Maker, Scope
from bids_sr.pipeline.run_here import RunHere
from bids_sr.registration.compared_frame import ComparedError
from bids_sr.series import MEASURED, PAIR_BASELINES, RAW
from bids_sr.steps.activation import map_series
from bids_sr.steps.motion import motion_confounds
from bids_sr.steps.seed_regressors import seed_series
from bids_sr.steps.super_resolution import place_measured, super_resolve
from bids_sr.workflows.acquired_runs import add_another_run
from bids_sr.workflows.compare import place_compared
from bids_sr.workflows.judge import add_other_rows, add_split_halves, add_truth
from bids_sr.workflows.run import NO_GUIDE
from bids_sr.workflows.wanted import TRAINING

_T_MAP: dict[str, Any] = {
    "smoothing": (0.0,),
    "kinds": ("glm",),
    "thresholds": (),
    "low_pass": None,
}
"""Settings of the map of the acquired series, which tells where the run is active."""


def place_design(
    scope: Scope, here: RunHere, given: Given, brain: Volume, folder: Path, radius_mm: float
) -> None:
    """Return events or seeds, confounds and region of interest of a run.

    `brain`: voxels of the brain on the high-resolution grid (3D, boolean).
    """
    if given.roi is None:
        scope.alias["roi_hr"] = "bold_mask_hr"
    else:
        scope.give(roi_hr=mask_on(given.roi, brain, folder, "roi"))
    if given.confounds is not None:
        scope.give(known_confounds=given.confounds)
    scope.add(motion_confounds)
    if given.seeds is None:
        scope.give(regressors=given_as.events_of(given.events))
        return
    seeds = []
    for name, center in given.seeds.items():
        x, y, z = map(float, center)
        seeds.append(Seed(name, (x, y, z), radius_mm))
    scope.add(seed_series, quiet=True, seeds=seeds)
    try:
        (found,) = here.load(scope["regressors"])
        left = {*given.seeds} - {*cast("Seeds", found).conditions}
    except ValueError:
        left = {*given.seeds}
    for name in left:
        raise ImageInputError(
            f"seeds: {name} at {tuple(given.seeds[name])}: no voxel of the brain lies near it;"
            " give scanner coordinates (RAS mm)"
        )


def series_scope(scope: Scope, name: str) -> Scope:
    """A scope of a series on the high-resolution grid."""
    return scope.within(name, alias={"mask": "bold_mask_hr"}, series_name=name)


def place_baselines(
    scope: Scope, names: Sequence[str], given: Given, folder: Path
) -> dict[str, Scope]:
    """Return baselines of the run; the guide is registered once.

    `ImageInputError`: one of them needs a guide, and none is given.
    """
    for name in names:
        refuse_without_guide(name, None, given)
    guided = given.guide is not None
    detailed = [n for n in names if guided and (n in PAIR_BASELINES or n not in PLAIN)]
    paired = bool(detailed) and given.lowres is not None
    place_images(scope, given, folder, paired=paired, guided=bool(detailed))
    made = {}
    for name in names:
        own = made[name] = series_scope(scope, name)
        if name not in PLAIN:
            how = TRAINING["run"]
            own.add(how, quiet=True, method=name, recipe="fast", model_source="train")
        own.add(super_resolve, wires={} if name in detailed else NO_GUIDE, quiet=True)
    return made


def place_other(scope: Scope, here: RunHere, name: str, image: ImageLike, folder: Path) -> Scope:
    """Bring a series of another program to the grid of the run."""
    file = series_file(image, folder, name, allow_nan=True)
    own = place_compared(scope, name, file, AS_STORED, correct=False)
    try:
        here.load(own["compared_facts"])
    except ComparedError as error:
        raise ImageInputError(f"compared: {name}: {error}") from None
    return own


def place_comparisons(
    scope: Scope,
    series: dict[str, Scope],
    given: Given,
    brain: Volume,
    compared: Sequence[str],
    folder: Path,
) -> list[Maker]:
    """Place references of a run and what compares its series with them; makers of the rows.

    `series`: scopes of all that is compared; the measured one is added. `brain`: voxels of the
    brain on the high-resolution grid (3D, boolean). Steps that make the tables of rows; empty
    where there is no reference.
    """
    known = {
        name: given_as.covering(brain, image, folder, name) for name, image in given.known.items()
    }
    if known:
        scope.give(truth_maps=known)
    if given.measured is not None:
        own = series[MEASURED] = series_scope(scope, MEASURED)
        own.give(stc=series_file(given.measured, folder, "truth"))
        own.add(place_measured, quiet=True)
        raw = scope.within(
            "raw", _T_MAP, alias={"mask": "bold_mask", "roi": "bold_mask"}, series_name=RAW
        )
        raw.give(series=scope["preproc"])
        raw.add(map_series, quiet=True)
    tables = add_split_halves(scope, series, compared)
    tables += add_truth(scope, [*series], has_known=bool(known), with_models=True, split=True)
    if compared and given.other_run is not None and given.other_events is not None:
        file = series_file(given.other_run, folder, "other_run")
        with SeriesReader(file) as reader:
            tr = told_tr(reader.header) or scope.setting("tr")
        other = scope.within(
            "another_run", axis_order=AS_STORED, tr=tr, slice_times=None, dummy_scans=None
        )
        add_another_run(other, file, given_as.events_of(given.other_events), correct=False)
        tables += add_other_rows(scope, compared)
    return tables
