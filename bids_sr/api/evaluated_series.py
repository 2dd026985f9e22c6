"""Baselines, series of other programs, another run and metric rows that `Evaluator` computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from bids_sr.api import evaluation_inputs as given_as
from bids_sr.api.evaluation_inputs import Inputs
from bids_sr.api.fitted_run import PLAIN
from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    PreparedRun,
    Say,
    checked_series,
    mask_on,
    series_file,
    slices_last,
    told_tr,
)
from bids_sr.api.model_fitting import Given, place_images, refuse_without_guide
from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, misfits
from bids_sr.io.nifti import ImageError, SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.notices import UsageError
from bids_sr.pipeline.graph import Scope
from bids_sr.pipeline.run_here import RunHere
from bids_sr.registration.compared_frame import ComparedError, checked, refuse_other_nan
from bids_sr.series import MEASURED, PAIR_BASELINES
from bids_sr.spatial.transforms import hr_grid
from bids_sr.stats.glm.blocks import TooFewBlocks, block_design
from bids_sr.stats.glm.confounds import motion_columns, motion_table
from bids_sr.stats.glm.contrasts import resolve_contrasts
from bids_sr.stats.glm.regressors import DesignError, Regressors
from bids_sr.steps.evaluation import widths_of
from bids_sr.steps.super_resolution import place_measured, super_resolve, undo_motion
from bids_sr.steps.training import estimate_variance
from bids_sr.workflows.compare import add_another_run, place_compared
from bids_sr.workflows.judge import add_other_rows, add_split_halves, add_truth
from bids_sr.workflows.run import NO_GUIDE

Factor = tuple[float, float, float]


@frozen
class Model:
    """How effects are modeled and intervals drawn; see `bids_sr.Evaluator`."""

    factor: Factor
    tr: float
    contrasts: Sequence[str]
    high_pass: float
    slice_time_ref: float
    slice_timing_corrected: bool
    n_boot: int
    random_state: int
    n_jobs: int


_BASELINES = {"data_consistency": "off", "precision": "fp32", "force": False, "device": "cpu"}
"""Settings of the step that makes series, for baselines."""


class JudgedRun:
    """A run while its series are judged: what is known of it, by the names of the program's steps.

    Parameters
    ----------
    acquired : series, not compressed
    brain : on the high-resolution grid
    compared : names of the series of other programs
    folder : for what is made on the way
    """

    def __init__(
        self,
        acquired: Path,
        run: PreparedRun,
        brain: Volume,
        given: Inputs,
        regressors: Regressors,
        how: Model,
        compared: Sequence[str],
        folder: Path,
    ) -> None:
        self.contrasts: dict[str, Mapping[str, float]] = dict(
            resolve_contrasts(regressors.conditions, how.contrasts)
        )
        self._known = given_as.truths_on(brain, given.known, self.contrasts, folder)
        self._scope = Scope(
            "run",
            {
                "tr": how.tr,
                "factor": how.factor,
                "high_pass": how.high_pass,
                "slice_time_ref": how.slice_time_ref,
                "has_stc": how.slice_timing_corrected,
                "n_boot": how.n_boot,
                "random_seed": how.random_state,
                "n_dummy": run.n_dummy,
                "contrasts": self.contrasts,
                "compared_names": list(compared),
                "at_rest": given.seeds is not None,
                "omp_nthreads": how.n_jobs,
                **_BASELINES,
            },
        )
        confounds = given.confounds
        if confounds is None:
            confounds = pd.DataFrame(
                motion_columns(motion_table(run.params, np.full(len(run.params), np.nan)))
            )
        self._scope.give(
            bold=acquired,
            stc=acquired,
            boldref=run.boldref,
            bold_mask=run.brain,
            hmc_xfms=run.poses,
            bold_mask_hr=brain,
            regressors=regressors,
            confounds=confounds,
            roi_hr=brain if given.roi is None else mask_on(given.roi, brain, folder, "roi"),
        )
        if self._known:
            self._scope.give(truth_maps=self._known)
        self._given, self._compared, self._folder = given, compared, folder
        self._here = RunHere(self._scope, folder)
        self._series: dict[str, Scope] = {}

    def add_baselines(self, names: Sequence[str], guide: Given) -> None:
        """Baselines are made of the run; the guide is registered once.

        Raises
        ------
        ImageInputError : one of them needs a guide, and none is given
        """
        for name in names:
            refuse_without_guide(name, None, guide)
        has_guide, images = guide.guide is not None, self._folder / "guide"
        detailed = [
            name for name in names if has_guide and (name in PAIR_BASELINES or name not in PLAIN)
        ]
        images.mkdir()  # a series may be called as an image is
        paired = bool(detailed) and guide.lowres is not None
        place_images(self._scope, guide, images, paired=paired, guided=bool(detailed))
        self._scope.add(undo_motion, quiet=True)
        for name in names:
            own = self._of(name)
            if name not in PLAIN:
                own.add(
                    estimate_variance, quiet=True, method=name, recipe="fast", model_source="train"
                )
            own.add(super_resolve, wires={} if name in detailed else NO_GUIDE, quiet=True)

    def place(self, name: str, image: ImageLike) -> Mapping[str, object]:
        """Bring a series of another program to the grid of the run.

        Returns
        -------
        What was found of where it lies

        Raises
        ------
        ImageInputError : its frame is none of the run
        """
        file = series_file(image, self._folder, name, allow_nan=True)
        own = self._series[name] = place_compared(
            self._scope, name, file, AS_STORED, correct=False
        )
        try:
            (facts,) = self._here.load(own["compared_facts"])
        except ComparedError as error:
            raise ImageInputError(f"compared: {name}: {error}") from None
        return cast("Mapping[str, object]", facts)

    def add(self, name: str, file: Path) -> None:
        """A series on the high-resolution grid."""
        self._of(name).give(series=file)

    def _of(self, name: str) -> Scope:
        own = self._series[name] = self._scope.within(
            name, alias={"mask": "bold_mask_hr"}, series_name=name
        )
        return own

    def measure(self, say: Say) -> tuple[list[MetricRow], dict[str, float]]:
        """Return the metric rows of all series and the smoothing per compared series.

        The smoothing (mm) brings the run to the resolution of each series of another program.
        """
        scope, given, compared = self._scope, self._given, self._compared
        if given.measured is not None:
            own = self._of(MEASURED)
            own.give(stc=series_file(given.measured, self._folder, "truth"))
            own.add(place_measured)
        tables = add_split_halves(scope, self._series, compared)
        tables += add_truth(
            scope, [*self._series], has_known=bool(self._known), with_models=True, split=True
        )
        if compared and given.other_run is not None and given.other_events is not None:
            say("another run")
            file = series_file(given.other_run, self._folder, "other_run")
            with SeriesReader(file) as reader:
                tr = told_tr(reader.header) or scope.setting("tr")
            other = scope.within(
                "another_run", axis_order=AS_STORED, tr=tr, slice_times=None, dummy_scans=None
            )
            add_another_run(other, file, given_as.events_of(given.other_events), correct=False)
            tables += add_other_rows(scope, compared)
        found = cast("list[list[MetricRow]]", self._here.load(*tables))
        widths = (
            cast("Mapping[str, object]", self._here.load(scope["same_widths"])[0])
            if compared
            else None
        )
        return [row for rows in found for row in rows], widths_of(widths)


def check_inputs(
    acquired: SeriesReader,
    compared: Mapping[str, ImageLike],
    given: Inputs,
    how: Model,
    folder: Path,
) -> None:
    """Hold all that is given for a run against the run, before any work.

    Raises
    ------
    ImageInputError : a file is missing, or times, grid, values or position are not those of the
        run; a line each
    """
    found = list[Exception]()

    def tried(check: Callable[..., object], *args: object) -> None:
        try:
            check(*args)
        except (
            ImageInputError,
            ImageError,
            ComparedError,
            UsageError,
            TooFewBlocks,
            DesignError,
        ) as error:
            found.append(error)

    if not how.tr > 0:
        told = "the header of the acquired series tells none, or one without a unit; give it, in s"
        found.append(ImageInputError(f"tr: {told}"))
    checked_series(acquired, "acquired")
    tried(_read, acquired)
    for name, image in compared.items():
        tried(_check_compared, name, image, acquired, how, folder)
    if given.events is not None:
        tried(_check_events, given, acquired.shape[3], how)
    if given.other_events is not None:
        tried(given_as.events_of, given.other_events)
    if given.mask is not None:
        tried(
            mask_on,
            given.mask,
            Volume(np.zeros(acquired.shape[:3], bool), acquired.affine),
            folder,
        )
    if given.other_run is not None:
        tried(_check_other_run, given.other_run, folder)
    for name, image in given.known.items():
        tried(series_file, image, folder, f"truth {name}")
    if given.measured is not None:
        tried(_check_truth, given.measured, acquired, how.factor, folder)
    if found:
        raise found[0] if len(found) == 1 else ImageInputError("\n".join(map(str, found)))


def _read(reader: SeriesReader) -> None:
    for _ in reader.volumes():  # which refuses NaN
        pass


def _check_other_run(image: ImageLike, folder: Path) -> None:
    with SeriesReader(series_file(image, folder, "other_run")) as reader:
        checked_series(reader, "other_run")
        slices_last(reader)
        _read(reader)


def _check_events(given: Inputs, n_volumes: int, how: Model) -> None:
    assert given.events is not None
    events = given_as.events_of(given.events)
    given_as.check_known(given.known, resolve_contrasts(events.conditions, how.contrasts))
    if how.tr > 0:
        block_design(events, n_volumes=n_volumes, tr=how.tr, high_pass=how.high_pass)


def _check_truth(truth: ImageLike, acquired: SeriesReader, factor: Factor, folder: Path) -> None:
    with SeriesReader(series_file(truth, folder, "truth")) as reader:
        finest, _ = hr_grid(acquired.shape[:3], acquired.affine, factor)
        given_as.check_measured(reader, acquired.shape, acquired.affine, finest)


def _check_compared(
    name: str, image: ImageLike, acquired: SeriesReader, how: Model, folder: Path
) -> None:
    with SeriesReader(series_file(image, folder, name, allow_nan=True), allow_nan=True) as reader:
        wrong = misfits(
            reader.shape,
            reader.affine,
            told_tr(reader.header),
            acquired.shape,
            acquired.affine,
            how.tr,
            how.factor,
        )
        problems = [f"{reason}. {fix}" for reason, fix in wrong]
        try:
            refuse_other_nan(reader.volumes())
            if not problems:
                checked(acquired, reader)
        except ComparedError as error:
            problems.append(str(error))
    if problems:
        raise ImageInputError("\n".join(f"compared: {name}: {each}" for each in problems))
