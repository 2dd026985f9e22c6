"""Registration of a calibration run to the BOLD run, and patterns of its signal fluctuation.

Head motion of the calibration run is estimated by `bids_sr.preproc.steps.motion.estimate_motion`.
Problems with a calibration run do not stop the program: they are recorded (``usable``,
``reason``), and the run is super-resolved without calibration.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.engine.artifacts import Facts, File, Image, Mask, Series, Table
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import CALIBRATE
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.calibration_alignment import measure_agreement, register_to_calibration
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.spatial.itk_files import Transforms
from bids_sr.sr.calibration_fluctuations import calibration_patterns
from bids_sr.sr.prior_maps.temporal_components import SeriesError

if TYPE_CHECKING:
    from bids_sr.sr.prior_maps.calibration_prior import CalibrationPatterns

_LOGGER = logging.getLogger(__name__)
_FALLBACK_TEXT = "prior variances are estimated from the run itself"
CALIBRATION_XFM_SIDECAR = {
    "Description": "transform that maps points of the boldref to points of the calibration run"
}


def describe_calibration(*, with_events: bool) -> str:
    """Return methods text of a calibration run; `with_events` is True if its task is modeled."""
    removed_signals = (
        "Drift and, if half of the degrees of freedom remained, task effects were"
        if with_events
        else "Drift was"
    )
    return (
        "The spatial distribution of signal fluctuations was measured in a short run at the high"
        " resolution (calibration run). The calibration run was coregistered to the run with a"
        " rigid transform that maximizes mutual information in ANTs [@ants], followed by"
        " Gauss-Newton optimization [@bakermatthews2004]. Volumes with a framewise displacement"
        f" above 0.5 mm [@power2012] or with a spike were excluded. {removed_signals}"
        " regressed out, and the residuals were decomposed into temporal principal components and"
        " their spatial maps.\n"
    )


@step(
    Stage.CALIBRATION,
    makes=("boldref2calibration_xfm", "calibration_registration"),
    memory=Need(always=0.06),
)
def register_calibration(
    brain: BoldBrain,
    calibration_ref: Image,
    head_mask: Mask,
    here: Path = HERE,
    known_calibration_xfm: Transforms | None = None,
    *,
    random_seed: int,
) -> tuple[Transforms, Facts]:
    """Register the boldrefs of a run and of its calibration run rigidly.

    `brain` is of the run, and `head_mask` is the brain in `calibration_ref`, the boldref of the
    calibration run. `known_calibration_xfm` is a transform of boldref points to calibration points
    that is used without estimation.

    Returns the transform of boldref points to calibration points (1, 4, 4; RAS mm), and size and
    quality of the registration, or ``reason`` if registration failed.
    """
    if known_calibration_xfm is not None:
        xfm = known_calibration_xfm[0]
        return xfm[None], measure_agreement(
            brain.boldref,
            brain.bold_mask.data,
            calibration_ref,
            head_mask.data,
            xfm,
            brain.factor,
        )
    try:
        xfm, facts = register_to_calibration(
            brain.boldref,
            brain.bold_mask.data,
            calibration_ref,
            head_mask.data,
            brain.factor,
            AntsOptions(seed=random_seed, prefix=str(here / "calibration_")),
        )
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        _LOGGER.warning("The calibration run could not be registered to the BOLD run: %s", error)
        xfm = np.eye(4)
        facts = {"reason": f"registration to the BOLD run failed ({error})"}
    return xfm[None], facts


@frozen
class Calibration:
    """Fluctuations of a calibration run, with its position relative to a BOLD run.

    The fields are results of `measure_calibration` and `register_calibration`.
    """

    calibration_patterns: Image
    boldref2calibration_xfm: Transforms
    calibration_facts: Facts


def get_patterns(calibration: Calibration | None) -> "CalibrationPatterns | None":
    """Return the patterns of a calibration run with their position.

    The result is None if there is no calibration run or if it is unusable.
    """
    from bids_sr.sr.prior_maps.calibration_prior import CalibrationPatterns

    if calibration is None or not calibration.calibration_facts["usable"]:
        return None
    return CalibrationPatterns(
        patterns=np.moveaxis(calibration.calibration_patterns.data, -1, 0),
        affine=calibration.calibration_patterns.affine,
        from_boldref=calibration.boldref2calibration_xfm[0],
    )


@step(
    Stage.CALIBRATION,
    makes=("calibration_patterns", "calibration_facts"),
    # the step keeps 100 volumes as float32, a copy of their brain voxels, and a slice in double
    # precision
    memory=CALIBRATE,
)
def measure_calibration(
    bold: Series,
    head_mask: Mask,
    hmc_xfms: Transforms,
    motion: Table,
    calibration_registration: Facts,
    calibration_events: File | None = None,
    *,
    levels: Sequence[str] = (),
    n_dummy: int,
    tr: float,
    hrf: HemodynamicResponse,
) -> tuple[Image, Facts]:
    """Return the fluctuations of a calibration run, or the reason why they cannot be used.

    `bold`, `head_mask`, `hmc_xfms`, `motion`, `n_dummy` and `tr` (s) belong to the calibration
    run. `calibration_registration` contains size and quality of the registration, or ``reason`` if
    it failed. `calibration_events` are BIDS events of the calibration run; None if no task is
    regressed out. `levels` are the trial types in ``Levels`` of the events, and `hrf` is the
    response to the events.

    Returns principal components of the fluctuations on the grid of the calibration run (X, Y, Z,
    C) in signal units, the strongest first, or one map of zeros if they cannot be used; and facts
    with ``usable``, ``reason`` and all measurements.
    """
    facts = {
        **calibration_registration,
        "voxel_mm": [round(mm, 4) for mm in bold.zooms],
        "tr_s": tr,
        "n_volumes": bold.shape[3],
        "n_dummy": n_dummy,
    }
    patterns = np.zeros((1, *bold.shape[:3]), dtype=np.float32)  # (C, X, Y, Z)
    if "reason" not in facts:
        try:
            patterns, pattern_facts = calibration_patterns(
                bold,
                head_mask.data,
                hmc_xfms,
                motion[list(MOTION_PARAMETERS)].to_numpy(),
                facts,
                n_dummy=n_dummy,
                tr=tr,
                hrf=hrf,
                events=calibration_events,
                levels=levels,
            )
            facts |= pattern_facts
        except SeriesError as error:
            facts["reason"] = str(error)
    if facts.get("reason"):
        _LOGGER.warning(
            "The calibration run is not used, and %s: %s", _FALLBACK_TEXT, facts["reason"]
        )
    facts = {"usable": not facts.get("reason"), "reason": "", **facts}
    patterns_last = np.ascontiguousarray(np.moveaxis(patterns, 0, -1))
    return Volume(patterns_last, bold.affine, bold.header), facts
