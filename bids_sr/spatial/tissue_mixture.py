"""Gray matter, white matter and CSF of a T1w brain by a Gaussian mixture with spatial priors.

One Gaussian a tissue, mixing weights from the template's tissue maps, expectation-maximization; each round the
posteriors are averaged over neighbors and enter the next as a further factor: a Markov random field, mean-field.
Quick and deterministic; meant for confound signals and reports, not for volumetry.
"""

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Array

TISSUES = ("GM", "WM", "CSF")
_SAMPLE = 200_000  # voxels that the mixture is fitted to before neighbors count
_ROUNDS = 20  # of expectation-maximization
_FIELD_ROUNDS = 4  # with neighbors
_START = np.array([0.62, 0.95, 0.22])  # GM, WM, CSF in units of the 95th percentile, where no prior says more


def tissue_probabilities(volume: Array, mask: Array, priors: Array | None = None) -> Array:
    """Posterior probability of GM, WM and CSF, float32 (3, X, Y, Z); sums to 1 inside the mask, 0 outside.

    Source: Ashburner and Friston 2005 (mixture with deformed priors), Zhang et al. 2001 (Markov random field).

    Parameters
    ----------
    volume, mask : (X, Y, Z) T1w, bias corrected, and its brain; ValueError where there is no signal or no voxel
    priors : (3, X, Y, Z) of GM, WM, CSF on the same grid, any scale; None: no spatial prior
    """
    inside = np.asarray(mask, dtype=bool)
    found = np.argwhere(inside)
    if not len(found):
        raise ValueError("the brain mask of the T1w image is empty")
    box = tuple(slice(low, high + 1) for low, high in zip(found.min(axis=0), found.max(axis=0), strict=True))
    mask = inside[box]
    x = np.asarray(volume[box], dtype=np.float32)[mask]
    scale = float(np.percentile(x, 95))
    if not scale > 0:
        raise ValueError("the T1w image has no signal inside its brain mask")
    x /= scale
    if priors is None:
        weights = np.full((3, x.size), 1 / 3, dtype=np.float32)
        means = _START.copy()
    else:
        weights = np.asarray(priors[(slice(None), *box)], dtype=np.float32)[:, mask] + np.float32(0.02)
        weights /= weights.sum(axis=0)
        means = np.array([_robust_mean(x, w) for w in weights])
    model = (means, np.full(3, 0.12))
    some = slice(None, None, max(1, x.size // _SAMPLE))
    for _ in range(_ROUNDS):
        model = _maximize(x[some], _expect(x[some], weights[:, some], model))
    posterior = _expect(x, weights, model)
    for _ in range(_FIELD_ROUNDS):
        field = _neighborhood(posterior, mask) + np.float32(0.05)
        posterior = _expect(x, weights * field, model)
        model = _maximize(x, posterior)
    out = np.zeros((3, *inside.shape), dtype=np.float32)
    part = np.zeros((3, *mask.shape), dtype=np.float32)
    part[:, mask] = posterior
    out[(slice(None), *box)] = part
    return out


def _expect(x: Array, weights: Array, model: tuple[Array, Array]) -> Array:
    """Posteriors (3, N) of voxels with intensities x under mixing weights (3, N)."""
    means, deviations = (np.asarray(part, dtype=np.float32)[:, None] for part in model)
    likelihood = np.exp(-0.5 * ((x - means) / deviations) ** 2) / deviations
    likelihood[2, x < means[2]] = 1 / deviations[2, 0]  # darker than CSF is no other tissue
    posterior = likelihood * weights + np.float32(1e-12)
    return np.asarray(posterior / posterior.sum(axis=0))


def _maximize(x: Array, posterior: Array) -> tuple[Array, Array]:
    """Means and standard deviations of the three tissues; the latter within bounds, so that none collapses."""
    mass = posterior.sum(axis=1, dtype=np.float64) + 1e-9
    means = np.asarray([float(np.dot(p, x)) for p in posterior]) / mass
    spread = np.asarray([float(np.dot(p, (x - m) ** 2)) for p, m in zip(posterior, means, strict=True)]) / mass
    return means, np.clip(np.sqrt(spread), 0.04, 0.25)


def _robust_mean(x: Array, weights: Array) -> float:
    """Mean of the values where a tissue's prior is clear, or its weighted mean where it is nowhere."""
    clear = weights > 0.7
    return float(np.median(x[clear])) if clear.sum() > 50 else float((weights * x).sum() / weights.sum())


def _neighborhood(posterior: Array, mask: Array) -> Array:
    """Mean posterior of the 26 neighbors and the voxel itself."""
    out = np.empty_like(posterior)
    grid = np.zeros(mask.shape, dtype=np.float32)
    share = np.maximum(ndimage.uniform_filter(mask.astype(np.float32), 3)[mask], 1e-3)
    for k in range(posterior.shape[0]):
        grid[mask] = posterior[k]
        out[k] = ndimage.uniform_filter(grid, 3)[mask] / share
    return out


def segmentation(probabilities: Array) -> Array:
    """Labels as BIDS numbers them: 0 outside, 1 GM, 2 WM, 3 CSF (uint8)."""
    labels = probabilities.argmax(axis=0) + 1
    labels[probabilities.sum(axis=0) <= 0] = 0
    return np.asarray(labels, dtype=np.uint8)
