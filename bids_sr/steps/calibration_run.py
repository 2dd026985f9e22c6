"""The calibration of a run: where it lies to the run, and how it fluctuates.

Its head motion is estimated by the steps of `bids_sr.steps.motion`, in a scope of its own. Nothing
that is wrong with a calibration ends the program: what cannot be used is written down (``usable``,
``reason``), and the run is super-resolved without it.
"""

import logging
from pathlib import Path

import numpy as np

from bids_sr.config.memory import Need
from bids_sr.glm.confounds import MOTION
from bids_sr.io.grids import Factor
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Facts, File, Image, Mask, Series, Table, Transforms
from bids_sr.pipeline.step import HERE, step
from bids_sr.registration.calibration_alignment import (
    agreement,
    calibration_patterns,
    register_to_calibration,
)
from bids_sr.sr.method import Cost
from bids_sr.sr.variance.temporal_components import SeriesError
from bids_sr.steps.memory import CALIBRATE

_LOGGER = logging.getLogger(__name__)
_WITHOUT = "prior variances are estimated from the run itself"
CALIBRATION_XFM_SIDECAR = {
    "Description": "transform that maps points of the boldref to points of the calibration run"
}


def describe_calibration(*, with_events: bool) -> str:
    """What the methods text says of a calibration, whose task is known or not."""
    task = " and, if half of the degrees of freedom remained, task effects" if with_events else ""
    return (
        "The spatial distribution of signal fluctuations was measured in a short run at the high"
        " resolution (calibration run). The calibration run was coregistered to the run with a"
        " rigid transform that maximizes mutual information in ANTs [@ants], followed by"
        " Gauss-Newton optimization [@bakermatthews2004]. Volumes with a framewise displacement"
        f" above 0.5 mm [@power2012] or with a spike were excluded. Drift{task}"
        f" {'were' if task else 'was'} regressed out, and the residuals were decomposed into"
        " temporal principal components and their spatial maps.\n"
    )


@step(
    makes=("boldref2calibration_xfm", "calibration_registration"),
    memory=Need(always=0.06),
    cost=Cost(always=4.0),
)
def register_calibration(
    boldref: Image,
    bold_mask: Mask,
    calibration_ref: Image,
    head_mask: Mask,
    here: Path = HERE,
    known_calibration_xfm: Transforms | None = None,
    *,
    factor: Factor,
    random_seed: int,
) -> tuple[Transforms, Facts]:
    """Rigid registration of the run's reference and the calibration's.

    `known_calibration_xfm`: takes a boldref point to its calibration point; then none is
    estimated. `factor`: voxel of the run over that of the calibration, by axis. Returns such a
    transform, (1, 4, 4) in RAS mm, and size and quality of the registration, or ``reason``, where
    there is none.
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
        _LOGGER.warning("The calibration run could not be registered to the BOLD run: %s", error)
        xfm = np.eye(4)
        facts = {"reason": f"registration to the BOLD run failed ({error})"}
    return xfm[None], facts


@step(
    makes=("calibration_patterns", "calibration_facts"),
    # 100 volumes as float32, those of the brain once more, and a slice in double precision
    memory=CALIBRATE,
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

    `bold` to `motion`, `n_dummy`, `tr`: of the calibration. `calibration_events`: BIDS events of
    it; without them no task is taken out. Returns principal components of the fluctuations on its
    own grid (X, Y, Z, C), signal units, strongest first, one of nothing if not usable; ``usable``,
    ``reason``, and everything that was measured.
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
            patterns, told_facts = calibration_patterns(
                bold,
                head_mask.data,
                hmc_xfms,
                motion[list(MOTION)].to_numpy(),
                facts,
                n_dummy=n_dummy,
                tr=tr,
                events=calibration_events,
            )
            facts |= told_facts
    except SeriesError as error:
        facts["reason"] = str(error)
    if facts.get("reason"):
        patterns = nothing
        _LOGGER.warning("The calibration run is not used, and %s: %s", _WITHOUT, facts["reason"])
    facts = {"usable": not facts.get("reason"), "reason": "", **facts}
    series = Volume(np.ascontiguousarray(np.moveaxis(patterns, 0, -1)), bold.affine, bold.header)
    return series, facts
