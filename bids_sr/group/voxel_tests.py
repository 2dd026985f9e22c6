"""Voxelwise test of the mean across participants, and its correction by sign flips.

The permutation test of nilearn draws sign flips with repetition, so that p values of a few
participants can be smaller than possible.
"""

import numpy as np

from bids_sr.io.arrays import Array, iterate_parts
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume

Z_SHOWN = 3.1
"""Smallest z in figures and in reported volumes; p < .001, one-sided."""
FWE = 0.05
"""Family-wise error rate."""
# Relative difference below which two values of t are equal. It covers rounding of flips with the
# same abs(t), and of t maps (float32).
_T_TOLERANCE = 1e-6
_LARGEST_CODE_BITS = 62  # bits of a flip that is drawn as one int64
_BLOCK_SLICES = 16  # sagittal; nilearn takes eight times the memory of the maps of a block
# Parts of the product of flips and voxels, which fit into the processor cache
_BLOCK_VOXELS = 1024
_BLOCK_FLIPS = 512


def compute_mean_statistics(values: Array, tested: Volume) -> dict[str, Array]:
    """Compute mean effect, its variance, t and z with the second-level model of nilearn.

    `values` are effects (participants, N) in the voxels of the mask `tested`. The statistics are
    float32 (N,); t and z are 0 in voxels without variance.
    """
    import pandas as pd
    from nibabel.nifti1 import Nifti1Image
    from nilearn.glm.second_level import SecondLevelModel

    design = pd.DataFrame({"mean": np.ones(len(values))})
    names = {"effect": "effect_size", "variance": "effect_variance", "t": "stat", "z": "z_score"}
    statistics = {stat: np.zeros(values.shape[1], dtype=np.float32) for stat in names}
    start = 0
    for slices in iterate_parts(len(tested.data), _BLOCK_SLICES):
        mask = tested.data[slices]
        voxels = slice(start, start := start + int(mask.sum()))
        if voxels.start == voxels.stop:
            continue
        maps = np.zeros((*mask.shape, len(values)), dtype=np.float32)
        maps[mask] = values[:, voxels].T
        model = SecondLevelModel(mask_img=Nifti1Image(mask.astype(np.uint8), tested.affine))
        model.fit(Nifti1Image(maps, tested.affine), design_matrix=design)
        images = model.compute_contrast("mean", output_type="all")
        for stat, name in names.items():
            statistics[stat][voxels] = images[name].get_fdata(dtype=np.float32)[mask]
    constant = np.ptp(values, axis=0) == 0
    for stat in ("variance", "t", "z"):  # nilearn divides by the rounding error of the mean
        statistics[stat][constant] = 0
    return statistics


@frozen
class CorrectedPValues:
    """P values with family-wise error correction across voxels.

    `logp` is −log10 of the two-sided p values, float32 (N,); 0 in voxels without variance. p <=
    .05 if abs(t) is above `threshold`; inf if .05 cannot be reached. `flips` is the number of sign
    flips that were used, including the identity; p cannot be below 1 / flips.
    """

    logp: Array
    threshold: float
    flips: int


def correct_by_sign_flips(values: Array, flips: int, seed: int) -> CorrectedPValues:
    """Correct p values of a one-sample t test for all voxels by sign flips.

    The p value of a voxel is the proportion of flips, including the identity, whose largest abs(t)
    is not below the abs(t) of the voxel.

    Parameters
    ----------
    values : Array
        Effects on one grid, (participants, N).
    flips : int
        Number of random sign flips; see `draw_sign_flips`.
    seed : int
        Seed of the flips.

    Returns
    -------
    CorrectedPValues
        P values, threshold, and the number of flips that were used.
    """
    signs = draw_sign_flips(len(values), flips, seed)
    t, largest_t = compute_sign_flip_statistics(values, signs)
    largest_t = np.sort(largest_t) * (1 + _T_TOLERANCE)
    n_not_below = len(signs) - np.searchsorted(largest_t, np.abs(t))
    logp = np.log10(len(signs) / n_not_below)
    n_above = int(FWE * len(signs))  # largest number of flips that are not below if p <= .05
    return CorrectedPValues(
        logp=logp.astype(np.float32),
        threshold=float(largest_t[-n_above - 1]) if n_above else np.inf,
        flips=len(signs),
    )


def draw_sign_flips(participants: int, flips: int, seed: int) -> Array:
    """Draw different sign flips of participants.

    Reversing all signs does not change abs(t), so that n participants have 2^(n − 1) different
    flips. All of them are returned if there are not more than `flips`; otherwise the identity and
    `flips` others, which are drawn without repetition. There are at least 2 participants. The
    signs are 1 or −1, int8 (flips, participants), with the identity first.
    """
    rng = np.random.default_rng(seed)
    n_coded = min(participants - 1, _LARGEST_CODE_BITS)
    n_others = 2**n_coded - 1
    codes = np.append(0, 1 + rng.choice(n_others, min(flips, n_others), replace=False))
    reversed_signs = np.zeros((len(codes), participants), dtype=np.int8)
    reversed_signs[:, 1 : n_coded + 1] = codes[:, None] >> np.arange(n_coded) & 1
    reversed_signs[1:, n_coded + 1 :] = rng.integers(
        0, 2, (len(codes) - 1, participants - 1 - n_coded)
    )
    return 1 - 2 * reversed_signs


def compute_sign_flip_statistics(values: Array, signs: Array) -> tuple[Array, Array]:
    """Compute t of the first flip, (N,), and the largest abs(t) across voxels of every flip.

    t is 0 in voxels without variance, and the largest abs(t) is 0 if no voxel varies. The memory
    does not depend on the number of voxels, except for the result. `values` are effects
    (participants, N), and `signs` are 1 or −1 (flips, participants).
    """
    n = len(values)
    # A flip does not change the sum of squares of a voxel. If this sum is scaled to 1 / n, t
    # depends only on the flipped sum.
    sums, largest_sums = np.zeros(values.shape[1]), np.zeros(len(signs))
    for voxels in iterate_parts(values.shape[1], _BLOCK_VOXELS):
        block = values[:, voxels].astype(np.float64)
        norms = np.sqrt(n * (block**2).sum(axis=0))
        varies = np.ptp(block, axis=0) > 0
        block *= np.divide(1, norms, out=np.zeros_like(norms), where=varies)
        for part in iterate_parts(len(signs), _BLOCK_FLIPS):
            flipped_sums = signs[part].astype(np.float64) @ block
            if part.start == 0:
                sums[voxels] = flipped_sums[0]
            np.abs(flipped_sums, out=flipped_sums)
            largest_sums[part] = np.maximum(largest_sums[part], flipped_sums.max(axis=1))
    return _convert_sums_to_t(sums, n), _convert_sums_to_t(largest_sums, n)


def _convert_sums_to_t(sums: Array, n: int) -> Array:
    """Convert sums of `n` values whose sum of squares is 1 / n to t; inf if all are equal."""
    variances = np.clip(1 - sums**2, 0, None)
    with np.errstate(divide="ignore"):
        return np.sqrt(n - 1) * sums / np.sqrt(variances)
