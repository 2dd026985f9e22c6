"""Acquired series: import, combination of echoes, slice timing and smoothing."""

from collections.abc import Sequence
from pathlib import Path

from bids_sr.engine.artifacts import Facts, File, Series
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import AxisOrder
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.storage import working_writer
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc import slice_timing
from bids_sr.preproc.copied_series import SeriesSample
from bids_sr.spatial.smoothing import smooth


@step(Stage.HEAD_MOTION, makes="bold")
def import_series(
    bold_file: File, here: Path = HERE, *, tr: float, axis_order: AxisOrder
) -> Series:
    """Copy a series to an uncompressed file with slices on the third axis, volume by volume.

    `bold_file` is a run as stored (4D). The repetition time `tr` (s) is written to the header. For
    `axis_order`, see `bids_sr.io.grids`.
    """
    copy_series(bold_file, here / "bold.nii", order=axis_order, tr=tr)
    return SeriesReader(here / "bold.nii")


def describe_echoes(echo_times: Sequence[float]) -> str:
    """Return methods text of the combination of echoes; `echo_times` are in ms."""
    times = enumerate_words([f"{ms:g}" for ms in echo_times])
    return (
        f"As the first step, the echoes of the run (echo times {times} ms) were optimally"
        " combined with weights based on the T2* of each voxel [@posse1999], which was fitted"
        " with tedana [@tedana]."
    )


@step(Stage.HEAD_MOTION, makes="bold_file")
def combine_echoes(
    echo_files: list[File], here: Path = HERE, *, echo_times: Sequence[float]
) -> File:
    """Combine the echoes of a run optimally with tedana.

    The series (4D) are on one grid. `echo_times` are in ms.
    """
    from bids_sr.preproc import multi_echo

    multi_echo.combine_echoes(echo_files, echo_times, here / "combined.nii")
    return here / "combined.nii"


@step(Stage.HEAD_MOTION, makes="noise_record")
def record_noise(bold: Series) -> Facts:
    """Record the noise of a series, with which the group level finds copies of it."""
    sample = SeriesSample(bold.shape, bold.affine)
    for volume in bold.volumes():
        sample.add(volume.ravel(order="F"))
    return sample.record_noise().to_json()


def describe_slice_timing(start_time: float) -> str:
    """Return methods text of slice-timing correction to `start_time` (s after volume start)."""
    return (
        f"Slice timing was corrected to {start_time:.4g} s after the start of the volume by cubic"
        " splines."
    )


@step(Stage.HEAD_MOTION, makes="stc")
def correct_slice_timing(
    bold: Series,
    here: Path = HERE,
    *,
    slice_times: Sequence[float],
    start_time: float,
    n_dummy: int,
) -> Series:
    """Interpolate all slices in time to the same moment of the volume.

    Slices of `bold` are on the third axis. `slice_times` has the acquisition time of each slice
    along this axis, and `start_time` is the target time of the interpolation (s after the start of
    a volume).
    """
    with working_writer(here / "stc.nii", bold) as writer:
        slice_timing.correct_slice_timing(
            bold, writer, slice_times, bold.tr, start_time, n_dummy=n_dummy
        )
    return SeriesReader(here / "stc.nii")


def describe_input_smoothing(input_smoothing: float) -> str:
    """Return methods text of smoothing (mm FWHM) on the acquired grid."""
    return (
        "Before super-resolution and all interpolations, the acquired series was smoothed with a"
        f" Gaussian kernel of {input_smoothing:g} mm FWHM [@stss_srfmri]. Head motion"
        " and the boldref were estimated without smoothing."
    )


@step(Stage.HEAD_MOTION, makes="stc")
def smooth_acquired(unsmoothed: Series, here: Path = HERE, *, input_smoothing: float) -> Series:
    """Smooth every volume on the acquired grid before all other series are computed.

    `input_smoothing` is the width of the Gaussian (FWHM, mm).
    """
    with working_writer(here / "smoothed.nii", unsmoothed) as writer:
        for volume in unsmoothed.volumes():
            writer.append(smooth(volume, unsmoothed.zooms, input_smoothing))
    return SeriesReader(here / "smoothed.nii")
