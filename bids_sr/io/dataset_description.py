"""BIDS metadata of a derivatives folder: description, README, CHANGES and ``.bidsignore``.

``.bidsignore`` lists what is no part of the data set.

Names of external files in provenance: BIDS URIs in data sets, else URIs that name the owner.

Files of runs that a call has processed and did not make: an earlier call left them.

Beside new ones they would be taken for results of the same settings, by readers as by the group
level. They are moved, not deleted.
"""

import importlib.metadata
import os
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path

from bids_sr.io import atomic_files
from bids_sr.io.installed_files import package_file, templateflow_home
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


SKELETON = ("templateflow", "conf/templateflow-skel.zip")
"""Package and place in it of empty files for all that TemplateFlow has."""
_TEMPLATEFLOW = "https://templateflow.s3.amazonaws.com"


def uri_of(path: Path, roots: Mapping[str, Path]) -> str:
    """URI of a file.

    `roots`: data sets by the names that they have in URIs; "" for the one in which the URI stands.
    BIDS URI, else that of TemplateFlow, of a package or of a local file.

    >>> uri_of(Path("/data/sub-01/anat/sub-01_T1w.nii.gz"), {"raw": Path("/data")})
    'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    """
    holding = [(root, name) for name, root in roots.items() if root in path.parents]
    if holding:
        # a data set may lie in another
        root, name = max(holding, key=lambda each: len(each[0].parts))
        return f"bids:{name}:{path.relative_to(root).as_posix()}"
    home = templateflow_home()
    if home in path.parents:
        return f"{_TEMPLATEFLOW}/{path.relative_to(home).as_posix()}"
    return _in_package(path) or path.absolute().as_uri()


def _in_package(path: Path) -> str:
    """Package URL of a file that an installed package carries; "" for any other file."""
    parts = path.parts
    if "site-packages" not in parts:
        return ""
    start = len(parts) - parts[::-1].index("site-packages")
    try:
        version = importlib.metadata.version(parts[start])
    except importlib.metadata.PackageNotFoundError:
        return ""
    return f"pkg:pypi/{parts[start]}@{version}#{'/'.join(parts[start:])}"


@cache
def _listed_uris() -> frozenset[str]:
    """Names of all files that TemplateFlow has; none where its list is not installed."""
    package = package_file(*SKELETON)
    if package is None:
        return frozenset()
    with zipfile.ZipFile(package) as skeleton:
        return frozenset(skeleton.namelist())


def template_uri(space: str, resolution: str = "", ending: str = "T1w.nii.gz") -> str:
    """URI of a file of a template at TemplateFlow, its T1w image; "" for no template.

    It is that of the resolution (a label), else that at 1 mm where there are several.
    TemplateFlow's list of files is read, nothing is imported or downloaded.

    `resolution`: label of the resolution (``res``); empty for label 1, or the only one. `ending`:
    of the name, such as ``hemi-L_den-10k_white.surf.gii``. Address of the file; empty where
    TemplateFlow lists none.
    """
    numbers = [resolution, "1", ""] if resolution else ["1", ""]
    found = (name for name in template_files(space, ending, numbers) if name in _listed_uris())
    return next((f"{_TEMPLATEFLOW}/{name}" for name in found), "")


def template_files(template: str, ending: str, numbers: Iterable[str]) -> Iterator[str]:
    """Return names that a file of a template may have below the home of TemplateFlow.

    `ending`: of the name, such as ``T1w.nii.gz`` or ``desc-brain_mask.nii.gz``. `numbers`: of
    resolutions, in the order in which they are tried; "" for a name without one.
    """
    name, _, cohort = template.partition("+")
    folder, stem = f"tpl-{name}/", f"tpl-{name}_"
    if cohort:
        folder, stem = f"{folder}cohort-{cohort}/", f"{stem}cohort-{cohort}_"
    for number in numbers:
        for label in (f"res-{number.zfill(2)}_", f"res-{number}_") if number else ("",):
            yield f"{folder}{stem}{label}{ending}"


EARLIER = Path("sourcedata", "earlier")
"""Where they go, below the derivatives."""
_RUN = re.compile(r"sub-[^_]+(_ses-[^_]+)?(_task-[^_]+(_(acq|ce|rec|dir|run)-[^_]+)*)?(?=_)")


def scope_of(name: str) -> str:
    """Start of a file's name that tells its run, or its participant and session without a task."""
    found = _RUN.match(name)
    return found[0] if found else ""


def set_aside(out: Path, figures: Path, stored: Collection[Path]) -> dict[str, list[str]]:
    """Move what lies in `out` of the runs of the stored files, and is not among these.

    Figures among intermediate files are removed. Sidecars that apply to no stored file go with
    theirs. The names of what was moved are returned by run.
    """
    runs = {scope_of(path.name) for path in stored} - {""}
    described = {frozenset(_parts(path)) for path in stored if path.suffix != ".json"}
    moved: dict[str, list[str]] = {}
    for path in sorted({path for root in (out, figures) for path in _beside(stored, root)}):
        run = scope_of(path.name)
        if run not in runs or path in stored or path.suffix == ".json" or path.is_dir():
            continue
        if path.suffix == ".zip" and figures != out:  # the page's figures, replaced run by run
            continue
        notes = {
            note
            for folder in (path.parent, path.parent.parent)
            for note in folder.glob("*.json")
            if note.name == f"{path.name}.json"  # of a figure
            or (_parts(note) <= _parts(path) and not any(_parts(note) <= one for one in described))
        }
        for file in (path, *notes - set(stored)):
            if file.is_relative_to(out):
                target = out / EARLIER / file.relative_to(out)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
            else:
                file.unlink()
        if path.is_relative_to(out):
            moved.setdefault(run, []).append(path.name)
    return moved


def _parts(path: Path) -> set[str]:
    """Entities and suffix of a name."""
    return set(path.name.partition(".")[0].split("_"))


def _beside(stored: Collection[Path], root: Path) -> set[Path]:
    """All files of the participants, below `root`, of whom files were stored there."""
    folders = set()
    for path in stored:
        parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
        first = next((n for n, part in enumerate(parts) if part.startswith("sub-")), None)
        if first is not None:
            folders.add(root.joinpath(*parts[: first + 1]))
    return {path for folder in folders if folder.is_dir() for path in folder.rglob("*.*")}
