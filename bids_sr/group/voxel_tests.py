"""Voxelwise tests across participants by running sums, and their correction by sign flips.

nilearn's second-level model computes the same statistics, but keeps the maps of all participants
in memory. Its permutation test draws sign flips with repetition, so that p values of a few
participants can be smaller than possible.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from bids_sr.io.arrays import Array, iterate_parts
from bids_sr.io.frozen import frozen

Z_SHOWN = 3.1
"""Smallest z in figures and in reported volumes; p < .001, one-sided."""
FWE = 0.05
"""Family-wise error rate."""
_SMALLEST_P = 1e-300  # lower limit of p, which keeps z finite
# Relative difference below which two values of t are equal. It covers rounding of flips with the
# same abs(t), and of t maps (float32).
_T_TOLERANCE = 1e-6
_LARGEST_CODE_BITS = 62  # bits of a flip that is drawn as one int64
# Parts of the product of flips and voxels, which fit into the processor cache
_BLOCK_VOXELS = 1024
_BLOCK_FLIPS = 512


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


@dataclass(slots=True)
class RunningSums:
    """Running mean and sum of squared deviations of n maps (Welford), (voxels,) each."""

    mean: Array
    squared_deviations: Array
    n: int = 0

    @classmethod
    def empty(cls, voxels: int) -> "RunningSums":
        """Return sums without participants."""
        return cls(mean=np.zeros(voxels), squared_deviations=np.zeros(voxels))

    def add(self, values: Array) -> None:
        """Add the values (voxels,) of one participant."""
        self.n += 1
        deviation = values - self.mean
        self.mean += deviation / self.n
        deviation *= values - self.mean
        self.squared_deviations += deviation

    def restrict(self, selected: Array) -> None:
        """Restrict the sums to the selected voxels."""
        self.mean = self.mean[selected]
        self.squared_deviations = self.squared_deviations[selected]

    def join(self, addition: "RunningSums") -> None:
        """Add the sums of other participants over the same voxels (Chan)."""
        if not addition.n:
            return
        n = self.n + addition.n
        deviation = addition.mean - self.mean
        self.mean += deviation * (addition.n / n)
        between = deviation**2 * (self.n * addition.n / n)
        self.squared_deviations += addition.squared_deviations + between
        self.n = n

    def statistics(self) -> dict[str, Array]:
        """Return the mean effect, its variance, t and z of each voxel, float32.

        t and z are 0 in voxels without variance. Raises `ValueError` if there are fewer than two
        participants.
        """
        if self.n < 2:
            raise ValueError(f"a group analysis requires at least 2 participants, got {self.n}")
        variance = self.squared_deviations / (self.n - 1) / self.n
        standard_error = np.sqrt(variance)
        t = np.divide(
            self.mean, standard_error, out=np.zeros_like(self.mean), where=standard_error > 0
        )
        p = np.clip(special.stdtr(self.n - 1, -np.abs(t)), _SMALLEST_P, None)
        z = -np.sign(t) * special.ndtri(p)
        statistics = {"effect": self.mean, "variance": variance, "t": t, "z": z}
        return {stat: values.astype(np.float32) for stat, values in statistics.items()}
