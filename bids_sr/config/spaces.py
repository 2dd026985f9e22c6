"""Spaces of the results, as ``--output-spaces`` names them in niworkflows' syntax.

What the spaces are is looked up later.

Here only the form is read, with the standard library, so that a settings file and ``--help`` need
nothing else. Whether a template has that resolution or cohort is checked once the run begins
(`bids_sr.preflight.checks`).

Seeds of connectivity maps (``--seeds``): names, MNI coordinates and atlas labels.

The module has no heavy imports.

The networks are those of the paper (TV self-supervision, section 3.3); it gives no coordinates,
which are those of Van Dijk et al. 2010 (J Neurophysiol 103:297), table 1, left hemisphere where
there are two.

Checks of options that name an atlas and its labels: ``--atlas``, ``--roi``, ``--seeds``.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from bids_sr import region_names
from bids_sr.config.section import SettingError, nearest_name, split_named
from bids_sr.frozen import frozen
from bids_sr.notices import UsageError
from bids_sr.region_names import AAL2, atlas_labels, region_labels

FUNC, T1W = "func", "T1w"
_OF_SURFACES = ("fsaverage", "fsnative", "fsLR", "onavg")
_NATIVE, _MNI152 = "native", "MNI152NLin2009cAsym"
_OTHERS = {
    "anat": T1W,
    "run": FUNC,
    "bold": FUNC,
    "boldref": FUNC,
    "fsaverage5": "fsaverage:den-10k",
}
"""Words of other programs for spaces that are no template."""


@frozen
class Space:
    """A space, and the grid in it that results are sampled on.

    `name`: ``func`` (that of the run), ``T1w``, a template, ``fsnative`` or ``fsaverage``.
    `resolution`: label of the template's grid; empty for the voxel size of the series. `cohort`:
    label of the template's cohort; empty for none. `density`: label of the number of vertices of a
    template's surfaces; empty for volumes.
    """

    name: str
    resolution: str = ""
    cohort: str = ""
    density: str = ""

    @property
    def is_surface(self) -> bool:
        """Whether the space is that of surfaces, which maps alone are written on."""
        return self in _SURFACES.values()

    @property
    def is_template(self) -> bool:
        """Whether the space is that of a template, of volumes."""
        return self.name not in (FUNC, T1W) and not self.is_surface

    @property
    def template(self) -> str:
        """Name of the template with its cohort, as names of transforms have it.

        Of fsaverage it is the template that leads to it where no registration sphere does.

        >>> Space(name="MNIPediatricAsym", cohort="2").template
        'MNIPediatricAsym+2'
        """
        return "+".join(filter(None, (_MNI152 if self.density else self.name, self.cohort)))

    @property
    def entities(self) -> dict[str, str]:
        """Return entities of files in the space; none for the space of the run.

        >>> Space(name="MNI152NLin2009cAsym", resolution="2").entities
        {'space': 'MNI152NLin2009cAsym', 'res': '2'}
        """
        labels = {
            "space": "" if self.name == FUNC else self.name,
            "cohort": self.cohort,
            "res": self.resolution,
            "den": self.density,
        }
        return {name: label for name, label in labels.items() if label}

    def __str__(self) -> str:
        told = {"cohort": self.cohort, "res": self.resolution, "den": self.density}
        return ":".join([self.name, *(f"{key}-{label}" for key, label in told.items() if label)])


FSAVERAGE = Space(name="fsaverage", density="10k")
_SURFACES = {str(space): space for space in (Space(name="fsnative"), FSAVERAGE)}


def _parse_space(text: str) -> Iterator[Space]:
    """The spaces that a text names: several resolutions or cohorts of a template are several.

    >>> [str(each) for each in _parse_space("MNIPediatricAsym:cohort-1:res-1:res-2")]
    ['MNIPediatricAsym:cohort-1:res-1', 'MNIPediatricAsym:cohort-1:res-2']
    >>> [str(each) for each in _parse_space("MNI152NLin2009cAsym:res-native")]
    ['MNI152NLin2009cAsym']
    """
    name, *parts = text.split(":")
    name = _OTHERS.get(name, name)
    if (surface := ":".join((name, *parts))) in _SURFACES:
        yield _SURFACES[surface]
        return
    if not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise ValueError(f"{name or 'an empty text'} is not the name of an output space")
    if name.startswith(_OF_SURFACES):
        raise ValueError(
            f"this surface space is not supported; expected {' or '.join(_SURFACES)}. Other"
            " densities, and fsLR with the subcortical voxels required for CIFTI files, are not"
            " included in the installed packages"
        )
    parsed: dict[str, list[str]] = {"cohort": [], "res": []}
    for part in parts:
        key, _, value = part.partition("-")
        if key not in parsed or not re.fullmatch(r"[A-Za-z0-9]+", value):
            raise ValueError(
                f"{part or 'an empty text'} is not a valid template modifier; expected res-LABEL"
                " or cohort-LABEL"
            )
        parsed[key].append("" if (key, value) == ("res", _NATIVE) else value)
    if parts and name in (FUNC, T1W):
        raise ValueError(
            f"{name} always has the voxel size of the series, so {parts[0]} must be omitted"
        )
    for cohort in parsed["cohort"] or [""]:
        for resolution in parsed["res"] or [""]:
            yield Space(name=name, resolution=resolution.lstrip("0") or resolution, cohort=cohort)


def parse_spaces(texts: Iterable[str]) -> tuple[Space, ...]:
    """All spaces that are named, each once.

    `texts`: spaces as the user wrote them, each maybe several.
    """
    spaces: list[Space] = []
    for text in texts:
        try:
            found = list(_parse_space(text))
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
        for space in found:
            if space in spaces:
                raise ValueError(f"{text}: duplicate space {space}")
            spaces.append(space)
    return tuple(spaces)


_DEFAULT_RADIUS_MM = 6.0  # the paper's 3 mm are less than one voxel of most runs
_MAX_RADIUS_MM = 30.0
COMPONENTS = "components"  # the leading temporal components of the run, instead of seeds
_FORM = re.compile(r"([A-Za-z][A-Za-z0-9]*)=(-?[\d.]+),(-?[\d.]+),(-?[\d.]+)(?:,([\d.]+))?")


_Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Seed:
    """Seed: a sphere in the template, or atlas labels.

    A sphere has a name (letters and digits), a center (RAS mm, MNI) and a radius (mm).
    """

    name: str
    center: _Point = (0.0, 0.0, 0.0)
    radius_mm: float = _DEFAULT_RADIUS_MM
    labels: tuple[str, ...] = ()


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


def seeds_of(named: tuple[str, ...], *, with_anat: bool, atlas: str = AAL2) -> tuple[Seed, ...]:
    """Return the seeds that the user named for a run.

    There are none where the leading temporal components of the run take their place.

    That is where they were asked for, or no T1w image leads to the template in which seeds are
    given.
    """
    return (
        ()
        if not with_anat or named == (COMPONENTS,)
        else tuple(parse_seed(each, atlas) for each in named)
    )


def seed_names(seeds: tuple[Seed, ...]) -> tuple[str, ...]:
    """Return names of the seeds of a run, or of its temporal components where there are none.

    >>> seed_names(seeds_of(("motor", "hand=-38,-24,58"), with_anat=True)), seed_names(())[0]
    (('motor', 'hand'), 'component1')
    """
    return tuple(seed.name for seed in seeds) or tuple(
        f"component{k}" for k in range(1, N_COMPONENTS + 1)
    )


def count_mapped(names: Collection[str]) -> int:
    """Return how many of a run's contrasts are mapped: temporal components only without others.

    >>> count_mapped(["motor", "visual", "component1", "component2"]), count_mapped(["component1"])
    (2, 1)
    """
    return sum(name not in seed_names(()) for name in names) or len(names)


@lru_cache
def parse_seed(text: str, atlas: str = AAL2) -> Seed:
    """Read a seed from ``NAME=x,y,z``, ``NAME=x,y,z,radius`` (mm) or labels of the atlas.

    Labels are as for ``--roi``: ``Calcarine_L``, ``precentral`` (both sides),
    ``NAME=Calcarine_L,Cuneus_L``.

    >>> parse_seed("visual").center, parse_seed("hand=-38,-24,58,3").radius_mm
    ((-30.0, -88.0, 0.0), 3.0)
    >>> parse_seed("precentral").labels, parse_seed("v1=Calcarine_L").labels
    (('Precentral_L', 'Precentral_R'), ('Calcarine_L',))
    """
    if text in KNOWN:
        return KNOWN[text]
    if (region := _atlas_seed(text, atlas)) is not None:
        return region
    match = _FORM.fullmatch(text)
    try:
        numbers = [float(number) for number in match.groups()[1:] if number] if match else []
    except ValueError:
        numbers = []
    if match is None or len(numbers) < 3 or not all(math.isfinite(number) for number in numbers):
        raise ValueError(
            f"expected {', '.join(KNOWN)}, an atlas label, NAME=LABEL[,LABEL], or"
            " NAME=x,y,z[,radius] in mm in MNI space"
        )
    radius = numbers[3] if len(numbers) > 3 else _DEFAULT_RADIUS_MM
    seed = Seed(match[1], (numbers[0], numbers[1], numbers[2]), radius)
    if max(map(abs, seed.center)) > 150 or not 0 < seed.radius_mm <= _MAX_RADIUS_MM:
        raise ValueError(
            "the seed is outside the head, or its radius is out of range; coordinates must be"
            " between -150 and 150 mm, and the radius must be above 0 and at most"
            f" {_MAX_RADIUS_MM:g} mm"
        )
    return seed


def _atlas_seed(text: str, atlas: str) -> Seed | None:
    """A seed of labels of the atlas, or None for text of another form."""
    name, labels = split_named(text)
    name = re.sub(r"[^A-Za-z0-9]", "", name or labels)
    if not re.match(r"[A-Za-z]", name) or not atlas_labels(atlas):
        return None
    try:
        found = region_labels(labels, atlas)
    except ValueError:
        return None
    return Seed(name, labels=found) if found else None


def known_names(atlas: str = AAL2) -> tuple[str, ...]:
    """All that can be named alone."""
    return (*KNOWN, *atlas_labels(atlas))


def check_regions(atlas: str, roi: str, seeds: tuple[str, ...]) -> None:
    """Refuse an atlas that is not there, and regions and seeds that are not of it.

    AAL2 itself is looked for when it is needed.
    """
    try:
        if not region_names.is_aal2(atlas):
            region_names.find_atlas(atlas)
    except UsageError as error:
        told = error.notice
        raise SettingError("activation.atlas", atlas, told.why, told.remedy) from error
    _check_roi(roi, atlas)
    for text in seeds if seeds != (COMPONENTS,) else ():
        try:
            parse_seed(text, atlas)
        except ValueError as error:
            fix = nearest_name(text, known_names(atlas))
            raise SettingError("activation.seeds", text, str(error), fix) from error


def _check_roi(roi: str, atlas: str) -> None:
    try:
        region_names.region_labels(roi, atlas)
    except region_names.UnknownRegion as error:
        groups = tuple(region_names.GROUPS) if region_names.is_aal2(atlas) else ()
        choices = ", ".join(["auto", "brain", *groups, f"labels of {atlas}"])
        why = f"{error} is not a known region; expected {choices}, or a mask file"
        if not groups and error.name in region_names.GROUPS:
            why = (
                f"{error} is a group of AAL2 labels, but the selected atlas is {atlas}; expected"
                f" {choices}, or a mask file"
            )
        known = (*groups, "brain", *region_names.atlas_labels(atlas))
        fix = (
            nearest_name(error.name, known)
            or "specify a mask file including its directory, such as ./mask.nii.gz"
        )
        raise SettingError("activation.roi", roi, why, fix) from error
