"""Methods text of the preparation of structural scans."""

from collections.abc import Sequence

from bids_sr.config.sections.anat import AlignmentModel, Tools
from bids_sr.io.word_lists import enumerate_words
from bids_sr.structural.steps.scans import ScanPreparation

# Transforms by alignment model.
_TRANSFORM_TEXTS = {
    "rigid": "a rigid transform that maximizes mutual information",
    "affine": "an affine transform that maximizes mutual information",
    "nonlinear": (
        "an affine transform and a symmetric deformation that maximize mutual information"
    ),
    "template-rigid": "rigid transforms that maximize mutual information",
    "template": "affine transforms that maximize mutual information",
    # The registration to the template maximizes a metric other than mutual information.
    "template-warp": "affine transforms and symmetric deformations",
}
_SCALING_TEXTS = {
    "percentile": (
        "were scaled linearly to the range from 0 to 1, such that the mean intensity in the brain"
        " was the same at both resolutions"
    ),
    "range": (
        "of each scan were scaled linearly, such that the minimum was 0 and the maximum was 1"
        " [@attention_unet]"
    ),
}
_LOWRES_SCALING_TEXTS = {
    "percentile": "were scaled linearly, such that the 99.9th percentile of the brain was 1",
    "range": _SCALING_TEXTS["range"],
}
CONTROL_PREPARATION_TEXT = (
    "High-resolution scans of participants without low-resolution scans were preprocessed in"
    " the same way."
)
"""Methods text of the preparation of high-resolution scans without low-resolution scans."""


def describe_preparation(
    suffixes: Sequence[str],
    preparation: ScanPreparation,
    *,
    is_corrected: bool = False,
    is_simulated: bool = False,
) -> str:
    """Return methods text of the preparation of scans of both resolutions.

    `suffixes` are the BIDS suffixes of the contrasts; the first defines the frame. `is_corrected`
    is whether the brain mask was corrected manually, and `is_simulated` whether low-resolution
    scans were simulated.
    """
    contrasts, tools = " and ".join(suffixes), preparation.anat_tools
    alignment = _describe_alignment(preparation.anat_align, f"high-resolution {suffixes[0]}")
    extraction = "extracted with a manually corrected mask"
    if not is_corrected:
        extraction = _describe_extraction(preparation)
    scaling = f"Intensities {_SCALING_TEXTS[preparation.anat_scale]}."
    if is_simulated:
        steps = [_describe_correction(tools)]
        if preparation.anat_align.startswith("template"):
            steps.append(f"{alignment} and resampled with a single interpolation")
        return (
            f"The high-resolution {contrasts} scan was {', '.join(steps)}. A low-resolution scan"
            " was simulated by keeping the central quarter of k-space in plane"
            f" [@gan_cpce_circle]. The brain was {extraction}. {scaling}"
        )
    return (
        f"The high- and low-resolution {contrasts} scans were {_describe_correction(tools)},"
        f" {alignment} and resampled with a single interpolation. The brain was"
        f" {extraction}. {scaling}"
        f"{_describe_trilinear_alignment(tools, 'low-resolution scans')}"
    )


def describe_lowres_preparation(
    suffixes: Sequence[str], preparation: ScanPreparation, grid_mm: Sequence[float]
) -> str:
    """Return methods text of the preparation of low-resolution scans for the grid of a model.

    `suffixes` are the BIDS suffixes of the contrasts; the first defines the frame. `grid_mm` is
    the voxel size (mm).
    """
    align, tools = preparation.anat_align, preparation.anat_tools
    alignment = _describe_alignment(align, f"low-resolution {suffixes[0]}")
    size = " × ".join(f"{mm:g}" for mm in grid_mm)
    grid_center = "the template's brain" if align.startswith("template") else "this scan"
    return (
        f"The {enumerate_words(suffixes)} scans of participants without high-resolution scans were"
        f" {_describe_correction(tools)}, {alignment} and resampled with a single interpolation to"
        f" a grid around {grid_center} with the voxel size of the model ({size} mm). The brain was"
        f" {_describe_extraction(preparation)}. Intensities"
        f" {_LOWRES_SCALING_TEXTS[preparation.anat_scale]}. For these participants, accuracy was"
        " not measured because there are no measured high-resolution scans."
        f"{_describe_trilinear_alignment(tools, 'these scans')}"
    )


def _describe_correction(tools: Tools) -> str:
    """Describe the correction of bias fields."""
    program = "FSL FAST [@fast]" if tools == "fsl" else "N4 [@n4]"
    return f"corrected for intensity non-uniformity with {program}"


def _describe_alignment(align: AlignmentModel, frame_scan: str) -> str:
    """Describe the alignment; `frame_scan` is the scan that defines the frame."""
    program = f"with {_TRANSFORM_TEXTS[align]} in ANTs [@ants]"
    if align.startswith("template"):
        return (
            f"aligned to the {frame_scan} scan, which was aligned to the template, {program};"
            " cropped to the intracranial volume of the template;"
        )
    return f"aligned to the {frame_scan} scan {program}"


def _describe_extraction(preparation: ScanPreparation) -> str:
    """Describe the extraction of the brain."""
    brain = (
        "extracted with FSL BET2 [@bet]"
        if preparation.anat_tools == "fsl"
        else "extracted with the brain mask of the template"
    )
    return f"{brain}, dilated by 6 mm" if preparation.anat_mask == "intracranial" else brain


def _describe_trilinear_alignment(tools: Tools, scans: str) -> str:
    """Describe the alignment of scans for trilinear interpolation, which requires FSL.

    The sentence begins with a space. The text is "" if other tools are used.
    """
    if tools != "fsl":
        return ""
    return (
        f" For trilinear interpolation, {scans} were aligned with FSL FLIRT [@flirt] and the"
        " correlation ratio cost function."
    )
