"""What `Evaluator` makes and measures of a run: baselines, series of other programs, another run, rows of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    mask_on,
    opened,
    prepare_run,
    told_tr,
)
from bids_sr.frozen import frozen
from bids_sr.io.grids import EDGE_TOLERANCE, corners_apart
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.registration.compared_frame import ComparedError
from bids_sr.series import ACQUIRED_BAND, MEASURED
from bids_sr.stats.glm.block_effects import save_effects
from bids_sr.stats.glm.confounds import motion_columns, motion_table
from bids_sr.stats.glm.contrasts import resolve_contrasts
from bids_sr.stats.glm.regressors import Regressors
from bids_sr.steps.compared.another_run import compare_with_other_run, measure_other_run
from bids_sr.steps.compared.comparing import match_resolution
from bids_sr.steps.compared.placing import align_compared, place_compared
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


def place(
    name: str, image: ImageLike, acquired: SeriesReader, run: PreparedRun, brain: Volume, factor: Factor, tr: float,
    folder: Path,
) -> PlacedSeries:  # fmt: skip
    """A series of another program, as `bids_sr.steps.compared.placing` brings it to the grid of the run.

    Raises
    ------
    ImageInputError : times or grid are not those of the run, or it is shifted, or of another run
    """
    here = folder / f"{name}_placed"
    here.mkdir()
    with opened(image, folder, name, any_order=True) as reader:
        _fits(name, reader, acquired, brain, tr)
        try:
            xfms, facts = align_compared(reader, acquired, run.boldref, run.brain, run.poses, series_name=name)
        except ComparedError as error:
            raise ImageInputError(f"compared: {name}: {error}") from None
        placed = place_compared(reader, acquired, brain, xfms, facts, here=here, factor=factor, series_name=name)
        placed.close()
    return PlacedSeries(path=placed.path, facts=facts)


def _fits(name: str, reader: SeriesReader, acquired: SeriesReader, brain: Volume, tr: float) -> None:
    count, total, shape = reader.shape[3], acquired.shape[3], reader.shape[:3]
    if count != total:
        raise ImageInputError(f"compared: {name} has {count} volumes, the acquired series {total}; give all of them")
    if (own := told_tr(reader.header)) and abs(own - tr) > 1e-3:
        raise ImageInputError(f"compared: {name} has a repetition time of {own:g} s, the acquired series {tr:g} s")
    if any(not low <= n <= high for low, n, high in zip(acquired.shape, shape, brain.data.shape, strict=False)):
        grids = f"{acquired.shape[:3]} as acquired to {brain.data.shape} at the high resolution"
        raise ImageInputError(f"compared: the matrix of {name} is {shape}, and {grids} can be compared")
    apart = corners_apart(shape, reader.affine, acquired.shape[:3], acquired.affine)
    if apart > EDGE_TOLERANCE * min(reader.zooms):
        raise ImageInputError(
            f"compared: the field of view of {name} lies up to {apart:.3g} mm from that of the acquired series: "
            "shifted, cropped, or in another space; give it in the space of the run"
        )


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
    files: Mapping[str, Path], compared: Sequence[str], given: Inputs, run: PreparedRun, brain: Volume,
    regressors: Regressors, how: Model, folder: Path, say: Say,
) -> Measured:  # fmt: skip
    """Rows of all series of a run, by the steps of the program."""
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
                one, brain, regressors, folder, confounds, series_name=name, tr=how.tr, n_dummy=run.n_dummy,
                active_by=MEASURED if MEASURED in judged else "bspline", high_pass=how.high_pass,
                slice_time_ref=how.slice_time_ref, has_stc=how.slice_timing_corrected,
            )  # fmt: skip
            effects[name] = save_effects(found, folder / f"{name}_effects.npz")
        widths = match_resolution(
            series, brain, factor=how.factor, n_dummy=run.n_dummy, compared_names=compared
        ) if compared else {}  # fmt: skip
        same: dict[str, object] = {"same_widths": widths, "contrasts": contrasts, "factor": how.factor, **drawn}
        rows, _ = compare_halves(effects, brain, region, folder, **same)  # type: ignore[arg-type]
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
