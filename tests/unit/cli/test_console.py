"""First and last lines of a run on the console."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_sr.cli.console import make_end_lines, make_start_lines, make_warning_lines
from bids_sr.config import Settings
from bids_sr.config.sections.paths import Paths
from bids_sr.engine.execute import RunOutcome
from bids_sr.io.dataset_description import dataset_root
from bids_sr.io.notices import RECORD, Notice, read_record, record
from bids_sr.survey.preflight.plan import Plan

TAP, REST = "sub-01_task-tap", "sub-01_task-rest"


def settings(out: Path) -> Settings:
    return Settings(paths=Paths(bids_dir=Path("/data"), output_dir=out, work_dir=Path("/work")))


def end_text(out: Path, plan: Plan, **outcome: object) -> str:
    """Return the last lines as one line."""
    lines = make_end_lines(plan, settings(out), RunOutcome(**outcome))  # type: ignore[arg-type]
    return " ".join(" ".join(lines).split())


@pytest.fixture
def func(tmp_path: Path) -> Path:
    """Return the folder of two runs; of the second, the verdict is cut short."""
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    verdict = {
        "headline": "It is finer.",
        "not_applied": ["sbl"],
        "warnings": ["It moved.", "sbl was not applied."],
    }
    (func / f"{TAP}_desc-verdict_metrics.json").write_text(json.dumps(verdict))
    (func / f"{REST}_desc-verdict_metrics.json").write_text("{ cut short")
    earlier = json.dumps({"headline": "Of an earlier call."})
    (func / "sub-01_task-other_desc-verdict_metrics.json").write_text(earlier)
    return func


@pytest.fixture
def plan() -> Plan:
    runs = tuple(SimpleNamespace(stem=stem, entities={"subject": "01"}) for stem in (TAP, REST))
    subject = SimpleNamespace(label="01", runs=runs)
    return Plan(subjects=(subject,), series=("acquired", "zerofill", "sbl"))  # type: ignore[arg-type]


def test_first_lines_list_directories_and_each_note_once(tmp_path: Path) -> None:
    warnings = tuple(
        Notice(what=f"sub-{label}", why="no T1w image", level="note") for label in ("01", "02")
    )
    lines = list(make_start_lines(Plan(warnings=warnings), settings(tmp_path)))
    for folder in ("/data", str(tmp_path), "/work"):
        assert any(folder in line for line in lines)
    assert sum("no T1w image" in line for line in lines) == 1
    assert "sub-01" in lines[-1]


def test_verdicts_that_were_not_printed_before_are_listed(
    func: Path, tmp_path: Path, plan: Plan
) -> None:
    text = end_text(tmp_path, plan)
    for sentence in ("It moved.", "sbl was not applied.", "It is finer."):
        assert sentence in text
    assert "earlier call" not in text
    text = end_text(tmp_path, plan, reported_runs=frozenset({TAP}))
    assert "It is finer." not in text
    assert f"{TAP} (sbl" in text
    assert str(tmp_path / "index.html") in text


def test_series_maps_and_exported_data_sets_of_this_call_are_located(
    func: Path, tmp_path: Path, plan: Plan
) -> None:
    for name in ("desc-acquired", "res-hr_desc-sbl", "res-hr_desc-srgan"):
        (func / f"{TAP}_{name}_bold.nii.gz").touch()
    for name in ("sbl", "srgan"):
        (dataset_root(tmp_path, name) / "sub-01" / "func").mkdir(parents=True)
    dataset_root(tmp_path, "acquired").mkdir()  # of a call that crashed
    text = end_text(tmp_path, plan)
    assert text.rpartition("NAME")[2].split()[:5] == ["is", "one", "of:", "acquired", "sbl"]
    assert "statmap" not in text
    root = dataset_root(tmp_path, "sbl")
    assert [name in text for name in (str(root), "bids-sr-srgan", "bids-sr-acquired")] == [
        True,
        False,
        False,
    ]
    sidecar = root / "sub-01" / "func" / f"{TAP}_desc-preproc_bold.json"
    sidecar.write_text('{"Applied": false}')
    assert end_text(tmp_path, plan).endswith(TAP)  # the run is only zero filled
    (func / f"{TAP}_contrast-all_stat-t_desc-acquired_statmap.nii.gz").touch()
    assert "statmap" in end_text(tmp_path, plan)


def test_equal_warnings_of_steps_are_printed_once_with_their_runs(tmp_path: Path) -> None:
    def warn(number: int, why: str) -> Notice:
        run = f"sub-0{number}_task-tap"
        return Notice(what="wf.fit", why=why, level="warning", run=run, code="step")

    record(tmp_path, [warn(1, "outside"), warn(2, "outside"), warn(2, "outside")])
    record(tmp_path, [warn(1, "other"), Notice(what="a", why="of the data set", level="note")])
    assert [" ".join(line.split()) for line in make_warning_lines(tmp_path)] == [
        "warning sub-01_task-tap, sub-02_task-tap: outside",
        "warning sub-01_task-tap: other",
    ]
    record(tmp_path, [warn(1, str(k)) for k in range(7)])
    *warnings, last = make_warning_lines(tmp_path)
    assert len(warnings) == 6
    assert " 3 " in last
    with (tmp_path / RECORD).open("a") as stream:
        stream.write('{"what": "cut')
    assert len(read_record(tmp_path)) == 11
