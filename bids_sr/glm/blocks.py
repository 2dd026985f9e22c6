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
_MAX_INFLATION = 2.0  # of the variance of an effect by estimating it in groups of shared blocks
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

    `events` are onsets and durations (s), and `modulations` their amplitudes (of a task).
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
class UsedVolumes:
    """Volumes of a run that its models use, and the response to events in them.

    `times` (s) and `uncensored` refer to all volumes (T,), of which the first `n_dummy` are not
    used. `tr` is in s.
    """

    times: Float
    tr: float
    n_dummy: int
    uncensored: MaskArray
    hrf: HemodynamicResponse

    def measure_shares(self, blocks: Sequence[TaskBlock]) -> list[float]:
        """Return the fraction (0 to 1) of each block's squared response in these volumes.

        Only blocks near the ends of the run or other unused volumes are computed, because the
        responses of all other blocks are complete.
        """
        used = self.uncensored & (np.arange(len(self.times)) >= self.n_dummy)
        shares = [1.0] * len(blocks)
        incomplete = [
            index for index, block in enumerate(blocks) if not self._contain_response(block, used)
        ]
        if not incomplete:
            return shares
        spans = [span for index in incomplete for span in blocks[index].events]
        first_onset = min(start for start, _ in spans)
        last_response = max(start + length for start, length in spans) + RESPONSE_S
        n_before = max(0, int(np.ceil((self.times[0] - first_onset) / self.tr)))
        n_after = max(0, int(np.ceil((last_response - self.times[-1]) / self.tr)))
        times = self.times[0] + self.tr * np.arange(-n_before, len(used) + n_after)
        responses = _build_block_events([blocks[index] for index in incomplete]).responses(
            times, self.hrf.main
        )
        for index, response in zip(incomplete, responses.values(), strict=True):
            energy = response[:, 0] ** 2
            used_energy = energy[n_before : n_before + len(used)][used].sum()
            shares[index] = float(used_energy / max(energy.sum(), _MIN_ENERGY))
        return shares

    def _contain_response(self, block: TaskBlock, used: MaskArray) -> bool:
        """Return whether the response to a block is only in used volumes (T,)."""
        return all(
            start >= self.times[0]
            and start + length + RESPONSE_S <= self.times[-1]
            and used[(self.times >= start) & (self.times <= start + length + RESPONSE_S)].all()
            for start, length in block.events
        )


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
    volumes = UsedVolumes(
        times=frame_times(n_volumes, tr, start_time=settings.start_time),
        tr=tr,
        n_dummy=n_dummy,
        uncensored=find_uncensored_volumes(confounds, confound_names, n_volumes),
        hrf=settings.hrf.main,
    )
    max_units: int | None = None
    while True:
        units = find_units(events, volumes, max_units, min_share)
        blocks = _assign_halves(units)
        _check_split(blocks, events.source)
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
            max_units = fewer_units(events, volumes, len(units) - error.excess, min_share)
            if max_units is None:
                raise TooFewBlocks(
                    f"{events.source}: a split-half analysis, in which every block has its own "
                    f"regressor, is not possible, because {error}. Acquire more volumes, or skip "
                    "the split-half analysis"
                ) from error
        else:
            for block in blocks:
                if not block.used:
                    _report_unused_block(block, events.source, volumes)
            return _weigh_effects(blocks, design)


def _build_block_events(blocks: Sequence[TaskBlock]) -> Events:
    """Return events with the index of the block as trial type."""
    rows: list[tuple[float, float, str, float]] = []
    for index, block in enumerate(blocks):
        for (start, length), modulation in zip(block.events, block.modulations, strict=True):
            rows.append((start, length, f"{index:05d}", modulation))
    return Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type", MODULATION]))


def _report_unused_block(block: TaskBlock, source: str, volumes: UsedVolumes) -> None:
    """Log a block that is not used."""
    missing_share = f"{1 - block.share:.0%}" if block.share >= 0.005 else "all"
    onset = block.events[0][0]
    is_early = 0 <= onset < volumes.n_dummy * volumes.tr
    location = "before the steady state" if is_early else "outside the run"
    has_censoring = not volumes.uncensored[volumes.n_dummy :].all()
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


def fewer_units(
    events: Regressors, volumes: UsedVolumes, max_columns: int, min_share: float = MIN_SHARE
) -> int | None:
    """Return the largest limit that results in at most `max_columns` units.

    `max_columns` is the number of units that the model can fit. None is returned if the run cannot
    be divided into so few units.
    """
    for limit in range(max_columns, 1, -1):
        if len(find_units(events, volumes, limit, min_share)) <= max_columns:
            return limit
    return None


def find_units(
    events: Regressors,
    volumes: UsedVolumes,
    max_units: int | None = None,
    min_share: float = MIN_SHARE,
) -> list[TaskBlock]:
    """Return the units of a run in order of their first onset, without assigned halves.

    If there are more than `max_units` blocks, the units are chunks of consecutive blocks of a
    condition. `max_units` (None for 40) is only exceeded if two units per condition are more.
    Units with a share below `min_share` are not used.
    """
    if isinstance(events, Seeds):
        segments = events.segments(volumes.tr, volumes.n_dummy, max_units)
        units = [TaskBlock(condition=name, events=(span,)) for name, span in segments]
        shares = []
        for _, (start, length) in segments:
            first, stop = round(start / volumes.tr), round((start + length) / volumes.tr)
            shares.append(float(volumes.uncensored[first:stop].mean()))
        return _mark_used(units, shares, min_share)
    blocks = find_blocks(events)
    blocks = _mark_used(blocks, volumes.measure_shares(blocks), min_share)
    units = _join_blocks(blocks, max_units or _MAX_UNITS)
    return _mark_used(units, volumes.measure_shares(units), min_share)


def _mark_used(
    blocks: Sequence[TaskBlock], shares: Sequence[float], min_share: float
) -> list[TaskBlock]:
    """Return blocks with their shares, used if these are at least `min_share`."""
    return [
        replace(block, share=share, used=share >= min_share and share > 0)
        for block, share in zip(blocks, shares, strict=True)
    ]


def find_blocks(events: Events) -> list[TaskBlock]:
    """Return the blocks of a task in order of their onset.

    Events of several types with the same onset and duration are one block of each type.
    Consecutive events with the same types and modulations are joined if at most `_MAX_GAP_S` is
    between the end of an event and the next onset.
    """
    moments: dict[tuple[float, float], list[Trial]] = {}
    for trial in sorted(events.trials(), key=lambda trial: trial.onset):
        if trial.modulation:
            key = round(trial.onset, 3), round(trial.duration, 3)
            moments.setdefault(key, []).append(trial)
    spans: list[tuple[list[tuple[str, float]], float, float]] = []  # profile, start, end (s)
    for trials in moments.values():
        profile = sorted((trial.condition, trial.modulation) for trial in trials)
        start, end = trials[0].onset, trials[0].onset + trials[0].duration
        if spans and spans[-1][0] == profile and start - spans[-1][2] <= _MAX_GAP_S:
            _, start, previous_end = spans.pop()
            end = max(end, previous_end)
        spans.append((profile, start, end))
    return [
        TaskBlock(condition=condition, events=((start, end - start),), modulations=(modulation,))
        for profile, start, end in spans
        for condition, modulation in profile
    ]


def _join_blocks(blocks: Sequence[TaskBlock], max_units: int) -> list[TaskBlock]:
    """Return units, which consist of one or more blocks of a condition.

    Conditions that share blocks have one unit each per group of these blocks, see
    `_divide_moments`. Their blocks that are not used are not in these groups. If there are more
    than `max_units` blocks, these blocks are one unit per condition.
    """
    moments: dict[tuple[tuple[float, float], ...], list[TaskBlock]] = {}
    for block in blocks:
        moments.setdefault(block.events, []).append(block)
    families: dict[str, tuple[str, ...]] = {}  # conditions that share blocks, by condition
    for moment in moments.values():
        names = {block.condition for block in moment}
        family = tuple(sorted(names.union(*(families.get(name, ()) for name in names))))
        families.update(dict.fromkeys(family, family))
    are_too_many = len(blocks) > max_units
    max_groups = max_units
    if are_too_many:
        # groups of about equal size; an even number, so that both halves have equally many
        max_groups = max(2, max_units // len(families) // 2 * 2)
    units = list[TaskBlock]()
    for family in dict.fromkeys(families.values()):
        all_moments = [moment for moment in moments.values() if moment[0].condition in family]
        others = [moment for moment in all_moments if len(family) > 1 and not moment[0].used]
        grouped = [moment for moment in all_moments if len(family) == 1 or moment[0].used]
        groups = _divide_moments(family, grouped, max_groups) if grouped else []
        groups += [others] if are_too_many else [[moment] for moment in others]
        for group in groups:
            for condition in family:
                parts = [
                    (block.events[0], block.modulations[0])
                    for moment in group
                    for block in moment
                    if block.condition == condition
                ]
                if parts:
                    spans, modulations = zip(*parts, strict=True)
                    units.append(
                        TaskBlock(condition=condition, events=spans, modulations=modulations)
                    )
    return sorted(units, key=lambda unit: unit.events[0][0])


def _divide_moments(
    conditions: Sequence[str], moments: Sequence[list[TaskBlock]], max_groups: int
) -> list[list[list[TaskBlock]]]:
    """Return groups of moments; groups are units of all conditions.

    Several conditions, such as a modulator and the type that it modulates, are estimated in each
    group, so that their amplitudes must differ within it. The largest number of groups is chosen
    for which the mean effect of the groups has at most `_MAX_INFLATION` times the variance of the
    effect of all moments. Groups are consecutive moments, or moments dealt in order of amplitude.
    If no two groups suffice, all moments are one group.
    """
    amplitudes = np.array(
        [
            [
                sum(b.modulations[0] for b in moment if b.condition == condition)
                for condition in conditions
            ]
            for moment in moments
        ]
    )
    ranks = np.lexsort(amplitudes.T[::-1])
    max_variance = _MAX_INFLATION * _amplitude_variance(amplitudes)
    for n_groups in range(min(max_groups, len(moments) // len(conditions)), 1, -1):
        edges = np.linspace(0, len(moments), n_groups + 1).round().astype(int)
        consecutive = [np.arange(first, last) for first, last in pairwise(edges)]
        dealt = [np.sort(ranks[first::n_groups]) for first in range(n_groups)]
        for groups in (consecutive, dealt):
            variance = sum(_amplitude_variance(amplitudes[group]) for group in groups)
            if len(conditions) == 1 or np.all(variance <= n_groups**2 * max_variance):
                return [[moments[index] for index in group] for group in groups]
    return [list(moments)]


def _amplitude_variance(amplitudes: Float) -> Float:
    """Return the variance of the effect of each condition, for noise of one per moment.

    `amplitudes` has one row per moment and one column per condition. The variance is infinite if
    the conditions cannot be separated.
    """
    if np.linalg.matrix_rank(amplitudes) < amplitudes.shape[1]:
        return np.full(amplitudes.shape[1], np.inf)
    return np.diag(np.linalg.inv(amplitudes.T @ amplitudes))


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
