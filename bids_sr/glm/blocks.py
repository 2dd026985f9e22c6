"""Blocks of a run, its two halves, and a model with one regressor per block.

If halves are of a fixed split, they consist of alternate blocks: the first, third, … block of each
condition, and the second, fourth, … block. Both halves thus contain all conditions and are equally
affected by drift. Averages over all balanced splits are in `bids_sr.glm.halves`.
Consecutive events of one trial type with short gaps are one sustained block, so one row per trial
and one row per block give the same blocks. If this gives many short trials, chunks of consecutive
trials of one condition are the units.

A single block is not divided, because its parts are not independent. The noise of two halves that
consisted of alternate parts of one block correlated by -.99 (block of 16 s), -.64 (32 s), and .84
or more (96 s and longer; TR of 2 s, 60 s of rest before and after). Responses to the parts of a
short block overlap, and all parts of a long block are compared with the same baseline. For blocks
of 16 s of two or six conditions, separated by rest, the correlation is between -.05 and .05.

A block whose response is mostly outside the run is modeled but not used, because the standard
error of its effect is many times larger than for other blocks (13 times for a block of 16 s that
ended 12 s before the run).
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from bids_sr.glm.contrasts import MODULATION
from bids_sr.glm.design import (
    Design,
    DesignSettings,
    build_design,
    find_uncensored_volumes,
    frame_times,
)
from bids_sr.glm.hemodynamic_response import RESPONSE_S, HemodynamicResponse
from bids_sr.glm.regressors import Events, Regressors, Seeds, TooManyColumns, Trial
from bids_sr.glm.seeds import segment_regressor
from bids_sr.io.arrays import Float, MaskArray
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.frozen import frozen

_LOGGER = logging.getLogger(__name__)

_MAX_GAP_S = 3.0  # s, largest gap between events of a block
_MAX_UNITS = 40
MIN_BLOCKS = 2
"""Smallest number of blocks of a condition that can be split into halves."""
MIN_SHARE = 0.5
"""Fraction of a block's response (squared and summed over time) that must be inside the run."""
_MIN_ENERGY = 1e-300  # avoids division by 0 for responses that are 0 throughout


class TooFewBlocks(ValueError):
    """Error raised if blocks cannot be split in two halves; the message names run and remedy.

    `counts` are the numbers of used blocks by condition; {} if they are not the reason.
    """

    def __init__(self, message: str, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.counts = dict(counts or {})


@frozen
class TaskBlock:
    """Unit of a run: a block, a chunk of trials, or a segment of seeds.

    `events` are onsets and durations (s), and `modulations` their amplitudes, () if all are 1.
    `share` is the fraction of the response inside the run, 0 to 1. A block that is not `used` is
    modeled, but has no weight.
    """

    condition: str
    events: tuple[tuple[float, float], ...]
    half: int = 0
    share: float = 1.0
    used: bool = True
    modulations: tuple[float, ...] = ()


@frozen
class BlockDesign:
    """Model of a run with one regressor per block, and the weights that estimate block effects.

    `matrix` has the modeled blocks, confounds, drift and constant as columns (rows, P); dummies
    have no row. The product of `weights` (rows, B) with a voxel's time series is the effect of
    each block, and `covariance` (B, B) the covariance of the effects for noise of variance one.
    `leak` is the deviation of each effect's row of the resolution matrix from its unit vector (B,
    P); it is zero if the effect is estimable. `basis` has orthonormal columns that span the model
    (rows, rank). `censored` lists the volumes that the model does not use, counted from 0
    including dummies.
    """

    blocks: tuple[TaskBlock, ...]
    matrix: Float
    weights: Float
    covariance: Float
    leak: Float
    basis: Float
    n_dummy: int
    dof: int
    censored: tuple[int, ...] = ()


def block_design(
    events: Regressors,
    settings: DesignSettings = DesignSettings(),
    *,
    n_volumes: int,
    tr: float,
    n_dummy: int = 0,
    min_share: float = MIN_SHARE,
    confounds: pd.DataFrame | None = None,
    confound_names: Sequence[str] = MOTION_REGRESSORS,
) -> BlockDesign:
    """Return the model of a run with one regressor per block.

    If the run has too few volumes for a regressor per block, consecutive blocks of a condition are
    joined until one degree of freedom remains, with at least two units per condition. Blocks have
    no derivatives of their response.

    Parameters
    ----------
    events : Regressors
        Events of the task, or time series of seeds at rest.
    settings : DesignSettings, optional
        Options of the design matrix.
    n_volumes : int
        Number of all volumes of the series, including dummies.
    tr : float
        Repetition time, TR (s).
    n_dummy : int, optional
        Number of volumes at the start that are not in the steady state.
    min_share : float, optional
        Fraction of a block's response (0 to 1) that must be inside the run for the block to be
        used. 0 uses every block with a response inside the run.
    confounds : pd.DataFrame | None, optional
        Confounds of the run, one row per volume; None for a model without confounds.
    confound_names : Sequence[str], optional
        Names of the confounds in the model.

    Returns
    -------
    BlockDesign
        Model, blocks with their halves, and weights of the effects.

    Raises
    ------
    TooFewBlocks
        If no condition has two blocks inside the run, or if the model has too few volumes for two
        blocks per condition.
    DesignError
        If the model cannot be built.
    """
    times = frame_times(n_volumes, tr, start_time=settings.start_time)
    uncensored = find_uncensored_volumes(confounds, confound_names, n_volumes)
    max_units: int | None = None
    while True:
        units = _find_units(events, tr, n_dummy, max_units)
        blocks = _select_blocks(
            events, units, times, uncensored, tr, n_dummy, min_share, settings.hrf
        )
        regressors = (
            _build_segment_regressors(blocks, events, tr)
            if isinstance(events, Seeds)
            else _build_block_events(blocks)
        )
        try:
            design = build_design(
                regressors,
                replace(settings, hrf=settings.hrf.main),
                n_volumes=n_volumes,
                tr=tr,
                n_dummy=n_dummy,
                confounds=confounds,
                confound_names=confound_names,
            )
        except TooManyColumns as error:
            max_units = fewer_units(events, tr, n_dummy, len(units) - error.excess)
            if max_units is None:
                raise TooFewBlocks(
                    f"{events.source}: a split-half analysis, in which every block has its own "
                    f"regressor, is not possible, because {error}. Acquire more volumes, or skip "
                    "the split-half analysis"
                ) from error
        else:
            return _weigh_effects(blocks, design)


def _select_blocks(
    events: Regressors,
    candidates: Sequence[TaskBlock],
    times: Float,
    uncensored: MaskArray,
    tr: float,
    n_dummy: int,
    min_share: float,
    hrf: HemodynamicResponse,
) -> list[TaskBlock]:
    """Return blocks or segments with their halves and their shares of used volumes.

    `times` and `uncensored` refer to all volumes (T,). Blocks with a share below `min_share` are
    not used, and are reported. Raises `TooFewBlocks` if no condition has two used blocks.
    """
    shares = (
        [1.0] * len(candidates)
        if isinstance(events, Seeds)
        else response_shares(candidates, times[n_dummy:], tr, hrf)
    )
    has_censoring = not uncensored[n_dummy:].all()
    if has_censoring:
        uncensored_shares = _compute_uncensored_shares(
            candidates, events, times, uncensored, tr, n_dummy, hrf
        )
        shares = [
            share * uncensored_share
            for share, uncensored_share in zip(shares, uncensored_shares, strict=True)
        ]
    blocks = [
        replace(block, share=share, used=share >= min_share and share > 0)
        for block, share in zip(candidates, shares, strict=True)
    ]
    for block in blocks:
        if not block.used:
            _report_unused_block(
                block, events.source, steady_s=n_dummy * tr, has_censoring=has_censoring
            )
    blocks = _assign_halves(blocks)
    _check_split(blocks, events.source)
    return blocks


def response_shares(
    blocks: Sequence[TaskBlock],
    times: Float,
    tr: float,
    hrf: HemodynamicResponse,
) -> list[float]:
    """Return the fraction of each block's squared response that is inside the run.

    Only blocks near the ends of the run are computed, because the responses of all other blocks
    are completely inside.

    Parameters
    ----------
    blocks : Sequence[TaskBlock]
        Blocks of the run in order of time.
    times : Float
        Times of the volumes that are used (s).
    tr : float
        Repetition time, TR (s).
    hrf : HemodynamicResponse
        Response to events; only its main column is used.

    Returns
    -------
    list[float]
        Fraction from 0 to 1 for each block.
    """
    near_ends = [
        index
        for index, block in enumerate(blocks)
        if any(
            start < times[0] or start + length + RESPONSE_S > times[-1]
            for start, length in block.events
        )
    ]
    shares = [1.0] * len(blocks)
    if not near_ends:
        return shares
    blocks_near_ends = [blocks[index] for index in near_ends]
    spans = [span for block in blocks_near_ends for span in block.events]
    first_onset = min(start for start, _ in spans)
    last_response = max(start + length for start, length in spans) + RESPONSE_S
    n_before = max(0, int(np.ceil((times[0] - first_onset) / tr)))
    n_after = max(0, int(np.ceil((last_response - times[-1]) / tr)))
    extended_times = times[0] + tr * np.arange(-n_before, len(times) + n_after)
    in_run = slice(n_before, n_before + len(times))
    responses = _build_block_events(blocks_near_ends).responses(extended_times, hrf.main)
    for index, response in zip(near_ends, responses.values(), strict=True):
        shares[index] = _measure_share(response[:, 0], in_run)
    return shares


def _compute_uncensored_shares(
    blocks: Sequence[TaskBlock],
    events: Regressors,
    times: Float,
    uncensored: MaskArray,
    tr: float,
    n_dummy: int,
    hrf: HemodynamicResponse,
) -> list[float]:
    """Return the fraction of each block's squared response in volumes that are not censored.

    For segments of seeds, it is the fraction of volumes. `times` and `uncensored` refer to all
    volumes (T,).
    """
    if not isinstance(events, Seeds):
        responses = _build_block_events(blocks).responses(times, hrf.main)
        return [
            _measure_share(response[n_dummy:, 0], uncensored[n_dummy:])
            for response in responses.values()
        ]
    shares = []
    for block in blocks:
        ((start, length),) = block.events
        first, stop = round(start / tr), round((start + length) / tr)
        shares.append(float(uncensored[first:stop].mean()))
    return shares


def _measure_share(response: Float, volumes: slice | MaskArray) -> float:
    """Return the fraction of a squared response (T,) in some of its volumes."""
    energy = response**2
    return float(energy[volumes].sum() / max(energy.sum(), _MIN_ENERGY))


def _build_block_events(blocks: Sequence[TaskBlock]) -> Events:
    """Return events with the index of the block as trial type."""
    rows: list[tuple[float, float, str, float]] = []
    for index, block in enumerate(blocks):
        modulations = block.modulations or (1.0,) * len(block.events)
        for (start, length), modulation in zip(block.events, modulations, strict=True):
            rows.append((start, length, f"{index:05d}", modulation))
    return Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type", MODULATION]))


def _report_unused_block(
    block: TaskBlock, source: str, *, steady_s: float, has_censoring: bool
) -> None:
    """Log a block that is not used; `steady_s` is the start of the steady state (s)."""
    missing_share = f"{1 - block.share:.0%}" if block.share >= 0.005 else "all"
    onset = block.events[0][0]
    location = "before the steady state" if 0 <= onset < steady_s else "outside the run"
    censoring_text = " or in censored volumes" if has_censoring else ""
    _LOGGER.log(
        # Blocks before the run began belong to a longer recording and are not an error.
        logging.INFO if onset < 0 else logging.WARNING,
        "%s: the %s block at %.1f s is excluded from the split-half analysis, because %s "
        "of the response is %s. Check the onset of the block.",
        source,
        block.condition,
        onset,
        missing_share,
        f"{location}{censoring_text}",
    )


def _assign_halves(blocks: Sequence[TaskBlock]) -> list[TaskBlock]:
    """Assign used blocks of each condition to halves 0, 1, 0, 1, … in order of time.

    >>> blocks = [TaskBlock(condition=name, events=()) for name in "aabab"]
    >>> [block.half for block in _assign_halves(blocks)]
    [0, 1, 0, 0, 1]
    """
    n_used: Counter[str] = Counter()
    assigned = []
    for block in blocks:
        assigned.append(replace(block, half=n_used[block.condition] % 2))
        n_used[block.condition] += block.used
    return assigned


def _check_split(blocks: Sequence[TaskBlock], source: str) -> None:
    """Raise `TooFewBlocks` if no condition has two used blocks; log conditions with fewer."""
    if not blocks:
        raise TooFewBlocks(f"{source}: the run is too short for a split-half analysis")
    counts = count_used_blocks(blocks)
    too_few = {name: n_used for name, n_used in counts.items() if n_used < MIN_BLOCKS}
    if len(too_few) == len(counts):
        raise TooFewBlocks(
            f"{source}: a split-half analysis requires at least one condition with two blocks "
            f"inside the run, but no condition has two ({describe_counts(too_few)}). Acquire more "
            "blocks, or skip the split-half analysis",
            counts,
        )
    if too_few:
        _LOGGER.info(  # The plan has already reported these conditions.
            "%s: conditions with fewer than two blocks inside the run are excluded from the "
            "split-half analysis: %s",
            source,
            describe_counts(too_few),
        )


def count_used_blocks(blocks: Sequence[TaskBlock]) -> dict[str, int]:
    """Return the number of used blocks of each condition."""
    counts = dict.fromkeys((block.condition for block in blocks), 0)
    for block in blocks:
        counts[block.condition] += block.used
    return counts


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return numbers of blocks by condition as text.

    >>> describe_counts({"face": 1, "body": 0, "house": 2})
    'face: one block, body: no block, house: 2 blocks'
    """
    words = {0: "no block", 1: "one block"}
    return ", ".join(
        f"{name}: {words.get(n_blocks, f'{n_blocks} blocks')}" for name, n_blocks in counts.items()
    )


def _build_segment_regressors(blocks: Sequence[TaskBlock], seeds: Seeds, tr: float) -> Seeds:
    """Return time series of seeds within each block, by index of the block."""
    regressors = {
        f"{index:05d}": segment_regressor(
            seeds.table[block.condition].to_numpy(dtype=np.float64), tr, *block.events[0]
        )
        for index, block in enumerate(blocks)
    }
    return Seeds(pd.DataFrame(regressors))


def fewer_units(events: Regressors, tr: float, n_dummy: int, max_columns: int) -> int | None:
    """Return the largest limit that results in at most `max_columns` units.

    `max_columns` is the number of units that the model can fit. None is returned if the run cannot
    be divided into so few units.
    """
    for limit in range(max_columns, 1, -1):
        if len(_find_units(events, tr, n_dummy, limit)) <= max_columns:
            return limit
    return None


def _find_units(events: Regressors, tr: float, n_dummy: int, limit: int | None) -> list[TaskBlock]:
    """Return blocks of a task or segments of seeds, at most `limit` if possible."""
    if isinstance(events, Seeds):
        spans = events.segments(tr, n_dummy, limit)
        return [TaskBlock(condition=name, events=(span,)) for name, span in spans]
    return find_blocks(events) if limit is None else find_blocks(events, limit)


def find_blocks(events: Events, max_blocks: int = _MAX_UNITS) -> list[TaskBlock]:
    """Return the units of a run in order of their first onset, without assigned halves.

    Consecutive events of one type and modulation are one block if at most `_MAX_GAP_S` is between
    the end of an event and the next onset. If there are more than `max_blocks` blocks, the units
    are chunks of consecutive blocks of a condition.

    `max_blocks` is the largest number of units. It is only exceeded if two units per condition are
    more.
    """
    joined_trials = _join_trials(events.trials())
    trials_by_condition: dict[str, list[Trial]] = {}
    for trial in joined_trials:
        trials_by_condition.setdefault(trial.condition, []).append(trial)
    # chunks of about equal length; an even number, so that both halves have equally many
    max_chunks = max(2, max_blocks // len(trials_by_condition) // 2 * 2)
    units = list[TaskBlock]()
    for condition, trials in trials_by_condition.items():
        n_chunks = len(trials)
        if len(joined_trials) > max_blocks:
            n_chunks = min(max_chunks, n_chunks)
        edges = np.linspace(0, len(trials), n_chunks + 1).round().astype(int)
        for first, last in pairwise(edges):
            modulations = tuple(trial.modulation for trial in trials[first:last])
            units.append(
                TaskBlock(
                    condition=condition,
                    events=tuple((trial.onset, trial.duration) for trial in trials[first:last]),
                    modulations=() if set(modulations) == {1.0} else modulations,
                )
            )
    return sorted(units, key=lambda unit: unit.events[0][0])


def _join_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials in order of their onset, with consecutive trials of a block as one trial."""
    spans: list[tuple[tuple[str, float], float, float]] = []  # (type, modulation), start, end (s)
    for trial in sorted(trials, key=lambda trial: trial.onset):
        kind = trial.condition, trial.modulation
        start, end = trial.onset, trial.onset + trial.duration
        if spans and spans[-1][0] == kind and start - spans[-1][2] <= _MAX_GAP_S:
            _, start, previous_end = spans.pop()
            end = max(end, previous_end)
        spans.append((kind, start, end))
    return [
        Trial(condition, start, end - start, modulation)
        for (condition, modulation), start, end in spans
    ]


def _weigh_effects(blocks: Sequence[TaskBlock], design: Design) -> BlockDesign:
    """Return the model with the weights of block effects; blocks without a column are not used.

    Conditions of the design are indices of the blocks.
    """
    matrix = design.matrix
    inverse = np.linalg.pinv(matrix)
    n_blocks, n_rows, n_columns = len(blocks), *matrix.shape
    block_indices = np.array([int(name) for name in design.conditions], dtype=int)
    column_indices = np.arange(len(block_indices))
    weights = np.zeros((n_rows, n_blocks))
    weights[:, block_indices] = inverse[column_indices].T
    leak = np.zeros((n_blocks, n_columns))
    leak[block_indices] = inverse[column_indices] @ matrix - np.eye(n_columns)[column_indices]
    covariance = np.zeros((n_blocks, n_blocks))
    covariance[np.ix_(block_indices, block_indices)] = (
        inverse[column_indices] @ inverse[column_indices].T
    )
    left_vectors, singular_values, _ = np.linalg.svd(matrix, full_matrices=False)
    modeled_indices = set(block_indices.tolist())
    modeled_blocks = [
        replace(block, used=block.used and index in modeled_indices)
        for index, block in enumerate(blocks)
    ]
    return BlockDesign(
        blocks=tuple(modeled_blocks),
        matrix=matrix,
        weights=weights,
        covariance=covariance,
        leak=leak,
        basis=left_vectors[:, : n_rows - design.dof] if singular_values[0] > 0 else left_vectors,
        n_dummy=design.n_dummy,
        dof=design.dof,
        censored=design.censored,
    )
