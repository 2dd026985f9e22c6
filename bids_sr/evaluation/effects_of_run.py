"""Block effects of all series of a run on one grid."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.halves import missing_conditions, split_contrasts
from bids_sr.io import atomic_files
from bids_sr.io.arrays import Float, Float32, MaskArray, Real
from bids_sr.io.contrast_names import rank_contrast
from bids_sr.io.frozen import frozen
from bids_sr.io.series import ACQUIRED_SPLINE, MEASURED, PCA, SMOOTH
from bids_sr.spatial.masks import bounding_box
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.smoothing import smooth

_CONTROL_FWHM_MM = tuple(map(float, range(9)))
"""mm, FWHM candidates of the control `bsplineSmooth`."""
MIN_VOXELS = 10
"""Smallest number of voxels in a region for which correlations are computed."""
_LOGGER = logging.getLogger(__name__)


@frozen
class RunEffects:
    """Block effects of all series of a run, and the settings of their comparison.

    `files` are files of `bids_sr.glm.block_effects.Effects.save` by series. `mask` and `roi` are
    the brain and the region of interest on the high-resolution grid (X, Y, Z), `affine` is the
    voxel-to-RAS-mm matrix of this grid (4, 4), and `factor` the acquired over high-resolution
    voxel size by axis.

    `acquired_t` contains t maps of the whole acquired run by contrast, unsmoothed, interpolated to
    the high-resolution grid by cubic B-splines (X, Y, Z); empty if no t map was computed.
    """

    files: Mapping[str, Path]
    contrasts: Contrasts
    mask: MaskArray
    affine: Float
    roi: MaskArray
    factor: Sequence[float]
    n_boot: int = 1000
    seed: int = 0
    acquired_t: Mapping[str, Float32] = field(default_factory=dict)

    @property
    def bands(self) -> tuple[str, ...]:
        """Spatial frequency bands: all, and beyond the acquired Nyquist frequency."""
        return ("all",) if max(self.factor) <= 1 else ("all", "beyond")

    @property
    def regions(self) -> dict[str, MaskArray]:
        """Voxels of the brain, and of the region of interest within the brain."""
        return {"brain": self.mask, "roi": self.roi & self.mask}

    def load_first(self) -> Effects:
        """Return the effects of the measured series, or of the first series if not measured."""
        return Effects.load(self.files.get(MEASURED, next(iter(self.files.values()))))

    def maps_by_band(self, betas: Real, bands: Sequence[str]) -> dict[str, Real]:
        """Return block maps in the N voxels of the mask, (N, B), by band.

        `betas` are block maps on the high-resolution grid (X, Y, Z, B), and `bands` are the
        spatial frequencies ``all`` or ``beyond``. Filters are applied to complete slices before
        masking, because the edge of a mask would add detail.
        """
        masked = betas[self.mask]
        if max(self.factor) <= 1 or set(bands) == {"all"}:
            return dict.fromkeys(bands, masked)
        beyond = beyond_nyquist(betas, self.factor)[self.mask]
        return {band: {"all": masked, "beyond": beyond}[band] for band in bands}

    def series(self) -> Iterator[tuple[str, Float32, Effects]]:
        """Yield name, block maps on the high-resolution grid, and effects of each series."""
        for path in self.files.values():
            effects = Effects.load(path)
            name, betas = resample_effects(effects, self.mask.shape, self.affine)
            yield name, betas, effects

    def warn_of_few_voxels(self) -> None:
        """Warn if the ROI is small, and log conditions with too few blocks, for all contrasts."""
        n_voxels = int(self.regions["roi"].sum())
        if n_voxels < MIN_VOXELS:
            _LOGGER.warning(
                "The region of interest contains only %d voxels of the brain mask, so values "
                "of this region are set to n/a.",
                n_voxels,
            )
        self._log_missing_conditions()

    def _log_missing_conditions(self) -> None:
        """Log contrasts that cannot be split into halves, with the missing conditions."""
        first_effects = self.load_first()
        contrasts_by_reason: dict[str, list[str]] = {}
        for name, weights in self.contrasts.items():
            if first_effects.halves(weights) is None:
                missing = ", ".join(missing_conditions(first_effects.blocks, weights))
                reason = f"too few blocks of {missing}" if missing else "not estimable"
                contrasts_by_reason.setdefault(reason, []).append(name)
        for reason, contrast_names in contrasts_by_reason.items():
            # The user was warned about these trial types before processing.
            _LOGGER.info(
                "Contrasts that cannot be split into halves (%s): %s",
                reason,
                ", ".join(contrast_names),
            )


def save_fine_effects(run: RunEffects, path: Path) -> Path:
    """Write effects of all series beyond the acquired Nyquist frequency, cropped to the brain.

    The contrast is ``all``, or ``all`` without conditions that cannot be split into halves, or
    else the first that can. Effects are from all blocks of the run, in signal units.

    Keys of the file are ``contrast``; ``affine`` of the crop; ``mask``; ``series``, the names of
    all series; and ``beyond_NAME`` (X, Y, Z) for each of these series.
    ``series`` is empty if no contrast can be estimated or if no axis is super-resolved.
    """
    mask = run.mask
    contrast, block_weights = _select_contrast(run)
    box = bounding_box(mask if mask.any() else np.ones_like(mask))
    crop_affine = np.array(run.affine, dtype=np.float64)
    crop_affine[:3, 3] += crop_affine[:3, :3] @ [extent.start for extent in box]
    arrays: dict[str, Any] = {
        "contrast": np.array(contrast),
        "affine": crop_affine,
        "mask": mask[box],
    }
    series_names = []
    if block_weights is not None and max(run.factor) > 1:
        files = list(run.files.values())
        for file in files:
            name, betas = resample_effects(Effects.load(file), mask.shape, run.affine)
            effect = betas @ block_weights.astype(np.float32)
            series_names.append(name)
            arrays[f"beyond_{name}"] = beyond_nyquist(effect, run.factor)[box]
    arrays["series"] = np.array(series_names, dtype=str)
    with atomic_files.atomic_file(path) as unfinished, open(unfinished, "wb") as stream:
        np.savez(stream, **arrays)
    return path


def _select_contrast(run: RunEffects) -> tuple[str, Float | None]:
    """Return the split contrast of most conditions, or else the first, with block weights.

    The weights are (B,). ("", None) is returned if no contrast can be split and estimated.
    """
    effects = run.load_first()
    weights_by_contrast = {
        name: block_weights
        for name, split in split_contrasts(effects.blocks, run.contrasts).items()
        if (block_weights := effects.run_weights(split.weights)) is not None
    }
    contrast = min(weights_by_contrast, key=rank_contrast, default="")
    return contrast, weights_by_contrast.get(contrast)


def resample_effects(
    effects: Effects, shape: tuple[int, ...], affine: Float
) -> tuple[str, Float32]:
    """Return the series name and its block maps (X, Y, Z, B) on the high-resolution grid.

    Maps of the acquired series are interpolated by splines; the name is then ``acquiredSpline``.
    Raises `ValueError` if a series other than `acquired` is on another grid.
    """
    if effects.betas.shape[:3] == tuple(shape) and np.allclose(effects.affine, affine, atol=1e-3):
        return effects.series, effects.betas
    if effects.series != "acquired":
        raise ValueError(
            f"the effects of {effects.series} are not on the grid of the high-resolution mask"
        )
    maps = [
        sample_volume(block_map, effects.affine, shape, affine)
        for block_map in np.moveaxis(effects.betas, -1, 0)
    ]
    return ACQUIRED_SPLINE, np.stack(maps, axis=-1)


def denoise_controls(bspline: Effects) -> Iterator[tuple[str, float, Float32]]:
    """Yield denoised controls of the B-spline series: name, setting, block maps (X, Y, Z, B).

    `bsplineSmooth` is smoothed in space (setting: FWHM in mm), and `bsplinePca` is reduced to a
    few temporal components (setting: their number). Each control is yielded once per setting.
    Gains of these controls are due to denoising, not to resolution.
    """
    for width in _CONTROL_FWHM_MM:
        yield SMOOTH, width, smooth_maps(bspline.betas, bspline.zooms, width)
    for rank in bspline.ranks:
        yield PCA, float(rank), bspline.limit_components(rank)


def smooth_maps(betas: Float32, zooms: Sequence[float], fwhm_mm: float) -> Float32:
    """Smooth each of the block maps (X, Y, Z, B) with a Gaussian (FWHM in mm)."""
    return np.stack(
        [smooth(block_map, zooms, fwhm_mm) for block_map in np.moveaxis(betas, -1, 0)], axis=-1
    )
