"""Methods text of the preparation of structural scans."""

from collections.abc import Sequence

from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.structural.steps.scans import ScanPreparation, Tools

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
    # The registration to the template maximizes a metric other than mutual information.
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


def describe_preparation(suffixes: Sequence[str], preparation: ScanPreparation) -> str:
    """Return methods text of the preparation of scans of both resolutions.

    `suffixes` are the BIDS suffixes of the contrasts; the first defines the frame.
    """
    first, contrasts = suffixes[0], " and ".join(suffixes)
    tools = preparation.anat_tools
    aligned = _ALIGNED[preparation.anat_align].format(first)
    trilinear = (
        " For trilinear interpolation, low-resolution scans were aligned with FSL FLIRT [@flirt]"
        " and the correlation ratio cost function."
    )
    return (
        f"The high- and low-resolution {contrasts} scans were {_corrected(tools)}, {aligned}"
        f" and resampled with a single interpolation. The brain was"
        f" {_brain_text(preparation)}. Intensities {_SCALED[preparation.anat_scale]}."
        f"{trilinear * (tools == 'fsl')}"
    )


def _corrected(tools: Tools) -> str:
    bias = "FSL FAST [@fast]" if tools == "fsl" else "N4 [@n4]"
    return f"corrected for intensity non-uniformity with {bias}"


def _brain_text(preparation: ScanPreparation) -> str:
    brain = (
        "extracted with FSL BET2 [@bet]"
        if preparation.anat_tools == "fsl"
        else "extracted with the brain mask of the template"
    )
    return f"{brain}, dilated by 6 mm" if preparation.anat_mask == "intracranial" else brain


CONTROL_PREPARATION_TEXT = (
    "High-resolution scans of participants without low-resolution scans were preprocessed in"
    " the same way."
)
"""Methods text of the preparation of high-resolution scans without low-resolution scans."""


_SCALED_ALONE = {
    "percentile": ("were scaled linearly, such that the 99.9th percentile of the brain was 1"),
    "range": _SCALED["range"],
}


def describe_lowres_preparation(
    suffixes: Sequence[str], preparation: ScanPreparation, grid_mm: Sequence[float]
) -> str:
    """Return methods text of the preparation of low-resolution scans for the grid of a model.

    `suffixes` are the BIDS suffixes of the contrasts; the first defines the frame. `grid_mm` is
    the voxel size (mm).
    """
    align, tools = preparation.anat_align, preparation.anat_tools
    aligned = _ALIGNED[align].replace("high-resolution", "low-resolution").format(suffixes[0])
    size = " × ".join(f"{mm:g}" for mm in grid_mm)
    grid_center = "the template's brain" if align.startswith("template") else "this scan"
    trilinear = (
        " For trilinear interpolation, these scans were aligned with FSL FLIRT [@flirt] and the"
        " correlation ratio cost function."
    )
    return (
        f"The {enumerate_words(suffixes)} scans of participants without high-resolution scans were"
        f" {_corrected(tools)}, {aligned} and resampled with a single interpolation to a grid"
        f" around {grid_center} with the voxel size of the model ({size} mm). The brain was"
        f" {_brain_text(preparation)}. Intensities {_SCALED_ALONE[preparation.anat_scale]}. For"
        " these participants, accuracy was not measured because there are no measured"
        f" high-resolution scans.{trilinear * (tools == 'fsl')}"
    )
