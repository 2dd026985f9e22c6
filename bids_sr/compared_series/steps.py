"""Series of other programs: alignment with their run, and controls of equal smoothness.

The position of each series is determined first, and the series is then interpolated once.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.compared_series.smoothness_matching import (
    compute_changes,
    control_width,
    same_resolution,
)
from bids_sr.compared_series.verdict import ON_ACQUIRED
from bids_sr.glm.block_effects import load_effects
from bids_sr.io.arrays import Array
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.pipeline.artifacts import Distortion, Facts, File, Image, Mask, Series, Transforms
from bids_sr.pipeline.step import HERE, step
from bids_sr.registration.series_alignment import (
    check_alignment,
    find_series_poses,
    read_comparison_volumes,
)
from bids_sr.run_time import RunTime
from bids_sr.series import ACQUIRED_BAND
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.inference.apply_to_series import super_resolve_series
from bids_sr.sr.inference.upsampler_inputs import PlainUpsampler, UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.matrices import upsample as upsampled
from bids_sr.steps.memory import EFFECTS, SERIES

_AS_ACQUIRED: Factor = (1.0, 1.0, 1.0)
UPSAMPLING = ACQUIRED_BAND
"""Upsampling of series on the acquired grid: zero filling, as for the acquired series."""


def describe_compared(names: Sequence[str]) -> str:
    """Return methods text of series of other programs."""
    return (
        f"Series from other programs ({enumerate_words(list(names))}) were compared with the"
        " acquired series. To determine whether these series had been corrected for head motion,"
        " some of their volumes were registered to the corresponding acquired volumes. Series on"
        " the acquired grid were zero filled in the same way as the acquired series. Each volume"
        " was interpolated once, and the same masks, models and comparisons were used for all"
        " series. Comparisons were restricted to voxels with signal in both the series and the"
        " acquired series. As a control at the same resolution, effects of the acquired series"
        " were smoothed with a Gaussian kernel.\n"
    )


@step(makes="compared")
def import_compared(
    bold_file: File, here: Path = HERE, *, tr: float, axis_order: AxisOrder
) -> Series:
    """Copy a compared series as in `bids_sr.steps.acquired_series.import_series`, with NaN set to
    0.

    `bold_file` is the BOLD series in the format of its program (NIfTI, 4D).
    """
    copy_series(bold_file, here / "bold.nii", order=axis_order, tr=tr, replace_nan=True)
    return SeriesReader(here / "bold.nii")


@step(makes=("compared_xfms", "compared_facts", "compared_signal"), cost=RunTime(always=5.0))
def align_compared(
    compared: Series,
    bold: Series,
    boldref: Image,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    *,
    series_name: str,
) -> tuple[Transforms, Facts, Mask]:
    """Determine the frame of the volumes of a compared series, and the voxels with signal.

    Volumes are either in the acquired positions, or head motion was corrected.

    Parameters
    ----------
    hmc_xfms : Transforms
        Transforms of boldref points to points of each volume of the run (T, 4, 4; RAS mm).

    Returns
    -------
    tuple[Transforms, Facts, Mask]
        Transforms of boldref points to points of the compared series; facts on the alignment; and
        voxels of the acquired grid with signal in both series.

    Raises
    ------
    ComparedError
        If the series is shifted, is from another run or head, or is not in a frame of the run.
    """
    alignment = check_alignment(bold, compared)
    facts = alignment.facts() | {
        "grid": ON_ACQUIRED if compared.shape[:3] == bold.shape[:3] else "finer",
        "brain_voxels": int(bold_mask.data.sum()),
        "left_out": int((bold_mask.data & ~alignment.valid).sum()),
    }
    xfms = find_series_poses(alignment, hmc_xfms, compared, boldref, bold_mask.data)
    return xfms, {series_name: facts}, bold_mask.like(alignment.valid)


@step(makes=("series", "compared_mask"), memory=SERIES, cost=RunTime(volumes=0.05))
def resample_compared(
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
    """Resample a compared series to the high-resolution grid, with one interpolation per volume.

    The result is in signal units of the run. Voxels without signal take the signal of the acquired
    series, because filters need complete slices.

    Parameters
    ----------
    stc, acquired : Series
        Compared series and acquired series after slice-timing correction.
    distortion : Distortion | None
        Distortion of the run. It is only corrected if head motion was not corrected in the series;
        motion-corrected series are assumed to be undistorted.
    """
    facts = compared_facts[series_name]
    assert isinstance(facts, dict)
    as_acquired = facts["frame"] == "as acquired"
    scale = float(facts["scale"])
    offset = float(facts["offset"])
    series_factor = factor if stc.shape[:3] == acquired.shape[:3] else _AS_ACQUIRED
    upsample = make_upsampler(
        UPSAMPLING if series_factor == factor else "raw", UpsamplerInputs(factor=series_factor)
    )
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    mask, smallest_signal = (
        bold_mask_hr,
        float(facts["least_signal"]) if facts["left_out"] else 0.0,
    )
    lacks_signal = np.mean(list(read_comparison_volumes(stc).values()), axis=0) <= smallest_signal
    if facts["left_out"]:
        middle = compared_xfms[len(compared_xfms) // 2]
        signal_fraction = sample_volume(
            compared_signal.data.astype(np.float32),
            compared_signal.affine,
            shape,
            affine,
            middle,
            order=1,
        )
        mask = bold_mask_hr.like(bold_mask_hr.data & (signal_fraction > 0.5))
    (x, y, z), (u, v, w) = stc.shape[:3], acquired.shape[:3]
    moments = zip(acquired.volumes(), hmc_xfms, strict=True)

    def upsample_filled(volume: Array, pose: Array) -> Array:
        """Upsample the next volume, scaled to the run and with empty voxels filled."""
        own_volume, xfm = next(moments)
        volume = np.float32(scale) * volume + np.float32(offset)
        if lacks_signal.any():
            acquired_volume = upsampled(UPSAMPLING, own_volume, (x / u, y / v, z / w))
            acquired_xfm = np.eye(4) if as_acquired else xfm @ np.linalg.inv(pose)
            volume = np.where(
                lacks_signal,
                sample_volume(
                    acquired_volume, stc.affine, acquired_volume.shape, stc.affine, acquired_xfm
                ),
                volume,
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
            PlainUpsampler(function=upsample_filled),
            compared_xfms,
            shape,
            affine,
            factor=series_factor,
            distortion=distortion if as_acquired else None,
        )
    return SeriesReader(target), mask


@step(makes="same_widths", memory=EFFECTS, cost=RunTime(always=5.0))
def match_resolution(
    series: dict[str, Series],
    effects: dict[str, File],
    bold_mask_hr: Mask,
    *,
    factor: Factor,
    n_dummy: int,
    compared_names: Sequence[str],
) -> Facts:
    """Return the smoothing that gives the acquired series the smoothness of a compared series.

    The smoothed acquired series is the control of the compared series. The result contains the
    width (mm FWHM) by name of the compared series; None if smoothness cannot be estimated.
    `series` and `effects` contain the compared series and `zerofill` (the acquired series) on the
    high-resolution grid.
    """
    zooms = bold_mask_hr.zooms.tolist()
    widths: dict[str, object] = {}
    with threadpool_limits(1):
        acquired = compute_changes(series[UPSAMPLING], n_dummy)
        acquired_effects = load_effects(effects[UPSAMPLING])
        for name in compared_names:
            inside = load_effects(effects[name]).mask & bold_mask_hr.data
            width = same_resolution(
                acquired, compute_changes(series[name], n_dummy), inside, zooms, factor
            )
            widths[name] = (
                round(control_width(acquired_effects, inside, width), 2)
                if math.isfinite(width)
                else None
            )
    return widths
