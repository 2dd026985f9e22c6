"""Methods text and sidecars of the series of a run."""

from collections.abc import Sequence

from bids_sr.io.grids import AxisOrder, Factor, inverse_order
from bids_sr.io.series import BASELINES, get_kind
from bids_sr.io.word_lists import enumerate_words
from bids_sr.sr.method import method_of_series

MEASURED_TEXT = (
    "The measured high-resolution series was processed with the head-motion transforms, the mask"
    " and the model of the tested series. No parameters were estimated from the measured series.\n"
)
"""Methods text of the measured series."""


def describe_all_series(
    names: Sequence[str], with_distortion: bool, with_thinner_slices: bool = False
) -> str:
    """Return the methods text shared by all series, with baselines.

    `with_distortion` states whether susceptibility distortion is also corrected, and
    `with_thinner_slices` whether slices of the high-resolution grid are thinner than acquired
    slices. Returns a paragraph of the methods section.
    """
    baseline_texts = [f"{BASELINES[name]} ({name})" for name in names if name in BASELINES]
    sentences = [
        "Each volume was resampled once to the acquired or the high-resolution grid to correct for"
        f" head motion{' and susceptibility distortion' if with_distortion else ''}."
    ]
    if baseline_texts:
        noun = "Baselines were" if len(baseline_texts) > 1 else "The baseline was"
        sentences.append(f"{noun} {enumerate_words(baseline_texts)}.")
        if with_thinner_slices:
            sentences.append(
                "Across slices, cubic spline interpolation was used instead of zero filling."
            )
    return " ".join(sentences) + "\n"


def describe_series(name: str) -> str:
    """Return methods text of one series; "" if it is described elsewhere.

    `describe_all_series` describes baselines, and `training_texts.describe_variance` describes
    methods with prior SD maps.
    """
    if get_kind(name) == "baseline" or method_of_series(name).trained_on == "series":
        return ""
    return f"The method {name} was applied to each volume on its acquired grid.\n"


def describe_hr_resolution(name: str, factor: Factor, axis_order: AxisOrder) -> str:
    """Return the sidecar's description of resolution for a series on the high-resolution grid.

    `axis_order` is the axis of the file for each axis of the run.
    """
    file_factor = [factor[axis] for axis in inverse_order(axis_order)]
    factor_text = "x".join(f"{ratio:g}" for ratio in file_factor)
    return f"acquired field of view with voxels {factor_text} times smaller, computed with {name}"


def describe_space_resolution(name: str) -> str:
    """Return the sidecar's description of resolution for a series in another space."""
    return (
        f"super-resolved with {name} on the acquired field of view, then"
        " resampled to this space by a single interpolation"
    )
