"""Preparation of the structural scans of one head: common frame, grid and intensity scale."""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Facts, File, Image, Map, Mask
from bids_sr.pipeline.step import HERE, step
from bids_sr.sr.method import Cost
from bids_sr.steps.memory import PREPARE_SCANS
from bids_sr.steps.structural.scans import (
    AlignmentModel,
    Extracted,
    IntensityScaling,
    Tools,
    grid_text,
    largest_voxels,
    make_empty_folder,
    make_scan,
)

if TYPE_CHECKING:
    from bids_sr.registration.structural_preparation import AlignLinear, ExtractBrain, Unbias

_LOGGER = logging.getLogger(__name__)
_Scans = tuple[list[Map], list[Map], list[Map], Mask, Mask, Facts]
_UNITS = {
    "percentile": (
        "intensities scaled to the range from 0 to 1, where 1 is the 99.9th percentile of"
        " brain intensities in the low-resolution scan"
    ),
    "range": "intensities scaled to the range from 0 to 1, where 0 and 1 are the minimum and"
    " maximum of the brain-extracted scan",
}
"""Descriptions of intensities in sidecars."""
_TIMES_AS_LONG = {
    "rigid": 1.0,
    "affine": 1.5,
    "nonlinear": 2.0,
    "template-rigid": 1.2,
    "template": 1.5,
    "template-warp": 2.5,
}
"""Processor time relative to a rigid alignment; the value for affine was measured, the others are
estimated from numbers of iterations.
"""


_MASKED = {"brain": "brain", "intracranial": "brain mask dilated by 6 mm"}


def describe_scan_mask(
    suffixes: Sequence[str], align: AlignmentModel, extracted: Extracted, *, of_model: bool
) -> dict[str, object]:
    """Return metadata of the mask of the scans.

    `of_model` is True if the grid is from a model instead of the high-resolution scan.
    """
    grid = _grid_of_model if of_model else grid_text
    resolution = grid(suffixes[0], align)
    return {"Description": _MASKED[extracted], "Type": "Brain", "Resolution": resolution}


def _cost_of_preparation(suffixes: Sequence[str], anat_align: AlignmentModel) -> Cost:
    return Cost(always=30.0, high=45.0 * len(suffixes) * _TIMES_AS_LONG[anat_align])


@step(
    makes=("fine_scans", "coarse_scans", "other_scans", "scan_mask", "scan_brain", "scan_facts"),
    memory=PREPARE_SCANS,
    cost=_cost_of_preparation,
)
def prepare_scans(
    highres_files: list[File],
    lowres_files: list[File],
    template: Image,
    template_mask: Mask,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    baselines: Literal["default", "all"],
    anat_align: AlignmentModel,
    anat_scale: IntensityScaling,
    anat_mask: Extracted,
    anat_tools: Tools,
    random_seed: int,
    sloppy: bool,
) -> _Scans:
    """Bring the scans of one head into one frame, onto one grid and to [0, 1].

    Parameters
    ----------
    highres_files, lowres_files : list[File]
        High- and low-resolution scan of each contrast, as acquired.
    template_mask : Mask
        Brain in the template (3D, boolean).
    suffixes : tuple[str, ...]
        BIDS suffix of each contrast; the first defines the frame.

    Returns
    -------
    tuple[list[Map], list[Map], list[Map], Mask, Mask, Facts]
        High-resolution scans on one grid; low-resolution scans on this grid by cubic splines; all
        contrasts from each of the other interpolations, in order; mask of the scans (`anat_mask`);
        brain; and position of each scan, intensities that were scaled to 1, and the transform to
        the template.
    """
    from bids_sr.registration import structural_preparation
    from bids_sr.registration.ants import load

    interpolations = _other_interpolations(baselines, anat_align)
    scans = {
        (name, kind): load(path)
        for name, *paths in zip(suffixes, highres_files, lowres_files, strict=True)
        for kind, path in zip(("highres", "lowres"), paths, strict=True)
    }
    unbias, extract_brain, align_linear = _external_tools(anat_tools, anat_align, here)
    prepared = structural_preparation.prepare(
        scans,
        template,
        template_mask.data,
        seed=random_seed,
        prefix=str(here / "scans_"),
        sloppy=sloppy,
        interpolations=("bspline", *interpolations),
        align=anat_align,
        scale=anat_scale,
        extracted=anat_mask,
        unbias=unbias,
        extract_brain=extract_brain,
        align_linear=align_linear,
    )
    metadata = {
        "Resolution": grid_text(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale],
    }
    series = {
        name: [
            make_scan(Volume(stack[suffix], prepared.affine), name, suffix, metadata)
            for suffix in suffixes
        ]
        for name, stack in {"measured": prepared.hr, **prepared.lr}.items()
    }
    facts = {**prepared.record(anat_align), "acquired_mm": largest_voxels(scans)}
    if (cropped := prepared.facts.get("template", {}).get("brain_cropped_percent", 0.0)) > 1:
        _LOGGER.warning(
            "The brain extends beyond the intracranial mask of the template, so %.1f %% of the"
            " brain is cropped. Use --anat-align template to scale the brain to the size of the"
            " template.",
            cropped,
        )
    other_scans = [scan for name in interpolations for scan in series[name]]
    mask, brain = (Volume(voxels, prepared.affine) for voxels in (prepared.mask, prepared.brain))
    return series["measured"], series["bspline"], other_scans, mask, brain, facts


def _other_interpolations(baselines: str, anat_align: AlignmentModel) -> tuple[str, ...]:
    """Return the interpolations other than the cubic spline, in order."""
    if baselines != "all":
        return ("linear",)
    # Deformations are only interpolated by splines.
    warped = anat_align in ("nonlinear", "template-warp")
    return ("linear", "nearest") if warped else ("linear", "lanczos", "nearest")


def _external_tools(
    anat_tools: Tools, anat_align: AlignmentModel, here: Path
) -> "tuple[Unbias | None, ExtractBrain | None, AlignLinear | None]":
    """Return functions for bias correction, brain extraction and trilinear alignment with FSL.

    They are None if `anat_tools` is ``ants``. `here` is the directory for their files.
    """
    if anat_tools == "ants":
        return None, None, None
    from bids_sr.registration import fsl

    folders = (here / f"fsl_{number}" for number in itertools.count())
    affine = anat_align not in ("rigid", "template-rigid")

    def unbias(image: Volume, name: str) -> Volume:
        return fsl.correct_bias_with_fast(image, name, make_empty_folder(next(folders)))

    def extract_brain(image: Volume) -> Array:
        return fsl.extract_brain_with_bet(image, make_empty_folder(next(folders)))

    def align_linear(frame: Volume, image: Volume) -> Array:
        return fsl.register_with_flirt(
            frame, image, make_empty_folder(next(folders)), affine=affine
        )

    return unbias, extract_brain, align_linear


@step(
    makes=("fine_scans", "scan_mask", "scan_brain", "scan_facts"),
    memory=PREPARE_SCANS,
    cost=_cost_of_preparation,
)
def prepare_control(
    highres_files: list[File],
    template: Image,
    template_mask: Mask,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    anat_align: AlignmentModel,
    anat_scale: IntensityScaling,
    anat_mask: Extracted,
    anat_tools: Tools,
    random_seed: int,
    sloppy: bool,
) -> tuple[list[Map], Mask, Mask, Facts]:
    """Bring the high-resolution scans of one session into one frame and to [0, 1].

    Parameters
    ----------
    highres_files : list[File]
        Scan of each contrast, as acquired.
    template_mask : Mask
        Brain in the template (3D, boolean).
    suffixes : tuple[str, ...]
        BIDS suffix of each contrast; the first defines the frame.

    Returns
    -------
    tuple[list[Map], Mask, Mask, Facts]
        Scans on one grid; mask of the scans (`anat_mask`); brain; and position of each scan and
        the matrix to the template.
    """
    from bids_sr.registration import structural_preparation
    from bids_sr.registration.ants import load

    unbias, extract_brain, _ = _external_tools(anat_tools, anat_align, here)
    prepared = structural_preparation.prepare(
        {
            (name, "highres"): load(path)
            for name, path in zip(suffixes, highres_files, strict=True)
        },
        template,
        template_mask.data,
        seed=random_seed,
        prefix=str(here / "scans_"),
        sloppy=sloppy,
        align=anat_align,
        scale=anat_scale,
        extracted=anat_mask,
        unbias=unbias,
        extract_brain=extract_brain,
    )
    metadata = {
        "Resolution": grid_text(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale].replace("low-resolution", "high-resolution"),
    }
    scans = [
        make_scan(Volume(prepared.hr[suffix], prepared.affine), "measured", suffix, metadata)
        for suffix in suffixes
    ]
    facts = prepared.record(anat_align)
    mask, brain = (Volume(voxels, prepared.affine) for voxels in (prepared.mask, prepared.brain))
    return scans, mask, brain, facts


def _grid_of_model(first: str, align: str) -> str:
    """Return the description of a grid without a high-resolution scan, for sidecars."""
    if align.startswith("template"):
        return "grid with the voxel size of the model, covering the template brain"
    return f"grid with the voxel size of the model, covering the low-resolution {first} scan"


@step(
    makes=("coarse_scans", "other_scans", "scan_mask", "scan_facts"),
    memory=PREPARE_SCANS,
    cost=_cost_of_preparation,
)
def prepare_lowres(
    lowres_files: list[File],
    template: Image,
    template_mask: Mask,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    grid_mm: tuple[float, float, float],
    grid_orientation: str,
    baselines: Literal["default", "all"],
    anat_align: AlignmentModel,
    anat_scale: IntensityScaling,
    anat_mask: Extracted,
    anat_tools: Tools,
    random_seed: int,
    sloppy: bool,
) -> tuple[list[Map], list[Map], Mask, Facts]:
    """Bring low-resolution scans of one head onto a grid with a model's voxel size and to [0, 1].

    Parameters
    ----------
    lowres_files : list[File]
        Scan of each contrast, as acquired.
    template_mask : Mask
        Brain in the template (3D, boolean).
    suffixes : tuple[str, ...]
        BIDS suffix of each contrast; the grid is placed around the first scan.
    grid_mm : tuple[float, float, float]
        Voxel size of the training images of the model (mm).
    grid_orientation : str
        Anatomical axis perpendicular to the slices of the model.

    Returns
    -------
    tuple[list[Map], list[Map], Mask, Facts]
        Scans by cubic splines; scans from each of the other interpolations, in order; mask of the
        scans (`anat_mask`); and alignment, position of each scan, and intensities that were scaled
        to 1.
    """
    from bids_sr.registration import structural_preparation
    from bids_sr.registration.ants import load
    from bids_sr.registration.model_grid import grid_around

    interpolations = _other_interpolations(baselines, anat_align)
    scans = {
        (name, "lowres"): load(path) for name, path in zip(suffixes, lowres_files, strict=True)
    }
    unbias, extract_brain, align_linear = _external_tools(anat_tools, anat_align, here)
    prepared = structural_preparation.prepare(
        scans,
        template,
        template_mask.data,
        seed=random_seed,
        prefix=str(here / "scans_"),
        sloppy=sloppy,
        interpolations=("bspline", *interpolations),
        align=anat_align,
        scale=anat_scale,
        extracted=anat_mask,
        grid=grid_around(scans[suffixes[0], "lowres"], grid_mm, grid_orientation),
        unbias=unbias,
        extract_brain=extract_brain,
        align_linear=align_linear,
    )
    metadata = {
        "Resolution": _grid_of_model(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale],
    }
    series = {
        name: [
            make_scan(Volume(stack[suffix], prepared.affine), name, suffix, metadata)
            for suffix in suffixes
        ]
        for name, stack in prepared.lr.items()
    }
    other_scans = [scan for name in interpolations for scan in series[name]]
    facts = {
        "units": prepared.units,
        "align": anat_align,
        "offsets": prepared.facts,
        "acquired_mm": largest_voxels(scans),
    }
    return series["bspline"], other_scans, Volume(prepared.mask, prepared.affine), facts
