"""Shared inputs of split-half agreement: masks, bands, block weights, bootstrap draws, and the measured maps.

Bands: the unit of the signal; percent of *one* mean image, the measured one's (in percent of each series' own mean
sharper static images alone look like better function); and the band beyond the acquired Nyquist limit, which the
acquisition did not contain: in-plane Fourier coefficients of whole slices at or beyond it, taken before masking.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.series import RAW_SPLINE
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.stats.evaluation.explained_variance import METRICS
from bids_sr.stats.evaluation.split_half import Inner, Scores, enough, halves_of, inner_products, score
from bids_sr.stats.glm.block_effects import Effects, load_effects, series_of
from bids_sr.stats.glm.blocks import Block, missing_conditions

PathLike = str | os.PathLike[str]
BANDS = ("signal", "percent", "beyond")
ACTIVE_T = (3.0, 4.0, 5.0, 6.0)
LOGGER = logging.getLogger(__name__)
_LEAST_MEAN = 0.05  # of the brain's median: percent of less than this is no percent of signal


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


def named_files(paths: Sequence[PathLike]) -> dict[str, PathLike]:
    """Effects files by series; ValueError for two files of one series."""
    out: dict[str, PathLike] = {}
    for path in paths:
        name = series_of(path)
        if name in out:
            raise ValueError(f"{path} and {out[name]} are both effects of {name}")
        out[name] = path
    return out


def series_of_run(
    files: Mapping[str, PathLike], reference: Effects, shape: tuple[int, ...], affine: Float
) -> Iterator[tuple[str, Float32, Effects]]:
    """Name, block maps on the high-resolution grid, and effects of one series after the other.

    ValueError where the grid, or the blocks, differ from those of the reference (names both series).
    """
    wanted = [_signature(block) for block in reference.blocks]
    for path in files.values():
        effects = load_effects(path)
        if [_signature(block) for block in effects.blocks] != wanted:
            raise ValueError(
                f"effects of {effects.series} and of {reference.series} have different blocks: they are not of one "
                "run, or were made with other events or another model"
            )
        yield (*on_grid(effects, shape, affine), effects)


def _signature(block: Block) -> tuple[object, ...]:
    """What makes a block the same in two files; times to the millisecond."""
    return block.condition, block.half, block.used, tuple((round(a, 3), round(b, 3)) for a, b in block.events)


@dataclass(kw_only=True)
class Frame:
    """What all series share, and how one series is scored in it."""

    mask: Mask  # (X, Y, Z) brain
    factor: tuple[float, ...]  # acquired over high-resolution voxel by axis
    bands: tuple[str, ...]  # scales that are scored
    halves: Mapping[str, Float]  # by contrast, weights (2, B)
    draws: Mapping[str, Float | None]  # by contrast, resampled weights (2, n_boot, B) or None
    # by contrast, then by name, the voxels for source half 0 and for source half 1
    regions: Mapping[str, Mapping[str, tuple[Mask, Mask]]]
    mean: Float32 | None = None  # (X, Y, Z) the common mean image, or None without a measured series
    # by band, the measured block maps in the N voxels of the mask (N, B); empty without a measured series
    targets: dict[str, Float32] = field(default_factory=dict)
    _own: dict[tuple[str, str, str, int], Float] = field(default_factory=dict)

    def units(self, contrast: str, _: float = 0.0) -> int:
        """Blocks that count in a contrast."""
        return int(np.count_nonzero(self.halves[contrast]))

    def banded(self, betas: Float32, band: str) -> Float32:
        """Block maps (X, Y, Z, B) on one of the scales, then in the voxels of the mask, (N, B)."""
        if band == "beyond":
            return beyond_nyquist(betas, self.factor)[self.mask]
        if band == "percent":
            assert self.mean is not None
            floor = _LEAST_MEAN * float(np.median(self.mean[self.mask]))
            scale = np.divide(100, self.mean, out=np.zeros_like(self.mean), where=self.mean > floor)
            return betas[self.mask] * scale[self.mask][:, None]
        return betas[self.mask]

    def scores(self, betas: Float32, kinds: Sequence[str] = ("split", "self")) -> Scores:
        """Scores of one series by kind and metric (`split_ev`), band, contrast and region.

        Parameters
        ----------
        betas : (X, Y, Z, B) block maps on the high-resolution grid
        kinds : "split" (against the other half of the measured series) and "self" (of the series itself)
        """
        out: Scores = {}
        for band in self.bands:
            maps = self.banded(betas, band)
            # percent of one mean image differs from signal by a fixed map: amplitudes are compared once
            metrics = METRICS if band != "percent" else METRICS[:1]
            for region, contrast, inners in self._inners(maps, band):
                weights = self.halves[contrast], self.draws[contrast]
                if "split" in kinds and self.targets:
                    found = score(inners, *weights, metrics)
                    out |= {(f"split_{name}", band, contrast, region): one for name, one in found.items()}
                if "self" in kinds and band != "percent":
                    own = [None if i is None else Inner(own=i.own, cross=i.own, target=i.own) for i in inners]
                    out["self_r", band, contrast, region] = score(own, *weights, METRICS[:1])["r"]
        return out

    def _inners(self, maps: Float32, band: str) -> Iterator[tuple[str, str, list[Inner | None]]]:
        """Inner products for every region of every contrast; brain and roi, the same for all, are made once."""
        made: dict[str, list[Inner | None]] = {}
        for contrast, regions in self.regions.items():
            for region, voxels in regions.items():
                shared = voxels[0] is voxels[1]
                inners = made.get(region) if shared else None
                if inners is None:
                    where = "" if shared else contrast
                    first = self._inner(maps, band, voxels[0], (band, region, where, 0))
                    inners = [first, first if shared else self._inner(maps, band, voxels[1], (band, region, where, 1))]
                    made[region] = inners
                yield region, contrast, inners

    def _inner(self, maps: Float32, band: str, voxels: Mask, key: tuple[str, str, str, int]) -> Inner | None:
        if not enough(voxels):
            return None
        inside = voxels[self.mask]
        series = maps[inside].T
        own = inner_products(series, series)
        if not self.targets:
            return Inner(own=own, cross=own, target=own)
        target = self.targets[band][inside].T
        if key not in self._own:
            self._own[key] = inner_products(target, target)
        return Inner(own=own, cross=inner_products(series, target), target=self._own[key])


def _active_regions(selecting: Effects, halves: Float, mask: Mask) -> dict[str, tuple[Mask, Mask]]:
    """Voxels of the mask with |t| above each threshold in half 0 and in half 1, by name of the region."""
    if selecting.smooth_variance is None:
        return {}
    first, second = (np.abs(selecting.smooth_t(half)) for half in halves)
    return {f"active{round(10 * t)}": (mask & (first > t), mask & (second > t)) for t in ACTIVE_T}


def make_frame(
    measured: Effects | None, selecting: Effects, contrasts: Mapping[str, Mapping[str, float]], *, mask: Mask,
    roi: Mask, factor: Sequence[float], n_boot: int, seed: int,
) -> Frame:  # fmt: skip
    """The frame of a run.

    Parameters
    ----------
    measured : the high-resolution series of the same run, if there is one; on the grid of the mask
    selecting : the series whose t maps make the active regions, if it has any: measured, or else a baseline
    """
    halves: dict[str, Float] = {}
    for name, weights in contrasts.items():
        found, lost = selecting.halves(weights), missing_conditions(selecting.blocks, weights)
        if found is None:
            # the plan has told of runs of which none can be split
            LOGGER.info("contrast %s cannot be split in halves (%s)", name, ", ".join(lost) or "not estimable")
            continue
        if lost:
            LOGGER.warning("contrast %s: split halves leave out %s (no block in one half)", name, ", ".join(lost))
        halves[name] = found
    mask, roi = np.asarray(mask, dtype=bool), np.asarray(roi, dtype=bool) & mask
    if not enough(roi):
        LOGGER.warning("region of interest: %d voxels inside the brain; its figures are n/a", int(roi.sum()))
    bands = tuple(b for b in BANDS if (b != "percent" or measured is not None) and (b != "beyond" or max(factor) > 1))
    frame = Frame(
        mask=mask, factor=tuple(factor), bands=bands, halves=halves,
        draws=halves_of(selecting.blocks, halves, n_boot, seed), mean=None if measured is None else measured.mean,
        regions={
            name: {"brain": (mask, mask), "roi": (roi, roi)} | _active_regions(selecting, both, mask)
            for name, both in halves.items()
        },
    )  # fmt: skip
    if measured is not None:
        frame.targets = {band: frame.banded(measured.betas, band) for band in bands}
    return frame
