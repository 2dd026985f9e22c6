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
from bids_sr.config.readers import gigabytes

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


def test_the_descriptor_has_the_exit_codes_of_the_docs() -> None:
    usage = (RECIPES.parent / "usage.md").read_text().partition("| exit code |")[2]
    told = [int(code) for code in re.findall(r"^\| (\d+) \|", usage.partition("\n\n")[0], re.M)]
    assert [0, *(each["code"] for each in DESCRIPTOR["error-codes"])] == told


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


@pytest.mark.parametrize(
    ("file", "job", "gb"),
    [
        ("pbs.md", r"ncpus=4:mem=(\d+)gb", 1),
        ("sge.md", r"h_rss=([\d.]+)G", 4),  # of each slot
        ("aws.md", r'"MEMORY", "value": "(\d+)"', 1 / 1024),
        ("babs.md", r"hard_memory_limit: (\d+)G", 1),
        ("nextflow.md", r"memory '(\d+) GB'", 1),
        ("snakemake.md", r"mem_mb=(\d+)", 1e6 / 2**30),
        ("nipoppy/hpc.json", r'"MEMORY": "(\d+)G"', 1),
    ],
)
def test_a_tenth_of_the_memory_of_a_job_is_left(file: str, job: str, gb: float) -> None:
    """The program keeps below `--mem` by estimates: a job that had no more could be killed."""
    text = (RECIPES / file).read_text()
    [number] = re.findall(job, text)
    has = float(number) * gb
    if file == "nipoppy/hpc.json":
        given = json.loads((PIPELINE / "invocation.json").read_text())["mem"]
    else:
        [told] = re.findall(r'--mem[":,]* "?(\\?\$\(\(.*?\)\)M|\d+[GM])', text)
        [given] = words_of(fill(told, mem=round(has * 1024)))
    assert has / 2 < gigabytes(given) <= has * 0.9


@pytest.mark.parametrize(("page", "language"), [("nextflow", "groovy"), ("snakemake", "python")])
def test_calls_of_a_workflow_are_understood(page: str, language: str) -> None:
    text = scripts(RECIPES / f"{page}.md", language)[0]
    one_line = re.sub(r'\\\\\n|"\n *"', " ", text)
    lines = re.findall(r"bids-sr ('?[{$].*?)\"?$", one_line, re.MULTILINE)
    assert len(lines) == 2
    calls = [understood(words_of(f"bids-sr {fill(line, mem=9000)}")) for line in lines]
    told = {call.selection.analysis_level: call.selection.participant_label for call in calls}
    assert told == {"participant": ("1",), "group": ()}


def fill(line: str, mem: int) -> str:
    """What a template gives to the shell: the memory of the job where an expression asks for it,
    1 for all others.
    """
    filled = re.sub(r"\$?\{(.*?)\}", lambda each: str(mem if "mem" in each[1] else 1), line)
    return filled.replace(r"\$", "$")


def words_of(line: str) -> list[str]:
    """The words that a shell makes of a line."""
    command = ["bash", "-c", f"printf '%s\\n' {line}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


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
