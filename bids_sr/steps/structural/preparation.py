"""Structural scans of one head, brought into one frame, grid and intensity scale."""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Facts, File, Image, Map, Mask
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.sr.method import Cost
from bids_sr.steps.memory import PREPARE_SCANS
from bids_sr.steps.structural.scans import (
    Align,
    Extracted,
    Scale,
    Tools,
    emptied,
    grid_text,
    scan_of,
)

if TYPE_CHECKING:
    from bids_sr.registration.structural_preparation import AlignLinear, ExtractBrain, Unbias

_LOGGER = logging.getLogger(__name__)
_Scans = tuple[list[Map], list[Map], list[Map], Mask, Mask, Facts]
_TO_TEMPLATE = (
    "aligned to the high-resolution {} scan, which was aligned to the template, with %s that"
    " maximize mutual information in ANTs [@ants]; cropped to the intracranial volume of the"
    " template;"
)
_ALIGNED = {
    "rigid": (
        "aligned to the high-resolution {} scan with a rigid transform that maximizes mutual"
        " information in ANTs [@ants]"
    ),
    "affine": (
        "aligned to the high-resolution {} scan with an affine transform that maximizes mutual"
        " information in ANTs [@ants]"
    ),
    "nonlinear": (
        "aligned to the high-resolution {} scan with an affine transform and a symmetric"
        " deformation that maximize mutual information in ANTs [@ants]"
    ),
    "template-rigid": _TO_TEMPLATE % "rigid transforms",
    "template": _TO_TEMPLATE % "affine transforms",
    # the step to the template maximizes another metric than mutual information
    "template-warp": (
        "aligned to the high-resolution {} scan, which was aligned to the template, with affine"
        " transforms and symmetric deformations in ANTs [@ants]; cropped to the intracranial"
        " volume of the template;"
    ),
}


_SCALED = {
    "percentile": (
        "were scaled linearly to the range from 0 to 1, such that the mean intensity in the brain"
        " was the same at both resolutions"
    ),
    "range": (
        "of each scan were scaled linearly, such that the minimum was 0 and the maximum was 1"
        " [@attention_unet]"
    ),
}
_UNITS = {
    "percentile": (
        "intensities scaled to the range from 0 to 1, where 1 is the 99.9th percentile of"
        " brain intensities in the low-resolution scan"
    ),
    "range": "intensities scaled to the range from 0 to 1, where 0 and 1 are the minimum and"
    " maximum of the brain-extracted scan",
}
"""Descriptions of the intensities in sidecars."""
_TIMES_AS_LONG = {
    "rigid": 1.0,
    "affine": 1.5,
    "nonlinear": 2.0,
    "template-rigid": 1.2,
    "template": 1.5,
    "template-warp": 2.5,
}
"""Of the preparation: an affine measured; others by their further iterations."""


def describe_preparation(
    suffixes: Sequence[str], align: Align, scale: Scale, extracted: Extracted, tools: Tools
) -> str:
    """Say how scans of both resolutions were brought together.

    `suffixes`: BIDS suffix of each contrast; the first is the frame.
    """
    first, contrasts = suffixes[0], " and ".join(suffixes)
    aligned = _ALIGNED[align].format(first)
    trilinear = (
        " For trilinear interpolation, low-resolution scans were aligned with FSL FLIRT [@flirt]"
        " and the correlation ratio cost function."
    )
    return (
        f"The high- and low-resolution {contrasts} scans were {_corrected(tools)}, {aligned}"
        f" and resampled with a single interpolation. The brain was"
        f" {_brain_text(extracted, tools)}. Intensities {_SCALED[scale]}."
        f"{trilinear * (tools == 'fsl')}"
    )


def _corrected(tools: Tools) -> str:
    bias = "FSL FAST [@fast]" if tools == "fsl" else "N4 [@n4]"
    return f"corrected for intensity non-uniformity with {bias}"


def _brain_text(extracted: Extracted, tools: Tools) -> str:
    brain = (
        "extracted with FSL BET2 [@bet]"
        if tools == "fsl"
        else "extracted with the brain mask of the template"
    )
    return f"{brain}, dilated by 6 mm" if extracted == "intracranial" else brain


_MASKED = {"brain": "brain", "intracranial": "brain mask dilated by 6 mm"}


def describe_scan_mask(
    suffixes: Sequence[str], align: Align, extracted: Extracted, *, of_model: bool
) -> dict[str, object]:
    """Return metadata of the mask of the scans.

    `of_model`: whether the grid is that of a model rather than of the high-resolution scan.
    """
    grid = _grid_of_model if of_model else grid_text
    resolution = grid(suffixes[0], align)
    return {"Description": _MASKED[extracted], "Type": "Brain", "Resolution": resolution}


def _cost_of_preparation(suffixes: Sequence[str], anat_align: Align) -> Cost:
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
    anat_align: Align,
    anat_scale: Scale,
    anat_mask: Extracted,
    anat_tools: Tools,
    random_seed: int,
    sloppy: bool,
) -> _Scans:
    """Bring the scans of one head into one frame, onto one grid and to [0, 1].

    `highres_files, lowres_files`: fine and coarse scan of each contrast, as acquired.
    `template_mask`: voxels of the brain in the template (3D, boolean). `suffixes`: BIDS suffix of
    each; the first is the frame. Returns fine scans on one grid; coarse scans there by cubic
    spline; all contrasts by each of the other interpolations, in order; what remains of the scans
    on that grid (`anat_mask`); brain there; position of each scan, the intensities that became 1,
    and the way to the template.
    """
    from bids_sr.registration import structural_preparation
    from bids_sr.registration.ants import load

    others = _other_interpolations(baselines, anat_align)
    scans = {
        (name, kind): load(path)
        for name, *paths in zip(suffixes, highres_files, lowres_files, strict=True)
        for kind, path in zip(("highres", "lowres"), paths, strict=True)
    }
    unbias, extract_brain, align_linear = _external_tools(anat_tools, anat_align, here)
    made = structural_preparation.prepare(
        scans,
        template,
        template_mask.data,
        seed=random_seed,
        prefix=str(here / "scans_"),
        sloppy=sloppy,
        interpolations=("bspline", *others),
        align=anat_align,
        scale=anat_scale,
        extracted=anat_mask,
        unbias=unbias,
        extract_brain=extract_brain,
        align_linear=align_linear,
    )
    about = {
        "Resolution": grid_text(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale],
    }
    series = {
        name: [scan_of(Volume(stack[each], made.affine), name, each, about) for each in suffixes]
        for name, stack in {"measured": made.hr, **made.lr}.items()
    }
    facts = made.record(anat_align)
    if (cropped := made.facts.get("template", {}).get("brain_cropped_percent", 0.0)) > 1:
        _LOGGER.warning(
            "The brain extends beyond the intracranial mask of the template, so %.1f %% of the"
            " brain is cropped. Use --anat-align template to scale the brain to the size of the"
            " template.",
            cropped,
        )
    rest = [scan for name in others for scan in series[name]]
    mask, brain = (Volume(each, made.affine) for each in (made.mask, made.brain))
    return series["measured"], series["bspline"], rest, mask, brain, facts


def _other_interpolations(baselines: str, anat_align: Align) -> tuple[str, ...]:
    """Return the interpolations to the grid besides the cubic spline, in order."""
    if baselines != "all":
        return ("linear",)
    # a deformation is interpolated by splines only
    warped = anat_align in ("nonlinear", "template-warp")
    return ("linear", "nearest") if warped else ("linear", "lanczos", "nearest")


def _external_tools(
    anat_tools: Tools, anat_align: Align, here: Path
) -> "tuple[Unbias | None, ExtractBrain | None, AlignLinear | None]":
    """Return functions for bias correction, brain extraction and trilinear alignment with FSL.

    `here`: directory for their files. None, None, None if `anat_tools` is ``ants``.
    """
    if anat_tools == "ants":
        return None, None, None
    from bids_sr.registration import fsl

    folders = (here / f"fsl_{number}" for number in itertools.count())
    affine = anat_align not in ("rigid", "template-rigid")

    def unbias(image: Volume, name: str) -> Volume:
        return fsl.unbiased_by_fast(image, name, emptied(next(folders)))

    def extract_brain(image: Volume) -> Array:
        return fsl.brain_by_bet(image, emptied(next(folders)))

    def align_linear(frame: Volume, image: Volume) -> Array:
        return fsl.aligned_by_flirt(frame, image, emptied(next(folders)), affine=affine)

    return unbias, extract_brain, align_linear


CONTROL_PREPARATION_TEXT = (
    "High-resolution scans of participants without low-resolution scans were preprocessed in"
    " the same way."
)
"""Methods text of the preparation of scans of a high resolution only."""


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
    anat_align: Align,
    anat_scale: Scale,
    anat_mask: Extracted,
    anat_tools: Tools,
    random_seed: int,
    sloppy: bool,
) -> tuple[list[Map], Mask, Mask, Facts]:
    """Bring the high-resolution scans of one session into one frame and to [0, 1].

    `highres_files`: scan of each contrast, as acquired. `template_mask`: voxels of the brain in
    the template (3D, boolean). `suffixes`: BIDS suffix of each; the first is the frame. Returns
    the scans on one grid; what remains of the scans there (`anat_mask`); brain there; position of
    each scan, and the matrix to the template.
    """
    from bids_sr.registration import structural_preparation
    from bids_sr.registration.ants import load

    unbias, extract_brain, _ = _external_tools(anat_tools, anat_align, here)
    made = structural_preparation.prepare(
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
    about = {
        "Resolution": grid_text(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale].replace("low-resolution", "high-resolution"),
    }
    scans = [
        scan_of(Volume(made.hr[each], made.affine), "measured", each, about) for each in suffixes
    ]
    facts = made.record(anat_align)
    mask, brain = (Volume(voxels, made.affine) for voxels in (made.mask, made.brain))
    return scans, mask, brain, facts


_SCALED_ALONE = {
    "percentile": ("were scaled linearly, such that the 99.9th percentile of the brain was 1"),
    "range": _SCALED["range"],
}


def _grid_of_model(first: str, align: str) -> str:
    """Describe the grid of scans without a high-resolution counterpart, for sidecars."""
    if align.startswith("template"):
        return "grid with the voxel size of the model, covering the template brain"
    return f"grid with the voxel size of the model, covering the low-resolution {first} scan"


def describe_lowres_preparation(
    suffixes: Sequence[str],
    align: Align,
    scale: Scale,
    extracted: Extracted,
    tools: Tools,
    grid_mm: Sequence[float],
) -> str:
    """Say how scans of a low resolution only were brought to the grid of a model.

    `suffixes`: BIDS suffix of each contrast; the first is the frame. `grid_mm`: voxel size (mm).
    """
    aligned = _ALIGNED[align].replace("high-resolution", "low-resolution").format(suffixes[0])
    size = " × ".join(f"{mm:g}" for mm in grid_mm)
    around = "the template's brain" if align.startswith("template") else "this scan"
    trilinear = (
        " For trilinear interpolation, these scans were aligned with FSL FLIRT [@flirt] and the"
        " correlation ratio cost function."
    )
    return (
        f"The {enumerated(suffixes)} scans of participants without high-resolution scans were"
        f" {_corrected(tools)}, {aligned} and resampled with a single interpolation to a grid"
        f" around {around} with the voxel size of the model ({size} mm). The brain was"
        f" {_brain_text(extracted, tools)}. Intensities {_SCALED_ALONE[scale]}. For these"
        " participants, accuracy was not measured because there are no measured high-resolution"
        f" scans.{trilinear * (tools == 'fsl')}"
    )


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
    anat_align: Align,
    anat_scale: Scale,
    anat_mask: Extracted,
    anat_tools: Tools,
    random_seed: int,
    sloppy: bool,
) -> tuple[list[Map], list[Map], Mask, Facts]:
    """Bring low-resolution scans of one head onto a grid of a model's voxel size and to [0, 1].

    `lowres_files`: scan of each contrast, as acquired. `template_mask`: voxels of the brain in the
    template (3D, boolean). `suffixes`: BIDS suffix of each scan; the grid is around the first.
    `grid_mm`: voxel size of the images that the model was trained on (mm). `grid_orientation`:
    anatomical axis across the slices of the model. Returns scans by cubic spline; by each of the
    other interpolations, in order; what remains of the scans on the grid (`anat_mask`); alignment,
    position of each scan, and the intensities that became 1.
    """
    from bids_sr.registration import structural_preparation
    from bids_sr.registration.ants import load
    from bids_sr.registration.model_grid import grid_around

    others = _other_interpolations(baselines, anat_align)
    scans = {
        (name, "lowres"): load(path) for name, path in zip(suffixes, lowres_files, strict=True)
    }
    unbias, extract_brain, align_linear = _external_tools(anat_tools, anat_align, here)
    made = structural_preparation.prepare(
        scans,
        template,
        template_mask.data,
        seed=random_seed,
        prefix=str(here / "scans_"),
        sloppy=sloppy,
        interpolations=("bspline", *others),
        align=anat_align,
        scale=anat_scale,
        extracted=anat_mask,
        grid=grid_around(scans[suffixes[0], "lowres"], grid_mm, grid_orientation),
        unbias=unbias,
        extract_brain=extract_brain,
        align_linear=align_linear,
    )
    about = {
        "Resolution": _grid_of_model(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale],
    }
    series = {
        name: [scan_of(Volume(stack[each], made.affine), name, each, about) for each in suffixes]
        for name, stack in made.lr.items()
    }
    rest = [scan for name in others for scan in series[name]]
    facts = {"units": made.units, "align": anat_align, "offsets": made.facts}
    return series["bspline"], rest, Volume(made.mask, made.affine), facts
