"""Seeds of connectivity maps (`activation.seeds`): names, MNI coordinates and atlas labels.

The default networks are taken from the paper (TV self-supervision, section 3.3), which does not
give coordinates. Coordinates are from Van Dijk et al. 2010 (J Neurophysiol 103:297), table 1, left
hemisphere for bilateral regions.
"""

import math
import re
from functools import lru_cache

from bids_sr.config.values import split_named
from bids_sr.glm.connectivity_seeds import DEFAULT_RADIUS_MM, Seed
from bids_sr.io.region_names import AAL2, atlas_labels, region_labels

_MAX_RADIUS_MM = 30.0
_MAX_COORDINATE_MM = 150.0  # largest distance of a center from the origin along each axis
COMPONENTS = "components"
"""Leading temporal components of the run, instead of seeds."""
_SPHERE_FORM = re.compile(r"([A-Za-z][A-Za-z0-9]*)=(-?[\d.]+),(-?[\d.]+),(-?[\d.]+)(?:,([\d.]+))?")

DEFAULT_SEEDS = ("motor", "defaultMode", "visual")


PREDEFINED = {
    seed.name: seed
    for seed in (
        Seed("motor", (-36.0, -25.0, 57.0)),
        Seed("defaultMode", (0.0, -53.0, 26.0)),
        Seed("visual", (-30.0, -88.0, 0.0)),
        Seed("auditory", (-43.0, -26.0, 12.0)),
    )
}
"""Predefined seeds by name."""


def choose_seeds(
    texts: tuple[str, ...], *, with_anat: bool, atlas: str = AAL2
) -> tuple[Seed, ...]:
    """Return the requested seeds of a run.

    The result is empty if the leading temporal components of the run are mapped instead, that is,
    if they were requested, or if there is no T1w image for registration to the template of the
    seeds.
    """
    if not with_anat or texts == (COMPONENTS,):
        return ()
    return tuple(parse_seed(text, atlas) for text in texts)


@lru_cache
def parse_seed(text: str, atlas: str = AAL2) -> Seed:
    """Parse a seed: ``NAME=x,y,z``, ``NAME=x,y,z,radius`` (mm), or labels of the atlas.

    Labels are the same as for ``--roi``: ``Calcarine_L``, ``precentral`` (both sides),
    ``NAME=Calcarine_L,Cuneus_L``. Raises `ValueError` for other text.

    >>> parse_seed("visual").center, parse_seed("hand=-38,-24,58,3").radius_mm
    ((-30.0, -88.0, 0.0), 3.0)
    >>> parse_seed("precentral").labels, parse_seed("v1=Calcarine_L").labels
    (('Precentral_L', 'Precentral_R'), ('Calcarine_L',))
    """
    if text in PREDEFINED:
        return PREDEFINED[text]
    if (atlas_seed := _find_atlas_seed(text, atlas)) is not None:
        return atlas_seed
    seed = _parse_sphere(text)
    if seed is None:
        raise ValueError(
            f"expected {', '.join(PREDEFINED)}, an atlas label, NAME=LABEL[,LABEL], or"
            " NAME=x,y,z[,radius] in mm in MNI space"
        )
    if max(map(abs, seed.center)) > _MAX_COORDINATE_MM or not 0 < seed.radius_mm <= _MAX_RADIUS_MM:
        raise ValueError(
            "the seed is outside the head, or its radius is out of range; coordinates must be"
            f" between {-_MAX_COORDINATE_MM:g} and {_MAX_COORDINATE_MM:g} mm, and the radius must"
            f" be above 0 and at most {_MAX_RADIUS_MM:g} mm"
        )
    return seed


def _find_atlas_seed(text: str, atlas: str) -> Seed | None:
    """Return a seed of atlas labels, or None for text of another form."""
    given_name, labels = split_named(text)
    name = re.sub(r"[^A-Za-z0-9]", "", given_name or labels)
    if not re.match(r"[A-Za-z]", name) or not atlas_labels(atlas):
        return None
    try:
        seed_labels = region_labels(labels, atlas)
    except ValueError:
        return None
    return Seed(name, labels=seed_labels) if seed_labels else None


def _parse_sphere(text: str) -> Seed | None:
    """Return the sphere in a text ``NAME=x,y,z[,radius]`` (mm), or None for another text."""
    match = _SPHERE_FORM.fullmatch(text)
    if match is None:
        return None
    name, *texts = match.groups()
    try:
        numbers = [float(number) for number in texts if number]
    except ValueError:
        return None
    if not all(math.isfinite(number) for number in numbers):
        return None
    x, y, z, *radius = numbers
    return Seed(name, (x, y, z), radius[0] if radius else DEFAULT_RADIUS_MM)
