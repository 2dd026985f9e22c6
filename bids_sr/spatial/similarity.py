"""Similarity of masks and images: Dice coefficient, correlation and mutual information."""

import numpy as np

from bids_sr.io.arrays import Array, MaskArray

_N_BINS = 32  # bins of the intensities of each image, for mutual information


def dice(first: MaskArray, second: MaskArray) -> float:
    """Return the Dice coefficient of two masks, from 0 (no overlap) to 1 (equal or both empty).

    Both masks have the same shape, with any number of axes.
    """
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2.0 * int(np.count_nonzero(first & second)) / total if total else 1.0


def pearson_correlation(first: Array, second: Array) -> float:
    """Return the Pearson correlation of two vectors (N,), or 0 if either is constant."""
    first, second = (
        np.asarray(values, dtype=np.float64) - float(np.mean(values)) for values in (first, second)
    )
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale > 0 else 0.0


def normalized_mutual_information(first: Array, second: Array) -> float:
    """Return (H(a) + H(b)) / H(a, b), 1 if independent, 2 if one-to-one (Studholme 1999).

    Parameters
    ----------
    first : Array
        Intensities of the first image in common voxels (N,).
    second : Array
        Intensities of the second image in the same voxels (N,).

    Returns
    -------
    float
        Ratio of entropies; 1 also if both images are constant.
    """
    joint_bins = _bin_intensities(first) * _N_BINS + _bin_intensities(second)
    counts = np.bincount(joint_bins, minlength=_N_BINS**2)
    joint_probabilities = counts.reshape(_N_BINS, _N_BINS) / max(np.size(first), 1)
    joint_entropy = _compute_entropy(joint_probabilities)
    if joint_entropy <= 0:
        return 1.0
    first_entropy, second_entropy = (
        _compute_entropy(joint_probabilities.sum(axis=axis)) for axis in (1, 0)
    )
    return (first_entropy + second_entropy) / joint_entropy


def _bin_intensities(values: Array) -> Array:
    """Return the bin of each value; the outer bins include 0.5 % of the values at each end."""
    lowest, highest = np.percentile(values, [0.5, 99.5])
    scaled_values = (np.asarray(values, dtype=np.float64) - lowest) / max(
        float(highest - lowest), 1e-12
    )
    return np.clip((scaled_values * _N_BINS).astype(int), 0, _N_BINS - 1)


def _compute_entropy(probabilities: Array) -> float:
    """Return the entropy (nats) of a discrete distribution."""
    positive_probabilities = probabilities[probabilities > 0]
    return float(-(positive_probabilities * np.log(positive_probabilities)).sum())
