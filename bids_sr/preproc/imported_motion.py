"""Head motion that another program has estimated, as transforms of the boldref."""

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.io.arrays import Array, Float
from bids_sr.io.notices import InvalidInput
from bids_sr.preproc.hmc import MotionEstimates
from bids_sr.spatial.transforms import rigid_params

_MAX_SCALE_DEVIATION = 0.01  # largest deviation of a precomputed transform's scale from 1
_MIN_SCALE_DEVIATION = 1e-9  # smallest deviation that is corrected, above double precision


def convert_mcflirt_motion(parameters: Array, mean: Array, affine: Array) -> Float:
    """Return head-motion transforms from MCFLIRT's six parameters in fMRIPrep confounds.

    The parameters are in FSL coordinates. MCFLIRT rotates about the reference's center of mass;
    here the center of mass of the mean volume is used instead. An error of 1 mm in the center
    moves a volume by 0.01 mm per 0.01 rad.

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

    voxel_to_fsl = _make_voxel_to_fsl(affine, mean.shape[0])
    ras_to_fsl = voxel_to_fsl @ np.linalg.inv(affine)
    center = apply_affine(voxel_to_fsl, np.array(center_of_mass(mean))[None])[0]
    volume_to_reference = np.tile(np.eye(4), (len(parameters), 1, 1))
    # transposed, because FSL's rotations have the opposite direction
    rotations = Rotation.from_euler("xyz", parameters[:, 3:]).as_matrix().transpose(0, 2, 1)
    volume_to_reference[:, :3, :3] = rotations
    volume_to_reference[:, :3, 3] = parameters[:, :3] + center - rotations @ center
    return np.linalg.inv(ras_to_fsl) @ np.linalg.inv(volume_to_reference) @ ras_to_fsl


def _make_voxel_to_fsl(affine: Array, n_columns: int) -> Float:
    """Return the transform from voxels to FSL coordinates (4 x 4, mm from the first voxel).

    The first axis, of `n_columns` voxels, is mirrored if the voxel axes are right-handed.
    """
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    voxel_to_fsl = np.diag([*zooms, 1.0])
    if np.linalg.det(affine[:3, :3]) > 0:
        voxel_to_fsl[0, 0] = -zooms[0]
        voxel_to_fsl[0, 3] = zooms[0] * (n_columns - 1)
    return voxel_to_fsl


def precomputed_motion(matrices: Array, mask: Array, affine: Array) -> MotionEstimates:
    """Convert precomputed transforms to motion estimates about the center of the head.

    Rotations are made exactly orthogonal again, because files of other programs round the
    matrices. Matrices in double precision are not changed, so that the program's own files give
    the same results as its estimates.

    Parameters
    ----------
    matrices : Array
        Transforms of a reference point to its position in each volume (T, 4, 4; RAS+ mm).
    mask : Array
        Head voxels of the boldref (3D).
    affine : Array
        Voxel-to-world matrix of the boldref (4 x 4, RAS+ mm).

    Returns
    -------
    MotionEstimates
        Transforms and their parameters; the residuals are unknown (NaN).

    Raises
    ------
    InvalidInput
        A matrix scales or shears by more than 1 percent, or is a reflection (`rigid_params`).
    """
    rigid_matrices = np.array(matrices, dtype=np.float64)
    left_vectors, scales, right_vectors = np.linalg.svd(rigid_matrices[:, :3, :3])
    largest_deviation = float(np.abs(scales - 1).max())
    if largest_deviation > _MAX_SCALE_DEVIATION:
        raise InvalidInput(
            "head-motion transforms must be rigid, but at least one transform scales the "
            f"image by {100 * largest_deviation:.1f} %"
        )
    if largest_deviation > _MIN_SCALE_DEVIATION:
        rigid_matrices[:, :3, :3] = left_vectors @ right_vectors
    center = apply_affine(affine, np.argwhere(mask).mean(axis=0)[None])[0]
    return MotionEstimates(
        matrices=rigid_matrices,
        params=np.stack([rigid_params(matrix, center) for matrix in rigid_matrices]),
        residual=np.full(len(rigid_matrices), np.nan),
    )
