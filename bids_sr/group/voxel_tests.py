"""Voxelwise tests over participants by running sums.

nilearn's second-level model gives the same (as a test shows), but holds the maps of all
participants in memory.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import special

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume

Z_SHOWN = 3.1


@frozen
class GroupMaps:
    """All group maps, and what was left out and why.

    `space`: template's space; None where nothing could be made. `maps`: rows of
    `group_maps._one_map`, in the order of task, contrast, series. `background`, `mask`: the
    template, and which voxels were tested, on the maps' grid; None without maps.
    """

    space: str | None = None
    maps: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: tuple[str, ...] = ()
    background: Volume | None = None
    mask: Volume | None = None


_SMALLEST_P = 1e-300  # so that z stays finite
FWE = 0.05


def flipped(values: Array, flips: int, seed: int) -> tuple[Array, float]:
    """Return −log10 of p, and the abs(t) above which it is <= .05 (inf: out of reach).

    They are two-sided and corrected for all voxels by the largest abs(t) of random sign flips
    (`nilearn.mass_univariate.permuted_ols`); p is 1 where nothing varies.

    Parameters
    ----------
    values : Array
        Effects on one grid (participants, N voxels; shape (n, N)).
    flips : int
        Number of random sign flips.
    seed : int
        Seed of the flips.

    Returns
    -------
    tuple[Array, float]
        −log10 of p (N,), and the threshold of abs(t).
    """
    from nilearn.mass_univariate import permuted_ols

    varies = np.ptp(values, axis=0) > 0
    tested = permuted_ols(
        np.ones((len(values), 1)), values[:, varies], n_perm=flips, random_state=seed
    )
    if isinstance(tested, dict):  # since 0.13
        tested = tested["logp_max_t"], tested["t"], tested["h0_max_t"]
    p, _, largest = tested
    logp = np.zeros(values.shape[1], dtype=np.float32)
    logp[varies] = p[0]
    few = int(FWE * (flips + 1))
    return logp, float(np.sort(largest[0])[-few]) if few else np.inf


@dataclass(slots=True)
class Running:
    """Mean and sum of squared deviations of what was added (Welford), (voxels,) each."""

    mean: Array
    squares: Array
    people: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, voxels: int) -> "Running":
        """Return sums over no participant."""
        return cls(mean=np.zeros(voxels), squares=np.zeros(voxels))

    def add(self, values: Array, who: str) -> None:
        """Add one participant's values, (voxels,)."""
        self.people.append(who)
        away = values - self.mean
        self.mean += away / len(self.people)
        away *= values - self.mean
        self.squares += away

    def keep(self, which: Array) -> None:
        """Go on with some of the voxels."""
        self.mean = self.mean[which]
        self.squares = self.squares[which]

    def join(self, other: "Running") -> None:
        """Add all that another holds of the same voxels (Chan)."""
        n, m = len(self.people), len(other.people)
        if not m:
            return
        away = other.mean - self.mean
        self.mean += away * (m / (n + m))
        self.squares += other.squares + away**2 * (n * m / (n + m))
        self.people += other.people

    def tested(self) -> dict[str, Array]:
        """Return each voxel's mean effect, its variance, t and z, float32.

        t and z are 0 where nothing varies.
        """
        n = len(self.people)
        if n < 2:
            raise ValueError(f"a group analysis requires at least 2 participants, got {n}")
        variance = self.squares / (n - 1) / n
        error = np.sqrt(variance)
        t = np.divide(self.mean, error, out=np.zeros_like(self.mean), where=error > 0)
        p = np.clip(special.stdtr(n - 1, -np.abs(t)), _SMALLEST_P, None)
        z = -np.sign(t) * special.ndtri(p)
        found = {"effect": self.mean, "variance": variance, "t": t, "z": z}
        return {stat: values.astype(np.float32) for stat, values in found.items()}
