"""Effects of the blocks of all series of a run, one series after the other, on one grid; controls made of them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import ACQUIRED_BAND, MEASURED, RAW_SPLINE, same_name
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.stats.glm.block_effects import Effects, load_effects
from bids_sr.stats.glm.blocks import Block
from bids_sr.stats.glm.time_series import smooth

EffectFiles = Mapping[str, Path]
"""Files of effects, as `bids_sr.stats.glm.block_effects.save_effects` writes them, by series."""
SAME_RATIOS = (1 / 1.5, 1.0, 1.5)
"""Of the smoothing that gives the acquired series the smoothness of a compared one; one of them is its control."""


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
    `same_widths` has it (mm FWHM by their names; NaN: no copy). ValueError where the grid, or the blocks, differ
    from those of the reference (names both series).
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
            if math.isfinite(width):
                yield same_name(compared), smoothed(betas, effects.zooms, width), effects


def in_common_voxels(
    rows_of: Callable[[EffectFiles, Mask, Mapping[str, float]], list[MetricRow]], files: EffectFiles, mask: Mask,
    same_widths: Mapping[str, float],
) -> list[MetricRow]:  # fmt: skip
    """Rows of all series in the brain; those of a compared one that lacks signal there, in the voxels that it has.

    It is held against the acquired series in the same voxels, and against no other.

    Parameters
    ----------
    rows_of : makes the rows of some series in a mask; the third are the `same_widths` of the compared ones among them
    """
    inside = {name: load_effects(files[name]).mask & mask for name in same_widths if name in files}
    apart = {name: own for name, own in inside.items() if not np.array_equal(own, mask)}
    whole = {name: file for name, file in files.items() if name not in apart}
    rows = rows_of(whole, mask, {name: mm for name, mm in same_widths.items() if name not in apart})
    selecting = MEASURED if MEASURED in files else "bspline"
    for name, own in apart.items():
        among = {each: files[each] for each in (selecting, ACQUIRED_BAND, name) if each in files}
        found = rows_of(among, own, {name: same_widths[name]})
        rows += [row for row in found if row.series in (name, same_name(name))]
    return rows


def control_width(acquired: Effects, inside: Mask, fwhm_mm: float) -> float:
    """Smoothing (mm) of the control of a compared series: the width at which halves of the blocks agree best.

    How smooth a series is cannot be known exactly; no claim shall rest on a control that is a little too sharp, or too
    smooth. Of `SAME_RATIOS` the one is taken at which the smoothed effect of one half of the blocks of the acquired
    series lies nearest to the effect of the other half, both ways: no reference is asked.

    Parameters
    ----------
    fwhm_mm : smoothing that gives the acquired series the smoothness of the compared one
    inside : voxels in which that one is judged
    """
    halves = [acquired.betas[..., [b.used and b.half == half for b in acquired.blocks]] for half in (0, 1)]
    if not fwhm_mm or not all(half.shape[-1] for half in halves):
        return fwhm_mm
    one, other = (half.mean(axis=-1) for half in halves)

    def apart(width: float) -> float:
        both = (smooth(one, acquired.zooms, width) - other, smooth(other, acquired.zooms, width) - one)
        return sum(float(np.square(each[inside], dtype=np.float64).sum()) for each in both)

    return min((ratio * fwhm_mm for ratio in SAME_RATIOS), key=apart)


def smoothed(betas: Float32, zooms: Sequence[float], fwhm_mm: float) -> Float32:
    """Block maps (X, Y, Z, B), each smoothed by a Gaussian (mm)."""
    return np.stack([smooth(each, zooms, fwhm_mm) for each in np.moveaxis(betas, -1, 0)], axis=-1)


def _signature(block: Block) -> tuple[object, ...]:
    """What makes a block the same in two files; times to the millisecond."""
    return block.condition, block.half, block.used, tuple((round(a, 3), round(b, 3)) for a, b in block.events)
