"""Linear model of a run before processing: options, number of volumes, and task blocks."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bids_sr.config import Settings
from bids_sr.io.arrays import Float
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.notices import InvalidInput, Notice
from bids_sr.survey.bids.headers import READ_ERRORS
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.notices import Choice, note, problem

if TYPE_CHECKING:
    import pandas as pd

    from bids_sr.glm.design import DesignSettings
    from bids_sr.glm.hemodynamic_response import HemodynamicResponse
    from bids_sr.glm.regressors import Events
    from bids_sr.preproc.temporal_regressors import TimeModel

# s; a shorter half does not contain half a period of the fastest of the slow fluctuations (.1 Hz)
_MIN_HALF_AT_REST_S = 5.0
# number of initial volumes that may be detected as non-steady-state in runs at rest
_MAX_NONSTEADY_AT_REST = 10


def choose_split(run: BoldRun, events: "Events", settings: Settings) -> Choice[bool]:
    """Choose whether a task run is split into halves, which takes blocks of a condition in each.

    `events` are the modeled events. Notes name conditions without such blocks.
    """
    from bids_sr.glm.blocks import UsedVolumes, count_used_blocks, fewer_units, find_units
    from bids_sr.glm.design import find_uncensored_volumes

    times = list_volume_times(run, settings)
    volumes = UsedVolumes(
        times=times,
        tr=run.tr,
        n_dummy=0,
        uncensored=find_uncensored_volumes(None, (), len(times)),
        hrf=hemodynamic_response(settings),
    )
    table = str(run.events)
    units, notices = find_units(events, volumes), []
    n_modeled = sum(unit.share > 0 for unit in units)
    max_units = _find_block_limit(run, n_modeled, settings)
    if n_modeled > max_units:
        text = f"{run.n_volumes} volumes are not enough to estimate {n_modeled} blocks separately"
        limit = fewer_units(events, volumes, max_units)
        if limit is None:
            return _decline_split(note(table, f"{text}. Split-half analysis is skipped."))
        notices.append(
            note(
                table,
                f"{text}. Split halves are composed of groups of consecutive blocks instead.",
            )
        )
        units = find_units(events, volumes, limit)
    choice = _choose_by_blocks(count_used_blocks(units), table)
    return Choice(value=choice.value, notices=(*notices, *choice.notices))


def _decline_split(reason: Notice) -> Choice[bool]:
    """Return the choice not to split a run."""
    return Choice(value=False, notices=(reason,))


def choose_split_at_rest(run: BoldRun, n_seeds: int, settings: Settings) -> Choice[bool]:
    """Choose whether a run without events is split into halves, with a note if not."""
    from bids_sr.glm.seeds import MIN_SEGMENTS, segment_count

    max_dummies = max(settings.preprocessing.dummy_scans or 0, _MAX_NONSTEADY_AT_REST)
    if not segment_count(run.n_volumes - max_dummies, n_seeds, run.tr):
        return _decline_split(
            note(run.bold, "split-half analysis is skipped because the run is too short.")
        )
    if MIN_SEGMENTS * n_seeds > _count_allowed_blocks(run, settings, count_dummies(run, settings)):
        return _decline_split(
            note(
                run.bold,
                f"split-half analysis is skipped because {run.n_volumes} volumes are not enough"
                f" for {n_seeds} seeds and the requested temporal filters.",
            )
        )
    return Choice(value=True)


def list_volume_times(run: BoldRun, settings: Settings) -> Float:
    """Return the times of the volumes in the design (s), without dummies of ``--dummy-scans``."""
    from bids_sr.glm.design import frame_times

    start_time = run.start_time(settings.preprocessing.slice_time_ref)
    times = frame_times(run.n_volumes, run.tr, start_time=start_time)
    return times[settings.preprocessing.dummy_scans or 0 :]


def design_settings(run: BoldRun, settings: Settings) -> "DesignSettings":
    """Return the options of the design of a run's linear models."""
    from bids_sr.glm.design import DesignSettings

    return DesignSettings(
        high_pass=settings.activation.cosine_cutoff,
        start_time=run.start_time(settings.preprocessing.slice_time_ref),
        hrf=hemodynamic_response(settings),
    )


def hemodynamic_response(settings: Settings) -> "HemodynamicResponse":
    """Return the response to events in all models."""
    from bids_sr.glm.hemodynamic_response import HemodynamicResponse

    return HemodynamicResponse(hrf_model=settings.activation.hrf_model)


def _find_block_limit(run: BoldRun, n_blocks: int, settings: Settings) -> int:
    """Return a number of blocks that can be estimated; exact if it is below `n_blocks`.

    Volumes are only read to count non-steady-state volumes if their number can matter.
    """
    from bids_sr.preproc.nonsteady import limit_nonsteady

    dummies = settings.preprocessing.dummy_scans or 0
    safe_limit = _count_allowed_blocks(run, settings, dummies) - limit_nonsteady(run.tr)
    if n_blocks <= safe_limit:
        return safe_limit
    return _count_allowed_blocks(run, settings, count_dummies(run, settings))


def _count_allowed_blocks(run: BoldRun, settings: Settings, dummies: int) -> int:
    """Return the number of blocks that the degrees of freedom of a run allow.

    Motion, drift and temporal model are included, and one degree of freedom is left for residuals.
    """
    from bids_sr.preproc.temporal_regressors import column_count

    rows, columns = _count_rows_and_columns(run, dummies, len(MOTION_REGRESSORS), settings)
    if settings.activation.models_time:
        columns += column_count(rows, run.tr, time_model(settings, with_censoring=False))
    return rows - columns - 1


def _choose_by_blocks(counts: Mapping[str, int], table: str) -> Choice[bool]:
    """Choose a split if any condition has a block for each half; a note names other conditions.

    `counts` are the numbers of blocks by condition of the events table `table`.
    """
    from bids_sr.glm.blocks import MIN_BLOCKS, describe_counts
    from bids_sr.glm.contrasts import ALL, name_without_types

    too_few = {name: count for name, count in counts.items() if count < MIN_BLOCKS}
    if not too_few:
        return Choice(value=True)
    text = (
        "split-half analysis requires at least two blocks per condition within the run, or two"
        " groups of blocks if conditions share them"
    )
    if len(too_few) == len(counts):
        text += (
            f", but no condition has two ({describe_counts(too_few)}). Split-half analysis is"
            " skipped."
        )
        return _decline_split(note(table, text))
    name = name_without_types(ALL, [next(iter(too_few))])
    consequence = (
        f"tested without them, under names such as {name}"
        if len(counts) - len(too_few) > 1
        else "not tested"
    )
    text += (
        f". Conditions with fewer blocks are excluded ({describe_counts(too_few)}), and"
        f" contrasts that contain them are {consequence}."
    )
    return Choice(value=True, notices=(note(table, text),))


def too_few_volumes(
    run: BoldRun, n_regressors: int, motion: "pd.DataFrame | None", settings: Settings
) -> Iterator[Notice]:
    """Reject a run without enough volumes for its linear model.

    The model consists of regressors (`n_regressors`: trial types with their derivatives, or seeds,
    and confounds), drift and mean. It is also fitted to runs without events, to remove
    confounds before connectivity is computed, and these runs must last long enough for slow
    fluctuations. `motion` is head motion that another program estimated.
    """
    from bids_sr.preproc.nonsteady import limit_nonsteady

    dummies = settings.preprocessing.dummy_scans or 0
    rows, columns = _count_rows_and_columns(run, dummies, n_regressors, settings)
    if rows - limit_nonsteady(run.tr) <= columns:
        dummies = count_dummies(run, settings)
        rows, columns = _count_rows_and_columns(run, dummies, n_regressors, settings)
    if settings.activation.models_time:
        yield from _too_few_uncensored_volumes(run, columns, rows, motion, settings)
        return
    n_needed = columns + 1 if run.events is None or "glm" in settings.activation.kinds else 3
    length = f"{run.n_volumes} volumes" + (f" minus {dummies} dummy volumes" if dummies else "")
    reason = ""
    if rows < n_needed:
        reason = (
            f"the linear model has {columns} regressors and requires at least {n_needed} volumes,"
            f" but the run has {length}"
        )
    elif run.events is None and rows // 2 * run.tr < _MIN_HALF_AT_REST_S - 1e-6:
        reason = (
            f"a run without events must last at least {2 * _MIN_HALF_AT_REST_S:g} s, but the run"
            f" has {length} at a TR of {run.tr:g} s"
        )
    if reason:
        yield problem(
            run.bold,
            reason,
            "Exclude the run (--task-id, --run-id), or remove fewer volumes with --dummy-scans.",
        )


def _count_rows_and_columns(
    run: BoldRun, dummies: int, n_regressors: int, settings: Settings
) -> tuple[int, int]:
    """Return rows and columns (regressors, drift and mean) of a run's linear model."""
    rows = run.n_volumes - dummies
    drift = math.floor(2 * rows * run.tr * settings.activation.cosine_cutoff)
    return rows, n_regressors + drift + 1


def count_dummies(run: BoldRun, settings: Settings) -> int:
    """Return the number of dummy volumes that will be removed from a run.

    If neither an option nor another program states it, the first volumes are read. If they cannot
    be read, 0 is returned, and the voxel checks report the problem.
    """
    n_dummy = settings.preprocessing.dummy_scans
    if n_dummy is None and run.precomputed is not None:
        n_dummy = run.precomputed.n_dummy
    if n_dummy is not None:
        return n_dummy
    from bids_sr.preproc.nonsteady import count_nonsteady_volumes

    try:
        return count_nonsteady_volumes(run.bold)
    except READ_ERRORS:
        return 0


def _too_few_uncensored_volumes(
    run: BoldRun, columns: int, rows: int, motion: "pd.DataFrame | None", settings: Settings
) -> Iterator[Notice]:
    """Reject a run without enough volumes after censoring and filtering, as far as known.

    Censored volumes are only known if another program estimated head motion; otherwise,
    `bids_sr.preproc.steps.temporal_model.add_temporal_regressors` stops the run after motion
    estimation.

    `columns` counts the regressors without the temporal model, `rows` the volumes without dummies.
    """
    from bids_sr.preproc.temporal_regressors import (
        LEAST_AT_REST_S,
        check_volumes,
        column_count,
        select_censored_volumes,
    )

    model = time_model(settings)
    n_remaining = rows
    if motion is not None and model.censors:
        is_censored = select_censored_volumes(motion, model)
        n_remaining -= int(is_censored[run.n_volumes - rows :].sum())
    all_columns = columns + column_count(rows, run.tr, model)
    try:
        min_seconds = LEAST_AT_REST_S if run.events is None else 0.0
        check_volumes(n_remaining, rows, all_columns, model, tr=run.tr, least_s=min_seconds)
    except InvalidInput as error:
        yield problem(run.bold, error.reason, error.remedy)


def time_model(settings: Settings, *, with_censoring: bool = True) -> "TimeModel":
    """Return the temporal model of all runs, with or without censoring by head motion."""
    from bids_sr.preproc.temporal_regressors import TimeModel

    activation = settings.activation
    limits = activation.censoring_limits if with_censoring else {}
    band = activation.band_pass
    return TimeModel(
        fd_censor=limits.get("fd"),
        enorm_censor=limits.get("enorm"),
        band_pass=(band[0], band[1]) if band else None,
        legendre=activation.legendre_order,
    )


def band_above_nyquist(run: BoldRun, settings: Settings) -> Iterator[Notice]:
    """Note a pass band that ends above the highest frequency of a run."""
    band, highest = settings.activation.band_pass, 0.5 / run.tr
    if band and band[1] > highest * (1 + 1e-9):
        yield note(
            run.bold,
            f"the upper limit of --band-pass ({band[1]:g} Hz) is above the Nyquist frequency of"
            f" the run ({highest:.3g} Hz at a TR of {run.tr:g} s), so no high frequencies are"
            " removed.",
        )
