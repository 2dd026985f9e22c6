"""Steps that bring series of other programs to the grid of their run.

They find where the series lie, and interpolate once.

Steps that compare series of other programs with the acquired one.

There are controls at the same resolution, and verdicts.

Steps of another acquired run of the same task, a reference for series of other programs.

Its noise is independent of theirs.

The calibration of a run: where it lies to the run, and how it fluctuates.

Its head motion is estimated by the steps of `bids_sr.steps.motion`, in a scope of its own. Nothing
that is wrong with a calibration ends the program: what cannot be used is written down (``usable``,
``reason``), and the run is super-resolved without it.
"""

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.machine import CALIBRATE, EFFECTS, SERIES, Need
from bids_sr.evaluation.agreement import agreement_rows, changes_of, same_resolution
from bids_sr.evaluation.effects_of_run import control_width
from bids_sr.evaluation.references import another_run
from bids_sr.evaluation.verdict import ON_ACQUIRED
from bids_sr.glm.block_effects import block_effects, load_effects
from bids_sr.glm.blocks import block_design
from bids_sr.glm.confounds import MOTION, motion_columns
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import MOTION as MODEL_MOTION
from bids_sr.glm.time_columns import time_column_names
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import Array, AxisOrder, Factor, Volume
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.pipeline.artifacts import (
    Confounds,
    Distortion,
    Effects,
    Facts,
    File,
    Image,
    Mask,
    Regressors,
    Rows,
    Series,
    Table,
    Transforms,
)
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.registration.compared_frame import checked, poses_of, read_moments
from bids_sr.registration.rigid import (
    agreement,
    calibration_patterns,
    refine,
    register_to_calibration,
    rigid,
)
from bids_sr.series import ACQUIRED_BAND
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.inference.acquired import PlainUpsampler, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.sr.matrices import upsample as upsampled
from bids_sr.sr.method import Cost
from bids_sr.sr.variance.temporal_components import SeriesError
from bids_sr.steps.evaluation import N_BOOT, run_effects

_AS_ACQUIRED: Factor = (1.0, 1.0, 1.0)
UPSAMPLING = ACQUIRED_BAND
"""How a series on the acquired grid is upsampled: as the acquired one, its band untouched."""


def describe_compared(names: Sequence[str]) -> str:
    """Return methods text of the compared series of a run."""
    return (
        f"Series from other programs ({enumerated(list(names))}) were compared with the acquired"
        " series. To determine whether these series had been corrected for head motion, some of"
        " their volumes were registered to the corresponding acquired volumes. Series on the"
        " acquired grid were zero filled in the same way as the acquired series. Each volume was"
        " interpolated once, and the same masks, models and comparisons were used for all"
        " series. Comparisons were restricted to voxels with signal in both the series and the"
        " acquired series. As a control at the same resolution, effects of the acquired series"
        " were smoothed with a Gaussian kernel.\n"
    )


@step(makes="compared")
def import_compared(
    bold_file: File, here: Path = HERE, *, tr: float, axis_order: AxisOrder
) -> Series:
    """Copy a compared series as `bids_sr.steps.motion.import_series` does, with NaN set to 0.

    `bold_file`: BOLD series as its program wrote it (NIfTI, 4D).
    """
    copy_series(bold_file, here / "bold.nii", order=axis_order, tr=tr, masked=True)
    return SeriesReader(here / "bold.nii")


@step(makes=("compared_xfms", "compared_facts", "compared_signal"), cost=Cost(always=5.0))
def align_compared(
    compared: Series,
    bold: Series,
    boldref: Image,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    *,
    series_name: str,
) -> tuple[Transforms, Facts, Mask]:
    """Find where the volumes of a compared series lie, and its mask.

    They lie as acquired, or with the head motion undone.

    `hmc_xfms`: of the run; take a boldref point to where it lies in each volume (RAS mm).
    `ComparedError`: it is shifted, of another run or head, or in no frame of the run.
    `compared_xfms`: as `hmc_xfms`, of the compared series. `compared_signal`: voxels of the
    acquired grid in which both series have signal.
    """
    seen = checked(bold, compared)
    facts = seen.facts() | {
        "grid": ON_ACQUIRED if compared.shape[:3] == bold.shape[:3] else "finer",
        "brain_voxels": int(bold_mask.data.sum()),
        "left_out": int((bold_mask.data & ~seen.both).sum()),
    }
    xfms = poses_of(seen, hmc_xfms, compared, boldref, bold_mask.data)
    return xfms, {series_name: facts}, bold_mask.like(seen.both)


@step(makes=("series", "compared_mask"), memory=SERIES, cost=Cost(volumes=0.05))
def place_compared(
    stc: Series,
    acquired: Series,
    bold_mask_hr: Mask,
    hmc_xfms: Transforms,
    compared_xfms: Transforms,
    compared_facts: Facts,
    compared_signal: Mask,
    distortion: Distortion | None = None,
    *,
    here: Path = HERE,
    factor: Factor,
    series_name: str,
) -> tuple[Series, Mask]:
    """A compared series on the high-resolution grid of the run, each volume interpolated once.

    It is in signal units of the run; where it has no signal, that of the acquired one is taken, as
    filters see whole slices. `stc`, `acquired`: the series and the run as acquired, both corrected
    in time. `distortion`: of the run; what had its motion undone is taken to have that undone,
    too.
    """
    facts = compared_facts[series_name]
    assert isinstance(facts, dict)
    as_acquired = facts["frame"] == "as acquired"
    scale = float(facts["scale"])
    offset = float(facts["offset"])
    own_factor = factor if stc.shape[:3] == acquired.shape[:3] else _AS_ACQUIRED
    upsample = make_upsampler(
        UPSAMPLING if own_factor == factor else "raw", UpsamplerInputs(factor=own_factor)
    )
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    mask, least = bold_mask_hr, float(facts["least_signal"]) if facts["left_out"] else 0.0
    lacks = np.mean(list(read_moments(stc).values()), axis=0) <= least
    if facts["left_out"]:
        middle = compared_xfms[len(compared_xfms) // 2]
        there = sample_volume(
            compared_signal.data.astype(np.float32),
            compared_signal.affine,
            shape,
            affine,
            middle,
            order=1,
        )
        mask = bold_mask_hr.like(bold_mask_hr.data & (there > 0.5))
    (x, y, z), (u, v, w) = stc.shape[:3], acquired.shape[:3]
    moments = zip(acquired.volumes(), hmc_xfms, strict=True)

    def whole(volume: Array, pose: Array) -> Array:
        """The next volume, in the signal of the run, upsampled."""
        own_volume, xfm = next(moments)
        volume = np.float32(scale) * volume + np.float32(offset)
        if lacks.any():
            given = upsampled(UPSAMPLING, own_volume, (x / u, y / v, z / w))
            back = np.eye(4) if as_acquired else xfm @ np.linalg.inv(pose)
            volume = np.where(
                lacks, sample_volume(given, stc.affine, given.shape, stc.affine, back), volume
            )
        return upsample(volume, pose)

    target = here / "series.nii"
    with (
        threadpool_limits(1),
        SeriesWriter(
            target, (*shape, stc.shape[3]), affine, stc.tr, header_like=acquired.header
        ) as writer,
    ):
        super_resolve_series(
            stc,
            writer,
            PlainUpsampler(function=whole),
            compared_xfms,
            shape,
            affine,
            factor=own_factor,
            distortion=distortion if as_acquired else None,
        )
    return SeriesReader(target), mask


@step(makes="same_widths", memory=EFFECTS, cost=Cost(always=5.0))
def match_resolution(
    series: dict[str, Series],
    effects: dict[str, File],
    bold_mask_hr: Mask,
    *,
    factor: Factor,
    n_dummy: int,
    compared_names: Sequence[str],
) -> Facts:
    """Find the smoothing (mm FWHM) that makes the acquired series each compared one's control.

    The results are by the names of the compared series; None where smoothness cannot be measured.

    `series, effects`: compared ones, and `zerofill`, which stands for the acquired one, on the
    high-resolution grid.
    """
    zooms = bold_mask_hr.zooms.tolist()
    widths: dict[str, object] = {}
    with threadpool_limits(1):
        acquired = changes_of(series[UPSAMPLING], n_dummy)
        own_effects = load_effects(effects[UPSAMPLING])
        for name in compared_names:
            inside = load_effects(effects[name]).mask & bold_mask_hr.data
            width = same_resolution(
                acquired, changes_of(series[name], n_dummy), inside, zooms, factor
            )
            widths[name] = (
                round(control_width(own_effects, inside, width), 2)
                if math.isfinite(width)
                else None
            )
    return widths


OTHER_RUN_TEXT = (
    "Below the acquired Nyquist frequency, series from other programs were also compared with a"
    " second acquired run of the same task, which has independent noise. The second run was"
    " corrected for head motion in the same way, its boldref was coregistered to the boldref of"
    " the first run, and its blocks were analyzed with the same model. Explained variance was"
    " computed in voxels that were active in one half of the second run, and corrected for noise"
    " with the covariance between the two halves. "
)
"""Methods text of a run with such a reference."""


@step(
    makes="other_effects",
    memory=Need(always=0.1, high=0.6),
    cost=Cost(always=2.0, volumes=0.5),
)
def measure_other_run(
    stc: Series,
    other_ref: Image,
    head_mask: Mask,
    hmc_xfms: Transforms,
    motion: Table,
    regressors: Regressors,
    boldref: Image,
    bold_mask: Mask,
    bold_mask_hr: Mask,
    here: Path = HERE,
    time_columns: Confounds | None = None,
    *,
    factor: Factor,
    tr: float,
    n_dummy: int,
    high_pass: float,
    start_time: float,
    random_seed: int,
) -> Effects:
    """Effect of every block of another run, on the high-resolution grid of the run under test.

    `stc` to `regressors`: of the other run, on its grid. `boldref`, `bold_mask`, `bold_mask_hr`:
    of the run under test, which it is registered to. `start_time`: moment of a volume for which
    its values hold (s after its start). `time_columns`: columns of the other run's temporal model.
    """
    import pandas as pd

    fit = rigid(
        boldref,
        other_ref,
        bold_mask.data,
        head_mask.data,
        seed=random_seed,
        prefix=str(here / "other_run"),
    )
    onto = refine(boldref, other_ref, bold_mask.data, fit.xfm)
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    target = here / "other.nii"
    with threadpool_limits(1):
        with SeriesWriter(
            target, (*shape, stc.shape[3]), affine, stc.tr, header_like=stc.header
        ) as writer:
            upsample = make_upsampler(ACQUIRED_BAND, UpsamplerInputs(factor=factor))
            super_resolve_series(
                stc, writer, upsample, hmc_xfms @ onto, shape, affine, factor=factor
            )
        confounds = pd.DataFrame(motion_columns(motion))
        if time_columns is not None:
            confounds = pd.concat([confounds, time_columns], axis=1)
        design = block_design(
            regressors,
            n_volumes=stc.shape[3],
            tr=tr,
            n_dummy=n_dummy,
            high_pass=high_pass,
            start_time=start_time,
            confounds=confounds,
            confound_names=(*MODEL_MOTION, *time_column_names(time_columns)),
        )
        with SeriesReader(target) as placed:
            measured = block_effects(
                placed, bold_mask_hr.data, design, series=ACQUIRED_BAND, with_t=True
            )
    target.unlink()
    return measured


@step(makes="other_rows", memory=EFFECTS, cost=Cost(always=2.0))
def compare_with_other_run(
    effects: dict[str, File],
    other_effects: Effects,
    bold_mask_hr: Mask,
    roi_hr: Mask,
    same_widths: Facts,
    *,
    contrasts: Contrasts,
    factor: Factor,
    random_seed: int,
    n_boot: int = N_BOOT,
) -> Rows:
    """Compare other programs' series and the acquired one with another acquired run.

    The comparison is within the acquired band.

    `same_widths`: see `bids_sr.steps.compared_series.match_resolution`.
    """
    run = run_effects(
        effects, bold_mask_hr, roi_hr, same_widths, contrasts, factor, n_boot, random_seed
    )
    with threadpool_limits(1):
        return agreement_rows(run, partial(another_run, other=other_effects))


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
