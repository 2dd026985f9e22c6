"""Series of other programs: alignment with their run, and controls of equal smoothness.

Each series is interpolated once.
"""

import math
from collections.abc import Sequence
from pathlib import Path

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
from bids_sr.io.grids import AxisOrder, Factor, reorder, reorder_affine
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.run_time import RunTime
from bids_sr.io.series import ACQUIRED, ACQUIRED_BAND
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.series_alignment import (
    align_volumes,
    read_comparison_volumes,
    register_corrected,
)
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.matrices import interpolate
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler


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


@step(
    Stage.OTHER_PROGRAMS,
    makes=("compared", "compared_xfms", "compared_facts", "compared_signal"),
    cost=RunTime(always=5.0, volumes=0.02),
)
def import_compared(
    bold_file: File,
    bold: Series,
    boldref: Image,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    *,
    here: Path = HERE,
    series_name: str,
    axis_order: AxisOrder,
    is_corrected: bool,
) -> tuple[Series, Transforms, Facts, Mask]:
    """Copy a compared series in signal units of its run, and find the positions of its volumes.

    Voxels without signal take the signal of the acquired series, because filters need complete
    slices. A series that was not corrected for head motion has the positions of the run. The mean
    image of a corrected series is registered to the boldref.

    `bold_file` is the BOLD series in the format of its program (NIfTI, 4D), and `axis_order` the
    stored axis for each of its first three axes in the order of the run. `bold` is the acquired
    series; `boldref` and `bold_mask` are on its grid. `hmc_xfms` map boldref points to points of
    each volume of the run (T, 4, 4; RAS mm). `series_name` is the key of the facts. `is_corrected`
    states whether the series was corrected for head motion.

    Returns the series, transforms of boldref points to points of its volumes, facts on the
    alignment, and the voxels of the acquired grid that are not excluded from the brain because
    they have no signal. Raises `InvalidInput` if the series is NaN in the brain or far from the
    boldref.
    """
    xfms = hmc_xfms
    with SeriesReader(bold_file, allow_nan=True) as stored:
        alignment = align_volumes(
            read_comparison_volumes(bold), read_comparison_volumes(stored, axis_order), bold.affine
        )
        if is_corrected:
            xfm = register_corrected(alignment, boldref, bold_mask.data)
            xfms = np.repeat(xfm[None], len(hmc_xfms), axis=0)
        affine = reorder_affine(stored.affine, axis_order)
        x, y, z = (stored.shape[axis] for axis in axis_order)
        is_filled = interpolate("nearest", 1.0 - alignment.has_signal, (x, y, z)) > 0
        with (
            threadpool_limits(1),
            SeriesWriter(
                here / "bold.nii",
                (x, y, z, bold.shape[3]),
                affine,
                bold.tr,
                header_like=bold.header,
            ) as writer,
        ):
            for t, volume in enumerate(stored.volumes()):
                to_acquired = hmc_xfms[t] @ np.linalg.inv(xfms[t])
                converted = alignment.convert(reorder(volume, axis_order))
                if is_filled.any():
                    acquired = sample_volume(
                        bold.volume(t), bold.affine, (x, y, z), affine, to_acquired
                    )
                    converted = np.where(is_filled, acquired, converted)
                writer.append(converted)
    is_excluded = bold_mask.data & ~alignment.has_signal
    facts = alignment.facts() | {
        "frame": "corrected for head motion" if is_corrected else AS_ACQUIRED,
        "grid": ON_ACQUIRED if (x, y, z) == bold.shape[:3] else "finer",
        "brain_voxels": int(bold_mask.data.sum()),
        "left_out": int(is_excluded.sum()),
    }
    return (
        SeriesReader(here / "bold.nii"),
        xfms,
        {series_name: facts},
        bold_mask.like(~is_excluded),
    )


@step(
    Stage.OTHER_PROGRAMS,
    makes=("series", "compared_mask"),
    memory=SERIES,
    cost=RunTime(volumes=0.05),
)
def resample_compared(
    compared_stc: Series,
    bold_mask_hr: Mask,
    compared_xfms: Transforms,
    compared_signal: Mask,
    distortion: Distortion | None = None,
    *,
    here: Path = HERE,
    factor: Factor,
) -> tuple[Series, Mask]:
    """Resample a compared series to the high-resolution grid, with one interpolation per volume.

    `compared_stc` is the compared series after slice-timing correction. `bold_mask_hr` is the
    brain on the high-resolution grid. `compared_xfms` and `compared_signal` are results of
    `import_compared`. `distortion` is None if the series is undistorted. `factor` is acquired over
    high-resolution voxel size by axis.

    The returned mask are the brain voxels with signal in both series.
    """
    upsampling = ACQUIRED_BAND
    if compared_stc.shape[:3] != compared_signal.data.shape:
        upsampling, factor = ACQUIRED, (1.0, 1.0, 1.0)
    shape, affine = bold_mask_hr.data.shape, bold_mask_hr.affine
    signal_fraction = sample_volume(
        compared_signal.data.astype(np.float32),
        compared_signal.affine,
        shape,
        affine,
        compared_xfms[len(compared_xfms) // 2],
        order=1,
    )
    write_series(
        compared_stc,
        here / "series.nii",
        make_upsampler(upsampling, UpsamplerInputs(factor=factor)),
        compared_xfms,
        shape,
        affine,
        factor=factor,
        distortion=distortion,
    )
    mask = bold_mask_hr.like(bold_mask_hr.data & (signal_fraction > 0.5))
    return SeriesReader(here / "series.nii"), mask


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
        acquired = compute_changes(series[ACQUIRED_BAND], n_dummy)
        acquired_effects = Effects.load(effects[ACQUIRED_BAND])
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
