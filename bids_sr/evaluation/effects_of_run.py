"""Block effects of all series of a run, one by one, on one grid, and controls made of them."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.glm.block_effects import Effects, load_effects
from bids_sr.glm.blocks import Block, missing_conditions
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.smoothing import smooth
from bids_sr.io import atomic_files
from bids_sr.io.arrays import Float, Float32, Mask, Real
from bids_sr.series import ACQUIRED_BAND, MEASURED, PCA, RAW_SPLINE, SMOOTH, kind_of, same_name
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import sample_volume

_SAME_RATIOS = (1 / 1.5, 1.0, 1.5)
"""Of the smoothing that gives the acquired series the smoothness of a compared one; one of them is
its control.
"""
_CONTROL_FWHM_MM = tuple(map(float, range(9)))
"""Widths (mm) that the control `bsplineSmooth` chooses from."""
LEAST_VOXELS = 10
"""Of a region; over fewer nothing is correlated."""
_LOGGER = logging.getLogger(__name__)


@frozen
class RunEffects:
    """Effects of the blocks of all series of a run, and where and how they are compared.

    `files`: by series, as `bids_sr.glm.block_effects.save_effects` writes them. `mask`, `affine`,
    `roi`: on the high-resolution grid. `factor`: acquired over high-resolution voxel by axis.
    `acquired_t`: by contrast, t of the whole acquired run, unsmoothed, as a cubic B-spline on the
    high-resolution grid (X, Y, Z); empty where it was not mapped. `same_widths`: smoothing (mm
    FWHM) that gives the acquired series the smoothness of series of other programs, by their
    names; NaN where it is not known. With them the acquired band is scored by itself, too.
    """

    files: Mapping[str, Path]
    contrasts: Contrasts
    mask: Mask
    affine: Float
    roi: Mask
    factor: Sequence[float]
    n_boot: int = 1000
    seed: int = 0
    acquired_t: Mapping[str, Float32] = field(default_factory=dict)
    same_widths: Mapping[str, float] = field(default_factory=dict)

    @property
    def bands(self) -> tuple[str, ...]:
        """Spatial frequency bands: all, beyond and within the acquired Nyquist limit."""
        finer = max(self.factor) > 1
        return (
            "all",
            *(["beyond"] if finer else []),
            *(["within"] if finer and self.same_widths else []),
        )

    @property
    def regions(self) -> dict[str, Mask]:
        """Return voxels of the brain, and of its part in the region of interest."""
        return {"brain": self.mask, "roi": self.roi & self.mask}

    def first(self) -> Effects:
        """Return effects of the measured series, else of the first."""
        return load_effects(self.files.get(MEASURED, next(iter(self.files.values()))))

    def banded(self, betas: Real, bands: Sequence[str]) -> dict[str, Real]:
        """Block maps (X, Y, Z, B) in the N voxels of the mask, (N, B), by band.

        The filters take whole slices; they come before the mask, whose edge would be fine detail.

        `betas`: block maps on the high-resolution grid (X, Y, Z, B). `bands`: spatial frequencies:
        ``all``, ``within`` or ``beyond``.
        """
        whole = betas[self.mask]
        if max(self.factor) <= 1 or set(bands) == {"all"}:
            return dict.fromkeys(bands, whole)
        beyond = beyond_nyquist(betas, self.factor)[self.mask]
        return {band: {"all": whole, "beyond": beyond}.get(band, whole - beyond) for band in bands}

    def series(self) -> Iterator[tuple[str, Float32, Effects]]:
        """Name, block maps on the high-resolution grid, and effects of one series after the other.

        The acquired series (`zerofill`) is followed by copies smoothed to the resolution of
        compared series.
        """
        first = self.first()
        wanted = [_signature(block) for block in first.blocks]
        for path in self.files.values():
            effects = load_effects(path)
            if [_signature(block) for block in effects.blocks] != wanted:
                raise ValueError(
                    f"the effects of {effects.series} and {first.series} were estimated from "
                    "different blocks. All effects must be from the same run, events and "
                    "model."
                )
            name, betas = on_grid(effects, self.mask.shape, self.affine)
            yield name, betas, effects
            for compared, width in self.same_widths.items() if name == ACQUIRED_BAND else ():
                if math.isfinite(width):
                    yield same_name(compared), smoothed(betas, effects.zooms, width), effects

    def in_common_voxels(self) -> Iterator[tuple["RunEffects", tuple[str, ...]]]:
        """Yield the run in the brain, then each compared series that lacks signal there.

        Such a series is taken in the voxels that it has.

        It is held against the acquired series in the same voxels, and against no other. With each
        comes the names of the series that are told of it; none for all.
        """
        inside = {
            name: load_effects(self.files[name]).mask & self.mask
            for name in self.same_widths
            if name in self.files
        }
        apart = {name: own for name, own in inside.items() if not np.array_equal(own, self.mask)}
        yield self._among([name for name in self.files if name not in apart]), ()
        for name, own in apart.items():
            reference = MEASURED if MEASURED in self.files else "bspline"
            among = [each for each in (reference, ACQUIRED_BAND, name) if each in self.files]
            yield replace(self._among(among), mask=own), (name, same_name(name))

    def warn_of_little(self) -> None:
        """Warn once for all contrasts of a small ROI and of conditions with too few blocks."""
        inside = int(self.regions["roi"].sum())
        if inside < LEAST_VOXELS:
            _LOGGER.warning(
                "The region of interest contains only %d voxels of the brain mask, so values "
                "of this region are set to n/a.",
                inside,
            )
        first = self.first()
        without: dict[str, list[str]] = {}
        for name, weights in self.contrasts.items():
            lost = ", ".join(missing_conditions(first.blocks, weights))
            if first.halves(weights) is None:
                # the plan has told of runs of which none can be split
                _LOGGER.info(
                    "The contrast %s cannot be split into halves (%s).",
                    name,
                    lost or "not estimable",
                )
            elif lost:
                without.setdefault(lost, []).append(name)
        for lost, names in without.items():
            # the plan has told of these, too
            _LOGGER.info(
                "Trial types with too few blocks are excluded from the split-half analysis of the "
                "contrasts %s: %s",
                ", ".join(names),
                lost,
            )

    def _among(self, names: Sequence[str]) -> "RunEffects":
        """The run with some of its series."""
        widths = {name: width for name, width in self.same_widths.items() if name in names}
        return replace(self, files={name: self.files[name] for name in names}, same_widths=widths)


def on_grid(effects: Effects, shape: tuple[int, ...], affine: Float) -> tuple[str, Float32]:
    """Return the series name and its block maps on the high-resolution grid.

    The acquired series' maps are brought there by a spline.

    ValueError where a series other than raw lies on another grid.

    Name, ``rawSpline`` after interpolation, and block maps (X, Y, Z, B).
    """
    if effects.betas.shape[:3] == tuple(shape) and np.allclose(effects.affine, affine, atol=1e-3):
        return effects.series, effects.betas
    if effects.series != "raw":
        raise ValueError(
            f"the effects of {effects.series} are not on the grid of the high-resolution mask"
        )
    maps = [
        sample_volume(m, effects.affine, shape, affine) for m in np.moveaxis(effects.betas, -1, 0)
    ]
    return RAW_SPLINE, np.stack(maps, axis=-1)


def denoised(bspline: Effects) -> Iterator[tuple[str, float, Float32]]:
    """Yield controls from the B-spline series: name, setting, block maps (X, Y, Z, B).

    Each control is made at each of its settings.

    `bsplineSmooth` is smoothed in space (mm FWHM), `bsplinePca` reduced to few temporal components
    (their number). What they reach is not resolution.
    """
    for width in _CONTROL_FWHM_MM:
        yield SMOOTH, width, smoothed(bspline.betas, bspline.zooms, width)
    for rank in bspline.ranks:
        yield PCA, float(rank), bspline.reduced(rank)


def control_width(acquired: Effects, inside: Mask, fwhm_mm: float) -> float:
    """Return the control's smoothing (mm), the width at which halves of the blocks agree best.

    It is the control of a compared series.

    How smooth a series is cannot be known exactly; no claim shall rest on a control that is a
    little too sharp, or too smooth. Of `_SAME_RATIOS` that is taken at which the smoothed effect
    of one half of the blocks of the acquired series lies nearest to the effect of the other half,
    both ways: no reference is asked.

    Parameters
    ----------
    acquired : Effects
        Block effects of the acquired series.
    inside : Mask
        Voxels in which that one is judged.
    fwhm_mm : float
        Smoothing that gives the acquired series the smoothness of the compared one.

    Returns
    -------
    float
        Width of the Gaussian (FWHM, mm).
    """
    halves = [
        acquired.betas[..., [b.used and b.half == half for b in acquired.blocks]]
        for half in (0, 1)
    ]
    if not fwhm_mm or not all(half.shape[-1] for half in halves):
        return fwhm_mm
    first, other = (half.mean(axis=-1) for half in halves)

    def apart(width: float) -> float:
        both = (
            smooth(first, acquired.zooms, width) - other,
            smooth(other, acquired.zooms, width) - first,
        )
        return sum(float(np.square(each[inside], dtype=np.float64).sum()) for each in both)

    return min((ratio * fwhm_mm for ratio in _SAME_RATIOS), key=apart)


def smoothed(betas: Float32, zooms: Sequence[float], fwhm_mm: float) -> Float32:
    """Block maps (X, Y, Z, B), each smoothed by a Gaussian (mm)."""
    return np.stack([smooth(each, zooms, fwhm_mm) for each in np.moveaxis(betas, -1, 0)], axis=-1)


def _signature(block: Block) -> tuple[object, ...]:
    """What makes a block the same in two files; times to the millisecond."""
    return (
        block.condition,
        block.half,
        block.used,
        tuple((round(a, 3), round(b, 3)) for a, b in block.events),
    )


def save_fine_effects(run: RunEffects, path: Path) -> Path:
    """Write each series' effect beyond the acquired Nyquist limit, in the box around the brain.

    It is that of ``all`` where there is one, else of the first contrast that can be split; signal
    units, mean of both halves. Keys: ``contrast``, ``affine`` (of the box), ``mask``, ``series``
    (names of all but ensemble members; none where no contrast can be split, or no axis was made
    finer) and ``beyond_NAME`` (X, Y, Z) of each of these.
    """
    first = run.first()
    mask = run.mask
    whole = {name: first.whole(weights) for name, weights in run.contrasts.items()}
    able = [name for name, weights in whole.items() if weights is not None]
    contrast = "all" if "all" in able else next(iter(able), "")
    box = bounding_box(mask if mask.any() else np.ones_like(mask))
    moved = np.array(run.affine, dtype=np.float64)
    moved[:3, 3] += moved[:3, :3] @ [part.start for part in box]
    arrays: dict[str, Any] = {"contrast": np.array(contrast), "affine": moved, "mask": mask[box]}
    weights = whole.get(contrast)
    names = []
    if weights is not None and max(run.factor) > 1:
        for file in [file for series, file in run.files.items() if kind_of(series) != "member"]:
            name, betas = on_grid(load_effects(file), mask.shape, run.affine)
            names.append(name)
            arrays[f"beyond_{name}"] = beyond_nyquist(
                betas @ weights.astype(np.float32), run.factor
            )[box]
    arrays["series"] = np.array(names, dtype=str)
    with atomic_files.whole_file(path) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays)
    return path
