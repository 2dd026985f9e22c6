"""Output spaces, written as for ``--output-spaces`` in the syntax of niworkflows.

Only the form is checked here, using the standard library, so that settings files and ``--help``
need nothing else. Resolution and cohort of a template are checked when the run starts
(`bids_sr.survey.preflight.output_spaces`).
"""

import re
from collections.abc import Iterable, Iterator

from bids_sr.io.frozen import frozen

FUNC, T1W = "func", "T1w"
_SURFACE_NAMES = ("fsaverage", "fsnative", "fsLR", "onavg")
_NATIVE_RESOLUTION, _MNI152 = "native", "MNI152NLin2009cAsym"
# names of other programs for spaces that are not templates
_SYNONYMS = {
    "anat": T1W,
    "run": FUNC,
    "bold": FUNC,
    "boldref": FUNC,
    "fsaverage5": "fsaverage:den-10k",
}


@frozen
class Space:
    """Space of results, with its sampling grid.

    `name` is ``func`` (space of the run), ``T1w``, a template, ``fsnative`` or ``fsaverage``.
    `resolution` is the label of the template grid; "" for the voxel size of the series. `cohort`
    is the label of the template cohort; "" if it has none. `density` is the label of the number of
    vertices of a template surface; "" for volumes.
    """

    name: str
    resolution: str = ""
    cohort: str = ""
    density: str = ""

    @property
    def is_surface(self) -> bool:
        """Whether the space is a surface; only maps are written on surfaces."""
        return self in _SURFACES.values()

    @property
    def is_template(self) -> bool:
        """Whether the space is a volumetric template."""
        return self.name not in (FUNC, T1W) and not self.is_surface

    @property
    def template(self) -> str:
        """Name of the template with its cohort, as in the names of transforms.

        For fsaverage, it is the template used for the transformation if there is no registration
        sphere.

        >>> Space(name="MNIPediatricAsym", cohort="2").template
        'MNIPediatricAsym+2'
        """
        return "+".join(filter(None, (_MNI152 if self.density else self.name, self.cohort)))

    @property
    def entities(self) -> dict[str, str]:
        """Entities of files in the space; empty for the space of the run.

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
        labels = {"cohort": self.cohort, "res": self.resolution, "den": self.density}
        return ":".join([self.name, *(f"{key}-{label}" for key, label in labels.items() if label)])


FSAVERAGE = Space(name="fsaverage", density="10k")
_SURFACES = {str(space): space for space in (Space(name="fsnative"), FSAVERAGE)}


def parse_spaces(texts: Iterable[str]) -> tuple[Space, ...]:
    """Return all spaces in the texts of ``--output-spaces``; duplicates raise `ValueError`."""
    spaces: list[Space] = []
    for text in texts:
        try:
            spaces_of_text = list(_parse_space(text))
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
        for space in spaces_of_text:
            if space in spaces:
                raise ValueError(f"{text}: duplicate space {space}")
            spaces.append(space)
    return tuple(spaces)


def _parse_space(text: str) -> Iterator[Space]:
    """Yield the spaces in a text, one per combination of cohort and resolution.

    >>> [str(space) for space in _parse_space("MNIPediatricAsym:cohort-1:res-1:res-2")]
    ['MNIPediatricAsym:cohort-1:res-1', 'MNIPediatricAsym:cohort-1:res-2']
    >>> [str(space) for space in _parse_space("MNI152NLin2009cAsym:res-native")]
    ['MNI152NLin2009cAsym']
    """
    given_name, *modifiers = text.split(":")
    name = _SYNONYMS.get(given_name, given_name)
    if (surface := ":".join((name, *modifiers))) in _SURFACES:
        yield _SURFACES[surface]
        return
    if not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise ValueError(f"{name or 'an empty text'} is not the name of an output space")
    if name.startswith(_SURFACE_NAMES):
        raise ValueError(
            f"this surface space is not supported; expected {' or '.join(_SURFACES)}. Other"
            " densities, and fsLR with the subcortical voxels required for CIFTI files, are not"
            " included in the installed packages"
        )
    labels: dict[str, list[str]] = {"cohort": [], "res": []}
    for modifier in modifiers:
        key, _, label = modifier.partition("-")
        if key not in labels or not re.fullmatch(r"[A-Za-z0-9]+", label):
            raise ValueError(
                f"{modifier or 'an empty text'} is not a valid template modifier; expected"
                " res-LABEL or cohort-LABEL"
            )
        labels[key].append("" if (key, label) == ("res", _NATIVE_RESOLUTION) else label)
    if modifiers and name in (FUNC, T1W):
        raise ValueError(
            f"{name} always has the voxel size of the series, so {modifiers[0]} must be omitted"
        )
    for cohort in labels["cohort"] or [""]:
        for resolution in labels["res"] or [""]:
            yield Space(name=name, resolution=resolution.lstrip("0") or resolution, cohort=cohort)
