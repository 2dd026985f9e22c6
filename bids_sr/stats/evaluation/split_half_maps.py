"""Effect maps of the whole run for the figures of the split halves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_sr.io import atomic_files
from bids_sr.series import MEASURED, kind_of
from bids_sr.stats.evaluation.split_half import beyond_nyquist
from bids_sr.stats.evaluation.split_half_shared import on_grid
from bids_sr.stats.evaluation.split_half_table import named_files
from bids_sr.stats.glm.block_effects import Effects, load_effects

Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def main_contrast(contrasts: Mapping[str, Mapping[str, float]], effects: Effects) -> str | None:
    """``all`` where there is one, else the first contrast that can be split; None where none can."""
    able = [name for name, weights in contrasts.items() if effects.halves(weights) is not None]
    return "all" if "all" in able else next(iter(able), None)


def save_figures(
    paths: Sequence[str | os.PathLike[str]],
    mask: Mask,
    affine: Float,
    contrasts: Mapping[str, Mapping[str, float]],
    *,
    factor: Sequence[float],
    path: str | os.PathLike[str],
) -> Path:
    """Write the effect of the main contrast in every series, within the box around the mask; whole or not at all.

    Keys: ``contrast``, ``series`` (names), ``affine`` (of the box), ``mask``, ``mean`` (the measured one, else the
    first series'), and ``effect_NAME`` and ``beyond_NAME`` (X, Y, Z) for every series: mean of both halves in signal
    units, whole and beyond the acquired Nyquist limit. Without a contrast that can be split, ``series`` is empty.
    Ensemble members are left out.
    """
    files = {name: file for name, file in named_files(paths).items() if kind_of(name) != "member"}
    first = load_effects(files.get(MEASURED, next(iter(files.values()))))
    contrast = main_contrast(contrasts, first)
    where = np.argwhere(mask)
    low, high = (where.min(axis=0), where.max(axis=0) + 1) if len(where) else (np.zeros(3, int), np.array(mask.shape))
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ low
    arrays = {"contrast": np.array(contrast or ""), "affine": moved, "mask": mask[box]}
    names = []
    for file in files.values() if contrast else ():
        effects = load_effects(file)
        name, betas = on_grid(effects, mask.shape, affine)
        halves = effects.halves(contrasts[str(contrast)])
        if halves is None:
            continue
        effect = betas @ halves.mean(axis=0).astype(np.float32)
        names.append(name)
        arrays[f"effect_{name}"] = effect[box]
        if max(factor) > 1:
            arrays[f"beyond_{name}"] = beyond_nyquist(effect, factor)[box]
        if effects.mean.shape == mask.shape and ("mean" not in arrays or name == MEASURED):
            arrays["mean"] = effects.mean[box]
    arrays["series"] = np.array(names, dtype=str)
    target = Path(path)
    with atomic_files.whole_file(target) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    return target
