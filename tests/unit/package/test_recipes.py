"""Recipes for programs that call ours: what they call is understood, and each of their scripts
calls it for the right participant. The programs themselves are asked by `tests/others`.
"""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from pages import RECIPES, scripts

import bids_sr
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings

PIPELINE = RECIPES / "nipoppy"
DESCRIPTOR = json.loads((PIPELINE / "descriptor.json").read_text())
RELEASE = bids_sr.RELEASE.partition(".dev")[0]
INDEX = {"pbs": "PBS_ARRAY_INDEX", "sge": "SGE_TASK_ID"}


def understood(words: list[str]) -> Settings:
    """The settings of a command line."""
    assert words[0] == "bids-sr"
    return parse_settings(words[1:])


def test_an_invocation_gives_inputs_of_the_descriptor() -> None:
    known = {each["id"]: each for each in DESCRIPTOR["inputs"]}
    [text] = scripts(RECIPES / "boutiques.md", "json")
    for invocation in (text, (PIPELINE / "invocation.json").read_text()):
        given = json.loads(invocation)
        needed = {name for name, each in known.items() if not each["optional"]}
        assert needed <= set(given) <= set(known)
        assert all(isinstance(given[name], list) == ("list" in known[name]) for name in given)


def test_the_bundle_for_nipoppy_is_whole_and_of_this_version() -> None:
    config = json.loads((PIPELINE / "config.json").read_text())
    [step] = config["STEPS"]
    named = {value for key, value in step.items() if key.endswith("_FILE")}
    assert {path.name for path in PIPELINE.iterdir()} == {"config.json", *named}
    assert config["VERSION"] == DESCRIPTOR["tool-version"] == bids_sr.RELEASE


def test_babs_gives_options_that_there_are() -> None:
    [text] = scripts(RECIPES / "babs.md", "yaml")
    config = yaml.safe_load(text)
    assert config["zip_foldernames"] == {"bids-sr": RELEASE.replace(".", "-")}
    told = (RECIPES / "babs.md").read_text()
    [session] = re.findall(r'SESSION_SELECTION_FLAG: "(.*?)"', told)
    given = config["bids_app_args"]
    words = [f"{given.pop('$SUBJECT_SELECTION_FLAG')} sub-01", f"{session} ses-1"]
    words += [f"{flag} {value}" for flag, value in given.items()]
    found = understood(shlex.split(f"bids-sr data out participant {' '.join(words)}"))
    assert found.selection.participant_label == ("01",)
    assert found.selection.session_label == ("1",)


@pytest.mark.parametrize("page", INDEX)
def test_a_task_of_an_array_works_on_its_participant(page: str, tmp_path: Path) -> None:
    [text] = scripts(RECIPES / f"{page}.md", "bash")
    (tmp_path / "job").write_text(text)
    (tmp_path / "DATA").mkdir()
    table = "participant_id\tage\nsub-01\t30\nsub-B2\t31\n"
    (tmp_path / "DATA" / "participants.tsv").write_text(table)
    program = tmp_path / "bin" / "bids-sr"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" bids-sr "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "job"],
        cwd=tmp_path,
        env={
            "PATH": f"{program.parent}:/usr/bin:/bin",
            "PBS_O_WORKDIR": str(tmp_path),
            "NSLOTS": "4",
            INDEX[page]: "2",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    found = understood(done.stdout.splitlines())
    assert found.selection.participant_label == ("B2",)
    assert found.resources.mem_gb == 8
    assert found.resources.nprocs == 4


def test_a_job_of_aws_works_on_its_participant() -> None:
    [text] = scripts(RECIPES / "aws.md", "json")
    job = json.loads(text)
    container = job["containerProperties"]
    words = [
        job["parameters"].get(word.removeprefix("Ref::"), word) for word in container["command"]
    ]
    found = understood(["bids-sr", *words])
    assert found.selection.participant_label == ("01",)
    gives = {each["type"]: float(each["value"]) for each in container["resourceRequirements"]}
    assert found.resources.nprocs == gives["VCPU"]
    assert (found.resources.mem_gb or 0) * 1024 * 10 / 9 <= gives["MEMORY"]


@pytest.mark.parametrize(("page", "language"), [("nextflow", "groovy"), ("snakemake", "python")])
def test_calls_of_a_workflow_are_understood(page: str, language: str) -> None:
    text = scripts(RECIPES / f"{page}.md", language)[0]
    one_line = re.sub(r'\\\\\n|"\n *"', " ", text)
    lines = re.findall(r"bids-sr ('?[{$].*?)\"?$", one_line, re.MULTILINE)
    assert len(lines) == 2
    calls = [understood(shlex.split(f"bids-sr {fill(line)}")) for line in lines]
    told = {call.selection.analysis_level: call.selection.participant_label for call in calls}
    assert told == {"participant": ("1",), "group": ()}


def fill(line: str) -> str:
    """A template with a number for each expression in it."""
    return re.sub(r"\$?\{.*?\}", "1", line)


def test_the_workflow_of_nextflow_is_one(tmp_path: Path) -> None:
    """As a parser of its language reads it; Nextflow itself comes from no package index."""
    reftrace = pytest.importorskip("reftrace")
    [text] = scripts(RECIPES / "nextflow.md", "groovy")
    (tmp_path / "main.nf").write_text(text)
    found = reftrace.Module.from_file(str(tmp_path / "main.nf"))
    assert [each.name for each in found.processes] == ["participant", "group"]
    assert len(found.workflows) == 1
    (tmp_path / "main.nf").write_text(text.replace("val subject\n", "val subject (\n"))
    broken = reftrace.Module.from_file(str(tmp_path / "main.nf"))
    assert isinstance(broken, reftrace.ParseError)


@pytest.mark.parametrize("page", ["pbs", "sge", "aws"])
def test_shellcheck_finds_nothing(page: str, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    [script] = scripts(RECIPES / f"{page}.md", "bash")
    for text in (script, *scripts(RECIPES / f"{page}.md", "")):
        (tmp_path / "script").write_text(text)
        done = subprocess.run(
            ["shellcheck", "--shell", "bash", tmp_path / "script"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
