"""Reference image of a BOLD run, and the head's pose in all its volumes.

A plain mean of a run in which the head moved is blurred, a single volume is noisy. Here a few
volumes from the middle make a first reference; volumes spread over the run are registered to it,
averaged, registered to that average and averaged again. Volumes that fit badly (spikes, motion
within the volume) have no part in it.
"""

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Array, Float, Float32, evenly_spaced
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.hmc import MotionEstimates, estimate_motion
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import Shift, sample_volume
from bids_sr.spatial.transforms import TransformError, rigid_params

_SEED = 5  # volumes in the middle of the run whose median is the first reference
_VOLUMES = 40  # spread over the run, that are averaged or tell which samples are unsteady
_PASSES = 2  # of registration and averaging
_RIGID = 0.01  # relative size by which a precomputed rotation may be off
_WORST = 1.3  # a volume whose residual is above this many medians is left out


def in_place(reader: SeriesReader, t: int, xfm: Array, shift: Shift | None = None) -> Float32:
    """Return volume t of a series in the pose of the reference.

    `xfm` takes a reference point to its position in the volume.

    `shift` is its distortion, see `bids_sr.spatial.resampling`.
    """
    return sample_volume(
        reader.volume(t), reader.affine, reader.shape[:3], reader.affine, xfm, shift=shift
    )


def _steady_volumes(reader: SeriesReader, n_dummy: int) -> list[int]:
    """Numbers of steady volumes spread over a run; ValueError where there is none."""
    total = reader.shape[3]
    if total <= n_dummy:
        raise ValueError(
            f"the run has {total} volumes, but the first {n_dummy} are non-steady-state "
            "volumes; at least one steady-state volume is required"
        )
    return [n_dummy + t for t in evenly_spaced(total - n_dummy, _VOLUMES)]


def make_boldref(reader: SeriesReader, *, n_dummy: int = 0) -> Float32:
    """Average realigned steady volumes in mid-run pose; ValueError without a steady volume.

    Volumes spread over the run are averaged; memory does not depend on their number.

    Parameters
    ----------
    reader : SeriesReader
        BOLD series as acquired (4D).
    n_dummy : int, optional
        Number of volumes at the start that are not in the steady state.

    Returns
    -------
    Float32
        Reference image on the grid of the series (3D).

    Raises
    ------
    ValueError
        The run has no volume in the steady state.
    """
    chosen = _steady_volumes(reader, n_dummy)
    total = reader.shape[3]
    middle = (n_dummy + total) // 2
    first = max(n_dummy, min(middle - _SEED // 2, total - _SEED))
    reference = np.median(
        [reader.volume(t) for t in range(first, min(first + _SEED, total))], axis=0
    )
    for _ in range(_PASSES):
        mask = brain_mask(reference, reader.affine)
        motion = estimate_motion(
            (reader.volume(t) for t in chosen), reference, mask, reader.affine
        )
        good = motion.residual <= _WORST * np.median(motion.residual)
        mean = np.zeros(reference.shape)
        for t, matrix, kept in zip(chosen, motion.matrices, good, strict=True):
            if kept:
                mean += in_place(reader, t, matrix)
        reference = mean / good.sum()
    return np.asarray(reference, dtype=np.float32)


def estimate_run(
    reader: SeriesReader,
    reference: Array,
    mask: Array | None = None,
    *,
    n_dummy: int = 0,
) -> MotionEstimates:
    """Head motion of all volumes of a run.

    `mask` is the head in the reference, told from its intensities where it is None. Dummy volumes
    have no estimate, take that of the first steady one and NaN as residual.

    Parameters
    ----------
    reader : SeriesReader
        BOLD series as acquired (4D).
    reference : Array
        Reference image on the grid of the series (3D).
    mask : Array | None, optional
        Voxels of the head in the reference (3D); None tells them from its intensities.
    n_dummy : int, optional
        Number of volumes at the start that are not in the steady state.

    Returns
    -------
    MotionEstimates
        Transforms, parameters and residuals of all volumes, dummy ones included.

    Raises
    ------
    ValueError
        The run has no volume in the steady state.
    """
    learned = _steady_volumes(reader, n_dummy)
    total = reader.shape[3]
    mask = brain_mask(reference, reader.affine) if mask is None else mask
    motion = estimate_motion(
        (reader.volume(t) for t in range(n_dummy, total)),
        reference,
        mask,
        reader.affine,
        calibration=(reader.volume(t) for t in learned),
    )
    first = np.maximum(np.arange(total) - n_dummy, 0)
    steady = np.arange(total) >= n_dummy
    return MotionEstimates(
        matrices=motion.matrices[first],
        params=motion.params[first],
        residual=np.where(steady, motion.residual[first], np.nan),
    )


def mean_in_reference(
    reader: SeriesReader,
    matrices: Array,
    *,
    n_dummy: int,
    distortion: Distortion | None = None,
) -> Float32:
    """Average steady volumes spread over the run, aligned by known transforms.

    The reference of another program may be a single-band image, unsteady or rid of its bias field;
    this one has the units of the run, and its place. ValueError without a steady volume.

    `ValueError`: the run has no volume in the steady state.
    """
    chosen = _steady_volumes(reader, n_dummy)
    x, y, z = reader.shape[:3]
    shift = None if distortion is None else distortion.onto((x, y, z), reader.affine)
    total = np.zeros((x, y, z))
    for t in chosen:
        total += in_place(reader, t, matrices[t], shift)
    return np.asarray(total / len(chosen), dtype=np.float32)


def motion_of_mcflirt(parameters: Array, mean: Array, affine: Array) -> Float:
    """Return head motion transforms from MCFLIRT's six parameters in fMRIPrep confounds.

    They hold in the coordinates of FSL (mm from the first voxel, the first axis mirrored where it
    runs as in RAS) and turn about the center of mass of the reference, here of a mean volume: 1 mm
    beside it, .01 rad make .01 mm.

    Parameters
    ----------
    parameters : Array
        (T, 6), translations along x, y, z (mm), rotations about them (rad), of a volume to the
        reference.
    mean, affine : Array
        Mean of the series, (X, Y, Z), and its voxel-to-RAS affine.

    Returns
    -------
    Float
        (T, 4, 4) : takes a reference point to where it lies in each volume, RAS mm.

    References
    ----------
    Jenkinson et al. 2002, NeuroImage 17:825. The order of rotations and the mirrored center were
    found by what they make of tables of fMRIPrep 23.0 beside the transforms that it kept.
    """
    from scipy.ndimage import center_of_mass
    from scipy.spatial.transform import Rotation

    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    of_voxel = np.diag([*zooms, 1.0])
    if np.linalg.det(affine[:3, :3]) > 0:
        of_voxel[0, [0, 3]] = -zooms[0], zooms[0] * (mean.shape[0] - 1)
    to_fsl = of_voxel @ np.linalg.inv(affine)
    center = apply_affine(of_voxel, np.array(center_of_mass(mean))[None])[0]
    onto_reference = np.tile(np.eye(4), (len(parameters), 1, 1))
    turned = Rotation.from_euler("xyz", parameters[:, 3:]).as_matrix().transpose(0, 2, 1)
    onto_reference[:, :3, :3] = turned
    onto_reference[:, :3, 3] = parameters[:, :3] + center - turned @ center
    return np.linalg.inv(to_fsl) @ np.linalg.inv(onto_reference) @ to_fsl


def precomputed_motion(matrices: Array, mask: Array, affine: Array) -> MotionEstimates:
    """Return known head motion in the form estimated here: parameters about the head's middle.

    What rounding in a file took from the rotations of the matrices (T, 4, 4) is mended;
    TransformError for one that scales, shears or mirrors.

    Parameters
    ----------
    matrices : Array
        Transforms of a reference point to its position in each volume (T, 4, 4; RAS+ mm).
    mask : Array
        Voxels of the head in the reference (3D).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).

    Returns
    -------
    MotionEstimates
        Transforms and their parameters; no iterations, and NaN as residuals.

    Raises
    ------
    TransformError
        A matrix scales or shears by more than 1 percent.
    """
    matrices = np.array(matrices, dtype=np.float64)
    left, sizes, right = np.linalg.svd(matrices[:, :3, :3])
    worst = float(np.abs(sizes - 1).max())
    if worst > _RIGID:
        raise TransformError(
            "head-motion transforms must be rigid, but at least one transform scales the "
            f"image by {100 * worst:.1f} %"
        )
    matrices[:, :3, :3] = left @ right
    center = apply_affine(affine, np.argwhere(mask).mean(axis=0)[None])[0]
    return MotionEstimates(
        matrices=matrices,
        params=np.stack([rigid_params(matrix, center) for matrix in matrices]),
        residual=np.full(len(matrices), np.nan),
    )
