"""Comparison of the voxels of a measured reference with its run.

Downsampled to the resolution of the run, a reference must resemble the run, and its changes
between successive volumes must correlate with the changes in the run. Noise and physiology differ
between runs, so the changes distinguish runs of the same head.
"""

from collections.abc import Iterator

import numpy as np

from bids_sr.io.notices import Notice
from bids_sr.spatial.matrices import acquire
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.notices import problem
from bids_sr.survey.preflight.stored_volumes import read_volumes

BRIGHT_PERCENTILE = 98
"""Percentile that is the brightness of the head; higher percentiles may be artifacts."""
_N_VOLUME_PAIRS = 10  # pairs of successive volumes, evenly distributed over the run
_MIN_SIMILARITY = 0.5  # spatial correlation; lower with another head or a displacement
_MIN_COUPLING = 0.1  # correlation of changes; lower in another run (.25 with strong added noise)
_MAX_GAIN = 1.25  # ratio between the signals of a reference and its run
_HEAD_THRESHOLD = 0.25  # smallest brightness of the head relative to its bright voxels


def check_reference(run: BoldRun) -> Iterator[Notice]:
    """Compare the voxels of a measured reference with the run.

    Both images must be valid and have the same number of volumes.
    """
    if run.truth is None or (measured := run.truth.series) is None:
        return
    similarity, coupling, gain = _compare_with_reference(run, measured)
    fix = (
        "Specify the high-resolution reference of this run with --truth, or ignore the reference"
        " with --truth none."
    )
    reason = ""
    if similarity < _MIN_SIMILARITY:
        reason = (
            f"the downsampled reference differs from {run.bold.name} (correlation"
            f" {similarity:.2f}, but at least {_MIN_SIMILARITY:g} is expected). The"
            " reference may be misaligned or belong to another participant"
        )
    elif coupling < _MIN_COUPLING:
        reason = (
            f"the time series do not match {run.bold.name} (correlation"
            f" {coupling:.2f}, but at least {_MIN_COUPLING:g} is expected). The"
            " reference may belong to another run"
        )
    elif not 1 / _MAX_GAIN < gain < _MAX_GAIN:  # effects are compared in signal units
        reason = (
            f"the signal is {gain:.2g} times the signal of {run.bold.name}, so the units"
            " are probably different"
        )
        fix = (
            "Scale the series to the units of the run (scl_slope), or ignore the reference with"
            " --truth none."
        )
    if reason:
        yield problem(measured.bold, reason, fix)


def _compare_with_reference(run: BoldRun, reference: BoldRun) -> tuple[float, float, float]:
    """Compare pairs of successive volumes of a run with its downsampled reference, in the head.

    Returns the correlations of the mean images and of the changes between successive volumes, and
    the signal of the reference relative to the run.
    """
    from bids_sr.spatial.similarity import pearson_correlation

    starts = np.unique(np.linspace(0, run.n_volumes - 2, _N_VOLUME_PAIRS).round().astype(int))
    numbers = sorted({int(index) for start in starts for index in (start, start + 1)})
    acquired = read_volumes(run.bold, numbers, run.axis_order)
    highres = read_volumes(reference.bold, numbers, reference.axis_order)
    factor = tuple(
        highres_size / size
        for highres_size, size in zip(highres[numbers[0]].shape, run.shape, strict=True)
    )
    downsampled = {
        index: acquire(volume, np.eye(4), factor=factor, magnitude=True)[0]
        for index, volume in highres.items()
    }
    mean_image = np.mean([acquired[index] for index in numbers], axis=0)
    in_head = mean_image > _HEAD_THRESHOLD * np.percentile(mean_image, BRIGHT_PERCENTILE)
    mean = mean_image[in_head]
    downsampled_mean = np.mean([downsampled[index] for index in numbers], axis=0)[in_head]
    acquired_changes, downsampled_changes = (
        np.concatenate(
            [(volumes[index + 1] - volumes[index])[in_head] for index in map(int, starts)]
        )
        for volumes in (acquired, downsampled)
    )
    return (
        pearson_correlation(mean, downsampled_mean),
        pearson_correlation(acquired_changes, downsampled_changes),
        float(np.median(downsampled_mean / mean)),
    )
