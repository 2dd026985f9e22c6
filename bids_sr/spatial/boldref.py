"""Reference image of a BOLD run, and the pose of the head in each volume.

A plain mean of a run with head motion is blurred, and a single volume is noisy. Therefore the
median of a few volumes from the middle of the run serves as first reference. Volumes spread over
the run are registered to this reference and averaged. They are then registered to the average and
averaged again. Volumes with a large residual (spikes, motion within the volume) are excluded.
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

_SEED = 5  # volumes in the middle of the run; their median is the first reference
_VOLUMES = 40  # volumes spread over the run for averages and for the detection of unsteady samples
_PASSES = 2  # rounds of registration and averaging
_RIGID = 0.01  # largest deviation of a precomputed transform's scale from 1
_WORST = 1.3  # largest residual of a volume in the average, relative to the median residual


def in_place(reader: SeriesReader, t: int, xfm: Array, shift: Shift | None = None) -> Float32:
    """Resample a volume of a series to the pose of the reference.

    Parameters
    ----------
    reader : SeriesReader
        Series (4D).
    t : int
        Number of the volume, counted from 0.
    xfm : Array
        Transform of a reference point to its position in the volume (4 x 4, RAS+ mm).
    shift : Shift | None, optional
        Distortion of the volume, see `bids_sr.spatial.resampling`; None applies no shift.

    Returns
    -------
    Float32
        Volume on the grid of the series (3D).
    """
    return sample_volume(
        reader.volume(t), reader.affine, reader.shape[:3], reader.affine, xfm, shift=shift
    )


def _steady_volumes(reader: SeriesReader, n_dummy: int) -> list[int]:
    """Return the numbers of up to 40 steady-state volumes spread over a run.

    Raises
    ------
    ValueError
        The run has no steady-state volume.
    """
    total = reader.shape[3]
    if total <= n_dummy:
        raise ValueError(
            f"the run has {total} volumes, but the first {n_dummy} are non-steady-state "
            "volumes; at least one steady-state volume is required"
        )
    return [n_dummy + t for t in evenly_spaced(total - n_dummy, _VOLUMES)]


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

    Raises
    ------
    ValueError
        The run has no steady-state volume.
    """
    volumes = _steady_volumes(reader, n_dummy)
    total = reader.shape[3]
    middle = (n_dummy + total) // 2
    first = max(n_dummy, min(middle - _SEED // 2, total - _SEED))
    reference = np.median(
        [reader.volume(t) for t in range(first, min(first + _SEED, total))], axis=0
    )
    for _ in range(_PASSES):
        mask = brain_mask(reference, reader.affine)
        motion = estimate_motion(
            (reader.volume(t) for t in volumes), reference, mask, reader.affine
        )
        steady = motion.residual <= _WORST * np.median(motion.residual)
        mean = np.zeros(reference.shape)
        for t, matrix, is_steady in zip(volumes, motion.matrices, steady, strict=True):
            if is_steady:
                mean += in_place(reader, t, matrix)
        reference = mean / steady.sum()
    return np.asarray(reference, dtype=np.float32)


def estimate_run(
    reader: SeriesReader,
    reference: Array,
    mask: Array | None = None,
    *,
    n_dummy: int = 0,
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
    mask : Array | None, optional
        Head voxels of the reference (3D); None computes them from its intensities.
    n_dummy : int, optional
        Number of non-steady-state volumes at the start.

    Returns
    -------
    MotionEstimates
        Transforms, parameters and residuals of all volumes, including dummy volumes.

    Raises
    ------
    ValueError
        The run has no steady-state volume.
    """
    calibration = _steady_volumes(reader, n_dummy)
    total = reader.shape[3]
    mask = brain_mask(reference, reader.affine) if mask is None else mask
    motion = estimate_motion(
        (reader.volume(t) for t in range(n_dummy, total)),
        reference,
        mask,
        reader.affine,
        calibration=(reader.volume(t) for t in calibration),
    )
    source = np.maximum(np.arange(total) - n_dummy, 0)
    steady = np.arange(total) >= n_dummy
    return MotionEstimates(
        matrices=motion.matrices[source],
        params=motion.params[source],
        residual=np.where(steady, motion.residual[source], np.nan),
    )


def mean_in_reference(
    reader: SeriesReader,
    matrices: Array,
    *,
    n_dummy: int,
    distortion: Distortion | None = None,
) -> Float32:
    """Average steady-state volumes of a run, aligned by precomputed transforms.

    A boldref of another program may be a single-band image, a non-steady-state volume or
    bias-corrected. This average has the units and the position of the run instead.

    Parameters
    ----------
    reader : SeriesReader
        BOLD series as acquired (4D).
    matrices : Array
        Transforms of a reference point to its position in each volume (T, 4, 4; RAS+ mm).
    n_dummy : int
        Number of non-steady-state volumes at the start.
    distortion : Distortion | None, optional
        Susceptibility distortion to correct; None corrects no distortion.

    Returns
    -------
    Float32
        Mean of at most 40 volumes on the grid of the series (3D).

    Raises
    ------
    ValueError
        The run has no steady-state volume.
    """
    volumes = _steady_volumes(reader, n_dummy)
    x, y, z = reader.shape[:3]
    shift = None if distortion is None else distortion.onto((x, y, z), reader.affine)
    total = np.zeros((x, y, z))
    for t in volumes:
        total += in_place(reader, t, matrices[t], shift)
    return np.asarray(total / len(volumes), dtype=np.float32)


def motion_of_mcflirt(parameters: Array, mean: Array, affine: Array) -> Float:
    """Return head-motion transforms from MCFLIRT's six parameters in fMRIPrep confounds.

    The parameters are in FSL coordinates: mm from the first voxel, with the first axis mirrored if
    the voxel axes are right-handed. MCFLIRT rotates about the reference's center of mass; here the
    center of mass of the mean volume is used instead. An error of 1 mm in the center moves a
    volume by .01 mm per .01 rad.

    Parameters
    ----------
    parameters : Array
        Translations along x, y, z (mm) and rotations about them (rad) that align each volume with
        the reference (T, 6).
    mean : Array
        Mean of the series (X, Y, Z).
    affine : Array
        Voxel-to-world matrix of the mean (4 x 4, RAS+ mm).

    Returns
    -------
    Float
        Transforms of a reference point to its position in each volume (T, 4, 4; RAS+ mm).

    References
    ----------
    Jenkinson et al. 2002, NeuroImage 17:825. The order of rotations and the mirrored center were
    determined from confound tables of fMRIPrep 23.0 and the transforms saved with them.
    """
    from scipy.ndimage import center_of_mass
    from scipy.spatial.transform import Rotation

    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    voxel_to_fsl = np.diag([*zooms, 1.0])
    if np.linalg.det(affine[:3, :3]) > 0:
        voxel_to_fsl[0, [0, 3]] = -zooms[0], zooms[0] * (mean.shape[0] - 1)
    ras_to_fsl = voxel_to_fsl @ np.linalg.inv(affine)
    center = apply_affine(voxel_to_fsl, np.array(center_of_mass(mean))[None])[0]
    volume_to_reference = np.tile(np.eye(4), (len(parameters), 1, 1))
    rotations = Rotation.from_euler("xyz", parameters[:, 3:]).as_matrix().transpose(0, 2, 1)
    volume_to_reference[:, :3, :3] = rotations
    volume_to_reference[:, :3, 3] = parameters[:, :3] + center - rotations @ center
    return np.linalg.inv(ras_to_fsl) @ np.linalg.inv(volume_to_reference) @ ras_to_fsl


def precomputed_motion(matrices: Array, mask: Array, affine: Array) -> MotionEstimates:
    """Convert precomputed transforms to motion estimates about the center of the head.

    Rotations are made exactly orthogonal again, because files round the matrices.

    Parameters
    ----------
    matrices : Array
        Transforms of a reference point to its position in each volume (T, 4, 4; RAS+ mm).
    mask : Array
        Head voxels of the reference (3D).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).

    Returns
    -------
    MotionEstimates
        Transforms and their parameters; the residuals are unknown (NaN).

    Raises
    ------
    TransformError
        A matrix is a reflection, or scales or shears by more than 1 percent.
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
