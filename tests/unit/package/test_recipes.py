"""Recipes for programs that call bids-sr: calls are valid and select the right participant.

The programs themselves are tested in `tests/others`.
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
from bids_sr.config.readers import parse_gigabytes

PIPELINE = RECIPES / "nipoppy"
DESCRIPTOR = json.loads((PIPELINE / "descriptor.json").read_text())
RELEASE = bids_sr.RELEASE.partition(".dev")[0]
INDEX = {"pbs": "PBS_ARRAY_INDEX", "sge": "SGE_TASK_ID"}


def parse_call(words: list[str]) -> Settings:
    """Return the settings of a command line."""
    assert words[0] == "bids-sr"
    return parse_settings(words[1:])


def test_invocations_use_inputs_of_the_descriptor() -> None:
    inputs = {entry["id"]: entry for entry in DESCRIPTOR["inputs"]}
    [text] = scripts(RECIPES / "boutiques.md", "json")
    for invocation in (text, (PIPELINE / "invocation.json").read_text()):
        values = json.loads(invocation)
        required = {name for name, entry in inputs.items() if not entry["optional"]}
        assert required <= set(values) <= set(inputs)
        assert all(isinstance(values[name], list) == ("list" in inputs[name]) for name in values)


def test_the_descriptor_has_the_exit_codes_of_the_docs() -> None:
    usage = (RECIPES.parent / "usage.md").read_text().partition("| exit code |")[2]
    documented_codes = [
        int(code) for code in re.findall(r"^\| (\d+) \|", usage.partition("\n\n")[0], re.M)
    ]
    assert [0, *(entry["code"] for entry in DESCRIPTOR["error-codes"])] == documented_codes


def test_the_nipoppy_bundle_is_complete_and_of_this_version() -> None:
    config = json.loads((PIPELINE / "config.json").read_text())
    [step] = config["STEPS"]
    files = {value for key, value in step.items() if key.endswith("_FILE")}
    assert {path.name for path in PIPELINE.iterdir()} == {"config.json", *files}
    assert config["VERSION"] == DESCRIPTOR["tool-version"] == bids_sr.RELEASE


def test_options_in_the_babs_recipe_are_valid() -> None:
    [text] = scripts(RECIPES / "babs.md", "yaml")
    config = yaml.safe_load(text)
    assert config["zip_foldernames"] == {"bids-sr": RELEASE.replace(".", "-")}
    page = (RECIPES / "babs.md").read_text()
    [session] = re.findall(r'SESSION_SELECTION_FLAG: "(.*?)"', page)
    arguments = config["bids_app_args"]
    words = [f"{arguments.pop('$SUBJECT_SELECTION_FLAG')} sub-01", f"{session} ses-1"]
    words += [f"{flag} {value}" for flag, value in arguments.items()]
    settings = parse_call(shlex.split(f"bids-sr data out participant {' '.join(words)}"))
    assert settings.selection.participant_label == ("01",)
    assert settings.selection.session_label == ("1",)


@pytest.mark.parametrize("page", INDEX)
def test_an_array_task_processes_its_participant(page: str, tmp_path: Path) -> None:
    [text] = scripts(RECIPES / f"{page}.md", "bash")
    (tmp_path / "job").write_text(text)
    (tmp_path / "DATA").mkdir()
    table = "participant_id\tage\nsub-01\t30\nsub-B2\t31\n"
    (tmp_path / "DATA" / "participants.tsv").write_text(table)
    program = tmp_path / "bin" / "bids-sr"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" bids-sr "$@"\n')
    program.chmod(0o755)
    process = subprocess.run(
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
    settings = parse_call(process.stdout.splitlines())
    assert settings.selection.participant_label == ("B2",)
    assert settings.resources.mem_gb == 8
    assert settings.resources.nprocs == 4


def test_an_aws_job_processes_its_participant() -> None:
    [text] = scripts(RECIPES / "aws.md", "json")
    job = json.loads(text)
    container = job["containerProperties"]
    words = [
        job["parameters"].get(word.removeprefix("Ref::"), word) for word in container["command"]
    ]
    settings = parse_call(["bids-sr", *words])
    assert settings.selection.participant_label == ("01",)
    resources = {
        entry["type"]: float(entry["value"]) for entry in container["resourceRequirements"]
    }
    assert settings.resources.nprocs == resources["VCPU"]


@pytest.mark.parametrize(
    ("file", "job", "gb"),
    [
        ("pbs.md", r"ncpus=4:mem=(\d+)gb", 1),
        ("sge.md", r"h_rss=([\d.]+)G", 4),  # GB per unit: the limit applies to each of 4 slots
        ("aws.md", r'"MEMORY", "value": "(\d+)"', 1 / 1024),
        ("babs.md", r"hard_memory_limit: (\d+)G", 1),
        ("nextflow.md", r"memory '(\d+) GB'", 1),
        ("snakemake.md", r"mem_mb=(\d+)", 1e6 / 2**30),
        ("nipoppy/hpc.json", r'"MEMORY": "(\d+)G"', 1),
    ],
)
def test_ten_percent_of_the_memory_of_a_job_are_not_requested(
    file: str, job: str, gb: float
) -> None:
    """`--mem` limits estimates, so a job without reserve could be killed."""
    text = (RECIPES / file).read_text()
    [number] = re.findall(job, text)
    job_gb = float(number) * gb
    if file == "nipoppy/hpc.json":
        mem = json.loads((PIPELINE / "invocation.json").read_text())["mem"]
    else:
        [template] = re.findall(r'--mem[":,]* "?(\\?\$\(\(.*?\)\)M|\d+[GM])', text)
        [mem] = words_of(fill(template, mem=round(job_gb * 1024)))
    assert job_gb / 2 < parse_gigabytes(mem) <= job_gb * 0.9


@pytest.mark.parametrize(("page", "language"), [("nextflow", "groovy"), ("snakemake", "python")])
def test_calls_of_a_workflow_are_valid(page: str, language: str) -> None:
    text = scripts(RECIPES / f"{page}.md", language)[0]
    one_line = re.sub(r'\\\\\n|"\n *"', " ", text)
    lines = re.findall(r"bids-sr ('?[{$].*?)\"?$", one_line, re.MULTILINE)
    assert len(lines) == 2
    calls = [parse_call(words_of(f"bids-sr {fill(line, mem=9000)}")) for line in lines]
    labels_by_level = {
        call.selection.analysis_level: call.selection.participant_label for call in calls
    }
    assert labels_by_level == {"participant": ("1",), "group": ()}


def fill(line: str, mem: int) -> str:
    """Fill the expressions of a template: `mem` for memory, 1 for all others."""
    filled = re.sub(r"\$?\{(.*?)\}", lambda match: str(mem if "mem" in match[1] else 1), line)
    return filled.replace(r"\$", "$")


def words_of(line: str) -> list[str]:
    """Return the words of a line as split by the shell."""
    command = ["bash", "-c", f"printf '%s\\n' {line}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_nextflow_workflow_is_valid(tmp_path: Path) -> None:
    """Use a parser of its language; Nextflow itself is not in a package index."""
    reftrace = pytest.importorskip("reftrace")
    [text] = scripts(RECIPES / "nextflow.md", "groovy")
    (tmp_path / "main.nf").write_text(text)
    module = reftrace.Module.from_file(str(tmp_path / "main.nf"))
    assert [process.name for process in module.processes] == ["participant", "group"]
    assert len(module.workflows) == 1
    (tmp_path / "main.nf").write_text(text.replace("val subject\n", "val subject (\n"))
    error = reftrace.Module.from_file(str(tmp_path / "main.nf"))
    assert isinstance(error, reftrace.ParseError)


@pytest.mark.parametrize("page", ["pbs", "sge", "aws"])
def test_shellcheck_reports_no_problem(page: str, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    [script] = scripts(RECIPES / f"{page}.md", "bash")
    for text in (script, *scripts(RECIPES / f"{page}.md", "")):
        (tmp_path / "script").write_text(text)
        process = subprocess.run(
            ["shellcheck", "--shell", "bash", tmp_path / "script"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stdout
