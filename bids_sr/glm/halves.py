"""Weights of blocks in the effect of a contrast: in halves of a run and in the whole run.

Which blocks form which half is arbitrary, and a weak effect depends on it. Products of two halves
are therefore averaged over all balanced splits of the blocks of each condition. This average is a
weighted sum of products of block effects, so that no split is drawn (`average_splits`).

The maps of a contrast contain all of its conditions. Halves can contain only conditions with a
block in both halves. If a condition is missing, the contrast is not split, but the contrast of the
remaining conditions is, under a name that states the missing conditions, such as
``allWithoutFace``.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import compress

import numpy as np

from bids_sr.glm.blocks import MIN_BLOCKS, TaskBlock
from bids_sr.glm.contrasts import (
    Contrast,
    Contrasts,
    comparable,
    make_unique_label,
    name_without_types,
)
from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

# largest leak of an estimable contrast into any column of the design, see `BlockDesign`
_MAX_LEAK = 1e-6


@frozen
class SplitContrast:
    """Contrast with blocks of each of its conditions in both halves of a run.

    `origin` is the contrast of the maps that has these conditions, and possibly others without
    blocks in both halves. Its t map selects active voxels.
    """

    weights: Mapping[str, float]
    origin: str


@frozen
class SplitProducts:
    """Weights of products of block effects, averaged over balanced splits, (B, B) each.

    The sum of `between` times the products of the block effects of two series is the product of
    the effect of one half in the first series and of the effect of the other half in the second
    series. `within` is the same for a single half: the square of its effect has the noise of half
    of the blocks.
    """

    between: Float
    within: Float


@frozen
class BalancedSplits:
    """Weights of products of block effects over all balanced splits of a contrast.

    `shorter` are the weights without one of the blocks: a sequence per condition of at least three
    blocks, with each of its blocks left out in turn.
    """

    whole: SplitProducts
    shorter: Sequence[Sequence[SplitProducts]]


def split_contrasts(blocks: Sequence[TaskBlock], contrasts: Contrasts) -> dict[str, SplitContrast]:
    """Return the contrasts of a run that can be split into halves, by name.

    Contrasts with conditions that are missing in a half are replaced by the contrast of the
    remaining conditions, unless this is one of the other contrasts. They are omitted if no
    condition remains on one side. Whether a contrast is estimable is not checked.
    """
    known_weights = {comparable(weights) for weights in contrasts.values()}
    split: dict[str, SplitContrast] = {}
    for name, weights in contrasts.items():
        missing = missing_conditions(blocks, weights)
        if not missing:
            split[name] = SplitContrast(weights=weights, origin=name)
            continue
        remaining = select_split_conditions(blocks, weights)
        if remaining and comparable(remaining) not in known_weights:
            known_weights.add(comparable(remaining))
            label = make_unique_label(name_without_types(name, missing), {*contrasts, *split})
            split[label] = SplitContrast(weights=remaining, origin=name)
    return split


def select_split_conditions(blocks: Sequence[TaskBlock], weights: Mapping[str, float]) -> Contrast:
    """Return the weights of the conditions of a contrast that have blocks in both halves.

    Weights on each side of the contrast are increased so that their sum is that of all conditions.
    {} is returned if no condition remains on one side.
    """
    missing = missing_conditions(blocks, weights)
    remaining = {name: weight for name, weight in weights.items() if name not in missing}
    full_sums, remaining_sums = _sum_by_sign(weights), _sum_by_sign(remaining)
    if any(full_sums[sign] != 0 and remaining_sums[sign] == 0 for sign in full_sums):
        return {}
    return {
        name: weight * full_sums[weight > 0] / remaining_sums[weight > 0]
        for name, weight in remaining.items()
    }


def missing_conditions(blocks: Sequence[TaskBlock], weights: Mapping[str, float]) -> list[str]:
    """Return conditions of a contrast without a used block in one of the halves."""
    available = {(block.condition, block.half) for block in blocks if block.used}
    return [
        name
        for name, weight in weights.items()
        if weight and not {(name, 0), (name, 1)} <= available
    ]


def _sum_by_sign(weights: Mapping[str, float]) -> dict[bool, float]:
    """Return the sums of positive (True) and of negative (False) weights."""
    return {
        True: sum(weight for weight in weights.values() if weight > 0),
        False: sum(weight for weight in weights.values() if weight < 0),
    }


def balance_splits(
    blocks: Sequence[TaskBlock],
    weights: Mapping[str, float],
    leak: Float | None = None,
) -> BalancedSplits | None:
    """Return the weights of all balanced splits, of all blocks and without one of them.

    None is returned if the blocks cannot be split. For the parameters, see `average_splits`.
    """
    whole = average_splits(blocks, weights, leak)
    if whole is None:
        return None
    shorter = []
    for condition in compress(weights, weights.values()):
        without_block = [
            average_splits(
                [*blocks[:index], replace(block, used=False), *blocks[index + 1 :]],
                weights,
                leak,
            )
            for index, block in enumerate(blocks)
            if block.used and block.condition == condition
        ]
        shorter.append([splits for splits in without_block if splits is not None])
    return BalancedSplits(whole=whole, shorter=[splits for splits in shorter if splits])


def average_splits(
    blocks: Sequence[TaskBlock],
    weights: Mapping[str, float],
    leak: Float | None = None,
) -> SplitProducts | None:
    """Return the weights of products of block effects, averaged over all balanced splits.

    The blocks of each condition are divided into halves whose numbers of blocks differ by one at
    most, independently of other conditions. There is a single split if no condition has more than
    two blocks. None is returned if a condition has fewer than two used blocks, or if the contrast
    is not estimable in each split according to `leak` (see `BlockDesign`).

    With two blocks of one condition, only products of different blocks are between halves:

    >>> blocks = [TaskBlock(condition="a", events=(), half=half) for half in (0, 1)]
    >>> average_splits(blocks, {"a": 1.0}).between.tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    mean_weights = run_weights(blocks, weights, leak)
    if mean_weights is None:
        return None
    between = mean_weights[:, None] * mean_weights
    within = between.copy()
    for condition, weight in weights.items():
        if not weight:
            continue
        indices = [
            index
            for index, block in enumerate(blocks)
            if block.used and block.condition == condition
        ]
        n = len(indices)
        if n < MIN_BLOCKS or not _have_same_leak(leak, indices):
            return None
        # mean over both halves of the fraction of a condition's effect that is from one block
        block_share = (1 / (n // 2) + 1 / (n - n // 2)) / 2
        pairs = np.ix_(indices, indices)
        is_same_block = np.eye(n, dtype=bool)
        other_blocks = weight**2 / (n * (n - 1))
        between[pairs] = np.where(is_same_block, 0.0, other_blocks)
        within[pairs] = np.where(
            is_same_block, weight**2 * block_share / n, (1 - block_share) * other_blocks
        )
    return SplitProducts(between=between, within=within)


def _have_same_leak(leak: Float | None, indices: Sequence[int]) -> bool:
    """Return whether blocks of one condition have the same leak, so that they are exchangeable."""
    if leak is None:
        return True
    differences = leak[list(indices)] - leak[indices[0]]
    return bool(np.abs(differences).max() <= _MAX_LEAK)


def half_weights(
    blocks: Sequence[TaskBlock], weights: Mapping[str, float], leak: Float | None = None
) -> Float | None:
    """Return the block weights in the effect of each half, (2, B); None if there are no halves.

    The effect of a half is the mean over a condition's blocks in this half, followed by the
    contrast of conditions. A contrast cannot be split if one of its
    conditions has no used block in one of the halves, or if it is not estimable according to
    `leak` (see `BlockDesign`).
    """
    halves = [_weigh_blocks(blocks, weights, [half]) for half in (0, 1)]
    if any(half is None for half in halves):
        return None
    return _check_estimable(np.stack([half for half in halves if half is not None]), leak)


def run_weights(
    blocks: Sequence[TaskBlock], weights: Mapping[str, float], leak: Float | None = None
) -> Float | None:
    """Return the block weights in the effect of a whole run, (B,).

    The effect is the mean over all used blocks of each condition, followed by the contrast of
    conditions. None is returned if a condition has no used block, or if the contrast is not
    estimable according to `leak` (see `BlockDesign`).
    """
    block_weights = _weigh_blocks(blocks, weights, [0, 1])
    return None if block_weights is None else _check_estimable(block_weights, leak)


def _weigh_blocks(
    blocks: Sequence[TaskBlock], weights: Mapping[str, float], halves: Collection[int]
) -> Float | None:
    """Return the weights of the used blocks of some halves, (B,).

    None is returned if a condition has no such block.
    """
    conditions = {condition for condition, weight in weights.items() if weight}
    selected = [block.used and block.half in halves for block in blocks]
    counts = Counter(
        block.condition for block, is_in in zip(blocks, selected, strict=True) if is_in
    )
    if not counts.keys() >= conditions:
        return None
    return np.array(
        [
            weights.get(block.condition, 0.0) / counts[block.condition] if is_in else 0.0
            for block, is_in in zip(blocks, selected, strict=True)
        ]
    )


def _check_estimable(block_weights: Float, leak: Float | None) -> Float | None:
    """Return block weights, (B,) or (2, B), or None if the effect is not estimable."""
    is_estimable = leak is None or np.abs(block_weights @ leak).max() <= _MAX_LEAK
    return block_weights if is_estimable else None
