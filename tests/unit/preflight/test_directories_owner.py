"""Output directories with other contents are rejected before any writing, also in a dry run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from data.dataset import BidsMaker

from bids_sr.cli import main
from bids_sr.io.dataset_description import write_dataset
from bids_sr.version import __version__


def _write_other_output(out: Path, name: str) -> None:
    out.mkdir(parents=True)
    description = {"Name": name, "BIDSVersion": "1.8.0", "GeneratedBy": [{"Name": name}]}
    (out / "dataset_description.json").write_text(json.dumps(description))
    (out / "sub-01.html").write_text("theirs")


def _write_loose_file(root: Path) -> Path:
    out = root / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    return out


def _output_of_program(name: str, folder: str = "out") -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        _write_other_output(root / folder, name)
        return root / folder

    return write


def _output_of_this_program(version: str, data: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / data).mkdir(exist_ok=True)
        if not (root / data / "dataset_description.json").exists():
            (root / data / "dataset_description.json").write_text("{}")
        write_dataset(root / "out", bids_dir=root / data, version=version)
        return root / "out"

    return write


KINDS = {
    "fmriprep": (_output_of_program("fMRIPrep"), "directory contains results of fMRIPrep"),
    "mriqc": (_output_of_program("MRIQC"), "directory contains results of MRIQC"),
    "root": (lambda root: root / "bids", "must not be inside the dataset"),
    "reference": (
        _output_of_program("bids-sr-phantom", "bids/derivatives/ground-truth"),
        "directory contains results of bids-sr-phantom",
    ),
    "loose": (_write_loose_file, "not empty (it contains notes.txt)"),
    "other-data": (
        _output_of_this_program(__version__, "other"),
        "directory contains results of another dataset",
    ),
    "earlier": (
        _output_of_this_program("0.2.9", "bids"),
        "directory contains results of bids-sr 0.2.9",
    ),
    "later": (
        _output_of_this_program("99.3.0", "bids"),
        "directory contains results of bids-sr 99.3.0",
    ),
}


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_output_directory_with_other_contents_is_rejected_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, *, dry_run: bool
) -> None:
    write_output, reason = KINDS[kind]
    data = BidsMaker(tmp_path / "bids")
    data.subject()
    out = write_output(tmp_path)
    before = _files(tmp_path)
    options = ["--dry-run"] if dry_run else []
    call = [str(data.root), str(out), "participant", "-w", str(tmp_path / "work")]
    assert main.main([*call, "--skip-bids-validation", *options]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert str(out) in message
    assert "fix: Choose a" in message
    assert _files(tmp_path) == before


@pytest.mark.parametrize("content", ["stopped", "own", "patch", "empty", "models"])
def test_an_output_directory_of_this_program_and_dataset_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    data, out = BidsMaker(tmp_path / "bids"), tmp_path / "out"
    data.subject()
    if content == "stopped":
        (out / "logs/first").mkdir(parents=True)
        (out / "logs/first/settings.toml").write_text("")
        (out / "sub-01").mkdir()
    elif content == "models":
        (out / "sourcedata/models").mkdir(parents=True)
    elif content in ("own", "patch"):
        minor = ".".join(__version__.split(".")[:2])
        version = __version__ if content == "own" else f"{minor}.99"
        write_dataset(out, bids_dir=data.root, version=version)
    call = [str(data.root), str(out), "participant", "--skip-bids-validation", "--dry-run"]
    assert main.main(call) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "is_accepted"),
    [(None, False), ("0.2.0.dev0+abc", False), ("99.3.0", False), (__version__, True)],
)
def test_a_working_directory_of_another_version_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str | None, *, is_accepted: bool
) -> None:
    data, work = BidsMaker(tmp_path / "bids"), tmp_path / "work"
    data.subject()
    steps = work / "bids_sr_wf"
    (steps / "sub_01_wf").mkdir(parents=True)
    if version is not None:
        (steps / "version.txt").write_text(version)
    call = [str(data.root), str(tmp_path / "out"), "participant", "-w", str(work), "--dry-run"]
    code = main.main([*call, "--skip-bids-validation"])
    message = capsys.readouterr().err
    assert code == (0 if is_accepted else 2), message
    assert is_accepted or str(steps) in message
