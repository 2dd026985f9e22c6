"""BABS initializes a project from the recipe, submits a participant, and merges the results.

Two scripts replace the container and SLURM: one calls our program, the other runs the first task
at once.
"""

import zipfile
from pathlib import Path

import pytest
import yaml
from pages import RECIPES, Run, scripts

from bids_sr.cli.parser import parse_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STAND_INS = {
    "singularity": """\
while [[ $1 != */image ]]; do shift; done
shift
exec bids-sr "$@"
""",
    "sbatch": """\
while [[ $1 != *.sh ]]; do
    [[ $1 != --export=* ]] || export "${1#--export=}"
    shift
done
export SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=1
bash "$@" >"$HOME/job.log" 2>&1
echo "Submitted batch job 1"
""",
    "squeue": "",
}


def output_of(run: Run, *words: object) -> str:
    """Return the output of a call, which has to succeed."""
    done = run(*words)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def recipe(run: Run, data: Path, quick: Path, tmp_path: Path) -> str:
    """Return the recipe with paths of this machine, after making its data set and container."""
    for name, text in STAND_INS.items():
        (quick / name).write_text(f"#!/bin/bash\n{text}")
        (quick / name).chmod(0o755)
    output_of(run, "datalad", "create", "--force", "-c", "text2git", data)
    output_of(run, "datalad", "save", "-d", data, "-m", "data")
    (tmp_path / "bids-sr.sif").write_text("stands in for an image\n")
    output_of(run, "datalad", "create", "containers")
    image = ("--url", tmp_path / "bids-sr.sif", "bids-sr-0-2-0")
    output_of(run, "datalad", "-C", "containers", "containers-add", *image)
    (tmp_path / "scratch").mkdir()
    [text] = scripts(RECIPES / "babs.md", "yaml")
    for placeholder, replacement in (
        ("/path/to/DATA", str(data)),
        ("source /path/to/environment/bin/activate", "'true'"),
        ("/path/to/scratch", str(tmp_path / "scratch")),
    ):
        assert placeholder in text
        text = text.replace(placeholder, replacement)
    return text


def start_project(run: Run, recipe: str, tmp_path: Path, level: str = "subject") -> Path:
    """Initialize a project with `babs init` from the recipe and return its code folder."""
    (tmp_path / "bids-sr.yaml").write_text(recipe)
    [line] = [
        line
        for block in scripts(RECIPES / "babs.md", "")
        for line in block.splitlines()
        if line.startswith("babs init")
    ]
    output_of(
        run,
        "bash",
        "-c",
        line.replace("--processing-level subject", f"--processing-level {level}"),
    )
    return tmp_path / "project" / "analysis" / "code"


def test_a_participant_is_submitted_and_merged(run: Run, recipe: str, tmp_path: Path) -> None:
    start_project(run, recipe, tmp_path)
    output_of(run, "babs", "check-setup", "project")
    output_of(run, "babs", "submit", "project", "--count", "1")
    log = (tmp_path / "job.log").read_text()
    assert log.strip().endswith("SUCCESS"), log
    assert "1 job(s) successfully finished" in output_of(run, "babs", "status", "project")
    output_of(run, "babs", "merge", "project")
    [line] = [
        line
        for block in scripts(RECIPES / "babs.md", "")
        for line in block.splitlines()
        if line.startswith("datalad clone")
    ]
    output_of(run, "bash", "-c", f"cd project && {line}")
    [archive] = (tmp_path / "project" / "results").glob("*.zip")
    assert archive.name == "sub-01_bids-sr-0-2-0.zip"
    with zipfile.ZipFile(archive) as opened:
        assert "bids-sr/sub-01.html" in opened.namelist()


def test_the_job_of_a_session_selects_this_session(
    run: Run, recipe: str, data: Path, tmp_path: Path
) -> None:
    """Check the script of the job, which is not run here."""
    for folder in sorted(data.glob("sub-*/*/")):
        folder.rename(folder.parent / f"ses-1_{folder.name}")
    for folder in sorted(data.glob("sub-*/ses-1_*")):
        session = folder.parent / "ses-1"
        session.mkdir(exist_ok=True)
        folder.rename(session / folder.name.removeprefix("ses-1_"))
    output_of(run, "datalad", "save", "-d", data, "-m", "sessions")
    config = yaml.safe_load(recipe)
    config["bids_app_args"]["$SESSION_SELECTION_FLAG"] = "--session-label"
    code = start_project(run, yaml.safe_dump(config), tmp_path, "session")
    text = (code / "bids-sr-0-2-0_zip.sh").read_text()
    words = text.replace("\\\n", " ").split("participant ", 1)[1].splitlines()[0]
    words = words.replace("$sesid", "ses-1").replace('"${subid}"', "sub-01").replace('"', "")
    selection = parse_settings(["in", "out", "participant", *words.split()]).selection
    assert (selection.participant_label, selection.session_label) == (("01",), ("1",))
