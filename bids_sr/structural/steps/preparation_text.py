"""Methods text of the preparation of structural scans."""

from collections.abc import Sequence

from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.structural.steps.scans import ScanPreparation, Tools

_TEMPLATE_ALIGNMENT_TEXT = (
    "aligned to the {{scan}} scan, which was aligned to the template, with {transforms} that"
    " maximize mutual information in ANTs [@ants]; cropped to the intracranial volume of the"
    " template;"
)
# Alignment by transform type; ``scan`` is the scan that defines the frame.
_ALIGNMENT_TEXTS = {
    "rigid": (
        "aligned to the {scan} scan with a rigid transform that maximizes mutual"
        " information in ANTs [@ants]"
    ),
    "affine": (
        "aligned to the {scan} scan with an affine transform that maximizes mutual"
        " information in ANTs [@ants]"
    ),
    "nonlinear": (
        "aligned to the {scan} scan with an affine transform and a symmetric"
        " deformation that maximize mutual information in ANTs [@ants]"
    ),
    "template-rigid": _TEMPLATE_ALIGNMENT_TEXT.format(transforms="rigid transforms"),
    "template": _TEMPLATE_ALIGNMENT_TEXT.format(transforms="affine transforms"),
    # The registration to the template maximizes a metric other than mutual information.
    "template-warp": (
        "aligned to the {scan} scan, which was aligned to the template, with affine"
        " transforms and symmetric deformations in ANTs [@ants]; cropped to the intracranial"
        " volume of the template;"
    ),
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
CONTROL_PREPARATION_TEXT = (
    "High-resolution scans of participants without low-resolution scans were preprocessed in"
    " the same way."
)
"""Methods text of the preparation of high-resolution scans without low-resolution scans."""

_LOWRES_SCALING_TEXTS = {
    "percentile": "were scaled linearly, such that the 99.9th percentile of the brain was 1",
    "range": _SCALING_TEXTS["range"],
}


def describe_preparation(suffixes: Sequence[str], preparation: ScanPreparation) -> str:
    """Return methods text of the preparation of scans of both resolutions.

    `suffixes` are the BIDS suffixes of the contrasts; the first defines the frame.
    """
    contrasts, tools = " and ".join(suffixes), preparation.anat_tools
    alignment = _ALIGNMENT_TEXTS[preparation.anat_align].format(
        scan=f"high-resolution {suffixes[0]}"
    )
    trilinear_sentence = (
        " For trilinear interpolation, low-resolution scans were aligned with FSL FLIRT [@flirt]"
        " and the correlation ratio cost function."
        if tools == "fsl"
        else ""
    )
    return (
        f"The high- and low-resolution {contrasts} scans were {_correction_text(tools)},"
        f" {alignment} and resampled with a single interpolation. The brain was"
        f" {_extraction_text(preparation)}. Intensities {_SCALING_TEXTS[preparation.anat_scale]}."
        f"{trilinear_sentence}"
    )


def describe_lowres_preparation(
    suffixes: Sequence[str], preparation: ScanPreparation, grid_mm: Sequence[float]
) -> str:
    """Return methods text of the preparation of low-resolution scans for the grid of a model.

    `suffixes` are the BIDS suffixes of the contrasts; the first defines the frame. `grid_mm` is
    the voxel size (mm).
    """
    align, tools = preparation.anat_align, preparation.anat_tools
    alignment = _ALIGNMENT_TEXTS[align].format(scan=f"low-resolution {suffixes[0]}")
    scaling = _LOWRES_SCALING_TEXTS[preparation.anat_scale]
    size = " × ".join(f"{mm:g}" for mm in grid_mm)
    grid_center = "the template's brain" if align.startswith("template") else "this scan"
    trilinear_sentence = (
        " For trilinear interpolation, these scans were aligned with FSL FLIRT [@flirt] and the"
        " correlation ratio cost function."
        if tools == "fsl"
        else ""
    )
    return (
        f"The {enumerate_words(suffixes)} scans of participants without high-resolution scans were"
        f" {_correction_text(tools)}, {alignment} and resampled with a single interpolation to a"
        f" grid around {grid_center} with the voxel size of the model ({size} mm). The brain was"
        f" {_extraction_text(preparation)}. Intensities {scaling}. For these participants,"
        " accuracy was not measured because there are no measured high-resolution scans."
        f"{trilinear_sentence}"
    )


def _correction_text(tools: Tools) -> str:
    """Describe the correction of bias fields."""
    program = "FSL FAST [@fast]" if tools == "fsl" else "N4 [@n4]"
    return f"corrected for intensity non-uniformity with {program}"


def _extraction_text(preparation: ScanPreparation) -> str:
    """Describe the extraction of the brain."""
    brain = (
        "extracted with FSL BET2 [@bet]"
        if preparation.anat_tools == "fsl"
        else "extracted with the brain mask of the template"
    )
    return f"{brain}, dilated by 6 mm" if preparation.anat_mask == "intracranial" else brain
