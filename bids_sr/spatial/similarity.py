"""Similarity of masks and images: Dice coefficient, correlation and mutual information."""

import numpy as np

from bids_sr.io.arrays import Array, MaskArray


def dice(a: MaskArray, b: MaskArray) -> float:
    """Return the Dice coefficient of two masks, from 0 (no overlap) to 1 (equal or both empty).

    Parameters
    ----------
    a : MaskArray
        Voxels of the first region (boolean, any shape).
    b : MaskArray
        Voxels of the second region (boolean, same shape).
    """
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else 1.0


def pearson_correlation(a: Array, b: Array) -> float:
    """Return the Pearson correlation of two vectors (N,), or 0 if either is constant."""
    a, b = (np.asarray(values, dtype=np.float64) - float(np.mean(values)) for values in (a, b))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


_BINS = 32


def normalized_mutual_information(a: Array, b: Array) -> float:
    """Return (H(a) + H(b)) / H(a, b), 1 if independent, 2 if one-to-one (Studholme 1999).

    Parameters
    ----------
    a : Array
        Intensities of the first image in common voxels (N,).
    b : Array
        Intensities of the second image in the same voxels (N,).

    Returns
    -------
    float
        Ratio of entropies; 1 also if both images are constant.
    """

    def levels(values: Array) -> Array:
        low, high = np.percentile(values, [0.5, 99.5])
        scaled = (np.asarray(values, dtype=np.float64) - low) / max(float(high - low), 1e-12)
        return np.clip((scaled * _BINS).astype(int), 0, _BINS - 1)

    counts = np.bincount(levels(a) * _BINS + levels(b), minlength=_BINS**2)
    joint = counts.reshape(_BINS, _BINS) / max(np.size(a), 1)

    def entropy(p: Array) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    joint_entropy = entropy(joint)
    return (
        (entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0))) / joint_entropy
        if joint_entropy > 0
        else 1.0
    )
