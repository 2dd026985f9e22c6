"""Structural scans: brought together, super-resolved as channels of one network, measured.

Scans are maps with entities of their own: `desc` is the series (measured, an interpolation, a
method), the suffix the contrast. All of one head lie on one grid, in [0, 1], nothing outside the
brain.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.config.machine import MEASURE_SCANS, PREPARE_SCANS, RESOLVE_SCANS, TRAIN_ON_SCANS
from bids_sr.io.grids import Array, Float32, Volume
from bids_sr.metrics import MetricRow, columns_json
from bids_sr.pipeline.artifacts import Derivative, Facts, File, Image, Map, Mask, Rows
from bids_sr.pipeline.step import Keep, Lookup, Part, step
from bids_sr.sr.device import Device, TrainPrecision, choose_device
from bids_sr.sr.method import Cost, get_method
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.recipe_changes import RecipeChange
from bids_sr.sr.training_text import images_text
from bids_sr.steps.training import (
    KEPT,
    MODEL,
    Model,
    Source,
    cards_in,
    is_given,
    network_text,
    train_or_reuse,
    training_work,
)

_LOGGER = logging.getLogger(__name__)
_Align = Literal["rigid", "affine", "nonlinear", "template"]
_Scans = tuple[list[Map], list[Map], list[Map], Mask, Facts]
_ALIGNED = {
    "rigid": (
        "aligned rigidly to the high-resolution {} scan by mutual information in ANTs [@ants]"
    ),
    "affine": (
        "aligned to the high-resolution {} scan by an affine transform that maximizes mutual"
        " information in ANTs [@ants]"
    ),
    "nonlinear": (
        "aligned to the high-resolution {} scan by an affine transform and a symmetric deformation"
        " that maximize mutual information in ANTs [@ants]"
    ),
    "template": (
        "aligned to the high-resolution {} scan, and this scan to the template, by affine"
        " transforms that maximize mutual information in ANTs [@ants], cropped to the template's"
        " intracranial volume"
    ),
}


_TIMES_AS_LONG = {"rigid": 1.0, "affine": 1.5, "nonlinear": 2.0, "template": 1.5}
"""Of the preparation: an affine measured; a deformation by its further iterations."""
_TRAINING_S = (220.0, 400_000.0)  # for a million voxels of all contrasts, recipes fast and paper


def _grid(first: str, align: str) -> str:
    if align == "template":
        return f"voxel size of the high-resolution {first} scan, around the template's brain"
    return f"grid of the high-resolution {first} scan"


def _text_of_preparation(setting: Lookup) -> str:
    suffixes = list(setting("suffixes"))
    return (
        f"The {' and '.join(suffixes)} scans of both resolutions were corrected for intensity"
        f" non-uniformity with N4 [@n4], {_ALIGNED[setting('anat_align')].format(suffixes[0])}"
        " and each interpolated once. The brain mask was taken from the template, and"
        " intensities were scaled linearly to the range from 0 to 1, with equal means within the"
        " brain at both resolutions."
    )


def _cost_of_preparation(setting: Lookup) -> Cost:
    scans = len(setting("suffixes"))
    return Cost(always=30.0, high=45.0 * scans * _TIMES_AS_LONG[setting("anat_align")])


@step(
    makes=("fine_scans", "coarse_scans", "other_scans", "scan_mask", "scan_facts"),
    part=Part.ANATOMY,
    text=_text_of_preparation,
    memory=PREPARE_SCANS,
    keep={
        "fine_scans": Keep(),
        "coarse_scans": Keep(),
        "other_scans": Keep(),
        "scan_mask": Keep(
            {"res": "hr", "desc": "brain", "suffix": "mask"},
            lambda setting: {
                "Description": "brain",
                "Type": "Brain",
                "Resolution": _grid(setting("suffixes")[0], setting("anat_align")),
            },
        ),
    },
    cost=_cost_of_preparation,
)
def prepare_scans(
    highres_files: list[File],
    lowres_files: list[File],
    template: Image,
    template_mask: Mask,
    *,
    here: Path,
    suffixes: tuple[str, ...],
    baselines: Literal["default", "all"],
    anat_align: _Align,
    random_seed: int,
    sloppy: bool,
) -> _Scans:
    """Bring the scans of one head into one frame, onto one grid and to [0, 1].

    `highres_files, lowres_files`: fine and coarse scan of each contrast, as acquired.
    `template_mask`: voxels of the brain in the template (3D, boolean). `suffixes`: BIDS suffix of
    each; the first is the frame. Returns fine scans on one grid; coarse scans there by cubic
    spline; all contrasts by each of the other interpolations, in order; brain on that grid;
    position of each scan, and the intensities that became 1.
    """
    from bids_sr.registration import structural_preparation
    from bids_sr.registration.ants import load

    others: tuple[str, ...] = ("linear",)
    if baselines == "all":
        # a deformation is interpolated by splines only
        others += ("nearest",) if anat_align == "nonlinear" else ("lanczos", "nearest")
    scans = {
        (name, kind): load(path)
        for name, *paths in zip(suffixes, highres_files, lowres_files, strict=True)
        for kind, path in zip(("highres", "lowres"), paths, strict=True)
    }
    made = structural_preparation.prepare(
        scans,
        template,
        template_mask.data,
        seed=random_seed,
        prefix=str(here / "scans_"),
        sloppy=sloppy,
        interpolations=("bspline", *others),
        align=anat_align,
    )
    about = {
        "Resolution": _grid(suffixes[0], anat_align),
        "SkullStripped": True,
        "Description": (
            "scaled to [0, 1]: 1 is the 99.9th percentile of the brain in the low-resolution scan"
        ),
    }
    series = {
        name: [_scan(Volume(stack[each], made.affine), name, each, about) for each in suffixes]
        for name, stack in {"measured": made.hr, **made.lr}.items()
    }
    facts = {"units": made.units, "align": anat_align, "offsets": made.facts}
    rest = [scan for name in others for scan in series[name]]
    return series["measured"], series["bspline"], rest, Volume(made.mask, made.affine), facts


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


def _together(setting: Lookup) -> str:
    name = setting("method")
    return f"{name} super-resolves all contrasts together, as channels, slice by slice."


def _training_scans(setting: Lookup, heads: str) -> str:
    if setting("train_on") == "others":
        return f"pairs of scans of {heads} other participants"
    return "the participant's own pairs of scans"


def _text_of_network(setting: Lookup) -> str:
    data, features = _training_scans(setting, "the"), setting("vgg_weights") is not None
    text = network_text(setting, (), data=data, features=features)
    return f"{text} {_together(setting)}"


def _text_of_network_after(setting: Lookup, folders: Sequence[Path], unfinished: int) -> str:
    cards, sources = cards_in(setting, folders)
    data = _training_scans(setting, images_text(cards))
    text = network_text(setting, cards, data=data, sources=sources, unfinished=unfinished)
    return f"{text} {_together(setting)}"


def _cost_of_training(setting: Lookup) -> Cost:
    if is_given(setting):
        return Cost(always=0.5)
    seconds = _TRAINING_S[setting("recipe") != "fast"] * len(setting("suffixes"))
    seconds *= training_work(setting)
    return Cost(high=seconds, limit=60 * (setting("max_train_minutes") or math.inf))


def _of_scans(kept: Keep) -> Keep:
    """How a model of structural scans is stored: told from those of a pair."""
    entities = kept.entities
    assert callable(entities)
    return dataclasses.replace(
        kept, entities=lambda setting: {"acquisition": "anat", "space": "", **entities(setting)}
    )


@step(
    makes=MODEL,
    part=Part.SERIES,
    text=_text_of_network,
    text_after=_text_of_network_after,
    memory=TRAIN_ON_SCANS,
    resumes=True,
    keep={name: _of_scans(kept) for name, kept in KEPT.items()},
    cost=_cost_of_training,
)
def train_on_scans(
    scan_mask: Mask,
    heads_fine: list[Map],
    heads_coarse: list[Map],
    heads_masks: dict[str, Mask],
    *,
    here: Path,
    method: str,
    anat_align: _Align,
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

    `vgg_weights`: file of VGG-19 weights; None leaves out the perceptual loss.
    """
    from bids_sr.sr.models.model import TrainingRequest
    from bids_sr.sr.training.fused import SAME_GRID, contrast_image, joined

    count = len(heads_fine) // len(heads_masks)
    suffixes = suffixes_of(heads_fine[:count])
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
        training, tuple(heads), here, scan_mask.affine, joined(suffixes), force=force
    )


@step(
    makes="made_scans",
    memory=RESOLVE_SCANS,
    keep={"made_scans": Keep(level="minimal")},
    cost=lambda setting: Cost(always=5.0, high=5.0 * len(setting("suffixes"))),
)
def super_resolve_scans(
    coarse_scans: list[Map],
    scan_mask: Mask,
    model_file: File,
    *,
    method: str,
    device: Device,
    omp_nthreads: int,
) -> list[Map]:
    """Super-resolve all contrasts of one head together.

    `coarse_scans`: coarse scans on the fine grid by cubic spline, one for each contrast.
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
        _scan(Volume(image, scan_mask.affine), method, scan.entities["suffix"], scan.sidecar)
        for image, scan in zip(made, coarse_scans, strict=True)
    ]


@step(
    makes=("scan_metrics", "scan_columns", "scan_dseg"),
    part=Part.EVALUATION,
    memory=MEASURE_SCANS,
    text=(
        "Images were compared with the measured scans by error, PSNR and SSIM in slices that were"
        " not used for training, by image quality metrics, by tissues segmented with Atropos"
        " [@ants], and by CSF, veins, pial layer and white-matter hyperintensities"
        " [@attention_unet]."
    ),
    keep={
        "scan_metrics": Keep(
            {"desc": "anat", "suffix": "metrics"},
            "scan_columns",
            provenance=True,
            level="minimal",
        ),
        "scan_dseg": Keep(
            {"res": "hr", "desc": "measured", "suffix": "dseg"},
            lambda setting: {
                "Resolution": _grid(setting("suffixes")[0], setting("anat_align")),
                "Description": "tissues of the measured scans by Atropos: 1 GM, 2 WM, 3 CSF",
            },
        ),
    },
    cost=lambda setting: Cost(always=10.0, high=36.0 * len(setting("suffixes"))),
)
def measure_scans(
    fine_scans: list[Map],
    coarse_scans: list[Map],
    other_scans: list[Map],
    scan_mask: Mask,
    made_scans: list[Map],
    card_file: list[Facts],
    *,
    random_seed: int,
) -> tuple[Rows, Facts, Image]:
    """Compare super-resolved and interpolated scans with the fine ones.

    The metrics are on similarity, quality, tissues and lesions.

    `coarse_scans`: coarse scans on the fine grid by cubic spline, one for each contrast.
    `scan_mask`: voxels of the brain on the grid of the scans (3D, boolean). `card_file`: cards of
    their models, which tell the slices that these have not seen. Returns the table of metrics;
    what its columns mean; tissues of the fine scans, 1 GM, 2 WM, 3 CSF.
    """
    series = by_series([*coarse_scans, *other_scans, *made_scans])
    measured = by_series(fine_scans)["measured"]
    slices = untrained_slices(fine_scans, coarse_scans, scan_mask, card_file)
    rows, labels = _measured_rows(
        measured, series, scan_mask.data, scan_mask.affine, slices, seed=random_seed
    )
    return rows, columns_json(row.statistic for row in rows), Volume(labels, scan_mask.affine)


def _measured_rows(
    measured: Mapping[str, Array],
    series: Mapping[str, Mapping[str, Array]],
    mask: Array,
    affine: Array,
    slices: Sequence[int],
    *,
    seed: int,
) -> tuple[list[MetricRow], Array]:
    """All rows of the table, and the tissues of the measured scans (1 GM, 2 WM, 3 CSF).

    `slices`: that images are compared in with the fine ones.
    """
    from bids_sr.quality.image_quality import lesions, likeness, quality, segmentations
    from bids_sr.registration.multispectral import CONTRASTS, segment_multispectral
    from bids_sr.registration.tissues import NAMES

    zooms = voxel_sizes(affine).tolist()
    every = {"measured": measured, **series}
    by_scan = {
        name: tissues
        for name, scans in every.items()
        if (tissues := _tissues(scans, mask, affine, seed, name))
    }
    rows: list[MetricRow] = []
    for contrast, truth in measured.items():
        images = {name: scans[contrast] for name, scans in series.items()}
        rows += likeness(contrast, images, truth, mask, slices)
        rows += quality(
            contrast, {"measured": truth, **images}, mask, by_scan.get("measured", {}), zooms
        )
    if "measured" in by_scan:
        rows += segmentations("all", by_scan, mask, zooms)
    if set(CONTRASTS) <= set(measured):
        classes = {name: segment_multispectral(scans, mask) for name, scans in every.items()}
        rows += segmentations("all", classes, mask, zooms)
    if "FLAIR" in measured:
        seen = lesions({name: scans["FLAIR"] for name, scans in every.items()}, mask, zooms)
        rows += segmentations("FLAIR", seen, mask, zooms)
    labels = np.zeros(mask.shape, np.uint8)
    for label, tissue in enumerate(NAMES, 1):
        labels[by_scan.get("measured", {}).get(tissue, np.zeros(mask.shape, bool))] = label
    return rows, labels


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
        _LOGGER.warning("no tissues of %s: %s", name, error)
        return {}
