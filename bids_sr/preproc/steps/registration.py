"""Registration of BOLD, T2*-weighted pair and T1w; resampling of masks, tissues and regions.

Names of transforms follow antsApplyTransforms: `A2B` resamples images from A to B and therefore
maps points of B to points of A. Transforms are (1, 4, 4), RAS mm.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bids_sr.engine.artifacts import Facts, File, Image, Mask
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, BOLDREF, LARGEST_BRAIN_ML, AxisOrder, Factor
from bids_sr.io.json_values import as_number
from bids_sr.io.series import ACQUIRED
from bids_sr.io.volume import Volume
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc import bold_regions, bold_to_anat
from bids_sr.preproc.ants import AntsOptions, load, load_like, reorder_to_ras
from bids_sr.preproc.bold_regions import resample_region_to_bold
from bids_sr.preproc.bold_to_anat import (
    BOLDREF_MASK,
    MARGIN_MM,
    combine_masks,
    register_pair_to_bold,
)
from bids_sr.preproc.brain import volume_ml
from bids_sr.preproc.pair_frames import PairInFrame, make_registered_pair, make_truncated_pair
from bids_sr.preproc.steps.aligned_series import BrainMasks
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.low_resolution_grids import coverage
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert

MASK_ENTITIES = {"space": BOLDREF, "label": "brain", "desc": ACQUIRED, "suffix": "mask"}
MASK_SIDECAR = {"Description": "brain mask on the acquired grid", "Type": "Brain"}
MASK_HR_SIDECAR = {
    "Description": "brain mask on the grid of the super-resolved series",
    "Type": "Brain",
    "Resolution": "grid of the super-resolved series",
}


@frozen
class TrainingPair:
    """Images of a pair in the frame of the low-resolution image, as used for training.

    `pair_mask` is the head or brain on the grid of the low-resolution image.
    """

    train_highres: Image
    train_lowres: Image
    pair_mask: Mask


@frozen
class AlignedPair(TrainingPair):
    """Images of a pair in one frame, with their positions before.

    `highres2lowres_xfm` is the transform of low-resolution points to points of the acquired
    high-resolution image (1, 4, 4; RAS mm). `pair_facts` is the offset of the pair, with a note if
    it was resampled.
    """

    highres2lowres_xfm: Transforms
    pair_facts: Facts


def describe_pair_image(resolution: Literal["high", "low"]) -> dict[str, object]:
    """Return metadata of one image of the pair in the frame of the other image."""
    description = (
        f"{resolution}-resolution image of the T2*-weighted pair, registered to the other image"
        " of the pair; used for training"
    )
    return {"Description": description, "SkullStripped": False}


def describe_registered_pair(
    factor: Factor, folders: Sequence[Path] = (), unfinished: int = 0
) -> str:
    """Return methods text of the registration of the pair.

    `folders` are the folders of finished `register_pair` steps, and `unfinished` is the number of
    other steps.
    """
    resampled = [
        bool(read_json(folder / "pair_facts.json").get("resampled")) for folder in folders
    ]
    text = (
        "The high- and low-resolution T2*-weighted images (T2* pair) were coregistered with a"
        " rigid transform that maximizes mutual information in ANTs [@ants]. This transform was"
        " refined by Gauss-Newton minimization of intensity differences, after downsampling the"
        f" high-resolution image by truncating its k-space{_describe_slices(factor)}."
    )
    if unfinished or not resampled:
        return (
            f"{text} If the images are misaligned, the high-resolution image will be resampled"
            " with a single interpolation."
        )
    if not any(resampled):
        return text
    pairs_text = "" if all(resampled) else f" in {sum(resampled)} of {len(resampled)} pairs"
    return (
        f"{text} The high-resolution image was resampled with a single interpolation{pairs_text}."
    )


def describe_truncated_pair(factor: Factor) -> str:
    """Return methods text of a low-resolution image computed from the high-resolution image."""
    return (
        "The low-resolution image of the T2*-weighted pair was computed from the high-resolution"
        f" image by truncating its k-space{_describe_slices(factor)}."
    )


def _describe_slices(factor: Factor) -> str:
    """Return a phrase on slices for texts about k-space truncation; "" if slices are unchanged."""
    return "" if factor[2] == 1 else " in plane and averaging slices"


@step(Stage.REGISTRATION, memory=Need(always=0.06))
def register_pair(
    highres_file: File,
    lowres_file: File,
    *,
    here: Path = HERE,
    factor: Factor,
    random_seed: int,
    highres_order: AxisOrder = AS_STORED,
    lowres_order: AxisOrder = AS_STORED,
    registered: bool = False,
) -> AlignedPair:
    """Register the images of the pair, and resample the high-resolution image if necessary.

    The T2*-weighted images are as acquired. For `highres_order` and `lowres_order`, see
    `bids_sr.io.grids`. If `registered`, positions are taken from the headers without registration.
    """
    pair_in_frame = make_registered_pair(
        load(highres_file, highres_order),
        load(lowres_file, lowres_order),
        factor,
        AntsOptions(seed=random_seed, prefix=str(here / "pair_")),
        is_aligned_by_headers=registered,
    )
    return _make_aligned_pair(pair_in_frame)


@step(Stage.REGISTRATION, memory=Need(always=0.06))
def truncate_pair(
    highres_file: File, *, factor: Factor, highres_order: AxisOrder = AS_STORED
) -> AlignedPair:
    """Compute a low-resolution image from the pair's high-resolution image by k-space cropping.

    The results are as in `register_pair`. `highres_file` is the high-resolution image of the T2*w
    pair as acquired (3D).
    """
    return _make_aligned_pair(make_truncated_pair(load(highres_file, highres_order), factor))


def _make_aligned_pair(pair_in_frame: PairInFrame) -> AlignedPair:
    """Return the images of a pair in one frame as a record."""
    train_highres, train_lowres, pair_mask, highres2lowres_xfm, pair_facts = pair_in_frame
    return AlignedPair(
        train_highres=train_highres,
        train_lowres=train_lowres,
        pair_mask=pair_mask,
        highres2lowres_xfm=highres2lowres_xfm,
        pair_facts=pair_facts,
    )


@step(
    Stage.REGISTRATION,
    makes=("boldref2t1w_xfm", "coreg_facts"),
    memory=Need(always=0.08, t1w=0.011, high=0.0),
)
def register_to_t1w(
    boldref: Image, t1w_preproc: Image, t1w_mask: Mask, *, here: Path = HERE, random_seed: int
) -> tuple[Transforms, Facts]:
    """Register boldref and T1w brain rigidly by mutual information on the BOLD grid.

    Returns the transform of T1w points to boldref points; and size and quality of the
    registration.
    """
    xfm, facts = bold_to_anat.register_to_t1w(
        reorder_to_ras(boldref),
        t1w_preproc,
        t1w_mask.data,
        AntsOptions(seed=random_seed, prefix=str(here / "coreg_")),
    )
    return xfm[None], facts


@step(
    Stage.REGISTRATION,
    makes=("highres2boldref_xfm", "guide_hr", "guide_facts"),
    memory=Need(always=0.06),
)
def register_to_pair(
    boldref: Image,
    highres_file: File,
    highres2lowres_xfm: Transforms | None = None,
    *,
    here: Path = HERE,
    factor: Factor,
    random_seed: int,
) -> tuple[Transforms, Image, Facts]:
    """Register the high-resolution T2*w image to the boldref rigidly.

    `highres_file` is the T2*w image as acquired. The search starts at `highres2lowres_xfm`, the
    transform of low-resolution points to high-resolution points of the pair.

    Returns the transform of boldref points to high-resolution points; the T2*w image on the
    high-resolution grid of the boldref, for masks and report; and size and quality of the
    registration.
    """
    highres = load_like(highres_file, boldref)
    start = None if highres2lowres_xfm is None else highres2lowres_xfm[0]
    options = AntsOptions(seed=random_seed, prefix=str(here / "pair2bold_"))
    xfm, facts = register_pair_to_bold(boldref, highres, start, options)
    shape, affine = hr_grid(boldref.data.shape, boldref.affine, factor)
    guide_hr = sample_volume(highres.data, highres.affine, shape, affine, xfm)
    return xfm[None], Volume(guide_hr, affine), facts


@step(
    Stage.REGISTRATION,
    makes=("bold_mask", "bold_mask_hr", "mask_facts"),
    memory=Need(always=0.03, t1w=0.015, high=0.0),
)
def mask_bold(
    boldref: Image,
    t1w_mask: Mask | None = None,
    boldref2t1w_xfm: Transforms | None = None,
    *,
    factor: Factor,
) -> tuple[Mask, Mask, Facts]:
    """Segment the brain in the boldref, limited to the T1w brain if both agree.

    Returns the brain on the grid of the boldref, and on its high-resolution grid; and agreement of
    both masks, with the choice that was made. Raises `ValueError` if the mask is larger than any
    human brain.
    """
    t1w_brain = (
        None if t1w_mask is None or boldref2t1w_xfm is None else (t1w_mask, boldref2t1w_xfm[0])
    )
    mask, mask_hr, affine_hr, facts = combine_masks(boldref, factor, t1w_brain)
    if (volume := volume_ml(mask, boldref.affine)) > LARGEST_BRAIN_ML:
        raise ValueError(
            f"The volume of the BOLD brain mask is {volume:.0f} ml; expected at most"
            f" {LARGEST_BRAIN_ML:.0f} ml. The mean of the series does not look like a head."
            " Check that the series is a magnitude image and that its mean was not"
            " subtracted."
        )
    return Volume(mask, boldref.affine), Volume(mask_hr, affine_hr), facts


@step(
    Stage.REGISTRATION,
    makes=("region_bold", "region_bold_hr", "region_facts"),
    memory=Need(always=0.03, t1w=0.010, high=0.0),
)
def region_to_bold(
    roi_source: Mask,
    brain: BrainMasks,
    boldref2t1w_xfm: Transforms | None = None,
    roi_xfms: Sequence[File] = (),
    *,
    here: Path = HERE,
    random_seed: int,
) -> tuple[Mask, Mask, Facts]:
    """Resample a region of interest to the BOLD grids, with a single interpolation per grid.

    `roi_source` is the region in its original space. `boldref2t1w_xfm` is the transform of T1w
    points to boldref points (1, 4, 4; RAS mm); None if the region is in the space of the boldref.
    `roi_xfms` are transforms of T1w points to the space of `roi_source`; empty if this is T1w
    space.

    Returns the region on the grid of the boldref, and on its high-resolution grid, also outside
    the brain; and the fraction of the region in the field of view.
    """
    (region, region_hr), facts = resample_region_to_bold(
        roi_source,
        roi_xfms,
        None if boldref2t1w_xfm is None else boldref2t1w_xfm[0],
        (brain.bold_mask, brain.bold_mask_hr),
        seed=random_seed,
        folder=here,
    )
    return (
        Volume(region, brain.bold_mask.affine),
        Volume(region_hr, brain.bold_mask_hr.affine),
        facts,
    )


@step(Stage.REGISTRATION, makes=("roi_bold", "roi_bold_hr", "union_facts"), small=True)
def unite_regions(
    region_bold: list[Mask],
    region_bold_hr: list[Mask],
    region_facts: list[Facts],
    brain: BrainMasks,
    *,
    region_texts: Sequence[str],
) -> tuple[Mask, Mask, Facts]:
    """Unite the regions of interest within the brain, on the acquired and high-resolution grid.

    `region_texts` name the regions in messages.

    Returns the union on both grids; and its fraction in the field of view, with the regions that
    have no voxels in the brain, and a note if the brain is used instead.
    """
    (roi, roi_hr), facts = bold_regions.unite_regions(
        [
            (region.data, region_hr.data)
            for region, region_hr in zip(region_bold, region_bold_hr, strict=True)
        ],
        (brain.bold_mask.data, brain.bold_mask_hr.data),
        [as_number(region["roi_fraction_in_fov"]) for region in region_facts],
        region_texts,
    )
    affine, affine_hr = brain.bold_mask.affine, brain.bold_mask_hr.affine
    return Volume(roi, affine), Volume(roi_hr, affine_hr), facts


@step(
    Stage.REGISTRATION,
    makes="tpms_bold",
    memory=Need(always=0.03, t1w=0.018, high=0.0),
)
def tissues_to_bold(
    boldref: Image, t1w_tpms: Sequence[Image], boldref2t1w_xfm: Transforms
) -> list[Image]:
    """Return mean tissue probabilities in each BOLD voxel, with tissues in the given order.

    `t1w_tpms` are probabilities of gray matter, white matter and CSF in the T1w image (3D), and
    `boldref2t1w_xfm` is the transform of T1w points to boldref points (1, 4, 4; RAS mm).
    """
    t1w2boldref, shape = invert(boldref2t1w_xfm[0]), boldref.data.shape
    mean_probabilities = (
        coverage(probability.data, probability.affine, shape, boldref.affine, t1w2boldref)
        for probability in t1w_tpms
    )
    return [Volume(probability, boldref.affine) for probability in mean_probabilities]


@step(Stage.REGISTRATION, makes="registration", small=True)
def gather_registration(
    mask_facts: Facts,
    clipped_facts: Facts | None = None,
    brain_facts: Facts | None = None,
    coreg_facts: Facts | None = None,
    region_facts: Facts | None = None,
    guide_facts: Facts | None = None,
) -> Facts:
    """Combine the facts on registrations, masks and region of a run.

    `brain_facts` are metrics of the T1w brain mask, with doubts about its plausibility.
    `region_facts` include the fraction of the region of interest in the field of view.
    """
    combined: dict[str, object] = {}
    for facts in (mask_facts, clipped_facts, brain_facts, coreg_facts, region_facts, guide_facts):
        combined |= facts or {}
    return combined


def describe_registration(*, to_t1w: bool, to_pair: bool) -> str:
    """Return methods text of registrations that are estimated here; "" if there are none.

    `to_t1w` and `to_pair` are True if the run is registered to the T1w image and to the
    high-resolution T2*w image.
    """
    targets = []
    if to_t1w:
        targets.append("to the skull-stripped T1w image")
    if to_pair:
        targets.append("to the high-resolution T2*-weighted image")
    if not targets:
        return ""
    transforms_text = (
        "a rigid transform that maximizes"
        if len(targets) == 1
        else "rigid transforms that maximize"
    )
    return (
        f"The boldref was coregistered {enumerate_words(targets)} with {transforms_text} mutual"
        " information in ANTs [@ants]."
    )


def describe_mask(*, with_anat: bool, folders: Sequence[Path] = ()) -> str:
    """Return methods text of brain masks that are computed here.

    `with_anat` states whether a T1w brain mask exists. `folders` are folders of finished
    `gather_registration` steps, whose facts name the origin of the masks.
    """
    if not with_anat:
        return "The BOLD brain mask was computed from the boldref."
    sources = [read_json(folder / "registration.json").get("mask_source") for folder in folders]
    n_unmatched = sources.count(BOLDREF_MASK)
    if n_unmatched and n_unmatched == len(sources):
        return (
            "The BOLD brain mask was computed from the boldref, because it did not match the"
            " T1w brain mask."
        )
    text = (
        "The BOLD brain mask contains voxels at least half inside the T1w brain mask and"
        f" within {MARGIN_MM:g} mm of a mask of the boldref."
    )
    if not n_unmatched:
        return text
    return (
        f"{text} In {n_unmatched} of {len(sources)} runs, only the mask from the boldref was used,"
        " because the two masks did not match."
    )


def describe_imported_registration(origin: str, *, mask: bool, to_t1w: bool) -> str:
    """Return methods text of an imported mask or registration; "" if neither is imported."""
    imported_names = []
    if mask:
        imported_names.append("the brain mask of the run")
    if to_t1w:
        imported_names.append("the registration to the T1w image")
    if not imported_names:
        return ""
    verb = "was" if len(imported_names) == 1 else "were"
    return f"For each run, {' and '.join(imported_names)} {verb} taken from {origin} [@fmriprep]."
