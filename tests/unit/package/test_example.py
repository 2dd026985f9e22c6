"""The example run of the quick start: its size, license and reference."""

from pathlib import Path

import pytest
from pages import ROOT

from bids_sr.cli.parser import parse_settings
from bids_sr.survey.preflight.voxel_checks import check_data
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.report_run import make_run_facts
from bids_sr.workflows.run_plan import SeriesCorrection

EXAMPLE = ROOT / "examples" / "studyforrest"
MAX_SIZE = 15_000_000  # bytes


def test_the_example_is_small_and_names_license_and_source() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_SIZE
    readme = (EXAMPLE / "README").read_text()
    assert "PDDL" in readme
    assert "github.com/datalad/example-dicom-functional" in readme


def test_the_reference_of_the_example_is_found_without_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    argv = [str(EXAMPLE), str(tmp_path / "out"), "participant"]
    plan = check(parse_settings(argv).resolve(run_uuid="x"))
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.truth is not None
    assert run.truth.root == EXAMPLE / "derivatives" / "highres-reference"
    # intensity units are equal, stored with different quantization steps
    assert check_data(plan) == ()
    # the report states that the acquired run was made from measured data
    facts = make_run_facts(run, SeriesCorrection())
    assert facts["Description"] == "simulated 6 mm: 3 mm data, k-space cropped"
