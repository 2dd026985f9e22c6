"""Block effects of simulated series, and their files as a run stores them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import TaskBlock


def make_blocks(conditions: Iterable[str]) -> tuple[TaskBlock, ...]:
    """Return a block per condition in order of time; halves alternate within a condition."""
    n_earlier: Counter[str] = Counter()
    blocks = []
    for k, name in enumerate(conditions):
        half = n_earlier[name] % 2
        blocks.append(TaskBlock(condition=name, events=((20.0 * k, 10.0),), half=half))
        n_earlier[name] += 1
    return tuple(blocks)


def make_effects(
    series: str,
    betas: np.ndarray,
    blocks: tuple[TaskBlock, ...],
    affine: np.ndarray,
    **options: Any,
) -> Effects:
    """Return effects of blocks with independent noise; `betas` are maps (X, Y, Z, B)."""
    shape, count = betas.shape[:3], len(blocks)
    defaults = {
        "mask": np.ones(shape, dtype=bool),
        "mean": np.full(shape, 500, dtype=np.float32),
        "covariance": np.eye(count),
        "leak": np.zeros((count, count + 1)),
    }
    return Effects(
        series=series,
        affine=affine,
        betas=betas.astype(np.float32),
        blocks=blocks,
        **(defaults | options),
    )


def write_effects(
    folder: Path,
    series: str,
    betas: np.ndarray,
    blocks: tuple[TaskBlock, ...],
    affine: np.ndarray,
    **options: Any,
) -> Path:
    """Write the effects of `make_effects` and return the path of the file."""
    effects = make_effects(series, betas, blocks, affine, **options)
    return effects.save(folder / series)
