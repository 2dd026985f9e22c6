"""Events tables of BOLD runs, contrasts, estimability of the run model, and block halves.

BIDS Stats Model of the run level, read by pybids: its contrasts and confounds.

The rest of the model is fixed here: every trial type convolved with SPM's response, drift and
mean, each run on its own. A model that asks for more is refused, and not fitted in part.

Nearly the model of a run: enough to see at once that it can be estimated.

The model itself is nilearn's, whose import takes longer than all other checks of a data set.
"""

import contextlib
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from fnmatch import filter as matching
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_sr.bids import BoldRun, Findings
from bids_sr.bids.headers import READ_ERRORS
from bids_sr.bids.inputs import entities_of, same_run, stem_of_echoes
from bids_sr.config import Settings
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import (
    ALL,
    ALL_TYPE,
    NO_TIME,
    UNNAMED,
    Contrast,
    Contrasts,
    camel,
    modeled_types,
    resolve_contrasts,
    seconds,
)
from bids_sr.io.atomic_files import read_text
from bids_sr.io.grids import Float
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.notices import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from bids_sr.glm.design import Events


_MIN_ONSET = -24.0  # s; the hemodynamic response of anything that ended before has faded
_ASTRAY_S = 3600.0  # so far from the run no event can lie that was meant for it
# share of events after the end of the run beyond which the table is not that of the run
_MOST_LATE = 0.5
_MOST_EVENTS = 50_000
# s; a shorter half of a run holds no half period of the fastest of slow fluctuations, .1 Hz
_HALF_AT_REST = 5.0
MOTION_REGRESSORS = 12  # six parameters and their derivatives
_MOST_VOLUMES = 5000  # beyond, building the model takes longer than all other checks
_MOST_UNSTEADY = 25  # volumes that can be found not to be steady, at most
_MOST_DUMMIES = 10  # volumes that may turn out not to be in the steady state
_UNSURE = 0.1  # of a share, by which the rough response may be wrong
_NEEDED = 2  # blocks of a condition: one for each half
_WHERE = (
    "Specify an events table with the columns onset and duration, and with the column trial_type"
    " if there are several conditions"
)

_IGNORE = (
    "Alternatively, analyze all runs as resting state (seed-based connectivity) with --ignore"
    " events."
)


@frozen
class _Row:
    line: int
    onset: float
    duration: float
    trial_type: str


def check_events(
    table: Path, bold: Path, duration: float | None, findings: Findings
) -> tuple[str, ...]:
    """Return the modeled trial types of a run in order of appearance; empty with a problem.

    `duration`: of the run (s), against which events are checked; None where it is not known.
    """
    misfits = Findings()
    rows = _read(table, misfits)
    types = modeled_types(row.trial_type for row in rows)
    if ALL in types and len(types) > 1:
        misfits.tell(
            table,
            f"the trial type {ALL!r} is mapped as contrast {ALL_TYPE}, because contrast {ALL} is"
            " the mean of all trial types.",
        )
    if not misfits.problems and not types:
        reason = (
            "the events table contains no trial type to model: all rows are rest periods or lack"
            " an onset or duration"
        )
        misfits.refuse(table, reason, f"{_WHERE}.")
    if duration is not None:
        known = set(types)
        modeled = [row for row in rows if row.trial_type in known]
        types = _against_length(modeled, types, table, bold, duration, misfits)
    findings.add_all(misfits)
    return () if misfits.problems else types


def warn_of_alike_types(types: Mapping[Path, Sequence[str]], findings: Findings) -> None:
    """Warn of trial types, in one run or in several, whose names look or read alike.

    They differ in case, in spaces, in invisible characters, or in how Unicode composes an accent.

    `types`: modeled trial types by BOLD file.
    """
    spellings: dict[str, dict[str, Path]] = {}
    for bold, names in types.items():
        for name in names:
            spellings.setdefault(_plain(name), {}).setdefault(name, bold)
    for group in spellings.values():
        if len(group) > 1:
            written = ", ".join(sorted(map(ascii, group)))
            findings.warn(
                next(iter(group.values())),
                f"the trial types {written} differ only in case, spaces, invisible characters or"
                " Unicode representation and are modeled as different conditions. If they are"
                " the same condition, correct the events tables.",
                code="events",
            )


def _plain(name: str) -> str:
    """Return a name without case, spaces, and invisible characters, accents in one form."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    invisible = ("Cc", "Cf", "Zs")
    return "".join(one for one in folded if unicodedata.category(one) not in invisible)


def _against_length(
    rows: Sequence[_Row],
    types: tuple[str, ...],
    table: Path,
    bold: Path,
    duration: float,
    findings: Findings,
) -> tuple[str, ...]:
    """Types with events in the run, of which the duration (s) is known."""
    astray = [
        row
        for row in rows
        if row.onset < -_ASTRAY_S or row.onset + row.duration > duration + _ASTRAY_S
    ]
    if astray:
        findings.refuse(
            table,
            "the events table contains events more than one hour before the start or after the end"
            f" of {bold.name} ({len(astray)} in total, the first with an onset of"
            f" {astray[0].onset:g} s and a duration of {astray[0].duration:g} s in line"
            f" {astray[0].line})",
            "Check that onsets and durations are in seconds and that onsets are relative to the"
            " first volume.",
        )
    late = [row for row in rows if row.onset >= duration]
    if late:
        what = (
            f"the events table contains events that begin after the end of {bold.name} at"
            f" {duration:g} s ({len(late)} of {len(rows)}, the first in line {late[0].line}:"
            f" {late[0].trial_type!r} at {late[0].onset:g} s)"
        )
        if len(late) > _MOST_LATE * len(rows):
            fix = (
                "Check that onsets are in seconds relative to the first volume, that the events"
                " table belongs to this run and that the series is complete."
            )
            findings.refuse(table, what, fix)
        else:
            findings.tell(table, f"{what}. These events are not modeled.")
    over = [row for row in rows if row.onset < duration < row.onset + row.duration - 1e-3]
    if over:
        many = "1 event" if len(over) == 1 else f"{len(over)} events"
        text = (
            f"durations that extend beyond the end of the run ({duration:g} s) will be truncated"
            f" ({many})."
        )
        findings.tell(table, text)
    counting = {
        row.trial_type
        for row in rows
        if row.onset + row.duration > _MIN_ONSET and row.onset < duration
    }
    after = {row.trial_type for row in late}
    for name in types:
        if name not in counting:
            where = "after the end" if name in after else "more than 24 s before the start"
            findings.tell(
                table,
                (
                    f"the trial type {name!r} is not modeled because all of its events are"
                    f" {where} of the run."
                ),
            )
    if types and not counting and len(late) <= _MOST_LATE * len(rows):
        findings.refuse(
            table,
            "all events are more than 24 s before the first volume",
            "Check that onsets are in seconds relative to the first volume.",
        )
    return tuple(name for name in types if name in counting)


def _read(path: Path, findings: Findings) -> list[_Row]:
    if not findings.fetched(path):
        return []
    try:
        columns, records = read_rows(path, _MOST_EVENTS + 1)
    except TABLE_ERRORS as error:
        findings.refuse(
            path,
            f"the file cannot be read as a table ({error})",
            "Save the table as tab-separated UTF-8 text.",
        )
        return []
    missing = [name for name in ("onset", "duration") if name not in columns]
    if missing:
        have = ", ".join(str(name) for name in columns) or "none"
        reason = f"required columns are missing: {', '.join(missing)} (existing columns: {have})"
        fix = f"{_WHERE}. Columns must be separated by tabs."
        findings.refuse(path, reason, fix if columns else f"{fix} {_IGNORE}")
        return []
    if len(records) > _MOST_EVENTS:
        fix = "Check that the file is an events table rather than a physiological recording."
        findings.refuse(
            path,
            f"the events table has more than {_MOST_EVENTS} rows, which is the maximum per run",
            fix,
        )
        return []
    if not records:
        findings.refuse(
            path,
            "the events table has no rows",
            f"{_WHERE}. Each event must have its own row. {_IGNORE}",
        )
    if "trial_type" not in columns:
        findings.tell(
            path,
            f"the optional column trial_type is missing, so all events are named {UNNAMED!r}.",
        )
        for _, record in records:
            record["trial_type"] = UNNAMED
    timeless = {
        line
        for line, record in records
        if modeled_types([record["trial_type"]])
        and any((record[name] or "").strip().lower() in NO_TIME for name in ("onset", "duration"))
    }
    if timeless:
        findings.tell(
            path,
            f"{len(timeless)} of {len(records)} events are not modeled because their onset or"
            f" duration is n/a (first event: line {min(timeless)}).",
        )
        records = [(line, record) for line, record in records if line not in timeless]
    rows = [
        row for line, record in records if (row := _row(path, line, record, findings)) is not None
    ]
    rows = _without_repetitions(rows, path, findings)
    if brief := sum(row.duration == 0 for row in rows):
        of = "all" if brief == len(rows) else f"{brief} of {len(rows)}"
        findings.tell(
            path,
            (
                f"{of} events have zero duration and are modeled as impulses with an area of 1 s,"
                " as in SPM."
            ),
        )
    if "\0" in read_text(path, encoding="utf-8-sig"):
        fix = "Save the table as plain UTF-8 text."
        findings.refuse(
            path,
            (
                "the events table contains NUL bytes, which some programs interpret as the end"
                " of a name"
            ),
            fix,
        )
    wide = next((line for line, record in records if "" in record), None)
    if wide is not None:
        fix = "Each line must have the same number of cells as the header line."
        findings.refuse(path, f"line {wide} has more cells than the header line", fix)
    return rows


def _without_repetitions(rows: Sequence[_Row], path: Path, findings: Findings) -> list[_Row]:
    """Drop events that are listed twice, and report them and overlapping events of one type."""
    unique = {(row.onset, row.duration, row.trial_type): row for row in reversed(rows)}
    kept = [row for row in rows if unique[row.onset, row.duration, row.trial_type] is row]
    modeled = set(modeled_types(row.trial_type for row in rows))
    lines = {row.line for row in kept}
    repeated = [row for row in rows if row.trial_type in modeled and row.line not in lines]
    if repeated:
        findings.tell(
            path,
            f"{len(repeated)} of {len(rows)} events have the same onset, duration and trial_type"
            f" as another event (first event: line {repeated[0].line}). Each event is modeled"
            " only once.",
        )
    _tell_overlaps([row for row in kept if row.trial_type in modeled], path, findings)
    return kept


def _tell_overlaps(rows: Sequence[_Row], path: Path, findings: Findings) -> None:
    """Report events that begin before an earlier event of their type has ended."""
    overlapping, latest = dict[str, list[_Row]](), dict[str, float]()
    for row in sorted(rows, key=lambda row: row.onset):
        if row.onset < latest.get(row.trial_type, -math.inf) - 1e-3:
            overlapping.setdefault(row.trial_type, []).append(row)
        end = row.onset + row.duration
        latest[row.trial_type] = max(end, latest.get(row.trial_type, -math.inf))
    for name, events in overlapping.items():
        findings.tell(
            path,
            f"events of trial type {name!r} overlap with earlier events of the same type"
            f" ({len(events)} in total, the first in line {events[0].line}). The modeled responses"
            " are summed.",
        )


def _row(
    path: Path, line: int, record: Mapping[str, str | None], findings: Findings
) -> _Row | None:
    """Parse a row of the table; only the first three unsound rows become problems."""
    onset, duration = seconds(record["onset"]), seconds(record["duration"])
    name = (record["trial_type"] or "").strip()
    fix = ""
    if unsound := bool(modeled_types([name])) and (
        onset is None or duration is None or duration < 0
    ):
        reason = (
            f"the onset and duration in line {line} must be times in seconds, but are"
            f" {record['onset']!r} and {record['duration']!r}"
        )
        fix = "Specify both values in seconds; use a duration of 0 for brief events."
    if fix and len(findings.problems) < 3:
        findings.refuse(path, reason, fix)
    return (
        None
        if unsound
        else _Row(line=line, onset=onset or 0.0, duration=duration or 0.0, trial_type=name)
    )


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
    from bids_sr.glm.confounds import nonsteady_at_start

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
    from bids_sr.glm.confound_table import as_numbers
    from bids_sr.glm.confounds import MOTION
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


def ordered(types: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """Return types in the order that the data set shares; unknown ones come last, by name."""
    own, shared = set(types), set(order)
    return (
        *(name for name in order if name in own),
        *sorted(name for name in types if name not in shared),
    )


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
    from bids_sr.glm.design import (
        DesignError,
        build_design,
        contrast_vector,
        frame_times,
        read_events,
    )

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
    from bids_sr.glm.design import frame_times, read_events

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
    from bids_sr.glm.design import LEAST_SEGMENTS, segment_count

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


_TYPE = "trial_type."  # what `Factor` puts before the name of a trial type
# columns that X may have; wildcards mean those of the run
_COLUMN = re.compile(
    r"1|intercept|trial_type\..+|csf_wm|rmsd|(std_)?dvars|framewise_displacement|\w+[*?\[].*"
    r"|((trans|rot)_[xyz]|global_signal|csf|white_matter)(_derivative1)?(_power2)?"
    r"|([acwt]_comp_cor_|cosine|motion_outlier|non_steady_state_outlier)\d\d"
)
_OF_TYPE = re.compile(r"1|intercept|trial_type\..+")  # those of them that are not confounds
_NO_CONFOUND = ("1", "intercept", _TYPE, "cosine")  # mean and drift are part of every model


def is_confound(name: str) -> bool:
    """Return whether a name, possibly with wildcards, can be one of a column of confounds."""
    return bool(_COLUMN.fullmatch(name)) and not _OF_TYPE.fullmatch(name)


def read_model(
    path: Path, types: Mapping[Path, Iterable[str]], findings: Findings
) -> tuple[list[tuple[str, Contrast]], list[str]]:
    """Return the contrasts of a model, as `resolve_contrasts` takes them, and its confounds.

    Names and weights of contrasts, and columns of the confounds, some with wildcards; none where
    the model is refused.
    """
    from bids.modeling import BIDSStatsModelsNode
    from bids.modeling.statsmodels import validate_model
    from bids.utils import convert_JSON

    every = dict.fromkeys(_TYPE + name for names in types.values() for name in names).keys()
    try:
        document = convert_JSON(json.loads(read_text(path)))
        validate_model(document)
        nodes = [BIDSStatsModelsNode(**each) for each in document["nodes"]]
        single = nodes[0].dummy_contrasts
        columns = map(str, nodes[0].model["x"])
        contrasts = [
            {"name": name, "condition_list": [name], "weights": [1]} | single
            for name in (single.get("contrasts", every) if single else ())
        ] + nodes[0].contrasts
        refused = [*_asks_more(nodes, document.get("input", {}), types, every, contrasts)]
        if not refused:
            confounds = [name for name in columns if not name.startswith(_NO_CONFOUND)]
            return list(map(_weighted, contrasts)), confounds
    except OSError as error:
        refused = [f"the model file cannot be read ({error.strerror})"]
    except (
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        refused = [f"the file is not a valid BIDS Stats Model ({error!r})"]
    for why in refused:
        fix = (
            "Change the model as described in docs/recipes/stats_model.md, or fit it to the"
            " super-resolved series with FitLins."
        )
        findings.refuse_option(f"--model {path}", why, fix)
    return [], []


def _weighted(contrast: Mapping[str, Any]) -> tuple[str, Contrast]:
    found: Contrast = {}
    for term, weight in zip(contrast["condition_list"], contrast["weights"], strict=True):
        name = term.removeprefix(_TYPE)
        found[name] = found.get(name, 0.0) + float(Fraction(weight))
    if not any(found.values()):
        raise ValueError(f"all weights of the contrast {contrast['name']} are zero")
    return camel(contrast["name"].removeprefix(_TYPE)), found


def _asks_more(
    nodes: Sequence[Any],
    chosen: Mapping[str, Any],
    types: Iterable[Path],
    every: Set[str],
    contrasts: Iterable[Mapping[str, Any]],
) -> Iterator[str]:
    """What is asked for besides t contrasts of trial types, with confounds, in each run."""
    node = nodes[0]
    runs = {bold.name: entities_of(bold) for bold in types}
    if not runs:
        yield (
            "the model requires runs with events, but no selected run has events. Select task"
            " runs, or omit --model"
        )
        return
    if [each.level for each in nodes] != ["run"]:
        yield (
            "only the run level is supported, but the model has the levels"
            f" {', '.join(each.level for each in nodes)}"
        )
    for key, labels in chosen.items():
        named = [{key: str(label)} for label in labels]
        out = [
            name for name, own in runs.items() if not any(same_run(own, n, [key]) for n in named)
        ]
        if out:
            yield (
                f"the model Input excludes {out[0]} by {key}. Select the same runs on the command"
                " line, for example with --task-id"
            )
    if len({tuple(map(own.get, node.group_by)) for own in runs.values()}) < len(runs):
        yield "GroupBy combines several runs, but bids-sr fits each run separately"
    if {"type": "glm", **node.model, "x": []} != {"type": "glm", "x": []}:
        yield (
            "only X and Type glm are supported in Model, but the file contains"
            f" {', '.join(node.model)}"
        )
    convolved: list[str] = []
    for instruction in node.transformations["instructions"]:
        inputs = [name for name in instruction["input"] if name.startswith(_TYPE)]
        if {"model": "spm", **instruction} == {
            "name": "Convolve",
            "input": inputs,
            "model": "spm",
        }:
            convolved += inputs
        elif instruction != {"name": "Factor", "input": ["trial_type"]}:
            name = instruction["name"]
            yield f"the transformation {name} is not supported, or not supported with these inputs"
    columns = list(map(str, node.model["x"]))
    for where, names in (("X", columns), ("Convolve", convolved)):
        if absent := every - {one for name in names for one in matching(every, name)}:
            yield (
                f"{where} must include all trial types, but the following are missing:"
                f" {', '.join(sorted(absent))}"
            )
    if strange := [name for name in columns if not _COLUMN.fullmatch(name)]:
        yield (
            f"X contains columns that are neither trial types nor confounds: {', '.join(strange)}"
        )
    for instruction in contrasts:
        if instruction.get("test") != "t" or not every >= {*instruction["condition_list"]}:
            yield f"contrast {instruction['name']} is not a t-test of trial types"


_BRIEF_S = 0.5  # shorter events may be too weak for nilearn's sampling of them
_APART = 0.05  # least singular value of columns of length one: none is near a mix of others


def rough_courses(events: "Events", times: Float) -> dict[str, Float]:
    """Return the response of SPM to each condition, its integral in closed form.

    `times`: times of the volumes (s). Returns time series (T,) by condition, within about .01 of
    `Events.courses` for sustained blocks.
    """
    courses = {}
    spans = events.spans()
    for name in events.conditions:
        onsets, durations = np.array(spans[name]).T
        since = times[:, None] - onsets
        until = since - np.maximum(durations, _BRIEF_S)
        courses[name] = (_reached(since) - _reached(until)).sum(axis=1)
    return courses


def surely_estimable(
    events: "Events", conditions: Collection[str], times: Float, tr: float, high_pass: float
) -> bool:
    """Return whether a look at the rough model suffices; else ask nilearn's.

    `times`: times of the volumes that count (s). Returns False where conditions lack events or are
    alike, events are brief, or volumes are few.
    """
    courses = rough_courses(events, times)
    if not courses.keys() >= set(conditions) or (events.table["duration"] < _BRIEF_S).any():
        return False
    volumes = np.arange(len(times)) + 0.5
    waves = np.arange(int(2 * len(times) * tr * high_pass) + 2)
    drift = np.cos(np.pi * np.outer(volumes, waves) / len(times))
    matrix = np.column_stack([*courses.values(), drift])
    if matrix.shape[1] >= len(times) or any(np.ptp(each) < _APART for each in courses.values()):
        return False
    singular = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=0), compute_uv=False)
    return bool(singular[-1] > _APART)


def _reached(since: Float) -> Float:
    """Share of its plateau that the response to a block has reached so many seconds later."""
    from scipy.special import gammainc

    after = np.maximum(since, 0.0)
    return np.asarray((gammainc(6, after) - gammainc(16, after) / 6) / (1 - 1 / 6))
