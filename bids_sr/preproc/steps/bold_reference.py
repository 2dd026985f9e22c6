"""Non-steady-state volumes, boldref and brain mask of a run."""

import logging
from collections.abc import Sequence

from bids_sr.engine.artifacts import Image, Mask, Series
from bids_sr.engine.step import Stage, step
from bids_sr.io.volume import Volume
from bids_sr.preproc.boldref import make_boldref
from bids_sr.preproc.nonsteady import count_nonsteady_volumes
from bids_sr.spatial.masks import HUMAN_HEAD_MM, brain_mask, head_scale

_LOGGER = logging.getLogger(__name__)
BOLDREF_SIDECAR = {
    "Description": "reference image for head-motion correction (mean of the steady-state volumes)",
    "SkullStripped": False,
}
BOLDREF_TEXT = (
    "The BOLD reference image (boldref) was the mean of the registered steady-state volumes."
)
"""Methods text of the boldref."""


@step(Stage.HEAD_MOTION, makes="n_dummy")
def count_dummies(bold: Series, *, dummy_scans: int | None) -> int:
    """Count the non-steady-state volumes at the start, unless their number is given.

    `dummy_scans` is the number given by the user; None to detect it.
    """
    count = count_nonsteady_volumes(bold.path) if dummy_scans is None else dummy_scans
    if count > bold.shape[3] - 2:
        raise ValueError(
            f"{bold.path}: {count} of {bold.shape[3]} volumes are non-steady-state volumes,"
            " so fewer than two volumes are left"
        )
    return count


def describe_dummies(dummy_scans: int | None, counts: Sequence[int] = ()) -> str:
    """Return methods text of the volumes at the start that are excluded.

    `dummy_scans` is the given number of volumes; None if it is detected. `counts` are detected
    numbers, one per run; empty before the run.
    """
    if dummy_scans is not None:
        if not dummy_scans:
            return "No volumes were excluded at the start of the run."
        noun = "volume was" if dummy_scans == 1 else f"{dummy_scans} volumes were"
        return f"The first {noun} treated as non-steady-state and excluded."
    text = "Non-steady-state volumes were detected from the global signal and excluded"
    return f"{text} ({_count_detected(counts)})." if counts else f"{text}."


def _count_detected(counts: Sequence[int]) -> str:
    """Return the detected numbers of volumes as text, as a range for several runs."""
    fewest, most = min(counts), max(counts)
    if not most:
        return "none was found"
    if fewest != most:
        return f"{fewest} to {most} per run"
    return f"{most} volume{'s' if most > 1 else ''}{' per run' if len(counts) > 1 else ''}"


@step(Stage.HEAD_MOTION, makes="boldref")
def average_volumes(bold: Series, *, n_dummy: int) -> Image:
    """Average the steady-state volumes after registration to each other."""
    return Volume(make_boldref(bold, n_dummy=n_dummy), bold.affine, bold.header)


@step(Stage.HEAD_MOTION, makes="head_mask")
def mask_head(boldref: Image) -> Mask:
    """Segment the brain in the boldref without a T1w image (X, Y, Z, boolean).

    Slices at the edge of the field of view are included. A warning is logged if the head is
    smaller than a human head.
    """
    mask = brain_mask(boldref.data, boldref.affine)
    if (scale := head_scale(mask, boldref.affine)) < 1:
        _LOGGER.warning(
            "The head measures %.0f mm, which is smaller than a human head. All lengths in"
            " mm for masks, head motion and registration to the T1w image were multiplied by"
            " %.2g. Templates, framewise displacement (sphere of 50 mm) and figures are"
            " designed for human heads. If this is a human head, correct the voxel sizes in"
            " the header.",
            HUMAN_HEAD_MM * scale,
            scale,
        )
    return boldref.like(mask)
