"""T1w image: bias field, brain mask, normalization and tissues."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from bids_sr.engine.artifacts import Facts, File, Image, Mask
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import SEGMENT
from bids_sr.io.grids import TURNED_DEG
from bids_sr.io.json_values import as_texts
from bids_sr.io.template_files import find_t1w
from bids_sr.io.volume import Volume
from bids_sr.preproc import templates
from bids_sr.preproc.ants import AntsOptions, apply, load, reorder_to_ras
from bids_sr.preproc.bias_field import correct_bias_field
from bids_sr.preproc.brain import brain_from_head, empty_grid_2mm
from bids_sr.preproc.mixture_segmentation import compute_tissue_probabilities, label_tissues
from bids_sr.preproc.normalization import normalize, resample_priors
from bids_sr.spatial.itk_files import Transforms

_LOGGER = logging.getLogger(__name__)
T1W_SIDECAR = {
    "Description": "T1w image corrected for intensity non-uniformity",
    "SkullStripped": False,
}
BRAIN_SIDECAR = {"Description": "brain mask of the T1w image", "Type": "Brain"}
TISSUES_TEXT = (
    "The T1w image was normalized to the template with SyN in ANTs [@ants]. Gray matter,"
    " white matter and cerebrospinal fluid were segmented with a Gaussian mixture model and priors"
    " of the template [@unifiedseg; @fast]."
)
"""Methods text of normalization and segmentation."""


@step(
    Stage.ANATOMY,
    makes=("template", "template_mask", "template_priors"),
    memory=Need(always=0.30, high=0.0),
    reads=lambda template_space: [*filter(None, [find_t1w(template_space)])],
)
def load_template(*, template_space: str) -> tuple[Image, Mask, list[Image]]:
    """Load a template that is available on this computer, without downloads.

    The skull-stripped T1w template has values from 0 to about 1. The list contains maps of gray
    and white matter; it is empty if the template has none.
    """
    template = templates.load_template(template_space)
    return template.t1, template.mask, template.tissues


@step(
    Stage.ANATOMY,
    makes="t1w_head",
    memory=Need(always=0.02, t1w=0.018, high=0.0),
)
def correct_head(t1w_file: File, *, random_seed: int) -> Image:
    """Reorient a T1w image to RAS, and divide it by the bias field of the head.

    N4 runs on 5 mm voxels; negative values are set to 0. If the file is a series, the first volume
    is used. `t1w_file` is the T1w image as acquired (NIfTI, 3D or 4D).
    """
    return correct_bias_field(
        reorder_to_ras(load(t1w_file)), None, seed=random_seed, iterations=(20, 15)
    )


@step(
    Stage.ANATOMY,
    makes="t1w_preproc",
    memory=Need(always=0.02, t1w=0.018, high=0.0),
)
def correct_brain(t1w_head: Image, t1w_mask: Mask, *, random_seed: int, sloppy: bool) -> Image:
    """Divide a T1w image by the bias field estimated in its brain.

    The input was already divided by the bias field of the head, which is only a first estimate.
    """
    iterations = (20, 20) if sloppy else (20, 20, 20)
    return correct_bias_field(t1w_head, t1w_mask.data, seed=random_seed, iterations=iterations)


def describe_mask(template_space: str) -> str:
    """Return methods text of bias correction and brain extraction.

    `template_space` is the name of the template as in TemplateFlow, cohort after a plus sign.
    """
    return (
        "The T1-weighted (T1w) image was corrected for intensity non-uniformity with N4 [@n4] and"
        f" skull-stripped with the brain mask of the {template_space} template [@icbm2009],"
        " adjusted to its tissue boundaries."
    )


@step(
    Stage.ANATOMY,
    makes="start_xfm",
    memory=Need(always=0.20, t1w=0.011, high=0.0),
)
def find_start(
    t1w_preproc: Image,
    template: Image,
    template_mask: Mask,
    *,
    here: Path = HERE,
    random_seed: int,
    sloppy: bool,
) -> Transforms:
    """Return the initial affine for the registration to the template.

    The affine is computed as in `mask_brain`. This step is used if the brain mask is from another
    source. `template_mask` is the brain in the template (3D, boolean).
    """
    return mask_brain(
        t1w_preproc, template, template_mask, here=here, random_seed=random_seed, sloppy=sloppy
    )[1]


@step(
    Stage.ANATOMY,
    makes=("t1w_mask", "start_xfm", "brain_facts"),
    memory=Need(always=0.20, t1w=0.011, high=0.0),
)
def mask_brain(
    t1w_head: Image,
    template: Image,
    template_mask: Mask,
    *,
    here: Path = HERE,
    random_seed: int,
    sloppy: bool,
) -> tuple[Mask, Transforms, Facts]:
    """Segment the brain in a T1w image by adapting the brain mask of the template.

    `t1w_head` is a bias-corrected image of a head, a defaced head or a brain, and `template` is
    skull-stripped. `sloppy` selects low-quality settings for speed, for tests.

    Returns the brain on the grid of the T1w image; the affine transform of template points to T1w
    points (1, 4, 4; RAS mm); and metrics of the mask, with doubts about its plausibility.
    """
    mask, affine, check = brain_from_head(
        t1w_head,
        template,
        template_mask.data,
        AntsOptions(seed=random_seed, prefix=str(here / "head_"), sloppy=sloppy),
    )
    return Volume(mask, t1w_head.affine), affine[None], warn_of_doubts(check)


def warn_of_doubts(check: dict[str, object]) -> dict[str, object]:
    """Return the metrics of a brain mask, and log a warning if the mask is implausible."""
    if brain_warnings := as_texts(check["brain_doubts"]):
        _LOGGER.warning(
            "The brain mask of the T1w image is implausible: %s. aCompCor components and"
            " tissue signals are not included in the confounds.",
            "; ".join(brain_warnings),
        )
    angle = check.get("brain_turned_deg")
    if isinstance(angle, float) and angle > TURNED_DEG:
        _LOGGER.warning(
            "The orientation in the header of the T1w image may be wrong: registration to"
            " the template rotated the head by %.0f degrees. Check the orientation of the"
            " brain in the report.",
            angle,
        )
    return check


@step(
    Stage.ANATOMY,
    makes=("t1w2std_xfm", "std2t1w_xfm", "std_t1w"),
    memory=Need(always=0.25, t1w=0.010, high=0.0),
)
def normalize_t1w(
    t1w_preproc: Image,
    t1w_mask: Mask,
    start_xfm: Transforms,
    template: Image,
    template_mask: Mask,
    *,
    here: Path = HERE,
    random_seed: int,
    sloppy: bool,
) -> tuple[File, File, Image]:
    """Register the T1w brain to the template with an affine and a nonlinear (SyN) transform.

    `t1w_preproc` is bias-corrected and `template` is skull-stripped. `start_xfm` is the affine
    transform of template points to T1w points. `sloppy` selects low-quality settings for speed,
    for tests.

    Returns the transform that resamples T1w images to the template; the transform that resamples
    template images to the T1w image (.h5); and the T1w image in template space, 2 mm.
    """
    forward, inverse = normalize(
        t1w_preproc,
        t1w_mask.data,
        template,
        template_mask.data,
        start_xfm[0],
        AntsOptions(seed=random_seed, prefix=str(here / "t1w2std_"), sloppy=sloppy),
    )
    grid = empty_grid_2mm(template)
    return forward, inverse, grid.like(apply(t1w_preproc, grid, [forward], seed=random_seed))


@step(
    Stage.ANATOMY,
    makes=("t1w_dseg", "t1w_tpms"),
    memory=SEGMENT,
)
def segment_tissues(
    t1w_preproc: Image,
    t1w_mask: Mask,
    std2t1w_xfm: File,
    template_priors: Sequence[Image] = (),
    *,
    random_seed: int,
) -> tuple[Image, list[Image]]:
    """Segment three tissues with a Gaussian mixture model.

    `t1w_preproc` is bias-corrected. `std2t1w_xfm` resamples template images to the T1w image.
    `template_priors` are maps of gray and white matter in the template (3D); if empty, tissues are
    segmented without priors.
    """
    probabilities = compute_tissue_probabilities(
        t1w_preproc.data,
        t1w_mask.data,
        # not kept in a variable, so that they are freed as early as possible
        resample_priors(t1w_preproc, t1w_mask.data, template_priors, std2t1w_xfm, seed=random_seed)
        if template_priors
        else None,
    )
    affine = t1w_preproc.affine
    tpms = [Volume(probability, affine) for probability in probabilities]
    return Volume(label_tissues(probabilities), affine), tpms


def describe_imported_anatomy(origin: str, template_space: str, files: Collection[str]) -> str:
    """Return methods text of anatomical derivatives of another program.

    `template_space` is the name of the template as in TemplateFlow, cohort after a plus sign.
    `files` are the outputs that were imported.
    """
    imported_files = ["the preprocessed T1-weighted image", "the brain mask"]
    normalization_text, segmentation_text = "", ""
    if "gm" in files:
        imported_files.append("the tissue maps")
    else:
        segmentation_text = (
            "Tissues were segmented with a Gaussian mixture model that uses the tissue"
            " probability maps of the template as priors [@unifiedseg; @fast]. "
        )
    if "t1w2std_xfm" in files:
        imported_files.append(f"the transforms to {template_space}")
    else:
        normalization_text = (
            f"The T1-weighted image was spatially normalized to the {template_space} template"
            " [@icbm2009] with the SyN algorithm in ANTs [@ants]. "
        )
    images_text = f"{', '.join(imported_files[:-1])} and {imported_files[-1]}"
    return (
        f"Anatomical derivatives were taken from {origin} [@fmriprep]: {images_text}."
        f" {normalization_text}{segmentation_text}"
    )
