"""Boutiques validates the descriptor, turns every input into an option, and runs the phantom."""

import json
import shlex
from argparse import _CountAction
from pathlib import Path

import pytest
from pages import RECIPES, Run, scripts

from bids_sr.cli.parser import build_parser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
DESCRIPTOR = RECIPES / "nipoppy" / "descriptor.json"
TEXTS = {
    "mem": "8G",
    "mem_gb": "8G",
    "mem_mb": "8000",
    "smoothing": "5",
    "low_pass": "0.1",
    "slice_time_ref": "0.5",
    "run_id": "2",
    "compare": "NORDIC=it's $HOME.nii.gz",
    "truth": "a folder",
}
"""Valid texts of inputs with a format; the last two require quotes."""


def invocation() -> dict[str, object]:
    """Return a value for every input."""
    values: dict[str, object] = {}
    for entry in json.loads(DESCRIPTOR.read_text())["inputs"]:
        value = {
            "Flag": True,
            "Number": max(1, entry.get("minimum", 1) + bool(entry.get("exclusive-minimum"))),
            "File": f"file {entry['id']}",
            "String": (entry.get("value-choices") or [TEXTS.get(entry["id"], "text")])[-1],
        }[entry["type"]]
        values[entry["id"]] = (
            [value] * (1 + (entry["type"] == "File")) if "list" in entry else value
        )
    return values


def test_the_descriptor_is_valid(run: Run, tmp_path: Path) -> None:
    done = run("bosh", "validate", DESCRIPTOR)
    assert done.returncode == 0, done.stdout
    broken = json.loads(DESCRIPTOR.read_text())
    broken["command-line"] = broken["command-line"].replace(" [DRY_RUN]", "")
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    assert "DRY_RUN" in run("bosh", "validate", tmp_path / "broken.json").stdout


def test_every_input_becomes_an_option(run: Run, tmp_path: Path) -> None:
    """Options equal the words that a user would type, with quotes if needed."""
    values = invocation()
    (tmp_path / "all.json").write_text(json.dumps(values))
    done = run("bosh", "exec", "simulate", DESCRIPTOR, "-i", tmp_path / "all.json")
    assert done.returncode == 0, done.stdout
    [line] = [row for row in done.stdout.splitlines() if row.startswith("bids-sr ")]
    parser = build_parser()
    settings = vars(parser.parse_args(shlex.split(line)[1:]))
    counted = {action.dest for action in parser._actions if isinstance(action, _CountAction)}
    assert {settings[dest] for dest in counted} == {2}
    assert len(settings) == len(values)
    assert settings["evaluation.compare"] == [TEXTS["compare"]]
    assert settings["superres.pretrained"] == [Path("file pretrained")] * 2
    assert settings["resources.mem_gb"] == 8


def test_the_phantom_runs(run: Run, tmp_path: Path) -> None:
    phantom = run("bids-sr-phantom", "demo", "--preset", "tiny")
    assert phantom.returncode == 0, phantom.stdout
    [text] = scripts(RECIPES / "boutiques.md", "json")
    (tmp_path / "invocation.json").write_text(text)
    done = run("bosh", "exec", "launch", "--no-container", DESCRIPTOR, "invocation.json")
    assert done.returncode == 0, done.stdout
    assert "demo-out (results" in done.stdout
    assert (tmp_path / "demo-out" / "sub-01.html").is_file()
    again = run("bosh", "exec", "launch", "--no-container", DESCRIPTOR, "missing.json")
    assert again.returncode != 0
