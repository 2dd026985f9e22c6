"""Voxelwise tests across participants by running sums.

nilearn's second-level model computes the same statistics, but keeps the maps of all participants
in memory.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import special

from bids_sr.io.arrays import Array

Z_SHOWN = 3.1  # smallest z in figures and in reported volumes; p < .001, one-sided
FWE = 0.05  # family-wise error rate
_SMALLEST_P = 1e-300  # lower limit of p, which keeps z finite


def correct_by_sign_flips(values: Array, flips: int, seed: int) -> tuple[Array, float]:
    """Correct p values of a one-sample t test for all voxels by random sign flips.

    The p values are two-sided, with family-wise error correction by the largest abs(t) of each
    flip (`nilearn.mass_univariate.permuted_ols`).

    Parameters
    ----------
    values : Array
        Effects on one grid, (participants, N).
    flips : int
        Number of random sign flips.
    seed : int
        Seed of the flips.

    Returns
    -------
    tuple[Array, float]
        −log10 of p (N,), 0 in voxels without variance, and the abs(t) above which p <= .05 (inf if
        .05 cannot be reached).
    """
    from nilearn.mass_univariate import permuted_ols

    varies = np.ptp(values, axis=0) > 0
    result = permuted_ols(
        np.ones((len(values), 1)), values[:, varies], n_perm=flips, random_state=seed
    )
    if isinstance(result, dict):  # nilearn 0.13 and later
        result = result["logp_max_t"], result["t"], result["h0_max_t"]
    log_p_values, _, largest_t = result
    logp = np.zeros(values.shape[1], dtype=np.float32)
    logp[varies] = log_p_values[0]
    n_above = int(FWE * (flips + 1))
    return logp, float(np.sort(largest_t[0])[-n_above]) if n_above else np.inf


@dataclass(slots=True)
class RunningSums:
    """Running mean and sum of squared deviations of maps (Welford), (voxels,) each."""

    mean: Array
    squared_deviations: Array
    participants: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, voxels: int) -> "RunningSums":
        """Return sums without participants."""
        return cls(mean=np.zeros(voxels), squared_deviations=np.zeros(voxels))

    def add(self, values: Array, participant: str) -> None:
        """Add the values (voxels,) of one participant."""
        self.participants.append(participant)
        deviation = values - self.mean
        self.mean += deviation / len(self.participants)
        deviation *= values - self.mean
        self.squared_deviations += deviation

    def restrict(self, selected: Array) -> None:
        """Restrict the sums to the selected voxels."""
        self.mean = self.mean[selected]
        self.squared_deviations = self.squared_deviations[selected]

    def join(self, addition: "RunningSums") -> None:
        """Add the sums of other participants over the same voxels (Chan)."""
        n, n_added = len(self.participants), len(addition.participants)
        if not n_added:
            return
        deviation = addition.mean - self.mean
        self.mean += deviation * (n_added / (n + n_added))
        between = deviation**2 * (n * n_added / (n + n_added))
        self.squared_deviations += addition.squared_deviations + between
        self.participants += addition.participants

    def statistics(self) -> dict[str, Array]:
        """Return the mean effect, its variance, t and z of each voxel, float32.

        t and z are 0 in voxels without variance.

        Raises
        ------
        ValueError
            If there are fewer than two participants.
        """
        n = len(self.participants)
        if n < 2:
            raise ValueError(f"a group analysis requires at least 2 participants, got {n}")
        variance = self.squared_deviations / (n - 1) / n
        standard_error = np.sqrt(variance)
        t = np.divide(
            self.mean, standard_error, out=np.zeros_like(self.mean), where=standard_error > 0
        )
        p = np.clip(special.stdtr(n - 1, -np.abs(t)), _SMALLEST_P, None)
        z = -np.sign(t) * special.ndtri(p)
        statistics = {"effect": self.mean, "variance": variance, "t": t, "z": z}
        return {stat: values.astype(np.float32) for stat, values in statistics.items()}
