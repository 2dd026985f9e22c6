"""Simulate a large group of participants from one phantom by hard links, which need no disk space.

Images and their headers are real; values in tables of metrics and maps differ between
participants, because tests would be trivial otherwise.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_sr.report.run_notes import record_run

KINDS = 16  # distinct copies of each map, shared by all participants
TABLES = 500  # distinct copies of each table; more would need gigabytes
# files of the default level that the group level and the page over participants read
_READ = re.compile(
    r"((?<!desc-noise)_metrics\.(tsv|json)|_stat-(effect|t)_desc-(acquired|bspline|sbl|measured)(Fwhm\d+)?_statmap\.nii\.gz"
    r"|_desc-(acquired|bspline|sbl|measured)(Fwhm\d+)?_statmap\.json|_mask\.nii\.gz"
    r"|_boldref\.nii\.gz|_xfm\.\w+|_desc-confounds_timeseries\.tsv)$"
)
_TABLE = re.compile(r"_desc-(image|activation|evaluation)_metrics\.tsv$")


def labels(count: int) -> Iterator[str]:
    """Return labels of equal width: ``0001``."""
    return (f"{number:0{max(2, len(str(count)))}d}" for number in range(1, count + 1))


def _files(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]


def make_data(source: Path, root: Path, count: int) -> None:
    """Make a data set of `count` participants from the only participant ``sub-01`` of another data
    set.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    names = ["dataset_description.json", "README", "README.md"]
    names += [path.name for path in source.glob("*_events.json")]
    for name in names:
        if (source / name).exists():
            shutil.copy(source / name, root / name)
    files = _files(source / "sub-01")
    for number, label in enumerate(labels(count)):
        for file in files:
            place = root / f"sub-{label}" / str(file).replace("sub-01", f"sub-{label}")
            place.parent.mkdir(parents=True, exist_ok=True)
            if file.name.endswith("_events.tsv"):
                _copy_events(source / "sub-01" / file, place, number)
            else:
                os.link(source / "sub-01" / file, place)
    rows = "".join(f"sub-{label}\t30\n" for label in labels(count))
    (root / "participants.tsv").write_text(f"participant_id\tage\n{rows}")


def make_results(source: Path, root: Path, count: int, data: Path) -> None:
    """Make an output directory of `count` participants from the output of ``sub-01``.

    It has tables, maps, masks, transforms, the notes of each run, and a report without content.
    `data`: data set of these participants, which the group level expects in the description.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    description = json.loads((source / "dataset_description.json").read_text(encoding="utf-8"))
    description["DatasetLinks"]["raw"] = data.absolute().as_uri()
    (root / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    files = [file for file in _files(source / "sub-01") if _READ.search(file.name)]
    copies = {
        file: _kinds(source / "sub-01" / file, root / "kinds")
        for file in files
        if re.search(r"_stat-effect_.*\.nii\.gz", file.name)
    }
    tables: dict[Path, list[Path]] = {file: [] for file in files if _TABLE.search(file.name)}
    for number, label in enumerate(labels(count)):
        for file in files:
            place = root / f"sub-{label}" / str(file).replace("sub-01", f"sub-{label}")
            place.parent.mkdir(parents=True, exist_ok=True)
            if file in copies:
                os.link(copies[file][number % KINDS], place)
            elif file in tables and number < TABLES:
                _copy_table(source / "sub-01" / file, place, number)
                tables[file].append(place)
            elif file in tables:
                os.link(tables[file][number % TABLES], place)
            else:
                os.link(source / "sub-01" / file, place)
        (root / f"sub-{label}" / "figures").mkdir(exist_ok=True)
        (root / f"sub-{label}.html").touch()
        record_run(root / "logs" / "crowd", [label], settings="crowd")
    shutil.rmtree(root / "kinds", ignore_errors=True)


def _kinds(path: Path, folder: Path) -> list[Path]:
    """Copy a map several times, each scaled differently in its header."""
    folder.mkdir(exist_ok=True)
    image = nib.load(path)
    data = np.asanyarray(image.dataobj)
    copies = []
    for number in range(KINDS):
        scaled = nib.Nifti1Image(
            data * np.float32(1 + 0.3 * np.sin(1 + 7 * number)), image.affine, image.header
        )
        copies.append(folder / f"{number}_{path.name}")
        nib.save(scaled, copies[-1])
    return copies


def _copy_events(source: Path, target: Path, number: int) -> None:
    """Copy an events table with onsets a little later, so that no two runs share a model."""
    header, *lines = source.read_text().splitlines()
    at = header.split("\t").index("onset")
    rows = []
    for line in lines:
        cells = line.split("\t")
        cells[at] = f"{float(cells[at]) + 0.001 * number % 1:.3f}"
        rows.append("\t".join(cells))
    target.write_text("\n".join([header, *rows]) + "\n")


def _copy_table(source: Path, target: Path, number: int) -> None:
    """Copy a table of metrics with slightly changed values in each line.

    Methods count as applied, because comparisons leave out methods that were not.
    """
    header, *lines = source.read_text().splitlines()
    at = header.split("\t").index("value")
    rng = np.random.default_rng(number)
    rows = []
    for line, gain in zip(lines, 1 + 0.05 * rng.standard_normal(len(lines)), strict=True):
        cells = line.split("\t")
        if "verdict_applied" in cells:
            cells[at] = "1"
        elif cells[at] not in ("n/a", "0", "1"):
            cells[at] = f"{float(cells[at]) * gain:.6g}"
        rows.append("\t".join(cells))
    target.write_text("\n".join([header, *rows]) + "\n")
