"""Seeds of connectivity maps (``--seeds``): names and MNI coordinates, without a heavy import.

The networks are those of the paper (TV self-supervision, section 3.3); it gives no coordinates, which are those of Van
Dijk et al. 2010 (J Neurophysiol 103:297), table 1, left hemisphere where there are two.
"""

import math
import re
from dataclasses import dataclass

DEFAULT_RADIUS_MM = 6.0  # the paper's 3 mm are less than one voxel of most runs
MAX_RADIUS_MM = 30.0
COMPONENTS = "components"  # the leading temporal components of the run, instead of seeds
_FORM = re.compile(r"([A-Za-z][A-Za-z0-9]*)=(-?[\d.]+),(-?[\d.]+),(-?[\d.]+)(?:,([\d.]+))?")


Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Seed:
    """A sphere in the template: name (letters and digits), center (RAS mm, MNI) and radius (mm)."""

    name: str
    center: Point
    radius_mm: float = DEFAULT_RADIUS_MM


KNOWN = {
    seed.name: seed
    for seed in (
        Seed("motor", (-36.0, -25.0, 57.0)),
        Seed("defaultMode", (0.0, -53.0, 26.0)),
        Seed("visual", (-30.0, -88.0, 0.0)),
        Seed("auditory", (-43.0, -26.0, 12.0)),
    )
}
"""Seeds that can be named alone."""
DEFAULT_SEEDS = ("motor", "defaultMode", "visual")
N_COMPONENTS = 3


def seed_names(seeds: tuple[str, ...], *, with_anat: bool) -> tuple[str, ...]:
    """Names of the seeds of a run; of temporal components where they were asked for, or no T1w image leads to the
    template in which seeds are given.

    >>> seed_names(("motor", "hand=-38,-24,58"), with_anat=True)
    ('motor', 'hand')
    """
    if not with_anat or seeds == (COMPONENTS,):
        return tuple(f"component{number}" for number in range(1, N_COMPONENTS + 1))
    return tuple(text.partition("=")[0] for text in seeds)


def seed_places(seeds: tuple[str, ...], *, with_anat: bool) -> tuple[tuple[str, Point, float], ...]:
    """Name, center and radius of each seed; none where components take their place."""
    if not with_anat or seeds == (COMPONENTS,):
        return ()
    return tuple((seed.name, seed.center, seed.radius_mm) for seed in map(parse_seed, seeds))


def parse_seed(text: str) -> Seed:
    """A seed by its name, or as ``NAME=x,y,z`` or ``NAME=x,y,z,radius`` in mm.

    Raises
    ------
    ValueError : it has another form; the message says which forms there are

    Examples
    --------
    >>> parse_seed("visual").center, parse_seed("hand=-38,-24,58,3").radius_mm
    ((-30.0, -88.0, 0.0), 3.0)
    """
    if text in KNOWN:
        return KNOWN[text]
    found = _FORM.fullmatch(text)
    try:
        numbers = [float(number) for number in found.groups()[1:] if number] if found else []
    except ValueError:
        numbers = []
    if found is None or len(numbers) < 3 or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"a seed is one of {', '.join(KNOWN)}, or NAME=x,y,z[,radius] in mm of the MNI space")
    seed = Seed(found[1], (numbers[0], numbers[1], numbers[2]), *numbers[3:])
    if max(map(abs, seed.center)) > 150 or not 0 < seed.radius_mm <= MAX_RADIUS_MM:
        raise ValueError(f"a seed lies inside the head, and its radius is at most {MAX_RADIUS_MM:g} mm")
    return seed
