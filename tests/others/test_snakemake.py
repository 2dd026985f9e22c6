"""Snakemake runs every participant and the group, and repeats nothing."""

from pathlib import Path

import pytest
from pages import RECIPES, Run, scripts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_finished_workflow_is_not_run_again(run: Run, data: Path, tmp_path: Path) -> None:
    [text] = scripts(RECIPES / "snakemake.md")
    (tmp_path / "Snakefile").write_text(text)
    planned = run("snakemake", "--cores", "1", "--dry-run", "--printshellcmds").stdout
    assert {
        label for label in ("01", "02", "03") if f"--participant-label {label} " in planned
    } == {
        "01",
        "02",
    }
    done = run("snakemake", "--cores", "1")
    assert done.returncode == 0, done.stdout
    outputs = {path.name for path in (tmp_path / "OUT").iterdir()}
    assert {"sub-01.html", "sub-02.html", "group.html"} <= outputs
    again = run("snakemake", "--cores", "1")
    assert "Nothing to be done" in again.stdout
