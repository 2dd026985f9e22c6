"""Reference image of a BOLD run, and the pose of the head in each volume.

A plain mean of a run with head motion is blurred, and a single volume is noisy. Therefore the
median of a few volumes from the middle of the run serves as first reference. Volumes spread over
the run are registered to this reference and averaged. They are then registered to the average and
averaged again. Volumes with a large residual (spikes, motion within the volume) are excluded.
"""

import numpy as np

from bids_sr.io.arrays import Array, Float32, evenly_spaced
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.hmc import MotionEstimates, estimate_motion
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import Shift, sample_volume

_N_SEED_VOLUMES = 5  # volumes in the middle of the run; their median is the first reference
# volumes spread over the run for averages and for the detection of unsteady samples
_N_SPREAD_VOLUMES = 40
_N_ROUNDS = 2  # rounds of registration and averaging
_RESIDUAL_LIMIT = 1.3  # times the median residual; volumes above this limit are excluded


def make_boldref(reader: SeriesReader, *, n_dummy: int = 0) -> Float32:
    """Average realigned volumes in the mid-run pose of the head.

    The average is taken over at most 40 volumes spread over the run, so memory does not depend on
    the length of the run.

    Parameters
    ----------
    reader : SeriesReader
        BOLD series as acquired (4D).
    n_dummy : int, optional
        Number of non-steady-state volumes at the start.

    Returns
    -------
    Float32
        Reference image on the grid of the series (3D).
    """
    spread_volumes = _choose_steady_volumes(reader, n_dummy)
    n_volumes = reader.shape[3]
    middle = (n_dummy + n_volumes) // 2
    first = max(n_dummy, min(middle - _N_SEED_VOLUMES // 2, n_volumes - _N_SEED_VOLUMES))
    reference = np.median(
        [reader.volume(t) for t in range(first, min(first + _N_SEED_VOLUMES, n_volumes))], axis=0
    )
    for _ in range(_N_ROUNDS):
        mask = brain_mask(reference, reader.affine)
        motion = estimate_motion(
            (reader.volume(t) for t in spread_volumes), reference, mask, reader.affine
        )
        is_steady = motion.residual <= _RESIDUAL_LIMIT * np.median(motion.residual)
        signal_sum = np.zeros(reference.shape)
        for index in np.flatnonzero(is_steady):
            signal_sum += resample_to_reference(
                reader, spread_volumes[index], motion.matrices[index]
            )
        reference = signal_sum / is_steady.sum()
    return np.asarray(reference, dtype=np.float32)


def average_realigned_volumes(
    reader: SeriesReader,
    matrices: Array,
    *,
    n_dummy: int,
    distortion: Distortion | None = None,
) -> Float32:
    """Average steady-state volumes of a run, aligned by precomputed transforms.

    A boldref of another program may be a single-band image, a non-steady-state volume or
    bias-corrected. This average has the units and the position of the run instead.

    `reader` contains the BOLD series as acquired, and `matrices` are the transforms of a reference
    point to its position in each volume (T, 4, 4; RAS+ mm). `distortion` is corrected; None
    corrects no distortion. Returns the mean of at most 40 volumes on the grid of the series (3D).
    """
    spread_volumes = _choose_steady_volumes(reader, n_dummy)
    x, y, z = reader.shape[:3]
    shift = None if distortion is None else distortion.shift_on_grid((x, y, z), reader.affine)
    signal_sum = np.zeros((x, y, z))
    for t in spread_volumes:
        signal_sum += resample_to_reference(reader, t, matrices[t], shift)
    return np.asarray(signal_sum / len(spread_volumes), dtype=np.float32)


def resample_to_reference(
    reader: SeriesReader, t: int, xfm: Array, shift: Shift | None = None
) -> Float32:
    """Resample a volume of a series to the pose of the reference.

    `t` is counted from 0. `xfm` transforms a reference point to its position in the volume (4 x 4,
    RAS+ mm), and `shift` is the distortion of the volume, see `bids_sr.spatial.resampling`; None
    applies no shift. Returns the volume on the grid of the series (3D).
    """
    return sample_volume(
        reader.volume(t), reader.affine, reader.shape[:3], reader.affine, xfm, shift=shift
    )


def estimate_run(
    reader: SeriesReader, reference: Array, mask: Array, *, n_dummy: int
) -> MotionEstimates:
    """Estimate the head motion of a whole run.

    Dummy volumes are not registered. They are assigned the transform of the first steady-state
    volume, and their residual is NaN.

    Parameters
    ----------
    reader : SeriesReader
        BOLD series as acquired (4D).
    reference : Array
        Reference image on the grid of the series (3D).
    mask : Array
        Head voxels of the reference (3D).
    n_dummy : int
        Number of non-steady-state volumes at the start.

    Returns
    -------
    MotionEstimates
        Transforms, parameters and residuals of all volumes, including dummy volumes.
    """
    spread_volumes = _choose_steady_volumes(reader, n_dummy)
    n_volumes = reader.shape[3]
    motion = estimate_motion(
        (reader.volume(t) for t in range(n_dummy, n_volumes)),
        reference,
        mask,
        reader.affine,
        calibration=(reader.volume(t) for t in spread_volumes),
    )
    source_volumes = np.maximum(np.arange(n_volumes) - n_dummy, 0)
    is_steady = np.arange(n_volumes) >= n_dummy
    return MotionEstimates(
        matrices=motion.matrices[source_volumes],
        params=motion.params[source_volumes],
        residual=np.where(is_steady, motion.residual[source_volumes], np.nan),
    )


def _choose_steady_volumes(reader: SeriesReader, n_dummy: int) -> list[int]:
    """Return the numbers of up to 40 steady-state volumes spread over a run."""
    return [n_dummy + t for t in evenly_spaced(reader.shape[3] - n_dummy, _N_SPREAD_VOLUMES)]
