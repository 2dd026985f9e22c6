"""Series of other programs: alignment with their run, and controls of equal smoothness.

Each series is interpolated once.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.engine.artifacts import Facts, File, Image, Mask, Series
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import EFFECTS, SERIES
from bids_sr.evaluation.compared_series.smoothness_matching import (
    match_smoothness,
    select_control_width,
)
from bids_sr.evaluation.compared_series.verdict import AS_ACQUIRED, ON_ACQUIRED
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.noise_smoothness import compute_changes
from bids_sr.io.arrays import Array
from bids_sr.io.copies import copy_series
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.run_time import RunTime
from bids_sr.io.series import ACQUIRED_BAND
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.series_alignment import (
    check_alignment,
    read_comparison_volumes,
    register_corrected,
)
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.matrices import upsample as upsample_volume
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.inference.apply_to_series import super_resolve_series
from bids_sr.sr.inference.upsampler_inputs import PlainUpsampler, UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler

_AS_ACQUIRED: Factor = (1.0, 1.0, 1.0)
UPSAMPLING = ACQUIRED_BAND
"""Upsampling of series on the acquired grid: zero filling, as for the acquired series."""


def describe_compared(names: Sequence[str], corrected_names: Sequence[str]) -> str:
    """Return methods text of series of other programs, some of which are corrected for motion."""
    correction_text = ""
    if corrected_names:
        correction_text = (
            f" Head motion had been corrected in {enumerate_words(list(corrected_names))} by the"
            " other program; one rigid transform aligned all volumes with the reference."
        )
    return (
        f"Series from other programs ({enumerate_words(list(names))}) were compared with the"
        " acquired series. Series on the acquired grid were zero filled in the same way as the"
        " acquired series. Each volume was interpolated once, and the same masks, models and"
        f" comparisons were used for all series.{correction_text} Comparisons were restricted to"
        " voxels with signal in both the series and the acquired series. As a control at the same"
        " resolution, effects of the acquired series were smoothed with a Gaussian kernel.\n"
    )


@step(Stage.OTHER_PROGRAMS, makes="compared")
def import_compared(
    bold_file: File, here: Path = HERE, *, tr: float, axis_order: AxisOrder
) -> Series:
    """Copy a compared series and set NaN to 0.

    The copy is as in `bids_sr.preproc.steps.acquired_series.import_series`. `bold_file` is the
    BOLD series in the format of its program (NIfTI, 4D).
    """
    copy_series(bold_file, here / "bold.nii", order=axis_order, tr=tr, replace_nan=True)
    return SeriesReader(here / "bold.nii")


@step(
    Stage.OTHER_PROGRAMS,
    makes=("compared_xfms", "compared_facts", "compared_signal"),
    cost=RunTime(always=5.0),
)
def align_compared(
    compared: Series,
    bold: Series,
    boldref: Image,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    *,
    series_name: str,
    is_corrected: bool,
) -> tuple[Transforms, Facts, Mask]:
    """Find the positions of the volumes of a compared series, and the voxels with signal.

    A series that was not corrected for head motion has the positions of the run. The mean image
    of a corrected series is registered to the boldref.

    `bold` is the acquired series; `boldref` and `bold_mask` are on its grid. `hmc_xfms` map
    boldref points to points of each volume of the run (T, 4, 4; RAS mm). `series_name` is the key
    of the facts. `is_corrected` states whether the series was corrected for head motion.

    Returns transforms of boldref points to points of the compared series, facts on the alignment,
    and the voxels of the acquired grid with signal in both series. Raises `InvalidInput` if the
    series is shifted, is from another run or head, or contradicts `is_corrected`.
    """
    alignment = check_alignment(bold, compared, is_corrected=is_corrected)
    facts = alignment.facts() | {
        "frame": "corrected for head motion" if is_corrected else AS_ACQUIRED,
        "grid": ON_ACQUIRED if compared.shape[:3] == bold.shape[:3] else "finer",
        "brain_voxels": int(bold_mask.data.sum()),
        "left_out": int((bold_mask.data & ~alignment.valid).sum()),
    }
    xfms = hmc_xfms
    if is_corrected:
        xfm = register_corrected(alignment, compared, boldref, bold_mask.data)
        xfms = np.repeat(xfm[None], len(hmc_xfms), axis=0)
    return xfms, {series_name: facts}, bold_mask.like(alignment.valid)


@step(
    Stage.OTHER_PROGRAMS,
    makes=("series", "compared_mask"),
    memory=SERIES,
    cost=RunTime(volumes=0.05),
)
def resample_compared(
    compared_stc: Series,
    stc: Series,
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

    `compared_stc` and `stc` are the compared and acquired series after slice-timing correction.
    `bold_mask_hr` is the brain on the high-resolution grid. `hmc_xfms` and `compared_xfms` map
    boldref points to points of each volume of the run, and of the compared series (T, 4, 4; RAS
    mm). `compared_facts` and `compared_signal` are results of `align_compared`. `factor` is
    acquired over high-resolution voxel size by axis.

    The distortion of the run is only corrected if head motion was not corrected in the series;
    motion-corrected series are assumed to be undistorted. The returned mask are the brain voxels
    with signal in both series.
    """
    facts = compared_facts[series_name]
    assert isinstance(facts, dict)
    is_as_acquired = facts["frame"] == AS_ACQUIRED
    series_factor = factor if compared_stc.shape[:3] == stc.shape[:3] else _AS_ACQUIRED
    upsample = make_upsampler(
        UPSAMPLING if series_factor == factor else "acquired",
        UpsamplerInputs(factor=series_factor),
    )
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    mask = bold_mask_hr
    if facts["left_out"]:
        signal_fraction = sample_volume(
            compared_signal.data.astype(np.float32),
            compared_signal.affine,
            shape,
            affine,
            compared_xfms[len(compared_xfms) // 2],
            order=1,
        )
        mask = mask.like(mask.data & (signal_fraction > 0.5))
    signal_fill = _make_signal_fill(compared_stc, stc, facts)
    acquired_volumes = zip(stc.volumes(), hmc_xfms, strict=True)

    def upsample_filled(volume: Array, pose: Array) -> Array:
        """Upsample the next volume, scaled to the run and with empty voxels filled."""
        acquired_volume, hmc_xfm = next(acquired_volumes)
        filled = signal_fill.scale_and_fill(volume, pose, acquired_volume, hmc_xfm)
        return upsample(filled, pose)

    target = here / "series.nii"
    with (
        threadpool_limits(1),
        SeriesWriter(
            target,
            (*shape, compared_stc.shape[3]),
            affine,
            compared_stc.tr,
            header_like=stc.header,
        ) as writer,
    ):
        super_resolve_series(
            compared_stc,
            writer,
            PlainUpsampler(function=upsample_filled),
            compared_xfms,
            shape,
            affine,
            factor=series_factor,
            distortion=distortion if is_as_acquired else None,
        )
    return SeriesReader(target), mask


@frozen
class _SignalFill:
    """Scale of a compared series, and acquired signal for its voxels without signal.

    `acquired` is the acquired series and `series` the compared series, whose voxels without signal
    are `lacks_signal` (3D, boolean). `is_as_acquired` states whether its volumes are in the
    acquired positions. `scale` and `offset` are factor and summand that give the compared series
    the signal unit of the run.
    """

    acquired: SeriesReader
    series: SeriesReader
    lacks_signal: Array
    is_as_acquired: bool
    scale: np.float32
    offset: np.float32

    def scale_and_fill(
        self, volume: Array, pose: Array, acquired_volume: Array, hmc_xfm: Array
    ) -> Array:
        """Scale a volume (3D) to the run, and fill voxels without signal from the acquired volume.

        `pose` and `hmc_xfm` are the transforms (4, 4) of boldref points to points of the compared
        and of the acquired volume (RAS mm).
        """
        scaled: Array = self.scale * volume + self.offset
        if not self.lacks_signal.any():
            return scaled
        x, y, z = (
            n_voxels / n_acquired
            for n_voxels, n_acquired in zip(
                self.series.shape[:3], self.acquired.shape[:3], strict=True
            )
        )
        upsampled = upsample_volume(UPSAMPLING, acquired_volume, (x, y, z))
        xfm = np.eye(4) if self.is_as_acquired else hmc_xfm @ np.linalg.inv(pose)
        affine = self.series.affine
        resampled = sample_volume(upsampled, affine, upsampled.shape, affine, xfm)
        return np.where(self.lacks_signal, resampled, scaled)


def _make_signal_fill(
    series: SeriesReader, acquired: SeriesReader, facts: Mapping[str, Any]
) -> _SignalFill:
    """Find the voxels of a compared series without signal, given the facts on its alignment."""
    smallest_signal = float(facts["least_signal"]) if facts["left_out"] else 0.0
    mean_signal = np.mean(list(read_comparison_volumes(series).values()), axis=0)
    return _SignalFill(
        acquired=acquired,
        series=series,
        lacks_signal=mean_signal <= smallest_signal,
        is_as_acquired=facts["frame"] == AS_ACQUIRED,
        scale=np.float32(facts["scale"]),
        offset=np.float32(facts["offset"]),
    )


@step(Stage.OTHER_PROGRAMS, makes="same_widths", memory=EFFECTS, cost=RunTime(always=5.0))
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
        acquired_effects = Effects.load(effects[UPSAMPLING])
        for name in compared_names:
            inside = Effects.load(effects[name]).mask & bold_mask_hr.data
            fwhm_mm = match_smoothness(
                acquired, compute_changes(series[name], n_dummy), inside, zooms, factor
            )
            widths[name] = None
            if math.isfinite(fwhm_mm):
                width = select_control_width(acquired_effects, inside, fwhm_mm)
                widths[name] = round(width, 2)
    return widths
