"""Effects of the blocks of all series of a run, one series after the other, on one grid; controls made of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bids_sr.io.array_types import Float, Float32
from bids_sr.series import ACQUIRED_BAND, RAW_SPLINE, same_name
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.stats.evaluation.split_half import Scores
from bids_sr.stats.glm.block_effects import Effects, load_effects
from bids_sr.stats.glm.blocks import Block
from bids_sr.stats.glm.time_series import smooth

EffectFiles = Mapping[str, Path]
"""Files of effects, as `bids_sr.stats.glm.block_effects.save_effects` writes them, by series."""
SAME_RATIOS = (1 / 1.5, 1.0, 1.5)
"""Of the smoothing that gives the acquired series the smoothness of a compared one; the best is its control."""


def on_grid(effects: Effects, shape: tuple[int, ...], affine: Float) -> tuple[str, Float32]:
    """Name and block maps on the high-resolution grid; the acquired series' maps are brought there by a spline.

    ValueError where a series other than raw lies on another grid.
    """
    if effects.betas.shape[:3] == tuple(shape) and np.allclose(effects.affine, affine, atol=1e-3):
        return effects.series, effects.betas
    if effects.series != "raw":
        raise ValueError(f"effects of {effects.series} lie on another grid than the high-resolution mask")
    spline = Spline(order=3)
    maps = [sample_volume(m, effects.affine, shape, affine, spline=spline) for m in np.moveaxis(effects.betas, -1, 0)]
    return RAW_SPLINE, np.stack(maps, axis=-1)


def series_of_run(
    files: EffectFiles, reference: Effects, shape: tuple[int, ...], affine: Float,
    same_widths: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[tuple[str, Float32, Effects]]:  # fmt: skip
    """Name, block maps on the high-resolution grid, and effects of one series after the other.

    The acquired series (`zerofill`) is followed by copies smoothed to the resolution of compared series, as
    `same_widths` has it (mm FWHM by their names), and by a half less and more, all under one name (`add_scores`
    chooses). ValueError where the grid, or the blocks, differ from those of the
    reference (names both series).
    """
    wanted = [_signature(block) for block in reference.blocks]
    for path in files.values():
        effects = load_effects(path)
        if [_signature(block) for block in effects.blocks] != wanted:
            raise ValueError(
                f"effects of {effects.series} and of {reference.series} have different blocks: they are not of one "
                "run, or were made with other events or another model"
            )
        name, betas = on_grid(effects, shape, affine)
        yield name, betas, effects
        for compared, width in same_widths.items() if name == ACQUIRED_BAND else ():
            for ratio in SAME_RATIOS if width else (1.0,):
                yield same_name(compared), smoothed(betas, effects.zooms, ratio * width), effects


def add_scores(scores: dict[str, Scores], name: str, found: Scores) -> None:
    """Add the scores of a series; of several under one name the higher value of each is kept.

    How smooth a series is cannot be known exactly; no claim shall rest on a control that is a little too sharp, or too
    smooth.
    """
    before = scores.get(name)
    if before is None:
        scores[name] = found
        return
    for key, one in found.items():
        if not before[key].value >= one.value:
            before[key] = one


def smoothed(betas: Float32, zooms: Sequence[float], fwhm_mm: float) -> Float32:
    """Block maps (X, Y, Z, B), each smoothed by a Gaussian (mm)."""
    return np.stack([smooth(each, zooms, fwhm_mm) for each in np.moveaxis(betas, -1, 0)], axis=-1)


def _signature(block: Block) -> tuple[object, ...]:
    """What makes a block the same in two files; times to the millisecond."""
    return block.condition, block.half, block.used, tuple((round(a, 3), round(b, 3)) for a, b in block.events)
