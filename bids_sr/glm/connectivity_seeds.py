"""Seeds of connectivity maps, or temporal components that are mapped without seeds, by name."""

from collections.abc import Collection
from dataclasses import dataclass

DEFAULT_RADIUS_MM = 6.0
"""Radius of a seed (mm); the 3 mm of the paper are less than a voxel of most runs."""
N_COMPONENTS = 3
_SeedPoint = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Seed:
    """Seed of a connectivity map: a sphere in the template, or atlas labels.

    A sphere has a name (letters and digits), a center (RAS mm, MNI) and a radius (mm).
    """

    name: str
    center: _SeedPoint = (0.0, 0.0, 0.0)
    radius_mm: float = DEFAULT_RADIUS_MM
    labels: tuple[str, ...] = ()


def count_mapped(names: Collection[str]) -> int:
    """Return how many contrasts of a run are mapped; components count only without others.

    >>> count_mapped(["motor", "visual", "component1", "component2"]), count_mapped(["component1"])
    (2, 1)
    """
    components = seed_names(())
    return sum(name not in components for name in names) or len(names)


def seed_names(seeds: tuple[Seed, ...]) -> tuple[str, ...]:
    """Return the names of the seeds of a run, or of its temporal components if there are no seeds.

    >>> seed_names((Seed("motor"), Seed("hand"))), seed_names(())
    (('motor', 'hand'), ('component1', 'component2', 'component3'))
    """
    return tuple(seed.name for seed in seeds) or tuple(
        f"component{number}" for number in range(1, N_COMPONENTS + 1)
    )
