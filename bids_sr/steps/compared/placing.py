"""Steps that bring series of other programs to the grid of their run.

They find where the series lie, and interpolate once.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import SERIES
from bids_sr.evaluation.verdict import ON_ACQUIRED
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import Array, AxisOrder
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.pipeline.artifacts import Distortion, Facts, File, Image, Mask, Series, Transforms
from bids_sr.pipeline.step import enumerated, step
from bids_sr.registration.compared_frame import checked, poses_of, read_moments
from bids_sr.series import ACQUIRED_BAND
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.inference.acquired import PlainUpsampler, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.sr.matrices import upsample as upsampled
from bids_sr.sr.method import Cost
from bids_sr.steps.activation import Factor

_AS_ACQUIRED: Factor = (1.0, 1.0, 1.0)
UPSAMPLING = ACQUIRED_BAND
"""How a series on the acquired grid is upsampled: as the acquired one, its band untouched."""


def compared_text(names: Sequence[str]) -> str:
    """Return methods text of the compared series of a run."""
    return (
        f"Series of other programs ({enumerated(list(names))}) were judged beside the acquired"
        " one. Volumes at several moments were registered to those acquired at the same moments,"
        " which tells whether head motion was undone already. Those on the acquired grid were"
        " zero-filled as the acquired series is; each volume was interpolated once, and the"
        " series went through the same masks, models and comparisons, in the voxels in which both"
        " it and the acquired series have signal. As a control at the same resolution, effects of"
        " the acquired series were smoothed by a Gaussian.\n"
    )


@step(makes="compared")
def import_compared(bold_file: File, here: Path, *, tr: float, axis_order: AxisOrder) -> Series:
    """Copy a compared series as `bids_sr.steps.motion.import_series` does, with NaN set to 0.

    `bold_file`: BOLD series as its program wrote it (NIfTI, 4D). Copy of the series, uncompressed,
    with slices on the third axis.
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
    here: Path,
    factor: Factor,
    series_name: str,
) -> tuple[Series, Mask]:
    """A compared series on the high-resolution grid of the run, each volume interpolated once.

    `distortion`: of the run; what had its motion undone is taken to have that undone, too.
    """
    facts = compared_facts[series_name]
    assert isinstance(facts, dict)
    as_acquired, scale, offset = (
        facts["frame"] == "as acquired",
        float(facts["scale"]),
        float(facts["offset"]),
    )
    own = factor if stc.shape[:3] == acquired.shape[:3] else _AS_ACQUIRED
    upsample = make_upsampler(UPSAMPLING if own == factor else "raw", UpsamplerInputs(factor=own))
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
            factor=own,
            distortion=distortion if as_acquired else None,
        )
    return SeriesReader(target), mask
