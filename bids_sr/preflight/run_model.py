"""Linear model of each run before any work: contrasts, estimability, and halves of blocks."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.bids import BoldRun, Findings
from bids_sr.bids.entities import entities_of, stem_of_echoes
from bids_sr.bids.headers import READ_ERRORS
from bids_sr.config import Settings
from bids_sr.glm.contrasts import Contrast, Contrasts, resolve_contrasts
from bids_sr.notices import UsageError
from bids_sr.preflight.rough_model import rough_courses, surely_estimable

if TYPE_CHECKING:
    import pandas as pd

# s; a shorter half of a run holds no half period of the fastest of slow fluctuations, .1 Hz
_HALF_AT_REST = 5.0
MOTION_REGRESSORS = 12  # six parameters and their derivatives
_MOST_VOLUMES = 5000  # beyond, building the model takes longer than all other checks
_MOST_UNSTEADY = 25  # volumes that can be found not to be steady, at most
_MOST_DUMMIES = 10  # volumes that may turn out not to be in the steady state
_UNSURE = 0.1  # of a share, by which the rough response may be wrong
_NEEDED = 2  # blocks of a condition: one for each half


def dummies_of(run: BoldRun, settings: Settings) -> int:
    """Return the number of volumes of a run that are not in the steady state, as it will be used.

    If neither an option nor another program states it, the first volumes are read. 0 if they
    cannot be read, which the check of all voxels reports.
    """
    given = settings.preprocessing.dummy_scans
    if given is None and run.precomputed is not None:
        given = run.precomputed.n_dummy
    if given is not None:
        return given
    if run.echoes:  # echoes are combined before volumes are counted
        return 0
    from bids_sr.glm.nonsteady import nonsteady_at_start

    try:
        return nonsteady_at_start(run.bold)
    except READ_ERRORS:
        return 0


def is_long_enough(
    run: BoldRun,
    n_types: int,
    settings: Settings,
    findings: Findings,
    *,
    n_confounds: int = MOTION_REGRESSORS,
) -> bool:
    """Return whether a run has enough volumes for its own model.

    The model consists of trial types or seeds, confounds, drift and the mean.

    Without events the seeds are cleared of that model whatever maps are made, and slow
    fluctuations are mapped too.
    """
    dummies = settings.preprocessing.dummy_scans or 0
    rows, columns = _size_of_model(run, dummies, n_types + n_confounds, settings)
    if rows - _MOST_UNSTEADY <= columns:
        dummies = dummies_of(run, settings)
        rows, columns = _size_of_model(run, dummies, n_types + n_confounds, settings)
    if settings.activation.models_time:
        return _is_long_enough_for_time_model(run, columns, rows, settings, findings)
    needed = columns + 1 if run.events is None or "glm" in settings.activation.kinds else 3
    what = f"{run.n_volumes} volumes" + (f" minus {dummies} dummy volumes" if dummies else "")
    reason = ""
    if rows < needed:
        reason = (
            f"the linear model has {columns} regressors and requires at least {needed} volumes,"
            f" but the run has {what}"
        )
    elif run.events is None and rows // 2 * run.tr < _HALF_AT_REST - 1e-6:
        reason = (
            f"a run without events must last at least {2 * _HALF_AT_REST:g} s, but the run has"
            f" {what} at a TR of {run.tr:g} s"
        )
    if reason:
        findings.refuse(
            run.bold,
            reason,
            "Exclude the run (--task-id, --run-id), or remove fewer volumes with --dummy-scans.",
        )
    return not reason


def _size_of_model(
    run: BoldRun, dummies: int, n_regressors: int, settings: Settings
) -> tuple[int, int]:
    """Return the rows of a run's linear model, and its columns: regressors, drift and the mean."""
    rows = run.n_volumes - dummies
    drift = math.floor(2 * rows * run.tr * settings.activation.cosine_cutoff)
    return rows, n_regressors + drift + 1


def _is_long_enough_for_time_model(
    run: BoldRun, columns: int, rows: int, settings: Settings, findings: Findings
) -> bool:
    """Return whether censoring and filters leave a run enough volumes, as far as it is known.

    Censored volumes are known before the run only if head motion is taken over from another
    program; else `bids_sr.steps.motion.model_time` stops the run once motion has been estimated.

    `columns`: regressors besides those of the temporal model; `rows`: volumes less dummies.
    """
    from bids_sr.glm.confounds import MOTION
    from bids_sr.glm.imported_confounds import as_numbers
    from bids_sr.glm.time_columns import (
        LEAST_AT_REST_S,
        TooFewVolumes,
        censored_volumes,
        check_volumes,
        column_count,
        time_model,
    )
    from bids_sr.io.tables import read_frame

    how = settings.activation
    model = time_model(how.fd_censor, how.enorm_censor, how.band_pass, how.drift)
    kept = rows
    table = None if run.precomputed is None else run.precomputed.confounds
    if table is not None and model.censors:
        confounds = read_frame(table)
        if {*MOTION} <= set(confounds):
            kept -= int(
                censored_volumes(as_numbers(confounds)[0], model)[run.n_volumes - rows :].sum()
            )
    columns += column_count(rows, run.tr, model)
    try:
        least_s = LEAST_AT_REST_S if run.events is None else 0.0
        check_volumes(kept, rows, columns, model, tr=run.tr, least_s=least_s)
    except TooFewVolumes as error:
        findings.refuse(run.bold, error.reason, error.fix)
        return False
    return True


def contrasts_of_runs(
    types: Mapping[Path, Sequence[str]],
    requested: Sequence[str | tuple[str, Contrast]],
    findings: Findings,
) -> dict[Path, dict[str, Contrast]]:
    """Return contrasts of each run.

    A contrast asked for must fit one run at least; in runs that lack one of its trial types it is
    left out, which is said.

    `requested`: contrasts as the user wrote them, or name and weights as ``--model`` has them;
    empty: the default ones.
    """
    fitting: dict[Path, list[str | tuple[str, Contrast]]] = {path: [] for path in types}
    everything = tuple(dict.fromkeys(name for names in types.values() for name in names))
    unfit = not requested
    for text in requested:
        fits = 0
        where = f"--contrasts {text}" if isinstance(text, str) else f"--model, contrast {text[0]}"
        for path, names in types.items():
            with contextlib.suppress(UsageError):
                resolve_contrasts(names, [text])
                fitting[path].append(text)
                fits += 1
        if 0 < fits < len(types):
            findings.tell(
                where,
                f"the contrast is computed for {fits} of {len(types)} runs; the other runs lack"
                " at least one of its trial types.",
            )
        elif not fits:
            unfit = True
            try:
                resolved = resolve_contrasts(everything, [text])
            except UsageError as error:
                findings.refuse_option(where, error.notice.why, error.notice.remedy)
                continue
            names = ", ".join(name for weights in resolved.values() for name in weights)
            reason = f"no run contains all trial types of the contrast ({names})"
            findings.refuse_option(
                where,
                reason,
                "Use trial types that occur in the same run; contrasts are computed within runs.",
            )
    for path, texts in fitting.items():
        if not texts and not unfit:
            reason = (
                "none of the requested contrasts can be computed for this run, so the run would"
                " not have any activation maps"
            )
            with findings.about(entities_of(path).get("subject", ""), stem_of_echoes(path)):
                findings.refuse(
                    path, reason, "Exclude the run (--task-id, --run-id), or add a contrast."
                )
            unfit = True  # the first of them tells enough
    return {
        path: resolve_contrasts(types[path], texts) if texts or not requested else {}
        for path, texts in fitting.items()
    }


def is_estimable(
    run: BoldRun,
    contrasts: Contrasts,
    settings: Settings,
    findings: Findings,
) -> bool:
    """Return whether the linear model of a run is estimable, motion apart.

    The events table of the run has to be sound; a problem says why the model is not estimable.

    False with a problem; True where it is not tried.
    """
    if (
        "glm" not in settings.activation.kinds
        or run.n_volumes > _MOST_VOLUMES
        or run.events is None
    ):
        return True
    from bids_sr.glm.design import build_design, contrast_vector, frame_times
    from bids_sr.glm.regressors import DesignError, read_events

    events = read_events(run.events)
    dummies = settings.preprocessing.dummy_scans or 0
    high_pass = settings.activation.cosine_cutoff
    asked = {name for weights in contrasts.values() for name in weights}
    start_time = run.start_time(settings.preprocessing.slice_time_ref)
    times = frame_times(run.n_volumes, run.tr, start_time=start_time)[dummies:]
    how = settings.activation
    filtered = bool(how.band_pass or how.legendre_order)
    if not filtered and surely_estimable(events, asked, times, run.tr, high_pass):
        return True
    table = _filter_columns(run, dummies, settings) if filtered else None
    try:
        design = build_design(
            events,
            n_volumes=run.n_volumes,
            tr=run.tr,
            n_dummy=dummies,
            start_time=start_time,
            high_pass=high_pass,
            confounds=table,
            confound_names=() if table is None else tuple(map(str, table)),
        )
        for name, weights in contrasts.items():
            contrast_vector(design, name, weights)
    except DesignError as error:
        fix = "Check onsets and durations, or choose other contrasts with --contrasts."
        findings.refuse(
            run.events, f"the model cannot be estimated with this design matrix: {error}", fix
        )
        return False
    return True


def _filter_columns(run: BoldRun, dummies: int, settings: Settings) -> "pd.DataFrame":
    """Return the columns of a run's temporal model that do not depend on head motion."""
    import pandas as pd

    from bids_sr.glm.time_columns import time_columns, time_model

    how = settings.activation
    still = pd.DataFrame(index=range(run.n_volumes))
    model = time_model(None, None, how.band_pass, how.drift)
    return time_columns(still, model, tr=run.tr, n_dummy=dummies)[0]


def tell_nyquist(run: BoldRun, settings: Settings, findings: Findings) -> None:
    """Report a pass band that ends above the highest frequency of a run."""
    band, highest = settings.activation.band_pass, 0.5 / run.tr
    if band and band[1] > highest * (1 + 1e-9):
        findings.tell(
            run.bold,
            f"the upper limit of --band-pass ({band[1]:g} Hz) is above the Nyquist frequency of"
            f" the run ({highest:.3g} Hz at a TR of {run.tr:g} s), so no high frequencies are"
            " removed.",
        )


def can_be_split(
    run: BoldRun, settings: Settings, findings: Findings, *, n_seeds: int = 0
) -> bool:
    """Return whether any condition of a run has blocks for two halves.

    The events table of the run has to be sound; conditions without such blocks are reported.
    """
    dummies = settings.preprocessing.dummy_scans or 0
    if run.events is None:
        return _has_segments(run, settings, findings, max(dummies, _MOST_DUMMIES), n_seeds)
    from bids_sr.glm.blocks import MIN_SHARE, fewer_units, find_blocks, response_shares
    from bids_sr.glm.design import frame_times
    from bids_sr.glm.regressors import read_events

    events = read_events(run.events)
    blocks = find_blocks(events)
    start_time = run.start_time(settings.preprocessing.slice_time_ref)
    times = frame_times(run.n_volumes, run.tr, start_time=start_time)[dummies:]
    counts = dict.fromkeys((block.condition for block in blocks), 0)
    shares = response_shares(blocks, times, run.tr, rough_courses)
    if any(abs(share - MIN_SHARE) < _UNSURE for share in shares):
        shares = response_shares(blocks, times, run.tr)
    modeled = sum(share > 0 for share in shares)
    if modeled > _room_for_blocks(run, settings, dummies) - _MOST_UNSTEADY:
        room = _room_for_blocks(run, settings, dummies_of(run, settings))
        if modeled > room:
            most = fewer_units(events, run.tr, dummies, room)
            text = (
                f"{run.n_volumes} volumes are not enough to estimate {modeled} blocks separately"
            )
            if most is None:
                findings.tell(run.events, f"{text}. Split-half analysis is skipped.")
                return False
            findings.tell(
                run.events,
                f"{text}. Split halves are composed of groups of consecutive blocks instead.",
            )
            blocks = find_blocks(events, most)
            shares = response_shares(blocks, times, run.tr)
    for block, share in zip(blocks, shares, strict=True):
        counts[block.condition] += share >= MIN_SHARE
    few = [
        f"{name} ({count} block{'s' * (count != 1)})"
        for name, count in counts.items()
        if count < _NEEDED
    ]
    if few and len(few) < len(counts):
        findings.tell(
            run.events,
            "split-half analysis requires at least two blocks per condition within the run and"
            f" excludes these conditions: {', '.join(few)}.",
        )
    elif few:
        what = (
            "split-half analysis requires at least two blocks per condition within the run, but"
            f" no condition has two: {', '.join(few)}"
        )
        findings.tell(run.events, f"{what}. Split-half analysis is skipped.")
    return not few or len(few) < len(counts)


def _has_segments(
    run: BoldRun, settings: Settings, findings: Findings, dummies: int, n_seeds: int
) -> bool:
    """Return whether a run without events has segments for two halves; a note says if not."""
    from bids_sr.glm.seeds import LEAST_SEGMENTS, segment_count

    reason = ""
    if not segment_count(run.n_volumes - dummies, n_seeds, run.tr):
        reason = "split-half analysis is skipped because the run is too short."
    elif LEAST_SEGMENTS * n_seeds > _room_for_blocks(run, settings, dummies_of(run, settings)):
        reason = (
            f"split-half analysis is skipped because {run.n_volumes} volumes are not enough for"
            f" {n_seeds} seeds and the requested temporal filters."
        )
    if reason:
        findings.tell(run.bold, reason)
    return not reason


def _room_for_blocks(run: BoldRun, settings: Settings, dummies: int) -> int:
    """Return how many blocks a run has room for beside motion, drift and the temporal model.

    One degree of freedom is left for residuals.
    """
    from bids_sr.glm.time_columns import column_count, time_model

    how = settings.activation
    rows, columns = _size_of_model(run, dummies, MOTION_REGRESSORS, settings)
    if how.models_time:
        columns += column_count(rows, run.tr, time_model(None, None, how.band_pass, how.drift))
    return rows - columns - 1
