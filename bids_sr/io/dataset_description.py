"""BIDS metadata of a derivatives directory: description, README, CHANGES and ``.bidsignore``."""

import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from bids_sr.io import atomic_files
from bids_sr.series import BASELINES

_BIDS_VERSION = "1.11.1"
"""Newest BIDS version in the schema of the installed validator.

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
"""Pages, citations, ratings (of an earlier version) and group results, which are not data of a
participant.
"""
_UNKNOWN_KINDS = ("boldref", "xfm", "timeseries", "statmap", "metrics")
"""Suffixes that are not in the validator's schema: the first three are from fMRIPrep, the others
are specific to bids-sr.
"""
_IGNORED = (*_NO_DATA, *(f"**/*_{kind}.*" for kind in _UNKNOWN_KINDS))

RESULTS = "bids-sr"
"""Name of the main results data set in BIDS URIs, and prefix of the data sets with one series."""
_OF_THE_USER = (
    "Authors",
    "Acknowledgements",
    "Funding",
    "EthicsApprovals",
    "ReferencesAndLinks",
    "DatasetDOI",
)
"""Keys of a description that are preserved once filled in by the user."""
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


def dataset_root(output_dir: Path, series: str) -> Path:
    """Return the root of the data set with only one series, ``derivatives/bids-sr-<series>``.

    Other programs find a preprocessed series there. The directory need not exist.
    """
    return output_dir / "derivatives" / f"{RESULTS}-{series}"


def read_applied(output_dir: Path, series: str) -> dict[str, bool]:
    """Return by run whether the method of a series was applied.

    The runs are taken from the data set with only this series.
    """
    applied: dict[str, bool] = {}
    for path in sorted(
        dataset_root(output_dir, series).glob("sub-*/**/func/*_desc-preproc_bold.json")
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
    """Write description, README, CHANGES and ``.bidsignore`` of a data set.

    Files with the same content are not rewritten. A README by the user is not changed, nor are the
    keys `_OF_THE_USER` of an existing description.

    Parameters
    ----------
    output_dir : Path
        Output directory.
    bids_dir : Path
        Input data set, ``bids:raw:`` in Sources.
    version : str
        Version of bids-sr.
    links : Mapping[str, Path] | None, optional
        Further data sets that are used in Sources, by their name in URIs.
    series : str, optional
        Series whose data set to describe; "" for the main results.
    """
    sources = {"raw": bids_dir, **(links or {})}
    name = str(_description(bids_dir).get("Name") or bids_dir.name)
    root = output_dir
    dataset_name = f"super-resolved BOLD and activation maps of {name}"
    readme = _README
    text = ""
    if series:
        root = dataset_root(output_dir, series)
        readme = _README_OF_SERIES
        applied = read_applied(output_dir, series)
        dataset_name = f"BOLD of {name}, {BASELINES.get(series, f'super-resolved ({series})')}"
        if unapplied_runs := [run for run, value in applied.items() if not value]:
            summary = f"{dataset_name}; {len(unapplied_runs)} of {len(applied)} runs zero filled"
            dataset_name = (
                summary
                if any(applied.values())
                else f"zero-filled BOLD series of {name} ({series} was not applied)"
            )
            heading = (
                f"**Not super-resolved: {', '.join(unapplied_runs)}.** {series} was not applied to"
                " these runs:"
            )
            text = f"\n{heading} `desc-preproc_bold` is the zero-filled series.\n"
    dataset_name = f"bids-sr: {dataset_name}"
    description = _describe_dataset(
        root, dataset_name, sources, version, {RESULTS: "../.."} if series else {}
    )
    atomic_files.write_json(root / "dataset_description.json", description)
    _write_readme(root, readme.format(about=dataset_name, name=name, series=series, idle=text))
    if not series:
        _write_changes(root, version)
    write_ignored(root)


def _describe_dataset(
    root: Path,
    dataset_name: str,
    sources: Mapping[str, Path],
    version: str,
    other_entries: Mapping[str, str],
) -> dict[str, object]:
    """Return the description of a data set, with authors and license of its source."""
    raw, existing = _description(sources["raw"]), _description(root)
    generated: dict[str, object] = {"Name": "bids-sr", "Version": version}
    if container := _container():
        generated["Container"] = container
    prefix = f"{other_entries[RESULTS]}/" if RESULTS in other_entries else ""
    citation = (
        f"Please cite bids-sr and the underlying methods, which are listed in {prefix}CITATION.md"
    )
    acknowledgment = str(raw.get("HowToAcknowledge") or "").strip() or ", ".join(
        map(str, _as_list(raw.get("ReferencesAndLinks")))
    )
    links = {key: _link_to(folder, root) for key, folder in sources.items()} | dict(other_entries)
    copied = {key: raw[key] for key in ("Authors", "License") if raw.get(key)}
    return {
        "Name": dataset_name,
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        **copied,
        **{key: existing[key] for key in _OF_THE_USER if existing.get(key)},
        "HowToAcknowledge": f"{citation}. For the data: {acknowledgment}"
        if acknowledgment
        else f"{citation}.",
        "GeneratedBy": [generated],
        "SourceDatasets": [_source_entry(folder, links[key]) for key, folder in sources.items()],
        "DatasetLinks": links,
    }


def _container() -> dict[str, str]:
    """Return the container of this process as in BIDS and fMRIPrep, or {} outside of a container.

    Apptainer and Singularity set the name of their image file. An image that was built from ours
    still has its tag.
    """
    sif = os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME")
    tag = os.environ.get("BIDS_SR_CONTAINER_TAG") or sif
    return {"Type": "singularity" if sif else "docker", "Tag": tag} if tag else {}


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _source_entry(folder: Path, link: str) -> dict[str, object]:
    """Return the entry of a source data set, with the DOI in its description."""
    description = _description(folder)
    doi = {"DOI": description["DatasetDOI"]} if description.get("DatasetDOI") else {}
    return {"URL": link, **doi}


def _link_to(folder: Path, root: Path) -> str:
    """Return the link from one data set to another.

    The link is a relative path, unless they share only the root of the file system.

    >>> _link_to(Path("/data/study"), Path("/data/study/derivatives/bids-sr"))
    '../..'
    >>> _link_to(Path("/input"), Path("/output"))
    'file:///input'
    """
    folder = folder.resolve()
    root = root.resolve()
    is_unrelated = os.path.commonpath([folder, root]) == folder.anchor
    return folder.as_uri() if is_unrelated else Path(os.path.relpath(folder, root)).as_posix()


def _description(folder: Path) -> dict[str, object]:
    """Return the description of a data set, or {} if it cannot be read."""
    return atomic_files.read_json(folder / "dataset_description.json")


def _write_readme(root: Path, text: str) -> None:
    readmes = [path for path in root.glob("README*") if path.is_file()]
    if all(_MARK in path.read_text(encoding="utf-8", errors="replace") for path in readmes):
        atomic_files.write_text(root / "README.md", f"{text}\n{_MARK}")


def _write_changes(root: Path, version: str) -> None:
    """Write one CHANGES entry per version that wrote results, newest first.

    The format is the format of CPAN change logs.
    """
    path = root / "CHANGES"
    previous = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if not any(line.startswith(f"{version} ") for line in previous.splitlines()):
        entry = f"{version} {date.today().isoformat()}\n  - Generated by bids-sr {version}.\n"
        atomic_files.write_text(path, entry + (f"\n{previous}" if previous else ""))


def write_atlas(output_dir: Path, name: str, description: Mapping[str, object]) -> None:
    """Write the description of an atlas that is used in the results, including its license."""
    atomic_files.write_json(output_dir / f"atlas-{name}_description.json", description)


def write_ignored(output_dir: Path) -> None:
    """Write ``.bidsignore`` with files that are not data, and file types without a BIDS name."""
    atomic_files.write_text(output_dir / ".bidsignore", "\n".join(_IGNORED) + "\n")
