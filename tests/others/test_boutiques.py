"""Boutiques takes the descriptor, makes every option of it a word of the command line, and runs
the phantom.
"""

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
"""Values of inputs that cannot be any text; the last two have to be quoted."""


def invocation() -> dict[str, object]:
    """A value for every input."""
    made: dict[str, object] = {}
    for each in json.loads(DESCRIPTOR.read_text())["inputs"]:
        value = {
            "Flag": True,
            "Number": max(1, each.get("minimum", 1) + bool(each.get("exclusive-minimum"))),
            "File": f"file {each['id']}",
            "String": (each.get("value-choices") or [TEXTS.get(each["id"], "text")])[-1],
        }[each["type"]]
        made[each["id"]] = [value] * (1 + (each["type"] == "File")) if "list" in each else value
    return made


def test_the_descriptor_is_valid(run: Run, tmp_path: Path) -> None:
    done = run("bosh", "validate", DESCRIPTOR)
    assert done.returncode == 0, done.stdout
    broken = json.loads(DESCRIPTOR.read_text())
    broken["command-line"] = broken["command-line"].replace(" [DRY_RUN]", "")
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    assert "DRY_RUN" in run("bosh", "validate", tmp_path / "broken.json").stdout


def test_every_option_arrives(run: Run, tmp_path: Path) -> None:
    """As the same words that somebody would type, quoted where that is needed."""
    given = invocation()
    (tmp_path / "all.json").write_text(json.dumps(given))
    done = run("bosh", "exec", "simulate", DESCRIPTOR, "-i", tmp_path / "all.json")
    assert done.returncode == 0, done.stdout
    [line] = [each for each in done.stdout.splitlines() if each.startswith("bids-sr ")]
    parser = build_parser()
    found = vars(parser.parse_args(shlex.split(line)[1:]))
    counted = {each.dest for each in parser._actions if isinstance(each, _CountAction)}
    assert {found[dest] for dest in counted} == {2}
    assert len(found) == len(given)
    assert found["evaluation.compare"] == [TEXTS["compare"]]
    assert found["superres.pretrained"] == [Path("file pretrained")] * 2
    assert found["resources.mem_gb"] == 8


def test_the_phantom_runs(run: Run, tmp_path: Path) -> None:
    made = run("bids-sr-phantom", "demo", "--preset", "tiny")
    assert made.returncode == 0, made.stdout
    [text] = scripts(RECIPES / "boutiques.md", "json")
    (tmp_path / "invocation.json").write_text(text)
    done = run("bosh", "exec", "launch", "--no-container", DESCRIPTOR, "invocation.json")
    assert done.returncode == 0, done.stdout
    assert "demo-out (results" in done.stdout
    assert (tmp_path / "demo-out" / "sub-01.html").is_file()
    again = run("bosh", "exec", "launch", "--no-container", DESCRIPTOR, "missing.json")
    assert again.returncode != 0
