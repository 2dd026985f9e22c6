"""Structural scans: brought together, super-resolved as channels of one network, measured.

Scans are maps with entities of their own: `desc` is the series (measured, an interpolation, a
method), the suffix the contrast. All of one head lie on one grid, in [0, 1], nothing outside the
brain.
"""

import itertools
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.config.machine import MEASURE_SCANS, PREPARE_SCANS, RESOLVE_SCANS, TRAIN_ON_SCANS
from bids_sr.io.grids import Array, Float32, Volume
from bids_sr.metrics import MetricRow, columns_json, metric_rows
from bids_sr.pipeline.artifacts import Derivative, Facts, File, Image, Map, Mask, Rows
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.sr.device import Device, TrainPrecision, choose_device
from bids_sr.sr.method import Cost, get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.recipe_changes import RecipeChange
from bids_sr.sr.training_text import images_text
from bids_sr.steps.training import (
    MODEL,
    Model,
    Source,
    TrainingSettings,
    cards_in,
    describe_network,
    is_given,
    train_or_reuse,
    training_work,
)

if TYPE_CHECKING:
    from bids_sr.registration.structural_preparation import AlignLinear, ExtractBrain, Unbias

_LOGGER = logging.getLogger(__name__)
_Align = Literal["rigid", "affine", "nonlinear", "template-rigid", "template", "template-warp"]
_Scale = Literal["percentile", "range"]
_Extracted = Literal["brain", "intracranial"]
_Tools = Literal["ants", "fsl"]
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
_TRAINING_S = (220.0, 400_000.0)  # for a million voxels of all contrasts, recipes fast and paper


def _grid(first: str, align: str) -> str:
    if align.startswith("template"):
        return (
            f"grid with the voxel size of the high-resolution {first} scan, covering the"
            " template brain"
        )
    return f"grid of the high-resolution {first} scan"


def describe_preparation(
    suffixes: Sequence[str], align: _Align, scale: _Scale, extracted: _Extracted, tools: _Tools
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


def _corrected(tools: _Tools) -> str:
    bias = "FSL FAST [@fast]" if tools == "fsl" else "N4 [@n4]"
    return f"corrected for intensity non-uniformity with {bias}"


def _brain_text(extracted: _Extracted, tools: _Tools) -> str:
    brain = (
        "extracted with FSL BET2 [@bet]"
        if tools == "fsl"
        else "extracted with the brain mask of the template"
    )
    return f"{brain}, dilated by 6 mm" if extracted == "intracranial" else brain


_MASKED = {"brain": "brain", "intracranial": "brain mask dilated by 6 mm"}


def describe_scan_mask(
    suffixes: Sequence[str], align: _Align, extracted: _Extracted, *, of_model: bool
) -> dict[str, object]:
    """Return metadata of the mask of the scans.

    `of_model`: whether the grid is that of a model rather than of the high-resolution scan.
    """
    grid = _grid_of_model if of_model else _grid
    resolution = grid(suffixes[0], align)
    return {"Description": _MASKED[extracted], "Type": "Brain", "Resolution": resolution}


def _cost_of_preparation(suffixes: Sequence[str], anat_align: _Align) -> Cost:
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
    anat_align: _Align,
    anat_scale: _Scale,
    anat_mask: _Extracted,
    anat_tools: _Tools,
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
        "Resolution": _grid(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale],
    }
    series = {
        name: [_scan(Volume(stack[each], made.affine), name, each, about) for each in suffixes]
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


def _other_interpolations(baselines: str, anat_align: _Align) -> tuple[str, ...]:
    """Return the interpolations to the grid besides the cubic spline, in order."""
    if baselines != "all":
        return ("linear",)
    # a deformation is interpolated by splines only
    warped = anat_align in ("nonlinear", "template-warp")
    return ("linear", "nearest") if warped else ("linear", "lanczos", "nearest")


def _external_tools(
    anat_tools: _Tools, anat_align: _Align, here: Path
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
        return fsl.unbiased_by_fast(image, name, _emptied(next(folders)))

    def extract_brain(image: Volume) -> Array:
        return fsl.brain_by_bet(image, _emptied(next(folders)))

    def align_linear(frame: Volume, image: Volume) -> Array:
        return fsl.aligned_by_flirt(frame, image, _emptied(next(folders)), affine=affine)

    return unbias, extract_brain, align_linear


def _emptied(folder: Path) -> Path:
    """Return a new, empty folder in place of any of that name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


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
    anat_align: _Align,
    anat_scale: _Scale,
    anat_mask: _Extracted,
    anat_tools: _Tools,
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
        "Resolution": _grid(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": _UNITS[anat_scale].replace("low-resolution", "high-resolution"),
    }
    scans = [
        _scan(Volume(made.hr[each], made.affine), "measured", each, about) for each in suffixes
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
    align: _Align,
    scale: _Scale,
    extracted: _Extracted,
    tools: _Tools,
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
    anat_align: _Align,
    anat_scale: _Scale,
    anat_mask: _Extracted,
    anat_tools: _Tools,
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
        name: [_scan(Volume(stack[each], made.affine), name, each, about) for each in suffixes]
        for name, stack in made.lr.items()
    }
    rest = [scan for name in others for scan in series[name]]
    facts = {"units": made.units, "align": anat_align, "offsets": made.facts}
    return series["bspline"], rest, Volume(made.mask, made.affine), facts


def _scan(image: Volume, series: str, suffix: str, about: Mapping[str, object]) -> Derivative:
    return Derivative(image, {"res": "hr", "desc": series, "suffix": suffix}, about)


def stacked(scans: Sequence[Derivative]) -> Float32:
    """Return scans of one head as channels, (C, X, Y, Z).

    Values of the scans in this order (float32).
    """
    return np.stack([each.volume.data for each in scans])


def suffixes_of(scans: Sequence[Derivative]) -> list[str]:
    """Return the contrasts of scans (BIDS suffixes), in order."""
    return [each.entities["suffix"] for each in scans]


def by_series(scans: Sequence[Derivative]) -> dict[str, dict[str, Array]]:
    """Return images of scans by series and contrast."""
    found: dict[str, dict[str, Array]] = {}
    for each in scans:
        found.setdefault(each.entities["desc"], {})[each.entities["suffix"]] = each.volume.data
    return found


def untrained_slices(
    fine: Sequence[Derivative],
    coarse: Sequence[Derivative],
    mask: Volume,
    cards: Sequence[Mapping[str, object]],
) -> list[int]:
    """Return slices of a head that none of the models was trained on.

    Numbers of the slices along the third axis, counted from 0.
    """
    from bids_sr.sr.training.fused import contrast_image, held_out_slices

    own = contrast_image(
        stacked(fine), stacked(coarse), mask.data, mask.affine, suffixes_of(fine), "own"
    )
    return held_out_slices(cards, mask.data.shape[2], own.checksum())


def _together(method: str) -> str:
    return (
        f"The network {method} super-resolved all contrasts together (as channels), slice by"
        " slice."
    )


def _training_scans(heads: str, *, of_others: bool) -> str:
    if of_others:
        return f"pairs of high- and low-resolution scans from {heads} other participants"
    return "the participant's own pairs of high- and low-resolution scans"


def describe_scan_network(training: TrainingSettings, *, of_others: bool) -> str:
    """Say how a network will be trained on scans.

    `of_others`: whether the scans are those of other participants.
    """
    data, features = _training_scans("the", of_others=of_others), training.vgg_weights is not None
    text = describe_network(training, (), data=data, features=features)
    return f"{text} {_together(training.method)}"


def describe_networks_of_scans(
    training: TrainingSettings, folders: Sequence[Path], unfinished: int, *, of_others: bool
) -> str:
    """Say how networks were trained on scans, from the folders of the steps that have ended."""
    cards, sources = cards_in(training.method, folders)
    data = _training_scans(images_text(cards), of_others=of_others)
    text = describe_network(training, cards, data=data, sources=sources, unfinished=unfinished)
    return f"{text} {_together(training.method)}"


def _cost_of_training(
    method: str,
    suffixes: Sequence[str],
    recipe: RecipeName,
    recipe_changes: tuple[RecipeChange, ...],
    model_source: Source,
    pretrained: Path | None,
    max_train_minutes: float | None,
) -> Cost:
    if is_given(pretrained, model_source):
        return Cost(always=0.5)
    seconds = _TRAINING_S[recipe != "fast"] * len(suffixes)
    seconds *= training_work(method, recipe, recipe_changes)
    return Cost(high=seconds, limit=60 * (max_train_minutes or math.inf))


@step(makes=MODEL, memory=TRAIN_ON_SCANS, resumes=True, cost=_cost_of_training)
def train_on_scans(
    scan_mask: Mask,
    heads_fine: list[Map] | None = None,
    heads_coarse: list[Map] | None = None,
    heads_masks: dict[str, Mask] | None = None,
    *,
    here: Path = HERE,
    method: str,
    suffixes: tuple[str, ...] = (),
    anat_align: _Align,
    anat_scale: _Scale,
    recipe: RecipeName,
    recipe_changes: tuple[RecipeChange, ...],
    model_source: Source,
    model_dir: Path | None,
    pretrained: Path | None,
    vgg_weights: Path | None,
    train_precision: TrainPrecision,
    max_train_minutes: float | None,
    random_seed: int,
    omp_nthreads: int,
    device: Device,
    force: bool,
    sloppy: bool,
) -> Model:
    """Train a network on all contrasts of one head or of several, or take one that was trained.

    `heads_fine, heads_coarse`: scans of all heads, contrast by contrast. `heads_masks`: brain of
    each head by its name; None without heads, and a trained model is then needed. `suffixes`:
    contrasts of the participant, which are those of the heads. `vgg_weights`: file of VGG-19
    weights; None leaves out the perceptual loss.
    """
    from bids_sr.sr.models.model import TrainingRequest
    from bids_sr.sr.training.fused import SAME_GRID, contrast_image, joined

    heads_fine, heads_coarse, heads_masks = heads_fine or [], heads_coarse or [], heads_masks or {}
    count = len(heads_fine) // max(1, len(heads_masks))
    suffixes = tuple(suffixes_of(heads_fine[:count])) or suffixes
    heads = []
    for place, (name, mask) in enumerate(heads_masks.items()):
        own = slice(place * count, (place + 1) * count)
        fine, coarse = stacked(heads_fine[own]), stacked(heads_coarse[own])
        heads.append(contrast_image(fine, coarse, mask.data, mask.affine, suffixes, name))
    training = TrainingRequest(
        method=get_method(method),
        recipe=recipe,
        changes=recipe_changes,
        source=model_source,
        factor=SAME_GRID,
        align=anat_align,
        scale=anat_scale,
        model_dir=model_dir,
        pretrained=pretrained,
        seed=random_seed,
        threads=omp_nthreads,
        device=choose_device(device),
        precision=train_precision,
        max_train_minutes=max_train_minutes,
        vgg_weights=vgg_weights,
        sloppy=sloppy,
    )
    return train_or_reuse(
        training, tuple(heads) or None, here, scan_mask.affine, joined(suffixes), force=force
    )


@step(
    makes="made_scans",
    memory=RESOLVE_SCANS,
    cost=lambda suffixes: Cost(always=5.0, high=5.0 * len(suffixes)),
)
def super_resolve_scans(
    coarse_scans: list[Map],
    scan_mask: Mask,
    model_file: File,
    *,
    suffixes: tuple[str, ...],
    method: str,
    device: Device,
    omp_nthreads: int,
) -> list[Map]:
    """Super-resolve all contrasts of one head together.

    `coarse_scans`: coarse scans on the fine grid by cubic spline, one for each contrast.
    `suffixes`: BIDS suffix of each.
    `scan_mask`: voxels of the brain on the grid of the scans (3D, boolean).
    """
    from bids_sr.sr.models.model import load_model
    from bids_sr.sr.training.fused import super_resolve_contrasts

    made = super_resolve_contrasts(
        load_model(model_file),
        stacked(coarse_scans),
        scan_mask.data,
        scan_mask.affine,
        device=choose_device(device),
        threads=omp_nthreads,
    )
    return [
        _scan(Volume(image, scan_mask.affine), method, suffix, scan.sidecar)
        for image, suffix, scan in zip(made, suffixes, coarse_scans, strict=True)
    ]


def _by_fast(suffixes: Sequence[str], tools: _Tools) -> bool:
    """Return whether FAST segments tissues for the quality metrics, which needs a T1w scan."""
    return tools == "fsl" and "T1w" in suffixes


def describe_measures(suffixes: Sequence[str], tools: _Tools) -> str:
    """Say how super-resolved scans were compared with measured ones."""
    fast = (
        " For the image quality metrics, tissues were segmented in the brain-extracted"
        " high-resolution T1w scan with FSL FAST [@fast]."
    )
    return (
        "Super-resolved and interpolated scans were compared with the measured scans in slices"
        " that were not used for training. The comparison included error metrics, peak"
        " signal-to-noise ratio (PSNR), structural similarity (SSIM), image quality metrics,"
        " tissues segmented with Atropos [@ants], and segmentations of CSF, veins, pial layer and"
        f" white-matter hyperintensities [@attention_unet].{fast * _by_fast(suffixes, tools)}"
    )


def describe_tissues(suffixes: Sequence[str], align: _Align, tools: _Tools) -> dict[str, object]:
    """Return metadata of the tissues of the measured scans."""
    program = "FAST" if _by_fast(suffixes, tools) else "Atropos"
    return {
        "Resolution": _grid(suffixes[0], align),
        "Description": (
            f"tissue segmentation of the measured scans with {program}: 1 GM, 2 WM, 3 CSF"
        ),
    }


@step(
    makes=("scan_metrics", "scan_columns", "scan_dseg", "scan_classes"),
    memory=MEASURE_SCANS,
    cost=lambda suffixes: Cost(always=10.0, high=36.0 * len(suffixes)),
)
def measure_scans(
    fine_scans: list[Map],
    coarse_scans: list[Map],
    other_scans: list[Map],
    scan_mask: Mask,
    scan_brain: Mask,
    scan_facts: Facts,
    made_scans: list[Map],
    card_file: list[Facts],
    given_lesion_template: File | None = None,
    given_wmh_reference: File | None = None,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    anat_tools: _Tools,
    random_seed: int,
) -> tuple[Rows, Facts, Image, list[Map]]:
    """Compare super-resolved and interpolated scans with the fine ones.

    The metrics are on similarity, quality, tissues and lesions.

    `coarse_scans`: coarse scans on the fine grid by cubic spline, one for each contrast.
    `scan_mask`: voxels that remain of the scans, on their grid (3D, boolean). `scan_brain`: voxels
    of the brain there. `scan_facts`: contains the matrix to the template. `card_file`: cards of
    their models, which list the slices that these have not seen, and the number of parameters.
    `given_lesion_template`: where lesions occur, in template space; None: everywhere.
    `given_wmh_reference`: edited mask of white-matter hyperintensities in the fine scans, which
    volumes and overlaps are compared with; None: the automatic mask. Returns the
    table of metrics; what its columns mean; tissues of the fine scans, 1 GM, 2 WM, 3 CSF; classes
    of all series (`CLASS_LABELS`) and their white-matter hyperintensities.
    """
    series = by_series([*coarse_scans, *other_scans, *made_scans])
    found = by_series(fine_scans)["measured"]
    measured = {suffix: found[suffix] for suffix in suffixes}
    edited = None if given_wmh_reference is None else _edited(given_wmh_reference, scan_mask)
    slices = untrained_slices(fine_scans, coarse_scans, scan_mask, card_file)
    likely = _likely_lesions(given_lesion_template, scan_mask, scan_facts)
    rows, labels, classes = _measured_rows(
        measured,
        series,
        scan_mask.data,
        scan_mask.affine,
        slices,
        brain=scan_brain.data,
        likely=likely,
        edited=edited,
        by_fast=_tissues_by_fast(measured, scan_brain, here) if anat_tools == "fsl" else None,
        seed=random_seed,
    )
    rows += _sizes(card_file)
    columns = columns_json(row.statistic for row in rows)
    dseg = Volume(labels, scan_mask.affine)
    about = {key: value for key, value in fine_scans[0].sidecar.items() if key in ("Resolution",)}
    return rows, columns, dseg, _class_images(classes, scan_mask.affine, about)


CLASS_LABELS = {"csfSpaces": 1, "veins": 2, "pial": 3, "brainTissue": 4}
"""Labels of the classes of all contrasts together; 0 is no class."""


def _class_images(
    classes: Mapping[str, Mapping[str, Mapping[str, Array]]],
    affine: Array,
    about: Mapping[str, object],
) -> list[Derivative]:
    """Return classes of each series as label images, and its hyperintensities as a mask.

    `about`: entries of all sidecars.
    """
    images = []
    for name, masks_of in classes["all"].items():
        labels = np.zeros(next(iter(masks_of.values())).shape, np.uint8)
        for label, voxels in masks_of.items():
            labels[voxels] = CLASS_LABELS[label]
        entities = {"res": "hr", "desc": name, "label": "classes", "suffix": "dseg"}
        legend = "1 CSF-filled spaces, 2 veins and sinuses, 3 pial layer, 4 brain tissue"
        sidecar = {
            **about,
            "Description": "segmentation based on the T1w, T2w and FLAIR scans"
            f" together: {legend}",
        }
        images.append(Derivative(Volume(labels, affine, dtype="uint8"), entities, sidecar))
    for name, masks_of in classes["FLAIR"].items():
        entities = {"res": "hr", "desc": name, "label": "WMH", "suffix": "mask"}
        sidecar = {
            **about,
            "Type": "Lesion",
            "Description": "white-matter hyperintensities, segmented automatically in the FLAIR"
            " scan",
        }
        images.append(Derivative(Volume(masks_of["wmh"], affine), entities, sidecar))
    return images


def _edited(file: Path, grid: Volume) -> Array:
    """Read an edited mask on the grid of the scans (3D, boolean); refuse one on another grid."""
    from bids_sr.io.grids import same_grid
    from bids_sr.io.nifti import load_image
    from bids_sr.notices import UsageError

    data, affine = load_image(Path(file))
    if not same_grid(data.shape, affine, grid.data.shape, grid.affine):
        raise UsageError(
            f"{file}",
            f"the mask has the grid {data.shape}, which differs in size or position from"
            f" the grid of the scans, {grid.data.shape}",
            "edit a copy of the mask label-WMH_desc-measured_mask that was written by an"
            " earlier run",
        )
    return np.asarray(data > 0.5)


def _likely_lesions(file: Path | None, grid: Volume, facts: Mapping[str, object]) -> Array | None:
    """Return voxels in which lesions occur, by the nearest voxel of a template (3D, boolean).

    `file`: template; None returns None (everywhere). `facts`: its ``to_template`` is the matrix
    from a point of the grid to its point in the template (RAS mm).
    """
    if file is None:
        return None
    from bids_sr.registration.ants import load
    from bids_sr.spatial.resampling import sample_volume

    prior = load(file)
    found = sample_volume(
        (prior.data > 0).astype(np.float32),
        prior.affine,
        grid.data.shape,
        grid.affine,
        np.asarray(facts["to_template"], np.float64),
        order=0,
        zero_outside=True,
    )
    return np.asarray(found > 0.5)


CONTROL_MEASURES_TEXT = (
    "For participants without low-resolution scans, tissue volumes were measured in each"
    " session to assess the variability of volumes over time [@attention_unet]."
)
"""Methods text of the measures of scans of a high resolution only."""


@step(
    makes=("scan_metrics", "scan_columns", "scan_dseg"),
    memory=MEASURE_SCANS,
    cost=lambda suffixes: Cost(always=10.0, high=12.0 * len(suffixes)),
)
def measure_control(
    fine_scans: list[Map],
    scan_mask: Mask,
    scan_brain: Mask,
    scan_facts: Facts,
    given_lesion_template: File | None = None,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    anat_tools: _Tools,
    random_seed: int,
) -> tuple[Rows, Facts, Image]:
    """Measure tissue volumes and quality of high-resolution scans that nothing is compared with.

    `scan_mask`, `scan_brain`, `scan_facts`, `given_lesion_template`: as in `measure_scans`.
    Returns the table of metrics; what its columns mean; tissues of the scans, 1 GM, 2 WM, 3 CSF.
    """
    found = by_series(fine_scans)["measured"]
    measured = {suffix: found[suffix] for suffix in suffixes}
    rows, labels, _ = _measured_rows(
        measured,
        {},
        scan_mask.data,
        scan_mask.affine,
        (),
        brain=scan_brain.data,
        likely=_likely_lesions(given_lesion_template, scan_mask, scan_facts),
        by_fast=_tissues_by_fast(measured, scan_brain, here) if anat_tools == "fsl" else None,
        seed=random_seed,
    )
    return rows, columns_json(row.statistic for row in rows), Volume(labels, scan_mask.affine)


def _sizes(cards: Sequence[Mapping[str, object]]) -> list[MetricRow]:
    """Return a row per network with its number of parameters, if its card has it."""
    return [
        row
        for card in cards
        if isinstance(count := card.get("parameters"), int)
        for row in metric_rows(
            ModelCard.from_json(card).method, {"parameters": float(count)}, contrast="all"
        )
    ]


def _measured_rows(
    measured: Mapping[str, Array],
    series: Mapping[str, Mapping[str, Array]],
    mask: Array,
    affine: Array,
    slices: Sequence[int],
    *,
    brain: Array | None = None,
    likely: Array | None = None,
    edited: Array | None = None,
    by_fast: Mapping[str, Array] | None = None,
    seed: int,
) -> tuple[list[MetricRow], Array, dict[str, dict[str, dict[str, Array]]]]:
    """All rows of the table, the tissues of the measured scans (1 GM, 2 WM, 3 CSF), and classes.

    `slices`: that images are compared in with the fine ones. `brain`: voxels in which tissues are
    segmented; None: `mask`. `likely`: voxels in which lesions occur; None: everywhere. `edited`:
    hyperintensities of the measured scans by hand; None: found automatically. `by_fast`: tissues
    of the measured scans for the quality metrics; None: by Atropos, as for volumes and overlaps,
    which use the same program for all series. Classes are masks by contrast (``all``, ``FLAIR``),
    series and class.
    """
    from bids_sr.quality.image_quality import lesions, likeness, quality, segmentations
    from bids_sr.registration.multispectral import CONTRASTS, segment_multispectral
    from bids_sr.registration.tissues import NAMES

    zooms = voxel_sizes(affine).tolist()
    every = {"measured": measured, **series}
    inside = mask if brain is None else brain
    around = None if np.array_equal(inside, mask) else mask
    by_scan = {
        name: tissues
        for name, scans in every.items()
        if (tissues := _tissues(scans, inside, affine, seed, name))
    }
    own_tissues = by_scan.get("measured", {}) if by_fast is None else by_fast
    rows: list[MetricRow] = []
    drawn: dict[str, dict[str, dict[str, Array]]] = {"all": {}, "FLAIR": {}}
    for contrast, truth in measured.items():
        images = {name: scans[contrast] for name, scans in series.items()}
        rows += likeness(contrast, images, truth, mask, slices)
        rows += quality(contrast, {"measured": truth, **images}, mask, own_tissues, zooms)
    if "measured" in by_scan:
        rows += segmentations("all", by_scan, mask, zooms)
    if set(CONTRASTS) <= set(measured):
        drawn["all"] = {
            name: segment_multispectral(scans, inside, around) for name, scans in every.items()
        }
        rows += segmentations("all", drawn["all"], mask, zooms)
    if "FLAIR" in measured:
        flairs = {name: scans["FLAIR"] for name, scans in every.items()}
        drawn["FLAIR"] = lesions(flairs, inside, zooms, likely)
        compared = drawn["FLAIR"] | ({} if edited is None else {"measured": {"wmh": edited}})
        rows += segmentations("FLAIR", compared, mask, zooms)
    labels = np.zeros(mask.shape, np.uint8)
    for label, tissue in enumerate(NAMES, 1):
        labels[own_tissues.get(tissue, np.zeros(mask.shape, bool))] = label
    return rows, labels, drawn


def _tissues_by_fast(
    measured: Mapping[str, Array], brain: Volume, here: Path
) -> dict[str, Array] | None:
    """Return tissue masks of the high-resolution T1w scan by FAST; None without such a scan.

    They are empty if FAST fails.
    """
    from bids_sr.registration import fsl

    if "T1w" not in measured:
        return None
    try:
        image = Volume(measured["T1w"], brain.affine)
        return fsl.tissues_by_fast(image, brain.data > 0, "T1w", _emptied(here / "fsl_tissues"))
    except RuntimeError as error:
        _LOGGER.warning(
            "Tissue segmentation of the measured T1w scan with FAST failed, so the"
            " quality metrics that depend on these tissues are not available: %s",
            error,
        )
        return {}


def _tissues(
    scans: Mapping[str, Array], mask: Array, affine: Array, seed: int, name: str
) -> dict[str, Array]:
    """Return tissue masks, empty where the tissues cannot be told apart.

    This failure is no reason to lose all other measures.
    """
    from bids_sr.registration import tissues

    try:
        return tissues.tissue_masks(tissues.segment_tissues(scans, mask, affine, seed=seed))
    except RuntimeError as error:
        _LOGGER.warning("Tissue segmentation of the %s series failed: %s", name, error)
        return {}
