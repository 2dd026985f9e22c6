"""Blocks of a run, its two halves, and a model with one regressor for each block.

The halves are made of blocks: first, third, … of each condition against second, fourth, …, so that
both halves hold every condition and drift weighs on both alike. Consecutive events of one trial
type with short gaps are one sustained block; where that leaves many short trials, the unit is a
chunk of consecutive trials of one condition.

A block of which the run saw too little is modeled and not used: the standard error of its effect
is a multiple of the others' (13 times, for a block of 16 s that ended 12 s before the run).
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from bids_sr.frozen import frozen
from bids_sr.glm.design import build_design, frame_times, scaled_weights
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.regressors import Events, Regressors, Seeds, TooManyColumns
from bids_sr.glm.seeds import within
from bids_sr.glm.time_columns import kept_volumes
from bids_sr.io.arrays import Float, Mask

_LOGGER = logging.getLogger(__name__)

_MAX_GAP_S = 3.0
_MAX_UNITS = 40
LEAST_CHUNKS, LEAST_TRIALS = 8, 16  # of a condition that is one block of so many trials
# Share of a block's response (its squares, summed over time) that must lie inside the run
MIN_SHARE = 0.5
_AFTER_S = 40.0  # how long a response goes on after its block
_ESTIMABLE = 1e-6


class TooFewBlocks(ValueError):
    """Blocks that cannot be split in two halves; the message names the run and the fix."""


@frozen
class Block:
    """One unit of a run.

    `share`: of its response that lies inside the run, 0–1. `used`: whether it counts; else it is
    modeled and weighs nothing.
    """

    condition: str
    events: tuple[tuple[float, float], ...]
    half: int = 0
    share: float = 1.0
    used: bool = True


@frozen
class BlockDesign:
    """Model of a run with one regressor per block, and how block effects are read off a series.

    `matrix`: (rows, P); blocks that occur in it, confounds, drift, constant; dummies have no row.
    `weights`: (rows, B); a voxel's time series times these is the effect of each block.
    `covariance`: (B, B); of the effects, for noise of variance one. `leak`: (B, P); how far each
    effect's row of the resolution matrix is from its unit vector; zeros where the effect can be
    told from everything else. `basis`: (rows, rank) orthonormal columns that span the model.
    `censored`: volumes that the model does not use, counted from 0 with the dummies.
    """

    blocks: tuple[Block, ...]
    matrix: Float
    weights: Float
    covariance: Float
    leak: Float
    basis: Float
    n_dummy: int
    dof: int
    censored: tuple[int, ...] = ()


def find_blocks(events: Events, most: int = _MAX_UNITS) -> list[Block]:
    """Return units of a run in order of the onset of their first event, halves not yet assigned.

    Consecutive events of one type with at most `_MAX_GAP_S` between end and onset are one block;
    above `most` of these, chunks of consecutive blocks of one condition are the units. So are
    chunks of its events if all events of a condition would be one block (quick trials of one kind
    throughout the run), which could not be split.

    `most`: number of units, exceeded only if the conditions are so many that two of each are more.
    """
    table = events.table.sort_values("onset", kind="stable")
    spans: list[tuple[str, float, float]] = []
    for row in table.itertuples():
        name = str(row.trial_type)
        start = float(row.onset)
        end = float(row.onset + row.duration)
        if spans and spans[-1][0] == name and start - spans[-1][2] <= _MAX_GAP_S:
            spans[-1] = (name, spans[-1][1], max(end, spans[-1][2]))
        else:
            spans.append((name, start, end))
    timed: dict[str, list[tuple[float, float]]] = {}
    for name, start, end in spans:
        timed.setdefault(name, []).append((start, end - start))
    count = max(2, most // len(timed) // 2 * 2)  # even, so that both halves get as many
    if len(spans) <= most:
        units = [
            (name, [event]) for name, all_ in timed.items() if len(all_) > 1 for event in all_
        ]
        for name in (name for name, all_ in timed.items() if len(all_) == 1):
            own = table[table["trial_type"].astype(str) == name]
            trials = [(float(row.onset), float(row.duration)) for row in own.itertuples()]
            parts = LEAST_CHUNKS if len(trials) >= LEAST_TRIALS else 1
            if most < _MAX_UNITS:
                parts = min(parts, count)
            units += [
                (name, list(part))
                for part in (_chunks(trials, parts) if parts > 1 else [timed[name]])
            ]
    else:
        units = [
            (name, list(part)) for name, all_ in timed.items() for part in _chunks(all_, count)
        ]
    units.sort(key=lambda unit: unit[1][0][0])
    return [Block(condition=name, events=tuple(part)) for name, part in units]


def _chunks(trials: Sequence[tuple[float, float]], count: int) -> list[list[tuple[float, float]]]:
    """At most `count` runs of consecutive trials, as equal in number as can be."""
    edges = np.linspace(0, len(trials), min(count, len(trials)) + 1).round().astype(int)
    return [list(trials[a:b]) for a, b in pairwise(edges)]


def _assign_halves(blocks: Sequence[Block]) -> list[Block]:
    """Used blocks of each condition in halves 0, 1, 0, 1, … in order of time.

    >>> [block.half for block in _assign_halves([Block(condition=c, events=()) for c in "aabab"])]
    [0, 1, 0, 0, 1]
    """
    seen: Counter[str] = Counter()
    out = []
    for block in blocks:
        out.append(replace(block, half=seen[block.condition] % 2))
        seen[block.condition] += block.used
    return out


def _check_split(blocks: Sequence[Block], source: str) -> None:
    """Refuse blocks of which no condition has two.

    TooFewBlocks names the source. Warns of conditions that have one.
    """
    if not blocks:
        raise TooFewBlocks(f"{source}: the run is too short for a split-half analysis")
    counts = dict.fromkeys((block.condition for block in blocks), 0)
    for block in blocks:
        counts[block.condition] += block.used
    alone = [name for name, count in counts.items() if count < 2]
    if len(alone) == len(counts):
        raise TooFewBlocks(
            f"{source}: a split-half analysis requires at least one condition with two blocks "
            "inside the run, but no condition has two "
            f"({', '.join(f'{name}: {counts[name]}' for name in counts)}). Acquire more "
            "blocks, or skip the split-half analysis"
        )
    for name in alone:
        _LOGGER.info(  # the plan has told it
            "%s: the condition %s has only %d block inside the run and is excluded from the "
            "split-half analysis, which requires two blocks",
            source,
            name,
            counts[name],
        )


def _events(blocks: Sequence[Block]) -> Events:
    """Events whose trial type is the block's number."""
    rows = [
        (start, length, f"{index:05d}")
        for index, block in enumerate(blocks)
        for start, length in block.events
    ]
    return Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type"]))


def _within(blocks: Sequence[Block], seeds: Seeds, tr: float) -> Seeds:
    """Time series of seeds within each block, by its number."""
    parts = {
        f"{k:05d}": within(
            seeds.table[block.condition].to_numpy(dtype=np.float64), tr, *block.events[0]
        )
        for k, block in enumerate(blocks)
    }
    return Seeds(pd.DataFrame(parts))


def response_shares(
    blocks: Sequence[Block],
    times: Float,
    tr: float,
    courses: Callable[[Events, Float], Mapping[str, Float]] = Events.courses,
) -> list[float]:
    """Share of each block's squared response that falls on evenly spaced times (s).

    Only blocks near the ends of the run are worked out: the response to any other lies inside it.

    Parameters
    ----------
    blocks : Sequence[Block]
        Blocks of the run in order of time.
    times : Float
        Times of the volumes that count (s).
    tr : float
        Repetition time, TR (s).
    courses : Callable[[Events, Float], Mapping[str, Float]], optional
        Gives the responses.

    Returns
    -------
    list[float]
        Share from 0 to 1 of each block.
    """
    cut = [
        index
        for index, block in enumerate(blocks)
        if any(
            start < times[0] or start + length + _AFTER_S > times[-1]
            for start, length in block.events
        )
    ]
    shares = [1.0] * len(blocks)
    if not cut:
        return shares
    near = [blocks[index] for index in cut]
    first = min(start for block in near for start, _ in block.events)
    last = max(start + length for block in near for start, length in block.events) + _AFTER_S
    before = max(0, int(np.ceil((times[0] - first) / tr)))
    after = max(0, int(np.ceil((last - times[-1]) / tr)))
    wide = times[0] + tr * np.arange(-before, len(times) + after)
    inside = slice(before, before + len(times))
    for index, signal in zip(cut, courses(_events(near), wide).values(), strict=True):
        shares[index] = float((signal[inside] ** 2).sum() / max((signal**2).sum(), 1e-300))
    return shares


def _shares_kept(
    blocks: Sequence[Block], events: Regressors, times: Float, kept: Mask, tr: float, n_dummy: int
) -> list[float]:
    """Return the share of each block's squared response in the run that is not censored.

    Of a segment of seeds it is the share of its volumes. `times`, `kept`: of all volumes (T,).
    """
    if isinstance(events, Seeds):
        spans = [(round(s / tr), round((s + t) / tr)) for ((s, t),) in (b.events for b in blocks)]
        return [float(kept[first:last].mean()) for first, last in spans]
    responses = [r[n_dummy:] ** 2 for r in _events(blocks).courses(times).values()]
    return [float(r[kept[n_dummy:]].sum() / max(r.sum(), 1e-300)) for r in responses]


def block_design(
    events: Regressors,
    *,
    n_volumes: int,
    tr: float,
    n_dummy: int = 0,
    start_time: float | None = None,
    min_share: float = MIN_SHARE,
    high_pass: float = 1 / 128,
    confounds: pd.DataFrame | None = None,
    confound_names: Sequence[str] = MOTION,
) -> BlockDesign:
    """Return the model of a run with one regressor for each block.

    Further parameters are those of `build_design`.

    A block with less than `min_share` of its response inside the run does not count; 0 uses every
    block. If the run has too few volumes for a regressor per block, consecutive blocks of a
    condition are joined until one degree of freedom is left, down to two units per condition.

    Parameters
    ----------
    events : Regressors
        Events of the task, or time series of seeds at rest.
    n_volumes : int
        Number of all volumes of the series, dummies included.
    tr : float
        Repetition time, TR (s).
    n_dummy : int, optional
        Number of volumes at the start that are not in the steady state.
    start_time : float | None, optional
        Moment of a volume for which its values hold (s after its start); None: the middle of TR.
    min_share : float, optional
        Share of a block's response (0 to 1) that makes it count.
    high_pass : float, optional
        Cut-off of the drift model (Hz); 0 for a straight line.
    confounds : pd.DataFrame | None, optional
        Confounds of the run, one row a volume; None: none enter the model.
    confound_names : Sequence[str], optional
        Names of the confounds that enter the model.

    Returns
    -------
    BlockDesign
        Model, blocks with their halves, and how effects are read off.

    Raises
    ------
    TooFewBlocks : no condition has two blocks inside the run, or two are more than it has room for
    DesignError : the model cannot be built
    """
    most: int | None = None
    while True:
        units = _units(events, tr, n_dummy, most)
        try:
            return _block_design(
                events,
                units,
                n_volumes=n_volumes,
                tr=tr,
                n_dummy=n_dummy,
                start_time=start_time,
                min_share=min_share,
                high_pass=high_pass,
                confounds=confounds,
                confound_names=confound_names,
            )
        except TooManyColumns as error:
            most = fewer_units(events, tr, n_dummy, len(units) - error.excess)
            if most is None:
                raise TooFewBlocks(
                    f"{events.source}: a split-half analysis, in which every block has its own "
                    f"regressor, is not possible, because {error}. Acquire more volumes, or skip "
                    "the split-half analysis"
                ) from error


def fewer_units(events: Regressors, tr: float, n_dummy: int, room: int) -> int | None:
    """Return the limit of units by which a run has at most as many as its model has room for.

    The limit is the highest one; None if the run cannot be divided into so few units.
    """
    for most in range(room, 1, -1):
        if len(_units(events, tr, n_dummy, most)) <= room:
            return most
    return None


def _units(events: Regressors, tr: float, n_dummy: int, most: int | None) -> list[Block]:
    """Return blocks of a task or segments of seeds, at most so many if that is possible."""
    if isinstance(events, Seeds):
        spans = events.segments(tr, n_dummy, most)
        return [Block(condition=name, events=(span,)) for name, span in spans]
    return find_blocks(events) if most is None else find_blocks(events, most)


def _block_design(
    events: Regressors,
    candidates: Sequence[Block],
    *,
    n_volumes: int,
    tr: float,
    n_dummy: int,
    start_time: float | None,
    min_share: float,
    high_pass: float,
    confounds: pd.DataFrame | None,
    confound_names: Sequence[str],
) -> BlockDesign:
    """Return the model of `block_design` with these blocks or segments.

    `TooManyColumns`: they leave no degree of freedom.
    """
    times = frame_times(n_volumes, tr, start_time=start_time)
    shares = (
        [1.0] * len(candidates)
        if isinstance(events, Seeds)
        else response_shares(candidates, times[n_dummy:], tr)
    )
    kept = kept_volumes(
        None if confounds is None else confounds[[c for c in confounds if c in confound_names]],
        n_volumes,
    )
    if not kept[n_dummy:].all():
        left = _shares_kept(candidates, events, times, kept, tr, n_dummy)
        shares = [share * part for share, part in zip(shares, left, strict=True)]
    blocks = [
        replace(b, share=s, used=s >= min_share and s > 0)
        for b, s in zip(candidates, shares, strict=True)
    ]
    for block in blocks:
        if not block.used:
            part = f"{1 - block.share:.0%}" if block.share >= 0.005 else "all"
            onset = block.events[0][0]
            where = "before the steady state" if 0 <= onset < n_dummy * tr else "outside the run"
            if not kept[n_dummy:].all():
                where += " or in censored volumes"
            words = (events.source, block.condition, onset, part, where)
            # one before the run begins is that of a longer recording, and nobody's mistake
            level = logging.INFO if onset < 0 else logging.WARNING
            _LOGGER.log(
                level,
                "%s: the %s block at %.1f s is excluded from the split-half analysis, because %s "
                "of the response is %s. Check the onset of the block.",
                *words,
            )
    blocks = _assign_halves(blocks)
    _check_split(blocks, events.source)
    regressors = _within(blocks, events, tr) if isinstance(events, Seeds) else _events(blocks)
    design = build_design(
        regressors,
        n_volumes=n_volumes,
        tr=tr,
        n_dummy=n_dummy,
        start_time=start_time,
        high_pass=high_pass,
        confounds=confounds,
        confound_names=confound_names,
    )
    read_off = _read_off(
        blocks, design.matrix, [int(name) for name in design.conditions], n_dummy, design.dof
    )
    return replace(read_off, censored=design.censored)


def _read_off(
    blocks: Sequence[Block], matrix: Float, modeled: Sequence[int], n_dummy: int, dof: int
) -> BlockDesign:
    """How effects are read off; blocks without a column get zeros and do not count."""
    inverse = np.linalg.pinv(matrix)
    b, rows, columns = len(blocks), *matrix.shape
    weights, leak, covariance = np.zeros((rows, b)), np.zeros((b, columns)), np.zeros((b, b))
    at = np.asarray(modeled, dtype=int)
    own = np.arange(len(at))
    weights[:, at] = inverse[own].T
    leak[at] = inverse[own] @ matrix - np.eye(columns)[own]
    covariance[np.ix_(at, at)] = inverse[own] @ inverse[own].T
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    kept = [
        replace(block, used=block.used and index in set(modeled))
        for index, block in enumerate(blocks)
    ]
    return BlockDesign(
        blocks=tuple(kept),
        matrix=matrix,
        weights=weights,
        covariance=covariance,
        leak=leak,
        basis=left[:, : rows - dof] if sizes[0] > 0 else left,
        n_dummy=n_dummy,
        dof=dof,
    )


def half_weights(
    blocks: Sequence[Block], weights: Mapping[str, float], leak: Float | None = None
) -> Float | None:
    """Return the block weights in each half's effect, (2, B), None if the contrast has no halves.

    A half's effect is the mean over a condition's blocks in that half, then the contrast of
    conditions, scaled as `scaled_weights` scales it. A condition without a used block in either
    half is left out of both, and the weights of the others on its side of the contrast grow to
    make up for it; a contrast that loses a side cannot be split, nor one that the model cannot
    estimate, as its `leak` tells (see `BlockDesign`).
    """
    scaled = scaled_weights(weights)
    count = Counter((block.condition, block.half) for block in blocks if block.used)
    present = {name: w for name, w in scaled.items() if count[name, 0] and count[name, 1]}
    sums = {
        sign: (
            sum(w for w in scaled.values() if w * sign > 0),
            sum(w for w in present.values() if w * sign > 0),
        )
        for sign in (1, -1)
    }
    if any(whole != 0 and left == 0 for whole, left in sums.values()):
        return None
    grown = {
        name: w * sums[1 if w > 0 else -1][0] / sums[1 if w > 0 else -1][1]
        for name, w in present.items()
    }
    out = np.zeros((2, len(blocks)))
    for index, block in enumerate(blocks):
        if block.used and block.condition in grown:
            out[block.half, index] = grown[block.condition] / count[block.condition, block.half]
    if leak is not None and np.abs(out @ leak).max() > _ESTIMABLE:
        return None
    return out


def missing_conditions(blocks: Sequence[Block], weights: Mapping[str, float]) -> list[str]:
    """Return conditions of a contrast that have no used block in one of the halves."""
    have = {(block.condition, block.half) for block in blocks if block.used}
    return [name for name, w in weights.items() if w and not {(name, 0), (name, 1)} <= have]
