"""Series of other programs: brought to the grid of their run, and controls of equal smoothness.

The place of each series is found first; the series is interpolated once.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.evaluation.compared_verdict import ON_ACQUIRED
from bids_sr.evaluation.effects_of_run import control_width
from bids_sr.evaluation.same_resolution import changes_of, same_resolution
from bids_sr.glm.block_effects import load_effects
from bids_sr.io.arrays import Array
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.pipeline.artifacts import Distortion, Facts, File, Image, Mask, Series, Transforms
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.registration.compared_frame import checked, poses_of, read_moments
from bids_sr.series import ACQUIRED_BAND
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.inference.acquired import PlainUpsampler, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.sr.matrices import upsample as upsampled
from bids_sr.sr.method import Cost
from bids_sr.steps.memory import EFFECTS, SERIES

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
