"""An output directory of something else is refused before any writing, dry run included."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bidsmaker import BidsMaker

from bids_sr.cli import main
from bids_sr.io.dataset_description import write_dataset
from bids_sr.version import __version__


def _described(out: Path, name: str) -> None:
    out.mkdir(parents=True)
    told = {"Name": name, "BIDSVersion": "1.8.0", "GeneratedBy": [{"Name": name}]}
    (out / "dataset_description.json").write_text(json.dumps(told))
    (out / "sub-01.html").write_text("theirs")


def _loose(root: Path) -> Path:
    out = root / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    return out


def _program(name: str, place: str = "out") -> Callable[[Path], Path]:
    def made(root: Path) -> Path:
        _described(root / place, name)
        return root / place

    return made


def _own(version: str, data: str) -> Callable[[Path], Path]:
    def made(root: Path) -> Path:
        (root / data).mkdir(exist_ok=True)
        if not (root / data / "dataset_description.json").exists():
            (root / data / "dataset_description.json").write_text("{}")
        write_dataset(root / "out", bids_dir=root / data, version=version)
        return root / "out"

    return made


KINDS = {
    "fmriprep": (_program("fMRIPrep"), "directory contains results of fMRIPrep"),
    "mriqc": (_program("MRIQC"), "directory contains results of MRIQC"),
    "root": (lambda root: root / "bids", "must not be inside the dataset"),
    "reference": (
        _program("bids-sr-phantom", "bids/derivatives/ground-truth"),
        "directory contains results of bids-sr-phantom",
    ),
    "loose": (_loose, "not empty (it contains notes.txt)"),
    "other-data": (_own(__version__, "other"), "directory contains results of another dataset"),
    "major": (_own("99.1.0", "bids"), "directory contains results of bids-sr 99.1.0"),
}


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_output_directory_of_something_else_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, *, dry_run: bool
) -> None:
    made, reason = KINDS[kind]
    data = BidsMaker(tmp_path / "bids")
    data.subject()
    out = made(tmp_path)
    before = _files(tmp_path)
    options = ["--dry-run"] if dry_run else []
    call = [str(data.root), str(out), "participant", "-w", str(tmp_path / "work")]
    assert main.main([*call, "--skip-bids-validation", *options]) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert str(out) in told
    assert "fix: Choose a" in told
    assert _files(tmp_path) == before


@pytest.mark.parametrize("left", ["stopped", "own", "older", "empty", "models"])
def test_an_output_directory_of_this_program_and_data_set_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    data, out = BidsMaker(tmp_path / "bids"), tmp_path / "out"
    data.subject()
    if left == "stopped":
        (out / "logs/first").mkdir(parents=True)
        (out / "logs/first/settings.toml").write_text("")
        (out / "sub-01").mkdir()
    elif left == "models":
        (out / "sourcedata/models").mkdir(parents=True)
    elif left in ("own", "older"):
        first = __version__.partition(".")[0]
        version = __version__ if left == "own" else f"{first}.0.1"
        write_dataset(out, bids_dir=data.root, version=version)
    call = [str(data.root), str(out), "participant", "--skip-bids-validation", "--dry-run"]
    assert main.main(call) == 0, capsys.readouterr().err
