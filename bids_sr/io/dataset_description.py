"""BIDS metadata of result directories: descriptions, README, CHANGES and ``.bidsignore``."""

import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from bids_sr.io import atomic_files
from bids_sr.io.json_values import as_number, as_texts
from bids_sr.io.series import BASELINES
from bids_sr.io.smoothing_words import smoothing_text

# Newest BIDS version in the schema of the installed validator. `tests/contracts/test_validated.py`
# checks it.
_BIDS_VERSION = "1.11.1"
# Pages, citations and group results, which are not data of a participant. BIDS knows CITATION.cff,
# which a user may add.
_NON_DATA_PATTERNS = (
    "/*.html",
    "/CITATION.bib",
    "/CITATION.html",
    "/CITATION.md",
    "/group",
    "/group_*.tsv",
    "/group_*.json",
    "**/figures",
)
# suffixes that are not in the validator's schema: the first three are from fMRIPrep, the others
# are specific to bids-sr
_UNKNOWN_SUFFIXES = ("boldref", "xfm", "timeseries", "statmap", "metrics")
_IGNORED_PATTERNS = (*_NON_DATA_PATTERNS, *(f"**/*_{kind}.*" for kind in _UNKNOWN_SUFFIXES))

RESULTS = "bids-sr"
"""Name of the main results data set in BIDS URIs, and prefix of the data sets with one series."""
# keys of a description that are preserved once filled in by the user
_USER_KEYS = (
    "Authors",
    "Acknowledgements",
    "Funding",
    "EthicsApprovals",
    "ReferencesAndLinks",
    "DatasetDOI",
)
_README_MARK = (
    "*This file was written by bids-sr and is updated with the results. A README without this line"
    " is never changed.*\n"
)
_README = """\
# {about}

| Content | Files |
| --- | --- |
| report of a participant (open this first) | `sub-*.html` |
| series, maps, regions, events, confounds, tables | `sub-*/**/func/` |
| T1w image, tissues, atlas, transforms | `sub-*/**/anat/` |
{row}| trained models | `sourcedata/models/` |
| settings and warnings of each call | `logs/*/` |
| methods text with citations | `CITATION.md` |

{use}{text}\
If a participant has no report, or a report that begins with *not finished*, processing of this
participant was not finished. The maps of a series, such as `desc-sbl`, share the sidecar
`*_desc-sbl_statmap.json`, which describes their statistics and contrasts. The field `Sources` in
the JSON sidecar of a file lists its input files (`bids:raw:` is {name}). `.bidsignore` lists files
that are not data, or are unknown to the BIDS validator.
"""
# lines on files to use, each with the pattern of the files that it is about
_USES = (
    (
        "*_stat-effect_desc-bspline_statmap.nii.gz",
        """\
- If the page sends you to the B-spline maps (no added detail):
  `*_contrast-NAME_stat-effect_desc-bspline_statmap.nii.gz` and `stat-t`;
""",
    ),
    (
        "*_stat-sdTotal_desc-sbl_statmap.nii.gz",
        """\
- `*_contrast-NAME_stat-effect_desc-sbl_statmap.nii.gz`: effect, and `stat-sdTotal`: its total SD,
  from noise and the error of the added detail. The 95 % interval is effect ± 1.96 SD;
""",
    ),
    (
        "*_desc-sblFwhm??SignReliable_mask.nii.gz",
        """\
- `desc-sblFwhm…`: smoothed safe map (FWHM in tenths of mm), for shapes, places, differences and
  the group level: wrong detail does little harm in it. Its mask is a false discovery rate, no rate
  of signs;
""",
    ),
    (
        "*_desc-sblSignReliable_mask.nii.gz",
        """\
- `*_label-NAME_desc-sblSignReliable_mask.nii.gz`: voxels to show of the unsmoothed map, of which
  at most 5 % of the increases and of the decreases are expected to have the wrong sign;
""",
    ),
    (
        "*_desc-regions_metrics.tsv",
        """\
- `*_desc-regions_metrics.tsv`: mean effects of regions, clusters and atlas labels with their 95 %
  intervals (Student's t with `noise_dof` and 64 degrees of freedom). Read sizes there.
""",
    ),
)
# row and paragraph on series for other programs
_EXPORTED = (
    """\
| one preprocessed series per run and space, for other programs | `derivatives/bids-sr-*/` |
""",
    """\
For XCP-D, fitlins, nilearn and other programs that take the output of fMRIPrep, use
`derivatives/bids-sr-*/` and not this directory: these programs require exactly one preprocessed
series per run and space, whereas this directory contains all series. Files that are in both
directories are hard links and take no further space.

""",
)
_SERIES_README = """\
# {about}
{unapplied_text}{smoothed_text}
Use this directory for XCP-D, fitlins, nilearn and other programs that take the output of fMRIPrep.
The series {series} is the preprocessed BOLD series (`desc-preproc_bold`), exactly one per run and
space; brain mask, boldref, events, confounds, transforms and, for participants with a T1w image,
the anatomical images are next to it.

All other series, the maps and the evaluation are two directories up (`bids:bids-sr:` in
`Sources`). Open `../../sub-*.html` first: the report states whether the series can be trusted.
Large files are hard links to the files there: if you change one in place, the other changes as
well.
"""


def list_series_datasets(output_dir: Path, participant: str) -> list[Path]:
    """Return the roots of the data sets with only one series that contain a participant.

    `participant` is a label without ``sub-``.
    """
    pattern = dataset_root(Path(), "*") / f"sub-{participant}"
    return sorted(folder.parent for folder in output_dir.glob(str(pattern)))


def write_dataset(
    output_dir: Path, *, bids_dir: Path, version: str, links: Mapping[str, Path] | None = None
) -> None:
    """Write description, README, CHANGES and ``.bidsignore`` of the main results.

    Files with the same content are not rewritten. A README by the user is not changed, nor are the
    keys `_USER_KEYS` of an existing description.

    `bids_dir` is ``bids:raw:`` in Sources, and `links` are further data sets that are used in
    Sources, by their name in URIs. `version` is the version of bids-sr.
    """
    name = _read_name(bids_dir)
    roots = sorted(output_dir.glob(str(dataset_root(Path(), "*"))))
    applied = [
        is_applied
        for root in roots
        for is_applied in read_applied(output_dir, root.name.removeprefix(f"{RESULTS}-")).values()
    ]
    kind = "super-resolved BOLD" if any(applied) or not applied else "zero-filled BOLD"
    dataset_name = f"bids-sr: {kind} and activation maps of {name}"
    sources = {"raw": bids_dir, **(links or {})}
    atomic_files.write_json(
        output_dir / "dataset_description.json",
        _describe_dataset(output_dir, dataset_name, sources, version),
    )
    row, text = _EXPORTED if roots else ("", "")
    use = _describe_use(output_dir)
    readme_text = _README.format(about=dataset_name, name=name, row=row, text=text, use=use)
    _write_readme(output_dir, readme_text)
    _write_changes(output_dir, version)
    write_bidsignore(output_dir)


def _describe_use(output_dir: Path) -> str:
    """Return paragraphs on the maps and tables to use that exist; "" if there are none."""
    lines = [
        line for pattern, line in _USES if next(output_dir.glob(f"sub-*/**/func/{pattern}"), None)
    ]
    if not lines:
        return ""
    return (
        "The report states which maps to use for each contrast `NAME`. Effects are in percent of\n"
        "the mean brain signal (`MeanSignal` in the sidecar). In `func/`:\n\n"
        f"{''.join(lines)}\n"
    )


def write_series_dataset(
    output_dir: Path,
    series: str,
    *,
    bids_dir: Path,
    version: str,
    links: Mapping[str, Path] | None = None,
) -> None:
    """Write description, README and ``.bidsignore`` of the data set with one series.

    Parameters, and the treatment of files by the user, are as in `write_dataset`.
    """
    root, applied = dataset_root(output_dir, series), read_applied(output_dir, series)
    content_name = _name_series_content(_read_name(bids_dir), series, applied)
    dataset_name = f"bids-sr: {content_name}"
    sources = {"raw": bids_dir, **(links or {})}
    atomic_files.write_json(
        root / "dataset_description.json",
        _describe_dataset(root, dataset_name, sources, version, results_link="../.."),
    )
    readme_text = _SERIES_README.format(
        about=dataset_name,
        series=series,
        unapplied_text=_format_unapplied_runs(series, applied),
        smoothed_text=_format_smoothed_runs(_read_sidecars(root)),
    )
    _write_readme(root, readme_text)
    write_bidsignore(root)


def _read_name(bids_dir: Path) -> str:
    """Return the name of a data set, or of its directory if the description has none."""
    return str(_read_description(bids_dir).get("Name") or bids_dir.name)


def read_applied(output_dir: Path, series: str) -> dict[str, bool]:
    """Return by run whether the method of a series was applied.

    The runs are taken from the data set with only this series.
    """
    sidecars = _read_sidecars(dataset_root(output_dir, series))
    return {run: sidecar.get("Applied") is not False for run, sidecar in sidecars.items()}


def _read_sidecars(root: Path) -> dict[str, dict[str, object]]:
    """Return the sidecar of the series of each run in a data set with only one series."""
    paths = sorted(root.glob("sub-*/**/func/*_desc-preproc_bold.json"))
    pattern = "_(?:space|cohort|res|desc)-"
    return {re.split(pattern, path.name)[0]: atomic_files.read_json(path) for path in paths}


def dataset_root(output_dir: Path, series: str) -> Path:
    """Return the root of the data set with only one series, ``derivatives/bids-sr-<series>``.

    Other programs find a preprocessed series there. The directory need not exist.
    """
    return output_dir / "derivatives" / f"{RESULTS}-{series}"


def _name_series_content(name: str, series: str, applied: Mapping[str, bool]) -> str:
    """Return the content of the data set with one series for its name.

    `name` is the name of the input data set, and `applied` the result of `read_applied`.
    """
    content_name = f"BOLD of {name}, {BASELINES.get(series, f'super-resolved ({series})')}"
    n_unapplied = sum(not is_applied for is_applied in applied.values())
    if not n_unapplied:
        return content_name
    if n_unapplied == len(applied):
        return f"zero-filled BOLD series of {name} ({series} was not applied)"
    return f"{content_name}; {n_unapplied} of {len(applied)} runs zero filled"


def _format_unapplied_runs(series: str, applied: Mapping[str, bool]) -> str:
    """Return a paragraph on runs whose series is zero filled; "" if there are none."""
    runs = [run for run, is_applied in applied.items() if not is_applied]
    if not runs:
        return ""
    return (
        f"\n**Not super-resolved: {', '.join(runs)}.** {series} was not applied to these runs:"
        " `desc-preproc_bold` is the zero-filled series.\n"
    )


def _format_smoothed_runs(sidecars: Mapping[str, Mapping[str, object]]) -> str:
    """Return a paragraph per width of the smoothing before super-resolution; "" without it."""
    runs_by_width: dict[float, list[str]] = {}
    for run, sidecar in sidecars.items():
        runs_by_width.setdefault(as_number(sidecar.get("InputSmoothingFWHM"), 0.0), []).append(run)
    return "".join(
        f"\n**Smoothed: {', '.join(runs)}.** `desc-preproc_bold` was {smoothing_text(0, width)}.\n"
        for width, runs in sorted(runs_by_width.items())
        if width
    )


def _describe_dataset(
    root: Path,
    dataset_name: str,
    sources: Mapping[str, Path],
    version: str,
    results_link: str = "",
) -> dict[str, object]:
    """Return the description of a data set, with authors, license and HED version of its source.

    `sources` are source data sets by their names in URIs ("raw" is the input). `results_link` is
    the link to the main results, "" if they are described. `version` is the version of bids-sr.
    """
    source_description = _read_description(sources["raw"])
    existing_description = _read_description(root)
    generator: dict[str, object] = {"Name": "bids-sr", "Version": version}
    if container := _describe_container():
        generator["Container"] = container
    links = {key: _link_to(folder, root) for key, folder in sources.items()}
    copied_entries = {
        key: source_description[key]
        for key in ("Authors", "License", "HEDVersion")
        if source_description.get(key)
    }
    return {
        "Name": dataset_name,
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        **copied_entries,
        **{key: existing_description[key] for key in _USER_KEYS if existing_description.get(key)},
        "HowToAcknowledge": _make_acknowledgment(
            source_description, f"{results_link}/" if results_link else ""
        ),
        "GeneratedBy": [generator],
        "SourceDatasets": [
            _make_source_entry(folder, links[key]) for key, folder in sources.items()
        ],
        "DatasetLinks": links | ({RESULTS: results_link} if results_link else {}),
    }


def _describe_container() -> dict[str, str]:
    """Return the container of this process as in BIDS and fMRIPrep, or {} outside of a container.

    Apptainer and Singularity set the name of their image file. An image that was built from ours
    still has its tag.
    """
    sif = os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME")
    tag = os.environ.get("BIDS_SR_CONTAINER_TAG") or sif
    return {"Type": "singularity" if sif else "docker", "Tag": tag} if tag else {}


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


def _make_acknowledgment(source_description: Mapping[str, object], citation_folder: str) -> str:
    """Return how to cite bids-sr, its methods and the source of a data set.

    `citation_folder` is the path of the directory of CITATION.md with a slash, or "".
    """
    citation = (
        "Please cite bids-sr and the underlying methods, which are listed in "
        f"{citation_folder}CITATION.md."
    )
    source_text = str(source_description.get("HowToAcknowledge") or "").strip() or ", ".join(
        as_texts(source_description.get("ReferencesAndLinks"))
    )
    return f"{citation} For the data: {source_text}" if source_text else citation


def _make_source_entry(folder: Path, link: str) -> dict[str, object]:
    """Return the entry of a source data set, with the DOI in its description."""
    description = _read_description(folder)
    doi = {"DOI": description["DatasetDOI"]} if description.get("DatasetDOI") else {}
    return {"URL": link, **doi}


def _read_description(folder: Path) -> dict[str, object]:
    """Return the description of a data set, or {} if it cannot be read."""
    return atomic_files.read_json(folder / "dataset_description.json")


def _write_readme(root: Path, text: str) -> None:
    """Write README.md, unless the user has written a README."""
    readmes = [path for path in root.glob("README*") if path.is_file()]
    if all(_README_MARK in path.read_text(encoding="utf-8", errors="replace") for path in readmes):
        atomic_files.write_text(root / "README.md", f"{text}\n{_README_MARK}")


def _write_changes(root: Path, version: str) -> None:
    """Write one CHANGES entry per version that wrote results, newest first.

    The format is the format of CPAN change logs.
    """
    path = root / "CHANGES"
    previous = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if not any(line.startswith(f"{version} ") for line in previous.splitlines()):
        entry = f"{version} {date.today().isoformat()}\n  - Generated by bids-sr {version}.\n"
        atomic_files.write_text(path, entry + (f"\n{previous}" if previous else ""))


def write_bidsignore(output_dir: Path) -> None:
    """Write ``.bidsignore`` with files that are not data, and file types without a BIDS name."""
    atomic_files.write_text(output_dir / ".bidsignore", "\n".join(_IGNORED_PATTERNS) + "\n")


def write_atlas(output_dir: Path, name: str, description: Mapping[str, object]) -> None:
    """Write the description of an atlas that is used in the results, including its license."""
    atomic_files.write_json(output_dir / f"atlas-{name}_description.json", description)
