"""Output directories with other contents are rejected before any writing, also in a dry run."""

from __future__ import annotations

import json

import pytest
from data.calls import arguments, problem_of, settings_for
from data.dataset import BidsMaker, snapshot

from bids_sr.cli import main
from bids_sr.io.dataset_description import write_dataset
from bids_sr.survey.notices import is_problem
from bids_sr.survey.preflight import directories
from bids_sr.survey.preflight.directories import judge_directories
from bids_sr.version import __version__


def write_other_output(out, name):
    out.mkdir(parents=True)
    description = {"Name": name, "BIDSVersion": "1.8.0", "GeneratedBy": [{"Name": name}]}
    (out / "dataset_description.json").write_text(json.dumps(description))


def refused(maker, out=None):
    return list(judge_directories(settings_for(maker, out=out)))


@pytest.mark.parametrize(
    ("kind", "out", "values"),
    [
        ("fMRIPrep", "out", ["fMRIPrep"]),
        ("bids-sr-phantom", "bids/derivatives/ground-truth", ["bids-sr-phantom"]),
        ("loose file", "out", ["notes.txt"]),
        ("other data", "out", ["other"]),
        ("0.2.9", "out", ["bids-sr", "0.2.9"]),
        ("99.3.0", "out", ["bids-sr", "99.3.0"]),
    ],
)
def test_an_output_directory_with_other_contents_is_refused(maker, kind, out, values):
    root = maker.root.parent
    path = root / out
    if kind == "loose file":
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    elif kind == "other data":
        other = BidsMaker(root / "other").root
        write_dataset(path, bids_dir=other, version=__version__)
        values = [str(other)]
    elif kind[0].isdigit():
        write_dataset(path, bids_dir=maker.root, version=kind)
    else:
        write_other_output(path, kind)
    problem_of(refused(maker, out=path), str(path), *values)


def test_a_refused_output_directory_is_left_unchanged(maker):
    write_other_output(maker.root.parent / "out", "MRIQC")
    before = snapshot(maker.root.parent)
    for options in ([], ["--dry-run"]):
        assert main.main(arguments(maker, *options)) == 2
    assert snapshot(maker.root.parent) == before


@pytest.mark.parametrize("content", ["stopped", "own", "patch", "empty", "models"])
def test_an_output_directory_of_this_program_and_data_set_is_accepted(maker, content):
    out = maker.root.parent / "out"
    if content == "stopped":
        (out / "logs/first").mkdir(parents=True)
        (out / "logs/first/settings.toml").write_text("")
        (out / "sub-01").mkdir()
    elif content == "models":
        (out / "sourcedata/models").mkdir(parents=True)
    elif content in ("own", "patch"):
        minor = ".".join(__version__.split(".")[:2])
        version = __version__ if content == "own" else f"{minor}.99"
        write_dataset(out, bids_dir=maker.root, version=version)
    assert refused(maker) == []


@pytest.mark.parametrize("version", [None, "0.2.0.dev0+abc", "99.3.0", __version__])
def test_a_working_directory_of_another_version_is_refused(maker, version):
    settings = settings_for(maker)
    steps = settings.paths.work_dir / "bids_sr_wf"
    (steps / "sub_01_wf").mkdir(parents=True)
    if version is not None:
        (steps / "version.txt").write_text(version)
    problems = refused(maker)
    if version == __version__:
        assert problems == []
    else:
        problem_of(problems, str(steps))


@pytest.mark.parametrize("name", ["logs", "sub-01"])
def test_folders_of_another_user_in_the_output_are_refused(maker, monkeypatch, name):
    out = maker.root.parent / "out"
    for folder in (out / "logs" / "earlier", out / "sub-01"):
        folder.mkdir(parents=True)
    (out / "logs" / "earlier" / "settings.toml").touch()
    assert not any(map(is_problem, refused(maker)))
    monkeypatch.setattr(directories.os, "access", lambda path, mode: path != out / name)
    problem_of(refused(maker), str(out / name))
