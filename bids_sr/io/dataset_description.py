"""BIDS metadata of a derivatives folder: description, README, CHANGES and ``.bidsignore``."""

import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from bids_sr.io import atomic_files
from bids_sr.series import BASELINES

_BIDS_VERSION = "1.11.1"
"""The newest version in the schema of the installed validator.

`tests/contracts/test_validated.py` checks it.
"""
_NO_DATA = (
    "*.html",
    "CITATION.*",
    "rating",
    "rating_*.tsv",
    "group",
    "group_*.tsv",
    "group_*.json",
    "**/figures",
)
"""Pages, citations, ratings (of an earlier version), and what the group level makes: no
participant's data.
"""
_UNKNOWN_KINDS = ("boldref", "xfm", "timeseries", "statmap", "metrics")
"""Suffixes of which the validator's schema knows nothing: the first three are those of fMRIPrep,
the others ours.
"""
_IGNORED = (*_NO_DATA, *(f"**/*_{kind}.*" for kind in _UNKNOWN_KINDS))

RESULTS = "bids-sr"
"""How URIs in the data set of a primary series name the one that holds all results, and it."""
_OF_THE_USER = (
    "Authors",
    "Acknowledgements",
    "Funding",
    "EthicsApprovals",
    "ReferencesAndLinks",
    "DatasetDOI",
)
"""Keys of a description that are kept once they are there: whoever publishes results fills them
in.
"""
_MARK = (
    "*This file was written by bids-sr and is updated with the results. A README without this line"
    " is never changed.*\n"
)
_README = """\
# {about}

| Content | Files |
| --- | --- |
| report of a participant (start here) | `sub-*.html` |
| series, maps, regions, confounds, tables | `sub-*/**/func/` |
| T1w image, tissues, atlas, transforms | `sub-*/**/anat/` |
| exported series under fMRIPrep's file names, for other programs | `derivatives/bids-sr-*/` |
| trained models | `sourcedata/models/` |
| settings and warnings of each call | `logs/*/` |
| methods text with citations | `CITATION.md` |

If a participant has no report, or a report that begins with *not finished*, processing of this
participant was not finished. The field `Sources` in the JSON sidecar of a file lists its input
files (`bids:raw:` is {name}). `.bidsignore` lists files that are not data, or are unknown to the
BIDS validator.
"""
_README_OF_SERIES = """\
# {about}
{idle}
This directory has fMRIPrep's layout. The series {series} is the preprocessed BOLD series
(`desc-preproc_bold`); brain mask, boldref, confounds, transforms and, for participants with a T1w
image, the anatomical images are next to it. All other series, the maps and the evaluation are two
directories up (`bids:bids-sr:` in `Sources`). Large files are hard links to the files there: if
you change one in place, the other changes as well.
"""


def dataset_of(output_dir: Path, series: str) -> Path:
    """Return the root of the data set of one series alone.

    Other programs look there for a preprocessed series.

    Directory ``derivatives/bids-sr-<series>``; it need not exist.
    """
    return output_dir / "derivatives" / f"{RESULTS}-{series}"


def applied_in(output_dir: Path, series: str) -> dict[str, bool]:
    """Return by run whether the method of a series was applied.

    The runs are those of the data set that holds this series alone.
    """
    applied: dict[str, bool] = {}
    for path in sorted(
        dataset_of(output_dir, series).glob("sub-*/**/func/*_desc-preproc_bold.json")
    ):
        applied[re.split("_(?:space|cohort|res|desc)-", path.name)[0]] = (
            atomic_files.read_json(path).get("Applied") is not False
        )
    return applied


def write_dataset(
    output_dir: Path,
    *,
    bids_dir: Path,
    version: str,
    links: Mapping[str, Path] | None = None,
    series: str = "",
) -> None:
    """Write description, README, CHANGES and ``.bidsignore``.

    Files that already have this content are left as they are.

    A README of the user's own is left alone, and so is what a description has of `_OF_THE_USER`.

    `bids_dir`: the data set that they are made from; ``bids:raw:`` in Sources stands for it.
    `links`: further data sets that Sources name, by the name they have there. `series`: the data
    set to describe is that of this series alone; "" for all results.
    """
    sources = {"raw": bids_dir, **(links or {})}
    name = str(_description(bids_dir).get("Name") or bids_dir.name)
    root = output_dir
    about = f"super-resolved BOLD and activation maps of {name}"
    readme = _README
    text = ""
    if series:
        root = dataset_of(output_dir, series)
        readme = _README_OF_SERIES
        applied = applied_in(output_dir, series)
        about = f"BOLD of {name}, {BASELINES.get(series, f'super-resolved ({series})')}"
        if idle := [run for run, value in applied.items() if not value]:
            some = f"{about}; {len(idle)} of {len(applied)} runs zero filled"
            about = (
                some
                if any(applied.values())
                else f"zero-filled BOLD series of {name} ({series} was not applied)"
            )
            where = (
                f"**Not super-resolved: {', '.join(idle)}.** {series} was not applied to these"
                " runs:"
            )
            text = f"\n{where} `desc-preproc_bold` is the zero-filled series.\n"
    about = f"bids-sr: {about}"
    found = _described(root, about, sources, version, {RESULTS: "../.."} if series else {})
    atomic_files.write_json(root / "dataset_description.json", found)
    _write_readme(root, readme.format(about=about, name=name, series=series, idle=text))
    if not series:
        _write_changes(root, version)
    write_ignored(root)


def _described(
    root: Path, about: str, sources: Mapping[str, Path], version: str, further: Mapping[str, str]
) -> dict[str, object]:
    """Return the description of a data set.

    Authors and license of its sources hold for what is derived from them.
    """
    raw, there = _description(sources["raw"]), _description(root)
    generated: dict[str, object] = {"Name": "bids-sr", "Version": version}
    if container := _container():
        generated["Container"] = container
    place = f"{further[RESULTS]}/" if RESULTS in further else ""
    cited = (
        f"Please cite bids-sr and the underlying methods, which are listed in {place}CITATION.md"
    )
    acknowledged = str(raw.get("HowToAcknowledge") or "").strip() or ", ".join(
        map(str, _listed(raw.get("ReferencesAndLinks")))
    )
    links = {key: _link_to(folder, root) for key, folder in sources.items()} | dict(further)
    copied = {key: raw[key] for key in ("Authors", "License") if raw.get(key)}
    return {
        "Name": about,
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        **copied,
        **{key: there[key] for key in _OF_THE_USER if there.get(key)},
        "HowToAcknowledge": f"{cited}. For the data: {acknowledged}"
        if acknowledged
        else f"{cited}.",
        "GeneratedBy": [generated],
        "SourceDatasets": [_source(folder, links[key]) for key, folder in sources.items()],
        "DatasetLinks": links,
    }


def _container() -> dict[str, str]:
    """Container of this process, in the words of BIDS and of fMRIPrep; empty outside of one.

    Apptainer and Singularity name their image file themselves; an image that was made from ours
    still has its tag.
    """
    sif = os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME")
    tag = os.environ.get("BIDS_SR_CONTAINER_TAG") or sif
    return {"Type": "singularity" if sif else "docker", "Tag": tag} if tag else {}


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _source(folder: Path, link: str) -> dict[str, object]:
    """A data set that others are made from, as its own description tells it."""
    told = _description(folder)
    doi = {"DOI": told["DatasetDOI"]} if told.get("DatasetDOI") else {}
    return {"URL": link, **doi}


def _link_to(folder: Path, root: Path) -> str:
    """Return the link from one data set to another.

    It is a relative path, unless they have only the root of the system in common.

    >>> _link_to(Path("/data/study"), Path("/data/study/derivatives/bids-sr"))
    '../..'
    >>> _link_to(Path("/input"), Path("/output"))
    'file:///input'
    """
    folder = folder.resolve()
    root = root.resolve()
    apart = os.path.commonpath([folder, root]) == folder.anchor
    return folder.as_uri() if apart else Path(os.path.relpath(folder, root)).as_posix()


def _description(folder: Path) -> dict[str, object]:
    """The description of a data set; empty where it has none that can be read."""
    return atomic_files.read_json(folder / "dataset_description.json")


def _write_readme(root: Path, text: str) -> None:
    found = [path for path in root.glob("README*") if path.is_file()]
    if all(_MARK in path.read_text(encoding="utf-8", errors="replace") for path in found):
        atomic_files.write_whole(root / "README.md", f"{text}\n{_MARK}")


def _write_changes(root: Path, version: str) -> None:
    """Write one CHANGES entry for each version that wrote here.

    The newest comes first, in the format of CPAN's change logs.
    """
    path = root / "CHANGES"
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if not any(line.startswith(f"{version} ") for line in before.splitlines()):
        entry = f"{version} {date.today().isoformat()}\n  - Generated by bids-sr {version}.\n"
        atomic_files.write_whole(path, entry + (f"\n{before}" if before else ""))


def write_atlas(output_dir: Path, name: str, description: Mapping[str, object]) -> None:
    """Write the notes on an atlas whose labels are among the results, above all its license."""
    atomic_files.write_json(output_dir / f"atlas-{name}_description.json", description)


def write_ignored(output_dir: Path) -> None:
    """Write ``.bidsignore``: what is no data, and kinds of files that BIDS has no name for yet."""
    atomic_files.write_whole(output_dir / ".bidsignore", "\n".join(_IGNORED) + "\n")
