"""Head motion and registration of a BOLD run: what is estimated before any series is made."""

from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import (
    Distortion,
    Facts,
    Image,
    Mask,
    Series,
    Table,
    Transforms,
)


@frozen
class HeadMotion:
    """Reference of a series, and the pose of the head in each of its volumes.

    `motion`: parameters, one row a volume. `head_mask`: None if motion was estimated by another
    program.
    """

    boldref: Image
    hmc_xfms: Transforms
    motion: Table
    head_mask: Mask | None = None


@frozen
class Registration:
    """Brain, tissues and region of interest on the grids of a run, and how it lies to others.

    What a participant without T1w image, or a run without pair, does not have is None; the region
    is the brain then.
    """

    bold_mask: Mask
    bold_mask_hr: Mask
    roi_bold: Mask
    roi_bold_hr: Mask
    registration: Facts
    tpms_bold: list[Image] | None = None
    boldref2t1w_xfm: Transforms | None = None
    highres2boldref_xfm: Transforms | None = None
    guide_hr: Image | None = None


@frozen
class Calibration:
    """A short high-resolution run that tells where the run fluctuates."""

    calibration_ref: Image
    boldref2calibration_xfm: Transforms
    calibration_patterns: Image
    calibration_facts: Facts


@frozen
class FittedRun:
    """A run whose motion and registration are known.

    `stc`: its series, corrected in time and smoothed as requested, but with head motion.
    `distortion`: None without a field map.
    """

    bold: Series
    stc: Series
    n_dummy: int
    motion: HeadMotion
    registration: Registration
    distortion: Distortion | None = None
    calibration: Calibration | None = None
