"""``bids-sr DIR OUT group``: exit codes, outputs and errors. The data set contains no images."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from data.group_tables import (
    FACTS,
    cohort,
    detail,
    indexed_tables,
    sizes,
    write_tables,
)

from bids_sr.cli import main
from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.engine.metric_rows import columns_json
from bids_sr.group import maps as group_maps
from bids_sr.group.level import list_unstored_series
from bids_sr.io.dataset_description import write_dataset
from bids_sr.io.nifti import save_image
from bids_sr.io.notices import RECORD, Notice, read_record, record
from bids_sr.version import __version__


@dataclass(frozen=True)
class Study:
    """A data set, and outputs of its participant level."""

    data: Path
    out: Path

    def run(self, *options: str) -> int:
        """Run the group level and return its exit code."""
        return main.main([str(self.data), str(self.out), "group", *options])

    def rows(self, table: str) -> list[dict[str, str]]:
        with (self.out / table).open(encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    def page(self) -> str:
        """Return the text of the report."""
        return " ".join(re.sub("<[^>]+>", " ", (self.out / "group.html").read_text()).split())


def make_study(root: Path) -> Study:
    """Write the list of ten participants, and outputs of the first eight."""
    study = Study(root / "in", root / "out")
    (study.data / "sub-10").mkdir(parents=True)
    names = "".join(f"sub-{n:02d}\t30\n" for n in range(1, 10))
    (study.data / "participants.tsv").write_text(f"participant_id\tage\n{names}")
    cohort(study.out, 8)
    return study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path)


def test_a_call_names_the_participants_whose_results_it_replaces(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    def replaced(*options: str) -> list[str]:
        """Return the lines of a call that name the participants of the first call."""
        assert study.run(*options) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "sub-01, sub-02" in line]

    first, second = ("--participant-label", "01", "02"), ("--participant-label", "04", "05")
    assert replaced(*first) == []
    assert replaced(*first, "--dry-run") == []
    for options in ("--dry-run", "--verbose"):
        (line,) = replaced(*second, options)
        assert "2 participants" in line
    assert replaced(*second) == []


def test_tables_report_and_log_of_a_group_with_missing_participants(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Notice(what="wf.sub_09_wf.fit", subject="09", code="crashed")
    (study.out / "logs" / "x").mkdir(parents=True)
    record(study.out / "logs" / "x", [crash])
    assert study.run() == 0
    shown = capsys.readouterr().out
    assert [line.count(crash.what) for line in shown.splitlines() if "missing: sub-" in line] == [
        1,
        0,
    ]
    assert "--level" in shown  # of the participant level, which stores no maps
    metrics, stats = study.rows("group_metrics.tsv"), study.rows("group_stats.tsv")
    assert len(metrics) == 8 * (6 + 9)
    for name, table in (("group_metrics", metrics), ("group_stats", stats)):
        columns = json.loads((study.out / f"{name}_columns.json").read_text())
        assert set(table[0]) == set(columns)
    levels = json.loads((study.out / "group_metrics_columns.json").read_text())["statistic"]
    assert set(levels["Levels"]) == {row["statistic"] for row in metrics}
    words = {
        row["minus"]: row["word"]
        for row in stats
        if (row["statistic"], row["series"]) == ("ev", "sbl")
    }
    rivals = ("strongest", "bspline", "zerofill", "inject", "srgan")
    assert words == dict.fromkeys(rivals, "better")
    page = study.page()
    for text in ("sub-09", "sub-10", "140.00 (64.75–184.00)", "7 of 8"):
        assert text in page
    assert "/group" in (study.out / ".bidsignore").read_text().splitlines()
    (log,) = (study.out / "logs").glob("*/settings.toml")
    left_out = [notice.why for notice in read_record(log.parent) if notice.code == "left-out"]
    assert [why[:6] for why in left_out if why.startswith("sub-")] == ["sub-09", "sub-10"]
    assert (log.parent / RECORD).exists()
    tables = {path.name: path.read_bytes() for path in study.out.glob("group_*")}
    assert len(tables) == 4
    assert study.run() == 0
    assert {path.name: path.read_bytes() for path in study.out.glob("group_*")} == tables
    assert not list(study.out.glob(".*partial*"))


def test_options_select_participants_and_reach_tests_and_maps(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, object]] = []
    compute = group_maps.compute_group_maps

    def record_options(*runs: object, **options: object) -> object:
        calls.append(options)
        return compute(*runs, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(group_maps, "compute_group_maps", record_options)
    options = ["--set", "evaluation.margin=0.3", "evaluation.group_permutations=50"]
    options += ["--random-seed", "3", "--nprocs", "2", "--smoothing", "3"]
    labels = ["--participant-label", "01", "sub-02", "03"]
    assert study.run(*options, *labels, "--strict") == 0
    assert {name: calls[0][name] for name in ("flips", "seed", "threads")} == {
        "flips": 50,
        "seed": 3,
        "threads": 2,
    }
    (ignored,) = (line for line in capsys.readouterr().out.splitlines() if "no effect" in line)
    assert ignored.split()[-1].rstrip(".") == "activation.smoothing"
    assert {row["participant"] for row in study.rows("group_metrics.tsv")} == {
        "sub-01",
        "sub-02",
        "sub-03",
    }
    ev_rows = [row for row in study.rows("group_stats.tsv") if row["statistic"] == "ev"]
    # the primary outcome has no equivalence test
    assert {(row["part"], row["margin"]) for row in ev_rows} == {
        ("exploratory", "0.3"),
        ("primary", "n/a"),
    }
    assert "sub-10" not in study.page()


def write_settings(study: Study, smoothing: float) -> str:
    """Write the settings of an earlier call and return their digest."""
    settings = Settings.from_mapping(
        {
            "paths": {"bids_dir": study.data, "output_dir": study.out},
            "activation": {"smoothing": (0.0, smoothing)},
        }
    )
    file = study.out / "logs" / f"{smoothing:g}" / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text(settings.to_toml())
    return analysis_digest(settings)


def mix_settings(study: Study) -> None:
    first, second = (FACTS | {"SettingsDigest": write_settings(study, mm)} for mm in (4.0, 6.0))
    for path in study.out.glob("sub-*/func/*_metrics.json"):
        path.write_text(json.dumps(first))
    write_tables(study.out, "09", rows=[detail("sbl", 0.1)], facts=second)


def break_table(study: Study) -> None:
    file = study.out / "sub-01/func/sub-01_task-tap_desc-evaluation_metrics.tsv"
    file.write_text("series\tvalue\n")


def claim_output(study: Study) -> None:
    description = {"GeneratedBy": [{"Name": "fMRIPrep"}]}
    (study.out / "dataset_description.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (None, "--strict", ["sub-09, sub-10"]),
        (None, "--participant-label 01", ["sub-01"]),
        (None, "--participant-label 99", ["sub-01"]),
        (break_table, "", ["sub-01_task-tap_desc-evaluation_metrics.tsv"]),
        (claim_output, "", ["fMRIPrep"]),
        (mix_settings, "", ["sub-09_", "activation.smoothing", "4.0", "6.0"]),
        (mix_settings, "--set superres.force=true", ["activation.smoothing"]),
        (lambda study: study.data.rename(study.data.with_name("moved")), "", ["/in"]),
        (lambda study: study.out.rename(study.out.with_name("moved")), "", ["/out"]),
    ],
)
def test_groups_that_cannot_be_analyzed_are_rejected(
    change: Callable[[Study], None] | None,
    options: str,
    words: list[str],
    study: Study,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if change is not None:
        change(study)
    assert study.run(*options.split()) == 2
    error = capsys.readouterr().err
    assert [word for word in words if word not in error] == []
    assert not (study.out / "group.html").exists()


def test_a_dry_run_counts_tables_and_writes_nothing(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.run("--dry-run") == 0
    shown = capsys.readouterr().out
    assert "16 metrics tables" in shown
    assert "8 participants" in shown
    assert "sub-09" in shown
    assert not list(study.out.glob("group*"))
    assert not (study.out / "logs").exists()
    (study.data / "sub-10").rmdir()
    (study.data / "participants.tsv").unlink()
    assert study.run("--dry-run") == 0
    assert "sub-09" not in capsys.readouterr().out


def test_runs_that_cannot_be_combined_and_outdated_maps_are_listed(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_map(name: str, voxel_mm: float, weights: dict[str, float]) -> None:
        stem = f"sub-01_{name}_contrast-all_stat-effect_desc-acquired_statmap"
        affine = np.diag([voxel_mm, voxel_mm, 4, 1])
        func = study.out / "sub-01" / "func"
        save_image(np.ones((4, 4, 2), np.float32), affine, func / f"{stem}.nii.gz")
        (func / f"{stem}.json").write_text(json.dumps({"RunWeights": weights}))

    write_map("task-view_run-1", 4, {})
    write_map("task-view_run-2", 5, {})
    write_map("task-hear_run-1", 4, {})
    write_map("task-hear_space-firstBoldref", 4, {"run-1": 0.5, "run-2": 0.5})
    assert study.run("--dry-run") == 0
    shown = " ".join(capsys.readouterr().out.split())
    missing = {text.split(":")[0]: text for text in shown.split("missing: ")}
    assert "run-2" in missing["sub-01_task-view"]
    assert "5 × 5 × 4 mm" in missing["sub-01_task-view"]
    assert "run-2" in missing["sub-01_task-hear"]


def test_tasks_and_resting_state_are_reported_separately(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """The paper's table is omitted for resting-state runs; missing runs and methods are listed."""
    for label in ("01", "02"):
        seeds = [
            row for series in ("acquired", "bspline", "sbl") for row in sizes(series, 9, 8, 0.5)
        ]
        facts = FACTS | {"MappedBy": "seeds"}
        write_tables(study.out, label, activation=seeds, run="task-rest", facts=facts)
        details = [detail(series, 0.1) for series in ("bspline", "sbl", "srgan")]
        write_tables(study.out, label, rows=details, run="task-view")
    func = study.data / "sub-01" / "func"
    func.mkdir(parents=True)
    for run in ("task-tap", "task-tap_run-2", "task-rest", "task-view"):  # run-2 has no results
        (func / f"sub-01_{run}_bold.nii.gz").touch()
    assert study.run() == 0
    assert "missing: sub-01_task-tap_run-2" in capsys.readouterr().out
    assert {row["task"] for row in study.rows("group_metrics.tsv")} == {"tap", "rest", "view"}
    text = study.page()
    overlap = "overlap between regions, task"
    assert f"{overlap} tap" in text
    assert f"{overlap} rest" not in text
    assert "no srgan: sub-01 task-rest, sub-02 task-rest" in text


def test_pybids_indexes_the_outputs_with_and_without_the_dataset(tmp_path: Path) -> None:
    """Sidecars at the root are of version 0.2.0, and tables of participants inherit them."""
    data, out = BidsMaker(tmp_path / "in"), tmp_path / "out"
    for label in ("01", "02"):
        data.subject(label)
    cohort(out, 2)
    for path in out.glob("sub-*/func/*_metrics.json"):
        path.write_text(json.dumps(FACTS | columns_json(["ev"])))
    write_dataset(out, bids_dir=data.root, version=__version__)
    old = json.dumps({"task": {"Description": "Label of the task"}})
    (out / "group_metrics.json").write_text(old)
    assert Study(data.root, out).run() == 0
    tables = indexed_tables(data.root, out, validate=True)
    assert [len(file) for file in tables] == [4, 4], tables
    assert all(file.get_metadata()["statistic"]["Levels"] for table in tables for file in table)


def test_series_stored_only_at_the_full_level_are_listed() -> None:
    stored = {"acquired", "bspline", "sbl"}
    (notice,) = list_unstored_series(["acquired", "bspline", "zerofill", "sdmod", "sbl"], stored)
    assert "zerofill, sdmod" in notice
    assert "--level full" in notice
    assert list_unstored_series(["acquired", "bspline", "sbl"], stored) == []
