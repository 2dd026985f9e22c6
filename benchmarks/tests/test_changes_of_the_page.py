"""The examples of docs/changing.md work: their lines are applied to one copy of the program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pages import ROOT, changes

FILES = {
    "Add a metric": {
        "bids_sr/evaluation/steps/signal_drift.py",
        "bids_sr/report/metric_tables.py",
        "boilerplate/statistics.json",
        "workflows/evaluate_run.py",
    },
    "Add a figure": {"bids_sr/report/figure_steps/tsnr.py", "workflows/report_run.py"},
    "Add a method": {"bids_sr/sr/methods/new_net.py"},
}
"""Chapter, and the files that it changes."""
CHECKS = Path(__file__).with_name("checks_of_the_changed_program.py")


def chapter(title: str) -> str:
    """Return the text of a chapter of the page."""
    page = (ROOT / "docs/changing.md").read_text(encoding="utf-8")
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("title", FILES)
def test_an_example_changes_the_files_of_its_chapter(title: str) -> None:
    assert {change.file for change in changes(chapter(title))} == FILES[title]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the program and apply the changes of all examples."""
    root = tmp_path_factory.mktemp("program")
    shutil.copytree(ROOT / "bids_sr", root / "bids_sr")
    for file, before, after in [change for title in FILES for change in changes(chapter(title))]:
        path = root / (file if file.startswith("bids_sr/") else f"bids_sr/{file}")
        text = path.read_text(encoding="utf-8") if before else ""
        assert not before or text.count(before) == 1, f"{file}: {before}"
        path.write_text(text.replace(before, after) if before else after, encoding="utf-8")
    return root


def call(program: Path, *command: str) -> str:
    """Return the output of a Python module of the changed program, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=program,
        env={**os.environ, "PYTHONPATH": str(program)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_changed_program_does_as_the_page_states(program: Path) -> None:
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "--import-mode=importlib"]
    assert "4 passed" in call(program, "pytest", *options, str(CHECKS))


@pytest.mark.slow
def test_a_run_has_the_metric_the_figure_and_the_method(program: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    options = ["--sr-method", "new-net", "--set", "run.sloppy=true", "--nprocs", "2"]
    for name, arguments in (
        ("cli.phantom", [data, "--preset", "tiny"]),
        ("cli.main", [data, out, "participant", "-w", tmp_path / "work", *options]),
    ):
        script = f"import sys\nfrom bids_sr.{name} import main\nif __name__ == '__main__':\n"
        (program / "start.py").write_text(f"{script}    sys.exit(main())\n", encoding="utf-8")
        call(program, "start", *map(str, arguments))
    [table] = out.glob("sub-01/func/*_desc-evaluation_metrics.tsv")
    rows = pd.read_csv(table, sep="\t")
    assert [*rows.series[rows.statistic == "signal_drift"]] == ["run"]
    assert "newnet" in {*rows.series}
    page = (out / "sub-01.html").read_text(encoding="utf-8")
    for text in ("signal drift", "Temporal signal-to-noise ratio", "newnet"):
        assert text in page
    assert len([*out.glob("sub-01/figures/*_desc-tsnr_bold.svg")]) == 1
