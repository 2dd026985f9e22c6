"""Regions of interest on the BOLD grid."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import apply
from bids_sr.spatial import low_resolution_grids
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.reproducible_numbers import round_values
from bids_sr.spatial.transforms import hr_grid, invert

_LOGGER = logging.getLogger(__name__)
_PADDING_MM = 90.0  # mm, distance from the field of view up to which a region is searched
_PADDED_VOXEL_MM = 4.0  # mm, voxel size of this search


def resample_region_to_bold(
    region: Volume,
    to_region: Sequence[Path],
    boldref2t1w: Array | None,
    grids: tuple[Volume, Volume],
    *,
    seed: int,
    folder: Path,
) -> tuple[tuple[MaskArray, MaskArray], dict[str, object]]:
    """Resample a region to the acquired and high-resolution grids of the BOLD series.

    A voxel is included if at least half of it is inside the region, also outside the brain.

    Parameters
    ----------
    region : Volume
        Region as an image (3D), with values above 0.5 inside.
    to_region : Sequence[Path]
        Transform files from T1w space to the region's space, the last file applied first; empty if
        the region is in T1w space.
    boldref2t1w : Array | None
        Transform of a T1w point to its boldref point (4 x 4, RAS+ mm); None if the region is in
        the space of the boldref.
    grids : tuple[Volume, Volume]
        Images on the acquired and high-resolution grids.
    seed : int
        Seed of the random samples of ANTs.
    folder : Path
        Existing directory for the inverted transform.

    Returns
    -------
    tuple[tuple[MaskArray, MaskArray], dict[str, object]]
        Region on both grids (3D), and the fraction of the region in the field of view.
    """
    chain: Sequence[Path] = ()
    # voxels of a region on the grid of the run are kept as they are, also single voxels
    interpolator = "nearestNeighbor"
    if boldref2t1w is not None:
        interpolator = "linear"
        chain = chain_through_t1w(boldref2t1w, to_region, folder)
    mask = Volume(data=(region.data > 0.5).astype(np.float32), affine=region.affine)
    regions = []
    for grid in grids:
        factor = low_resolution_grids.highres_factor(grid.affine, 2.0)
        shape, affine = hr_grid(grid.data.shape, grid.affine, factor)
        samples = apply(
            mask,
            Volume(data=np.zeros(shape, dtype=np.float32), affine=affine),
            chain,
            seed=seed,
            interpolator=interpolator,
        )
        regions.append(low_resolution_grids.block_average(samples, factor) >= 0.5)
    fraction_in_view = _fraction_in_view(mask, chain, grids[0], seed=seed)
    lowres_region, highres_region = regions
    return (lowres_region, highres_region), {"roi_fraction_in_fov": round(fraction_in_view, 3)}


def unite_regions(
    regions: Sequence[tuple[MaskArray, MaskArray]],
    brains: tuple[MaskArray, MaskArray],
    fractions_in_view: Sequence[float],
    names: Sequence[str],
) -> tuple[tuple[MaskArray, MaskArray], dict[str, object]]:
    """Unite regions within the brain, on the acquired and on the high-resolution grid.

    Regions without voxels in the brain are reported by name. If the union has no voxel in the
    brain, the brain masks are returned instead, and the facts record this. `regions` and `brains`
    are on both grids (3D), and `fractions_in_view` are the fractions of the regions in the field
    of view.

    Returns the union on both grids, and facts for the report.
    """
    outside = [
        name
        for name, masks in zip(names, regions, strict=True)
        if not all((mask & brain).any() for mask, brain in zip(masks, brains, strict=True))
    ]
    for name, fraction in zip(names, fractions_in_view, strict=True):
        if name in outside:
            _LOGGER.warning(
                "%s: the region contains no voxel of the brain mask of the BOLD series, which"
                " excludes clipped voxels (%.0f %% of the region are in the field of view). The"
                " region is not measured",
                name,
                100 * fraction,
            )
    lowres_union, highres_union = (
        np.any(masks, axis=0) & brain
        for masks, brain in zip(zip(*regions, strict=True), brains, strict=True)
    )
    facts: dict[str, object] = {
        "roi_voxels": int(lowres_union.sum()),
        "roi_fraction_in_fov": min(fractions_in_view),
        "roi_is_brain": not (lowres_union.any() and highres_union.any()),
    }
    if outside:
        facts["rois_outside"] = outside
    if facts["roi_is_brain"]:
        _LOGGER.warning("The whole brain is used instead of the region of interest")
        return brains, facts
    return (lowres_union, highres_union), facts


def chain_through_t1w(boldref2t1w: Array, from_t1w: Sequence[Path], folder: Path) -> list[Path]:
    """Return the transform files from boldref to another space through T1w space.

    `boldref2t1w` transforms a T1w point to its boldref point (4 x 4, RAS+ mm); its inverse is
    written to `folder`, which must exist. `from_t1w` are the transform files from T1w space to the
    other space; empty if that is T1w space. Points of the boldref go through the last returned
    file first.
    """
    inverse_file = folder / "t1w2boldref.txt"
    write_itk(inverse_file, round_values(invert(boldref2t1w)))
    return [*from_t1w, inverse_file]


def _fraction_in_view(mask: Volume, chain: Sequence[Path], grid: Volume, *, seed: int) -> float:
    """Return the fraction of a region inside the field of view of a grid.

    The region is sampled at 4 mm, up to 90 mm outside the field of view.
    """
    padding = np.ceil(_PADDING_MM / grid.zooms).astype(int)
    padded_affine = grid.affine.copy()
    padded_affine[:3, 3] -= grid.affine[:3, :3] @ padding
    shape, affine = hr_grid(
        tuple(np.array(grid.data.shape) + 2 * padding),
        padded_affine,
        tuple(np.minimum(grid.zooms / _PADDED_VOXEL_MM, 1.0)),
    )
    resampled_mask = apply(
        mask, Volume(data=np.zeros(shape, dtype=np.float32), affine=affine), chain, seed=seed
    )
    voxels = np.argwhere(resampled_mask > 0.5)
    if not len(voxels):
        return 0.0
    bold_voxels = apply_affine(np.linalg.inv(grid.affine) @ affine, voxels)
    is_in_view = ((bold_voxels > -0.5) & (bold_voxels < np.array(grid.data.shape) - 0.5)).all(
        axis=1
    )
    return float(is_in_view.mean())
