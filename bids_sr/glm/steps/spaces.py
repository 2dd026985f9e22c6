"""Grids in the spaces of ``--output-spaces``, and maps resampled to these grids."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.engine.artifacts import Derivative, File, Image, Map, Mask
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import TO_TEMPLATE
from bids_sr.glm.steps.activation import write_map
from bids_sr.io import template_files
from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.grids import Factor
from bids_sr.io.volume import Volume
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.ants import apply_to_points
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.output_grids import OutputGrid, grid_around, make_output_grid, zooms_in_ras
from bids_sr.spatial.transforms import hr_grid


@step(Stage.REGISTRATION, makes="space_grid", memory=TO_TEMPLATE)
def grid_in_t1w(
    boldref: Image,
    t1w_mask: Mask,
    boldref2t1w_xfm: Transforms,
    *,
    factor: Factor,
    space_entities: Mapping[str, str],
) -> OutputGrid:
    """Return a grid around the T1w brain, with the voxel size of the super-resolved series.

    `boldref2t1w_xfm` maps T1w points to boldref points (1, 4, 4; RAS mm), the direction of ITK.
    `factor` is the super-resolution factor.
    """
    zooms = _compute_series_zooms(boldref, factor)
    shape, affine = grid_around(t1w_mask.data, t1w_mask.affine, zooms)
    to_boldref = partial(apply_affine, boldref2t1w_xfm[0])
    return make_output_grid(space_entities, shape, affine, to_boldref, boldref)


@step(Stage.REGISTRATION, makes="space_grid", memory=TO_TEMPLATE)
def grid_in_template(
    boldref: Image,
    template_mask: Mask,
    boldref2t1w_xfm: Transforms,
    t1w2std_xfm: File,
    *,
    factor: Factor,
    template_space: str,
    resolution: str,
    space_entities: Mapping[str, str],
) -> OutputGrid:
    """Return a grid in template space.

    `boldref2t1w_xfm` maps T1w points to boldref points (1, 4, 4; RAS mm), and `t1w2std_xfm`
    template points to T1w points. `template_space` is named as in TemplateFlow, with the cohort
    after a plus sign. `resolution` is the label of a grid of the template. If it is "", the grid
    is around the template brain and has the voxel size of the super-resolved series.
    """
    if resolution:
        grid = template_files.load_grid(template_space, resolution)
        if grid is None:
            raise ValueError(
                f"{template_space}: a template grid with resolution {resolution} is not"
                " available on this computer"
            )
    else:
        zooms = _compute_series_zooms(boldref, factor)
        grid = grid_around(template_mask.data, template_mask.affine, zooms)
    to_boldref = partial(_map_to_boldref, t1w2std=t1w2std_xfm, boldref2t1w=boldref2t1w_xfm[0])
    return make_output_grid(space_entities, *grid, to_boldref, boldref)


def _compute_series_zooms(boldref: Volume, factor: Factor) -> Array:
    """Return voxel sizes (mm) of the super-resolved series along right, anterior and superior."""
    _, affine = hr_grid(boldref.data.shape, boldref.affine, factor)
    return zooms_in_ras(affine)


def _map_to_boldref(points: Array, *, t1w2std: Path, boldref2t1w: Array) -> Array:
    """Map points of the template to points of the boldref (N, 3; RAS mm)."""
    t1w_points = apply_to_points(points, [t1w2std])
    return apply_affine(boldref2t1w, t1w_points)


@step(Stage.REGISTRATION, makes="space_maps", memory=TO_TEMPLATE)
def maps_to_spaces(
    maps: list[Map],
    mask: Mask,
    space_grids: list[OutputGrid],
    clipped_masks: Sequence[Map] = (),
    *,
    here: Path = HERE,
) -> list[Map]:
    """Resample maps to other spaces with a single interpolation through concatenated transforms.

    Masks and segmentations (dseg) keep their labels. Entities and metadata of the resampled maps
    include the space.

    `maps` are on one grid in the frame of the boldref, and 0 outside `mask`, the brain on this
    grid. Resampled maps are 0 inside the voxels of `clipped_masks`, which are on the acquired
    grid.
    """
    metadata = {"Resolution": "map resampled by a single linear interpolation"}
    resampled_maps = []
    for space_grid in space_grids:
        images = (
            (statmap.volume.data, statmap.entities["suffix"] in ("mask", "dseg"))
            for statmap in maps
        )
        resampled_images = space_grid.resample_maps(images, mask.data, mask.affine)
        is_clipped = _resample_masks(clipped_masks, space_grid)
        for statmap, values in zip(maps, resampled_images, strict=True):
            values[is_clipped] = 0
            # The entity `res` describes the grid of the run and does not apply to the new grid.
            entities = {name: label for name, label in statmap.entities.items() if name != "res"}
            derivative = Derivative(
                None, {**entities, **space_grid.entities}, {**statmap.sidecar, **metadata}
            )
            resampled_maps.append(write_map(values, space_grid.affine, derivative, here))
    return resampled_maps


def _resample_masks(masks: Sequence[Derivative], space_grid: OutputGrid) -> MaskArray:
    """Return the voxels of a grid whose center is inside a voxel of any mask."""
    is_inside = np.zeros(space_grid.shape, dtype=bool)
    for mask in masks:
        voxels = mask.volume.data > 0
        (labels,) = space_grid.resample_maps([(voxels, True)], voxels, mask.volume.affine)
        is_inside |= labels > 0
    return is_inside


def describe_spaces(spaces: Sequence[str]) -> str:
    """Return methods text of the spaces of the results."""
    return (
        f"The super-resolved series and the maps were also resampled to {enumerate_words(spaces)}."
        " For the series, the registration and head-motion transforms of each volume were"
        " concatenated and applied to the super-resolved volume with a single cubic spline"
        " interpolation. Maps were resampled with linear interpolation.\n"
    )
