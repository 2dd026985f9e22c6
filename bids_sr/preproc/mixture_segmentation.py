"""Segmentation of gray matter, white matter and CSF by a mixture model, for confounds.

The mixture model has one Gaussian per tissue. Its mixing weights are the template's tissue maps,
or equal without them. The model is first fitted by expectation-maximization without neighbors. In
the last rounds, the mixing weights are also multiplied by the posteriors averaged over neighboring
voxels (a mean-field Markov random field). The model is fast and deterministic, and intended for
confounds and reports, not for volumetry.

On two simulated heads, mean Dice coefficients of gray and white matter are .922 and .912; given
the same priors, Atropos reaches .913 and .896 in 40 times the processor time, or .922 and .917
with more weight of the priors in 67 times.
"""

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.spatial.masks import bounding_box

_MAX_SAMPLE_VOXELS = 200_000  # voxels to which the mixture is fitted before neighbors are included
_N_EM_ROUNDS = 20  # rounds of expectation-maximization
_N_FIELD_ROUNDS = 4  # rounds with neighbors
# starting means of GM, WM and CSF relative to the 95th percentile, without priors
_INITIAL_MEANS = np.array([0.62, 0.95, 0.22])
_INITIAL_SD = 0.12  # starting standard deviation of all tissues, in the same unit
_MIN_PRIOR = 0.02  # added to priors, so that no tissue is excluded
_MIN_NEIGHBOR_WEIGHT = 0.05  # added to the average over neighbors, for the same reason


def compute_tissue_probabilities(volume: Array, mask: Array, priors: Array | None = None) -> Array:
    """Segment gray matter, white matter and CSF of a T1w image with a mixture model.

    Parameters
    ----------
    volume : Array
        Bias-corrected T1w image (X, Y, Z).
    mask : Array
        Brain voxels (X, Y, Z).
    priors : Array | None, optional
        Probability of GM, WM and CSF on the same grid, in any scale (3, X, Y, Z); None uses equal
        priors.

    Returns
    -------
    Array
        Posterior probability of GM, WM and CSF (3, X, Y, Z; float32); the sum is 1 in the mask and
        0 outside.

    Raises
    ------
    ValueError
        The brain mask is empty, or the image has no signal in the mask.

    References
    ----------
    Ashburner and Friston 2005 (mixture with deformed priors); Zhang et al. 2001 (Markov random
    field).
    """
    brain = np.asarray(mask, dtype=bool)
    if not brain.any():
        raise ValueError("the brain mask of the T1w image is empty")
    box = bounding_box(brain)
    mask = brain[box]
    intensities = np.asarray(volume[box], dtype=np.float32)[mask]
    scale = float(np.percentile(intensities, 95))
    if not scale > 0:
        raise ValueError("the T1w image is zero everywhere inside its brain mask")
    intensities /= scale
    if priors is None:
        weights = np.full((3, intensities.size), 1 / 3, dtype=np.float32)
        means = _INITIAL_MEANS.copy()
    else:
        weights = np.asarray(priors[(slice(None), *box)], dtype=np.float32)[:, mask]
        weights = weights + np.float32(_MIN_PRIOR)
        weights /= weights.sum(axis=0)
        means = np.array([_robust_mean(intensities, tissue_weights) for tissue_weights in weights])
    del priors  # three images at full resolution, which are freed here if the caller drops them
    tissues = (means, np.full(3, _INITIAL_SD))
    subset = slice(None, None, max(1, intensities.size // _MAX_SAMPLE_VOXELS))
    for _ in range(_N_EM_ROUNDS):
        tissues = _fit_tissues(
            intensities[subset],
            _compute_posteriors(intensities[subset], weights[:, subset], tissues),
        )
    posterior = _compute_posteriors(intensities, weights, tissues)
    for _ in range(_N_FIELD_ROUNDS):
        neighbor_weights = _average_neighbors(posterior, mask) + np.float32(_MIN_NEIGHBOR_WEIGHT)
        posterior = _compute_posteriors(intensities, weights * neighbor_weights, tissues)
        tissues = _fit_tissues(intensities, posterior)
    probabilities = np.zeros((3, *brain.shape), dtype=np.float32)
    probabilities[(slice(None), *box)][:, mask] = posterior
    return probabilities


def _robust_mean(intensities: Array, weights: Array) -> float:
    """Return the median of voxels with a clear prior, or the weighted mean if these are few."""
    has_clear_prior = weights > 0.7
    if has_clear_prior.sum() > 50:
        return float(np.median(intensities[has_clear_prior]))
    return float((weights * intensities).sum() / weights.sum())


def _fit_tissues(intensities: Array, posterior: Array) -> tuple[Array, Array]:
    """Return means and standard deviations of the tissues.

    The standard deviations are bounded so that no tissue collapses.
    """
    n_voxels = posterior.sum(axis=1, dtype=np.float64) + 1e-9
    # Products are summed by numpy because the result of a dot product depends on the processor.
    means = (
        np.asarray(
            [(probabilities * intensities).sum(dtype=np.float64) for probabilities in posterior]
        )
        / n_voxels
    )
    squares = [
        (probabilities * (intensities - np.float32(mean)) ** 2).sum(dtype=np.float64)
        for probabilities, mean in zip(posterior, means, strict=True)
    ]
    variances = np.asarray(squares) / n_voxels
    return means, np.clip(np.sqrt(variances), 0.04, 0.25)


def _compute_posteriors(intensities: Array, weights: Array, tissues: tuple[Array, Array]) -> Array:
    """Return posteriors (3, N) of voxels with intensities x (N,) under mixing weights (3, N)."""
    means, sds = (np.asarray(values, dtype=np.float32)[:, None] for values in tissues)
    likelihood = np.exp(-0.5 * ((intensities - means) / sds) ** 2) / sds
    # voxels darker than CSF belong to no other tissue
    likelihood[2, intensities < means[2]] = 1 / sds[2, 0]
    posterior = likelihood * weights + np.float32(1e-12)
    return posterior / posterior.sum(axis=0)


def _average_neighbors(posterior: Array, mask: Array) -> Array:
    """Average the posteriors over the 26 neighbors and the voxel itself, within the mask."""
    averages = np.empty_like(posterior)
    grid = np.zeros(mask.shape, dtype=np.float32)
    mask_fraction = np.maximum(ndimage.uniform_filter(mask.astype(np.float32), 3)[mask], 1e-3)
    for tissue in range(posterior.shape[0]):
        grid[mask] = posterior[tissue]
        averages[tissue] = ndimage.uniform_filter(grid, 3)[mask] / mask_fraction
    return averages


def label_tissues(probabilities: Array) -> Array:
    """Return tissue labels with BIDS numbers: 0 outside, 1 GM, 2 WM, 3 CSF.

    `probabilities` are posterior probabilities of GM, WM and CSF (3, X, Y, Z). The label of a
    voxel is its most probable tissue (X, Y, Z; uint8).
    """
    gray, white, fluid = probabilities
    labels = np.where(white > gray, np.uint8(2), np.uint8(1))
    highest = np.maximum(gray, white)
    labels[fluid > highest] = 3
    labels[np.maximum(fluid, highest) <= 0] = 0
    return labels
