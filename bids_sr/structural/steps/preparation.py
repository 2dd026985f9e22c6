"""Preparation of the structural scans of one head: common frame, grid and intensity scale."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config.sections.anat import AlignmentModel, Tools
from bids_sr.engine.artifacts import File, Image, Mask
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import PREPARE_SCANS
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.series import INTERPOLATIONS, parse_series_name
from bids_sr.io.volume import Volume
from bids_sr.structural.steps.scans import (
    PreparedScans,
    ScanPreparation,
    grid_text,
    largest_voxels,
    make_empty_folder,
    make_scan,
    read_edited_mask,
)

if TYPE_CHECKING:
    from bids_sr.structural.preparation import ScanTools

_LOGGER = logging.getLogger(__name__)
# descriptions of intensities in sidecars
_INTENSITY_DESCRIPTIONS = {
    "percentile": (
        "intensities scaled to the range from 0 to 1, where 1 is the 99.9th percentile of"
        " brain intensities in the {resolution} scan"
    ),
    "range": (
        "intensities scaled to the range from 0 to 1, where 0 and 1 are the minimum and"
        " maximum of the brain-extracted scan"
    ),
}
# descriptions of the mask in sidecars
_MASK_DESCRIPTIONS = {"brain": "brain", "intracranial": "brain mask dilated by 6 mm"}
_MAX_CROPPED_PERCENT = 1.0  # of the brain, largest cropped part without a warning


def describe_scan_mask(
    suffixes: Sequence[str], preparation: ScanPreparation, *, is_model_grid: bool
) -> dict[str, object]:
    """Return metadata of the mask of the scans.

    `is_model_grid` is True if the grid is from a model instead of the high-resolution scan.
    """
    describe_grid = _model_grid_text if is_model_grid else grid_text
    return {
        "Description": _MASK_DESCRIPTIONS[preparation.anat_mask],
        "Type": "Brain",
        "Resolution": describe_grid(suffixes[0], preparation.anat_align),
    }


@step(
    Stage.STRUCTURAL_PREPARATION,
    memory=PREPARE_SCANS,
)
def prepare_scans(
    template: Image,
    template_mask: Mask,
    highres_files: Sequence[File] = (),
    lowres_files: Sequence[File] = (),
    given_brain_mask: File | None = None,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    preparation: ScanPreparation,
    all_interpolations: bool = False,
    grid_mm: tuple[float, float, float] | None = None,
    grid_orientation: str = "",
    crop_factor: Factor | None = None,
) -> PreparedScans:
    """Bring the scans of one head into one frame, onto one grid and to [0, 1].

    `template` is a skull-stripped T1w image, and `template_mask` its brain (3D, boolean).
    `highres_files` and `lowres_files` have one scan per contrast, as acquired; they are empty if
    there are no scans of this resolution. `given_brain_mask` is a corrected mask of the voxels to
    keep, on the grid of the prepared scans. The first of `suffixes`, the BIDS suffixes of the
    contrasts, defines the frame.

    Low-resolution scans are interpolated by a cubic spline and trilinearly, or by all kernels.
    `grid_mm` and `grid_orientation` are the voxel size of the training images of a model, and the
    anatomical axis perpendicular to its slices. They define the grid, around the first scan, if
    there are no high-resolution scans. `crop_factor` is the factor of the k-space crop that
    simulates low-resolution scans, which are zero filled; None for measured scans.
    """
    from bids_sr.preproc.ants import AntsOptions, load
    from bids_sr.structural import preparation as structural_preparation
    from bids_sr.structural.model_grid import grid_around

    align, has_lowres = preparation.anat_align, bool(lowres_files) or crop_factor is not None
    interpolations: tuple[str, ...] = ("bspline",)
    if has_lowres:
        interpolations = list_interpolations(
            align, all_interpolations=all_interpolations, is_simulated=crop_factor is not None
        )
    input_series = interpolations[0]
    scans = {
        (suffix, resolution): load(files[index])
        for index, suffix in enumerate(suffixes)
        for resolution, files in (("highres", highres_files), ("lowres", lowres_files))
        if files
    }
    grid = None
    if grid_mm is not None:
        grid = grid_around(scans[suffixes[0], "lowres"], grid_mm, grid_orientation)
    prepared = structural_preparation.prepare(
        scans,
        template,
        template_mask.data,
        options=AntsOptions(
            seed=preparation.random_seed,
            prefix=str(here / "scans_"),
            sloppy=preparation.sloppy,
        ),
        interpolations=interpolations,
        align=align,
        scale=preparation.anat_scale,
        extraction=preparation.anat_mask,
        grid=grid,
        corrected_mask=None
        if given_brain_mask is None
        else partial(read_edited_mask, given_brain_mask),
        crop_factor=crop_factor,
        tools=_choose_tools(preparation.anat_tools, align, here),
    )
    _warn_of_cropped_brain(prepared.facts)
    metadata = _describe_scans(
        suffixes[0], preparation, has_highres=bool(highres_files), has_lowres=has_lowres
    )
    series = {
        name: [
            make_scan(Volume(images[suffix], prepared.affine), name, suffix, metadata)
            for suffix in suffixes
        ]
        for name, images in {"measured": prepared.highres, **prepared.lowres}.items()
        if images
    }
    voxel_facts = {"acquired_mm": largest_voxels(scans)} if lowres_files else {}
    return PreparedScans(
        coarse_scans=series.get(input_series, []),
        other_scans=[scan for name in interpolations[1:] for scan in series[name]],
        scan_mask=Volume(prepared.mask, prepared.affine),
        scan_facts={**prepared.record(align), **voxel_facts},
        fine_scans=series.get("measured"),
        scan_brain=Volume(prepared.brain, prepared.affine) if highres_files else None,
    )


def list_interpolations(
    anat_align: AlignmentModel, *, all_interpolations: bool, is_simulated: bool
) -> tuple[str, ...]:
    """Return the interpolations of low-resolution scans, first the input of the networks.

    Low-resolution scans that are simulated are zero filled.
    """
    first = ("zerofill", "bspline") if is_simulated else ("bspline",)
    if not all_interpolations:
        return (*first, "linear")
    # Deformations are only interpolated by splines.
    is_deformed = anat_align in ("nonlinear", "template-warp")
    excluded_orders = (None, "sinc") if is_deformed else (None,)
    others = (
        name
        for name in INTERPOLATIONS
        if name not in first and parse_series_name(name).order not in excluded_orders
    )
    return (*first, *others)


def _choose_tools(anat_tools: Tools, anat_align: AlignmentModel, here: Path) -> "ScanTools":
    """Return the functions of FSL, or the default ones if `anat_tools` is ``ants``.

    `here` is the directory for their files.
    """
    from bids_sr.structural.preparation import DEFAULT_TOOLS, ScanTools

    if anat_tools == "ants":
        return DEFAULT_TOOLS
    from bids_sr.preproc import fsl

    folders = (here / f"fsl_{number}" for number in itertools.count())
    affine = anat_align not in ("rigid", "template-rigid")

    def correct_bias(image: Volume, contrast: str) -> Volume:
        return fsl.correct_bias_with_fast(image, contrast, make_empty_folder(next(folders)))

    def extract_brain(image: Volume) -> Array:
        return fsl.extract_brain_with_bet(image, make_empty_folder(next(folders)))

    def align_linear(frame: Volume, image: Volume) -> Array:
        return fsl.register_with_flirt(
            frame, image, make_empty_folder(next(folders)), affine=affine
        )

    return ScanTools(
        correct_bias=correct_bias, extract_brain=extract_brain, align_linear=align_linear
    )


def _warn_of_cropped_brain(facts: Mapping[str, Mapping[str, float]]) -> None:
    """Warn if the template grid crops the brain, given the displacements of the scans."""
    cropped_percent = facts.get("template", {}).get("brain_cropped_percent", 0.0)
    if cropped_percent > _MAX_CROPPED_PERCENT:
        _LOGGER.warning(
            "The brain extends beyond the intracranial mask of the template, so %.1f %% of the"
            " brain is cropped. Use --set anat.align=template to scale the brain to the size of"
            " the template.",
            cropped_percent,
        )


def _describe_scans(
    first: str, preparation: ScanPreparation, *, has_highres: bool, has_lowres: bool
) -> dict[str, object]:
    """Return metadata of the prepared scans of one head.

    `first` is the suffix of the scan that defines the frame. The others are whether the head has
    scans of each resolution.
    """
    describe_grid = grid_text if has_highres else _model_grid_text
    return {
        "Resolution": describe_grid(first, preparation.anat_align),
        "SkullStripped": True,
        "Description": _INTENSITY_DESCRIPTIONS[preparation.anat_scale].format(
            resolution="low-resolution" if has_lowres else "high-resolution"
        ),
    }


def _model_grid_text(first: str, align: str) -> str:
    """Return the description of a grid without a high-resolution scan, for sidecars."""
    if align.startswith("template"):
        return "grid with the voxel size of the model, covering the template brain"
    return f"grid with the voxel size of the model, covering the low-resolution {first} scan"
