"""What makes a folder of derivatives a BIDS data set: its description, and what the validator is to leave alone."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_sr.io import atomic_files

BIDS_VERSION = "1.9.0"
IGNORED = (
    "*.html",
    "CITATION.*",
    "logs",
    "group",
    "rating",
    "rating_*.tsv",
    "**/figures",
    "**/*_boldref.*",
    "**/*_metrics.*",
    "**/*_boldmap.*",
    "**/*_statmap.*",
    "**/*_timeseries.*",
    "**/*_xfm.*",
    "group_*.tsv",
    "group_*.json",
)


RESULTS = "bids-sr"
"""How URIs in the data set of a primary series name the one that holds all results, and it."""


README = """\
# {series}: preprocessed BOLD of {name} for other programs

bids-sr has laid this folder out as fMRIPrep does, with the series {series} as the preprocessed BOLD
(`desc-preproc_bold`): brain mask, reference, confounds, transforms, and the anatomy of participants with a T1w image.
All other series, maps and the evaluation are in the folder two levels up. Large files are hard links to files there:
what changes one in place changes the other.
"""


def dataset_of(output_dir: Path, series: str) -> Path:
    """Root of the data set that holds one series alone, as other programs look for a preprocessed one."""
    return output_dir / "derivatives" / f"{RESULTS}-{series}"


def write_dataset(
    output_dir: Path, *, bids_dir: Path, version: str, links: Mapping[str, Path] | None = None, series: str = ""
) -> None:
    """Write ``dataset_description.json`` and ``.bidsignore``; files that say the same already are left as they are.

    Parameters
    ----------
    output_dir : root of all results
    bids_dir : the data set that they are made from; ``bids:raw:`` in Sources stands for it
    links : further data sets that Sources name, by the name they have there
    series : the data set to describe is that of this series alone; "" for all results
    """
    source = bids_dir / "dataset_description.json"
    name = (
        json.loads(source.read_text(encoding="utf-8")).get("Name", bids_dir.name) if source.exists() else bids_dir.name
    )
    generated: dict[str, Any] = {"Name": "bids-sr", "Version": version}
    container = os.environ.get("BIDS_SR_CONTAINER_TAG")
    if container:
        generated["Container"] = {"Type": "docker", "Tag": container}
    root, about = output_dir, f"bids-sr: super-resolved BOLD and activation maps of {name}"
    linked = {key: folder.resolve().as_uri() for key, folder in {"raw": bids_dir, **(links or {})}.items()}
    if series:
        root, about = dataset_of(output_dir, series), f"bids-sr: BOLD of {name}, super-resolved ({series})"
        linked[RESULTS] = "../.."
        atomic_files.write_whole(root / "README.md", README.format(series=series, name=name))
    description = {
        "Name": about,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generated],
        "DatasetLinks": linked,
    }
    atomic_files.write_json(root / "dataset_description.json", description)
    write_ignored(root)


def write_ignored(output_dir: Path) -> None:
    """Write ``.bidsignore``: what the validator is to leave alone, because the standard has no name for it yet."""
    atomic_files.write_whole(output_dir / ".bidsignore", "\n".join(IGNORED) + "\n")
