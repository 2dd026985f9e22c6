"""One-sample t tests over participants, voxel by voxel, with running sums."""

from dataclasses import dataclass, field

import numpy as np
from scipy import special

from bids_sr.io.array_types import Array

_SMALLEST_P = 1e-300  # so that z stays finite


@dataclass(slots=True)
class Running:
    """Mean and sum of squared deviations of what was added (Welford), (voxels,) each."""

    # mean, squares: float64
    mean: Array
    squares: Array
    people: list[str] = field(default_factory=list)  # names of those who were added

    @classmethod
    def of(cls, voxels: int | tuple[int, ...]) -> "Running":
        """Nothing added yet."""
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
        self.mean, self.squares = self.mean[which], self.squares[which]

    def join(self, other: "Running") -> None:
        """Add all that another holds of the same voxels (Chan)."""
        n, m = len(self.people), len(other.people)
        if not m:
            return
        away = other.mean - self.mean
        self.mean = self.mean + away * (m / (n + m))
        self.squares = self.squares + other.squares + away**2 * (n * m / (n + m))
        self.people += other.people

    def tested(self) -> dict[str, Array]:
        """Effect (the mean), t and z of each voxel, float32; t, z are 0 where nothing varies; ValueError below two."""
        n = len(self.people)
        if n < 2:
            raise ValueError(f"{n} participants leave no degree of freedom")
        error = np.sqrt(self.squares / (n - 1) / n)
        t = np.divide(self.mean, error, out=np.zeros_like(self.mean), where=error > 0)
        p = np.clip(special.stdtr(n - 1, -np.abs(t)), _SMALLEST_P, None)
        z = -np.sign(t) * special.ndtri(p)
        return {"effect": self.mean.astype(np.float32), "t": t.astype(np.float32), "z": z.astype(np.float32)}
