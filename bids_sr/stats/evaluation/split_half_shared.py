"""What all series of a run share when their halves are scored: voxels, scales, weights, resamples, and the target."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bids_sr.series import RAW_SPLINE
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.stats.evaluation.explained_variance import FIGURES
from bids_sr.stats.evaluation.split_half import (
    BANDS,
    Inner,
    Score,
    active_regions,
    beyond_nyquist,
    enough,
    halves_of,
    inner_products,
    score,
)
from bids_sr.stats.glm.block_effects import Effects
from bids_sr.stats.glm.blocks import missing_conditions

Array = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Key = tuple[str, str, str, str]  # "split_r", "split_ev", … or "self_r"; band, contrast, region
AMPLITUDE_BANDS = ("signal", "beyond")
"""Scales on which amplitudes are compared; percent of one mean image differs from signal by a fixed map."""
LOGGER = logging.getLogger(__name__)
_LEAST_MEAN = 0.05  # of the brain's median: percent of less than this is no percent of signal


def on_grid(effects: Effects, shape: tuple[int, ...], affine: Float) -> tuple[str, Array]:
    """Name and block maps on the high-resolution grid; the acquired series' maps are brought there by a spline.

    Raises
    ------
    ValueError : a series other than raw lies on another grid
    """
    if effects.betas.shape[:3] == tuple(shape) and np.allclose(effects.affine, affine, atol=1e-3):
        return effects.series, effects.betas
    if effects.series != "raw":
        raise ValueError(f"effects of {effects.series} lie on another grid than the high-resolution mask")
    maps = [
        sample_volume(m, effects.affine, shape, affine, spline=Spline(order=3))
        for m in np.moveaxis(effects.betas, -1, 0)
    ]
    return RAW_SPLINE, np.stack(maps, axis=-1)


@dataclass(kw_only=True)
class Frame:
    """What all series share, and how one series is scored in it.

    Attributes
    ----------
    mask, roi : (X, Y, Z) brain and region of interest
    factor : acquired over high-resolution voxel by axis
    bands : scales that are scored
    halves, draws : by contrast, weights (2, B) and resampled weights (2, n_boot, B) or None
    regions : by contrast, then by name, the voxels for source half 0 and for source half 1
    mean : (X, Y, Z) the common mean image, or None without a measured series
    targets : by band, the measured block maps in the N voxels of the mask (N, B); empty without a measured series
    """

    mask: Mask
    roi: Mask
    factor: tuple[float, ...]
    bands: tuple[str, ...]
    halves: Mapping[str, Float]
    draws: Mapping[str, Float | None]
    regions: Mapping[str, Mapping[str, tuple[Mask, Mask]]]
    mean: Array | None = None
    targets: dict[str, Array] = field(default_factory=dict)
    _own: dict[tuple[str, str, str, int], Float] = field(default_factory=dict)

    def banded(self, betas: Array, band: str) -> Array:
        """Block maps (X, Y, Z, B) on one of the scales, then in the voxels of the mask, (N, B)."""
        if band == "beyond":
            return beyond_nyquist(betas, self.factor)[self.mask]
        if band == "percent":
            assert self.mean is not None
            floor = _LEAST_MEAN * float(np.median(self.mean[self.mask]))
            scale = np.divide(100, self.mean, out=np.zeros_like(self.mean), where=self.mean > floor)
            return betas[self.mask] * scale[self.mask][:, None]
        return betas[self.mask]

    def scores(self, betas: Array, kinds: Sequence[str] = ("split", "self")) -> dict[Key, Score]:
        """Scores of one series by kind and figure (`split_ev`), band, contrast and region.

        Parameters
        ----------
        betas : (X, Y, Z, B) block maps on the high-resolution grid
        kinds : "split" (against the other half of the measured series) and "self" (of the series itself)
        """
        out: dict[Key, Score] = {}
        for band in self.bands:
            maps = self.banded(betas, band)
            for region, contrast, inners in self._inners(maps, band):
                given = self.halves[contrast], self.draws[contrast]
                if "split" in kinds and self.targets:
                    found = score(inners, *given, FIGURES if band in AMPLITUDE_BANDS else FIGURES[:1])
                    out |= {(f"split_{name}", band, contrast, region): one for name, one in found.items()}
                if "self" in kinds and band != "percent":
                    own = [None if i is None else Inner(own=i.own, cross=i.own, target=i.own) for i in inners]
                    out["self_r", band, contrast, region] = score(own, *given, FIGURES[:1])["r"]
        return out

    def _inners(self, maps: Array, band: str) -> list[tuple[str, str, list[Inner | None]]]:
        """Inner products for every region of every contrast; brain and roi, the same for all, are made once."""
        made: dict[str, list[Inner | None]] = {}
        out = []
        for contrast, regions in self.regions.items():
            for region, voxels in regions.items():
                shared = voxels[0] is voxels[1]
                inners = made.get(region) if shared else None
                if inners is None:
                    where = "" if shared else contrast
                    first = self._inner(maps, band, voxels[0], (band, region, where, 0))
                    inners = [first, first if shared else self._inner(maps, band, voxels[1], (band, region, where, 1))]
                    made[region] = inners
                out.append((region, contrast, inners))
        return out

    def _inner(self, maps: Array, band: str, voxels: Mask, key: tuple[str, str, str, int]) -> Inner | None:
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


def make_frame(
    measured: Effects | None,
    selecting: Effects,
    contrasts: Mapping[str, Mapping[str, float]],
    *,
    mask: Mask,
    roi: Mask,
    factor: Sequence[float],
    n_boot: int,
    seed: int,
) -> Frame:
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
            LOGGER.warning("contrast %s cannot be split in halves (%s)", name, ", ".join(lost) or "not estimable")
            continue
        if lost:
            LOGGER.warning("contrast %s: split halves leave out %s (no block in one half)", name, ", ".join(lost))
        halves[name] = found
    mask, roi = np.asarray(mask, dtype=bool), np.asarray(roi, dtype=bool) & mask
    if not enough(roi):
        LOGGER.warning("region of interest: %d voxels inside the brain; its figures are n/a", int(roi.sum()))
    regions: dict[str, dict[str, tuple[Mask, Mask]]] = {}
    for name, both in halves.items():
        regions[name] = {"brain": (mask, mask), "roi": (roi, roi)}
        if selecting.smooth_variance is not None:
            regions[name] |= active_regions([selecting.smooth_t(half) for half in both], mask)
    bands = tuple(b for b in BANDS if (b != "percent" or measured is not None) and (b != "beyond" or max(factor) > 1))
    frame = Frame(
        mask=mask, roi=roi, factor=tuple(factor), bands=bands, halves=halves,
        draws=halves_of(selecting.blocks, halves, n_boot, seed), regions=regions,
        mean=None if measured is None else measured.mean,
    )  # fmt: skip
    if measured is not None:
        frame.targets = {band: frame.banded(measured.betas, band) for band in bands}
    return frame
