"""What `Evaluator` makes and measures of a run: baselines, series of other programs, another run, rows of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.api import evaluation_inputs as given_as
from bids_sr.api.evaluation_inputs import Inputs
from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    PreparedRun,
    Say,
    checked_series,
    mask_on,
    opened,
    prepare_run,
    series_file,
    told_tr,
)
from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import ImageError, SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.registration.compared_frame import ComparedError, checked, misfits, refuse_other_nan
from bids_sr.series import ACQUIRED_BAND, MEASURED
from bids_sr.spatial.transforms import hr_grid
from bids_sr.stats.glm.block_effects import save_effects
from bids_sr.stats.glm.blocks import TooFewBlocks, block_design
from bids_sr.stats.glm.confounds import motion_columns, motion_table
from bids_sr.stats.glm.contrasts import ContrastError, resolve_contrasts
from bids_sr.stats.glm.regressors import DesignError, Regressors
from bids_sr.steps.compared.another_run import compare_with_other_run, measure_other_run
from bids_sr.steps.compared.comparing import match_resolution
from bids_sr.steps.compared.placing import align_compared, import_compared, place_compared
from bids_sr.steps.evaluation import compare_halves, compare_images, compare_with_truth, measure_effects

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


@frozen
class Measured:
    """What was measured of a run."""

    rows: list[MetricRow]
    contrasts: dict[str, Mapping[str, float]]
    widths: Mapping[str, float]  # smoothing (mm) to the resolution of each series of another program


@frozen
class PlacedSeries:
    """A series of another program on the high-resolution grid."""

    path: Path
    facts: Mapping[str, object]
    mask: Volume  # brain in which it is judged


def place(
    name: str, image: ImageLike, acquired: SeriesReader, run: PreparedRun, brain: Volume, factor: Factor, tr: float,
    folder: Path,
) -> PlacedSeries:  # fmt: skip
    """A series of another program, as `bids_sr.steps.compared.placing` brings it to the grid of the run.

    Raises
    ------
    ImageInputError : its frame is none of the run
    """
    here = folder / f"{name}_placed"
    here.mkdir()
    file = series_file(image, folder, name, allow_nan=True)
    with import_compared(file, here, tr=tr, axis_order=AS_STORED) as reader:
        try:
            xfms, facts, there = align_compared(reader, acquired, run.boldref, run.brain, run.poses, series_name=name)
        except ComparedError as error:
            raise ImageInputError(f"compared: {name}: {error}") from None
        placed, mask = place_compared(
            reader, acquired, brain, run.poses, xfms, facts, there, here=here, factor=factor, series_name=name
        )
        placed.close()
    return PlacedSeries(path=placed.path, facts=facts, mask=mask)


def check_inputs(
    acquired: SeriesReader, compared: Mapping[str, ImageLike], given: Inputs, how: Model, folder: Path
) -> None:
    """Hold all that is given for a run against the run, before any work.

    Raises
    ------
    ImageInputError : a file is missing, or times, grid, values or position are not those of the run; a line each
    """
    found = list[Exception]()

    def tried(check: Callable[..., object], *args: object) -> None:
        try:
            check(*args)
        except (ImageInputError, ImageError, ComparedError, ContrastError, TooFewBlocks, DesignError) as error:
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
        tried(mask_on, given.mask, Volume(np.zeros(acquired.shape[:3], bool), acquired.affine), folder)
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
) -> None:  # fmt: skip
    with SeriesReader(series_file(image, folder, name, allow_nan=True), allow_nan=True) as reader:
        wrong = misfits(
            reader.shape, reader.affine, told_tr(reader.header), acquired.shape, acquired.affine, how.tr, how.factor
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


def other_effects(
    image: ImageLike, events: pd.DataFrame | str | Path, run: PreparedRun, brain: Volume, how: Model, folder: Path,
    say: Say,
) -> Path:  # fmt: skip
    """Effects of another acquired run of the task on the grid of this one.

    Raises
    ------
    ImageInputError : it cannot be read as a run
    """
    here = folder / "other_run"
    here.mkdir()
    with opened(image, here, "other_run", any_order=True) as reader:
        other = prepare_run(reader, here, say=say)
        motion = motion_table(other.params, np.full(len(other.params), np.nan))
        found = measure_other_run(
            reader, other.boldref, other.brain, other.poses, motion, given_as.events_of(events), run.boldref,
            run.brain, brain, here, factor=how.factor, tr=told_tr(reader.header) or how.tr, n_dummy=other.n_dummy,
            high_pass=how.high_pass, slice_time_ref=how.slice_time_ref, has_stc=how.slice_timing_corrected,
            random_seed=how.random_state,
        )  # fmt: skip
    return save_effects(found, here / "effects.npz")


def rows_of(
    files: Mapping[str, Path], compared: Mapping[str, Volume], given: Inputs, run: PreparedRun, brain: Volume,
    regressors: Regressors, how: Model, folder: Path, say: Say,
) -> Measured:  # fmt: skip
    """Rows of all series of a run, by the steps of the program; each compared one has a mask, where it is judged."""
    judged = dict(files)
    if given.measured is not None:
        judged[MEASURED] = given_as.measured_on(brain, given.measured, run, folder)
    region = brain if given.roi is None else mask_on(given.roi, brain, folder, "roi")
    contrasts: dict[str, Mapping[str, float]] = dict(resolve_contrasts(regressors.conditions, how.contrasts))
    known = given_as.truths_on(brain, given.known, contrasts, folder)
    confounds = given.confounds
    if confounds is None:
        confounds = pd.DataFrame(motion_columns(motion_table(run.params, np.full(len(run.params), np.nan))))
    drawn = {"n_boot": how.n_boot, "random_seed": how.random_state}
    effects: dict[str, Path] = {}
    with ExitStack() as stack:
        series = {name: stack.enter_context(SeriesReader(path)) for name, path in judged.items()}
        for name, one in series.items():
            found = measure_effects(
                one, compared.get(name, brain), regressors, folder, confounds, series_name=name, tr=how.tr,
                n_dummy=run.n_dummy, high_pass=how.high_pass, slice_time_ref=how.slice_time_ref,
                has_stc=how.slice_timing_corrected,
            )  # fmt: skip
            effects[name] = save_effects(found, folder / f"{name}_effects.npz")
        widths = match_resolution(
            series, effects, brain, factor=how.factor, n_dummy=run.n_dummy, compared_names=list(compared),
        ) if compared else {}  # fmt: skip
        same: dict[str, object] = {"same_widths": widths, "contrasts": contrasts, "factor": how.factor, **drawn}
        rows = list[MetricRow]()
        if MEASURED in judged:
            rows += compare_halves(effects, brain, region, **same)  # type: ignore[arg-type]
        if known or MEASURED in judged:
            rows += compare_with_truth(
                (), brain, region, effects, known, at_rest=given.seeds is not None, **same,  # type: ignore[arg-type]
            )  # fmt: skip
        if MEASURED in judged:
            rows += compare_images(series, brain, n_dummy=run.n_dummy, **drawn)
        if compared and given.other_run is not None and given.other_events is not None:
            say("another run")
            other = other_effects(given.other_run, given.other_events, run, brain, how, folder, say)
            among = {name: effects[name] for name in (*compared, ACQUIRED_BAND)}
            rows += compare_with_other_run(
                among, other, brain, region, same_widths=widths, contrasts=contrasts, factor=how.factor,
                n_boot=how.n_boot, random_seed=how.random_state,
            )  # fmt: skip
    return Measured(rows=rows, contrasts=contrasts, widths={name: float(str(mm)) for name, mm in widths.items()})
