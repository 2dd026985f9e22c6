"""Rules on the sidecar of each series: of runs, calibration runs and measured references."""

from collections.abc import Iterator

from bids_sr.io.json_values import as_texts
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.acquired_matrix import (
    get_matrix_by_direction,
    interpolation_text,
    list_zero_filled,
    read_number,
)
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.notices import note, problem, warning

# by term of ImageType
_PROCESSING = {
    "MOCO": "corrected head motion, and each volume was interpolated; estimated motion is too"
    " small, and detail near the Nyquist frequency is weak",
    "FILTERED": "filtered the images, and detail near the Nyquist frequency is weak",
    "INTERP": "interpolated the images, and detail beyond the acquired matrix is not measured",
}
NYQUIST_DIFFERS = (
    "the acquired Nyquist frequency differs from the Nyquist frequency implied by the voxel size"
)
"""Consequence of k-space that does not extend to the edge, as a clause."""


def _refuse_phase(run: BoldRun) -> Iterator[Notice]:
    """Reject a phase image (ImageType in its sidecar) that is named as a magnitude image."""
    terms = {term.upper() for term in as_texts(run.sidecar.get("ImageType"))}
    if terms & {"P", "PHASE"} and not terms & {"M", "MAGNITUDE"}:
        yield problem(
            run.bold,
            "the sidecar describes a phase image (ImageType), but the file is named as a"
            " magnitude image",
            "Add part-phase to the file name, and add the magnitude image of the run.",
        )


def _note_processing(run: BoldRun) -> Iterator[Notice]:
    """Report processing on the scanner (ImageType)."""
    for term in dict.fromkeys(map(str.upper, as_texts(run.sidecar.get("ImageType")))):
        if term in _PROCESSING:
            yield note(
                run.bold,
                f"ImageType contains {term}, so the scanner {_PROCESSING[term]}. If the"
                " unprocessed series exists, use it.",
            )


def _note_slice_times(run: BoldRun) -> Iterator[Notice]:
    """Report slice times of a 3D acquisition."""
    is_3d = str(run.sidecar.get("MRAcquisitionType", "")).upper() == "3D"
    if is_3d and run.sidecar.get("SliceTiming") is not None:
        yield note(
            run.bold,
            "MRAcquisitionType is 3D, but SliceTiming exists. All slices of a 3D acquisition have"
            " the same time. If the run is a 3D EPI, use --ignore slicetiming.",
        )


def _warn_of_partial_fourier(run: BoldRun) -> Iterator[Notice]:
    """Warn that one side of k-space was not acquired."""
    partial_fourier = read_number(run.sidecar, "PartialFourier")
    if 0 < partial_fourier < 1:
        yield warning(
            run.bold,
            f"PartialFourier is {partial_fourier:g}, so {NYQUIST_DIFFERS}. Along the"
            " phase-encoding direction, one side of k-space was acquired only up to"
            f" {max(2 * partial_fourier - 1, 0):.0%} of the implied Nyquist frequency. Finer"
            " detail is blurred or estimated from the other side.",
        )


def _warn_of_interpolation(run: BoldRun) -> Iterator[Notice]:
    """Warn of voxels smaller than the acquired resolution."""
    for axis in list_zero_filled(run.sidecar, run.shape):
        yield warning(run.bold, f"{interpolation_text(axis)}.")
    recon_matrix = read_number(run.sidecar, "ReconMatrixPE")
    n_phase_voxels, _ = get_matrix_by_direction(run.sidecar, run.shape)
    if recon_matrix and recon_matrix != n_phase_voxels:
        yield warning(
            run.bold,
            f"ReconMatrixPE is {recon_matrix:g}, but the image has {n_phase_voxels} voxels along"
            " the phase-encoding direction, so the image was resampled, cropped or padded. If it"
            f" was resampled, {NYQUIST_DIFFERS}, and detail near the acquired Nyquist frequency"
            " is weak or missing.",
        )


SIDECAR_RULES = (
    _refuse_phase,
    _note_processing,
    _note_slice_times,
    _warn_of_partial_fourier,
    _warn_of_interpolation,
)
"""Rules on a series, in the order of their messages."""
