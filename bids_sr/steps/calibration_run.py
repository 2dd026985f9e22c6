"""The calibration of a run: where it lies to the run, and how it fluctuates.

Its head motion is estimated by the steps of `bids_sr.steps.motion`, in a scope of its own. Nothing
that is wrong with a calibration ends the program: what cannot be used is written down (``usable``,
``reason``), and the run is super-resolved without it.
"""

import logging
from pathlib import Path

import numpy as np

from bids_sr.config.memory_model import CALIBRATE, Need
from bids_sr.glm.confounds import MOTION
from bids_sr.io.grids import Volume
from bids_sr.pipeline.artifacts import Facts, File, Image, Mask, Series, Table, Transforms
from bids_sr.pipeline.step import Keep, step
from bids_sr.registration.rigid import agreement, calibration_patterns, register_to_calibration
from bids_sr.sr.method import Cost
from bids_sr.sr.variance.temporal_components import SeriesError
from bids_sr.steps.activation import Factor

_LOGGER = logging.getLogger(__name__)
_WITHOUT = "the run's own variance is used instead"
_KEPT_XFM = Keep(
    {"from": "calibration", "to": "boldref", "mode": "image", "desc": "coreg", "suffix": "xfm"},
    {"Description": "takes a boldref point to its point in the calibration"},
)


def text_of_calibration(*, with_events: bool) -> str:
    """What the methods text says of a calibration, whose task is known or not."""
    task = " and, where half of the degrees of freedom remained, its task" if with_events else ""
    return (
        "A short run at the high resolution was registered rigidly to the run, by mutual"
        " information in ANTs [@ants] and then by Gauss-Newton [@bakermatthews2004], to measure"
        " how the signal fluctuates: volumes with a framewise displacement above 0.5 mm"
        f" [@power2012] or a spike were left out, drift{task} {'were' if task else 'was'}"
        " regressed out, and the residuals were decomposed into principal components over time,"
        " whose images tell how the signal fluctuates.\n"
    )


@step(
    makes=("boldref2calibration_xfm", "calibration_registration"),
    memory=Need(always=0.06),
    keep={"boldref2calibration_xfm": _KEPT_XFM},
    cost=Cost(always=4.0),
)
def register_calibration(
    boldref: Image,
    bold_mask: Mask,
    calibration_ref: Image,
    head_mask: Mask,
    here: Path,
    known_calibration_xfm: Transforms | None = None,
    *,
    factor: Factor,
    random_seed: int,
) -> tuple[Transforms, Facts]:
    """Rigid registration of the run's reference and the calibration's.

    `known_calibration_xfm`: takes a boldref point to its calibration point; then none is
    estimated. What takes a boldref point to its calibration point, (1, 4, 4) in RAS mm; size and
    quality of the registration, or ``reason``, where there is none.
    """
    if known_calibration_xfm is not None:
        xfm = known_calibration_xfm[0]
        found = agreement(boldref, bold_mask.data, calibration_ref, head_mask.data, xfm, factor)
        return xfm[None], found
    try:
        xfm, facts = register_to_calibration(
            boldref,
            bold_mask.data,
            calibration_ref,
            head_mask.data,
            factor,
            seed=random_seed,
            prefix=str(here / "calibration_"),
        )
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        _LOGGER.warning("The calibration could not be registered: %s", error)
        xfm, facts = np.eye(4), {"reason": f"it could not be registered to the run ({error})"}
    return xfm[None], facts


@step(
    makes=("calibration_patterns", "calibration_facts"),
    # 100 volumes as float32, those of the brain once more, and a slice in double precision
    memory=CALIBRATE,
    keep={"calibration_facts": Keep({"desc": "calibration", "suffix": "metrics"})},
    cost=Cost(always=2.0, high=30.0),
)
def measure_calibration(
    bold: Series,
    head_mask: Mask,
    hmc_xfms: Transforms,
    motion: Table,
    calibration_registration: Facts,
    calibration_events: File | None = None,
    *,
    n_dummy: int,
    tr: float,
) -> tuple[Image, Facts]:
    """Return fluctuations of a calibration, or the reason why it has none that can be used.

    `calibration_events`: BIDS events of the calibration; without them no task is taken out.
    Principal components of the fluctuations on its own grid (X, Y, Z, C), signal units, strongest
    first, one of nothing if not usable; ``usable``, ``reason``, and everything that was measured.
    """
    facts = dict(calibration_registration)
    nothing = np.zeros((1, *bold.shape[:3]), dtype=np.float32)
    patterns = nothing
    facts |= {
        "voxel_mm": [round(mm, 4) for mm in bold.zooms],
        "tr_s": tr,
        "n_volumes": bold.shape[3],
        "n_dummy": n_dummy,
    }
    try:
        if "reason" not in facts:
            patterns, told = calibration_patterns(
                bold,
                head_mask.data,
                hmc_xfms,
                motion[list(MOTION)].to_numpy(),
                facts,
                n_dummy=n_dummy,
                tr=tr,
                events=calibration_events,
            )
            facts |= told
    except SeriesError as error:
        facts["reason"] = str(error)
    if facts.get("reason"):
        patterns = nothing
        _LOGGER.warning("The calibration is left out, %s: %s", _WITHOUT, facts["reason"])
    facts = {"usable": not facts.get("reason"), "reason": "", **facts}
    series = Volume(np.ascontiguousarray(np.moveaxis(patterns, 0, -1)), bold.affine, bold.header)
    return series, facts
