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


def write_dataset(output_dir: Path, *, bids_dir: Path, version: str, links: Mapping[str, Path] | None = None) -> None:
    """Write ``dataset_description.json`` and ``.bidsignore``; files that say the same already are left as they are.

    Parameters
    ----------
    bids_dir : the data set that they are made from; ``bids:raw:`` in Sources stands for it
    links : further data sets that Sources name, by the name they have there

    """
    source = bids_dir / "dataset_description.json"
    name = (
        json.loads(source.read_text(encoding="utf-8")).get("Name", bids_dir.name) if source.exists() else bids_dir.name
    )
    generated: dict[str, Any] = {"Name": "bids-sr", "Version": version}
    container = os.environ.get("BIDS_SR_CONTAINER_TAG")
    if container:
        generated["Container"] = {"Type": "docker", "Tag": container}
    description = {
        "Name": f"bids-sr: super-resolved BOLD and activation maps of {name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generated],
        "DatasetLinks": {name: root.resolve().as_uri() for name, root in {"raw": bids_dir, **(links or {})}.items()},
    }
    atomic_files.write_json(output_dir / "dataset_description.json", description)
    write_ignored(output_dir)


def write_ignored(output_dir: Path) -> None:
    """Write ``.bidsignore``: what the validator is to leave alone, because the standard has no name for it yet."""
    atomic_files.write_whole(output_dir / ".bidsignore", "\n".join(IGNORED) + "\n")
