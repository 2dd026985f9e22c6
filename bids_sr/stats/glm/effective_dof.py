"""Degrees of freedom of t where the autocorrelation of a voxel's noise is not quite that of the model it shares.

The variance of an effect has two factors: the dispersion of the whitened residuals, known to 2/dof, and the factor k
that the design makes of the noise's autocorrelation. Where a voxel's own autocorrelation scatters about that of its
group (`bids_sr.stats.glm.noise`), log k scatters too. To first order the logarithm of the variance then has the
variance

    2/dof + (d log k / d rho)' C (d log k / d rho)

with C the covariance of the autocorrelations, and t has the degrees of freedom of the scaled chi-square with that
spread (Satterthwaite 1946; the step that Kenward and Roger 1997 take for mixed models). In homogeneous noise C is 0
and t has all of its degrees of freedom; a voxel alone in its mask has the error of its own estimate.
"""

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def orthonormal(matrix: Float) -> Float:
    """Orthonormal basis of a matrix' columns, (T, rank)."""
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-10 * sizes[0]])


def effective_dof(dof: float, uncertainty: npt.ArrayLike) -> Float:
    """Degrees of freedom of t.

    Parameters
    ----------
    dof : of the residuals
    uncertainty : variance of log k; estimates below 0 count as 0
    """
    return np.asarray(2 / (2 / dof + np.maximum(uncertainty, 0.0)))
