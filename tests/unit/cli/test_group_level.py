"""Test ``bids-sr DIR OUT group``: exit codes, outputs and errors.

The data set contains no images.
"""

import csv
import json
import re
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
    write_as_finished,
    write_tables,
)

from bids_sr.cli import main
from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.group.level import _add_crashed_steps, list_unstored_series
from bids_sr.io.dataset_description import write_dataset
from bids_sr.io.nifti import save_image
from bids_sr.metrics.rows import columns_json
from bids_sr.notices import RECORD, Notice, read_record, record
from bids_sr.version import __version__


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Write a data set with only the list of participants, and outputs of eight of ten
    participants.
    """
    bids_dir, output_dir = tmp_path / "in", tmp_path / "out"
    bids_dir.mkdir()
    names = "".join(f"sub-{n:02d}\t30\n" for n in range(1, 10))
    (bids_dir / "participants.tsv").write_text(f"participant_id\tage\n{names}")
    (bids_dir / "sub-10").mkdir()
    cohort(output_dir, 8)
    return bids_dir, output_dir


def group(places: tuple[Path, Path], *options: str) -> int:
    return main.main([str(places[0]), str(places[1]), "group", *options])


def test_crashed_steps_are_listed_with_their_participant(tmp_path: Path) -> None:
    (tmp_path / "logs" / "x").mkdir(parents=True)
    record(tmp_path / "logs" / "x", [Notice(what="wf.fit", subject="01", code="crashed")])
    line = "no run has a table of evaluation metrics"
    assert _add_crashed_steps([("", line), ("sub-01", line)], tmp_path) == [
        line,
        f"{line}; crashed steps: wf.fit",
    ]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_missing_participants_are_listed_with_crashed_steps(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (places[1] / "logs" / "x").mkdir(parents=True)
    fit = Notice(what="bids_sr_wf.sub_09_wf.train.fit", subject="09", code="crashed")
    record(places[1] / "logs" / "x", [fit])
    assert group(places) == 0
    output = capsys.readouterr().out
    missing = "missing: sub-09: no metrics tables were found for this participant"
    assert f"{missing}; crashed steps: bids_sr_wf.sub_09_wf.train.fit" in output
    assert "missing: sub-10" in output
    page = (places[1] / "group.html").read_text()
    text = re.sub("<[^>]+>", " ", page)
    assert "sub-10: no metrics tables were found" in text
    assert "sbl is more accurate than every baseline" in text
    assert "the sbl map is more accurate than every reference series of the participant" in text
    assert page.index("Accuracy across participants") < page.index(
        "Comparison with Ota et al. (2022)"
    )
    assert "140.00 (64.75–184.00)" in text
    assert "defined in 7 of 8" in text
    assert not re.search(r'(?:src|href)="(?!data:|#|index\.html|https://doi\.org/|https://)', page)


def test_missing_participants_are_recorded_and_refused_with_strict(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    selected = [f"{number:02d}" for number in range(1, 9)]
    assert group(places, "--strict") == 2
    assert "sub-09, sub-10: no results" in capsys.readouterr().err
    assert not (places[1] / "group.html").exists()
    assert group(places) == 0
    (log,) = (places[1] / "logs").glob(f"*/{RECORD}")
    reasons = [notice.why for notice in read_record(log.parent) if notice.code == "left-out"]
    assert any(reason.startswith("sub-09: no metrics tables") for reason in reasons)
    assert group(places, "--strict", "--participant-label", *selected) == 0


def test_columns_of_group_tables_are_described_and_complete(
    places: tuple[Path, Path],
) -> None:
    assert group(places) == 0
    for name in ("group_metrics", "group_stats"):
        table = read_rows(places[1] / f"{name}.tsv")
        columns = json.loads((places[1] / f"{name}_columns.json").read_text())
        assert set(table[0]) == set(columns)
    metrics = read_rows(places[1] / "group_metrics.tsv")
    assert len(metrics) == 8 * (7 + 9)
    columns = json.loads((places[1] / "group_metrics_columns.json").read_text())
    assert set(columns["statistic"]["Levels"]) == {row["statistic"] for row in metrics}
    words = {
        row["minus"]: row["word"]
        for row in read_rows(places[1] / "group_stats.tsv")
        if (row["statistic"], row["series"]) == ("ev", "sbl")
    }
    assert words == dict.fromkeys(
        ("strongest", "bspline", "zerofill", "inject", "srgan", "sblMirror"), "better"
    )
    assert "/group" in (places[1] / ".bidsignore").read_text().splitlines()
    assert list((places[1] / "logs").glob("*/settings.toml"))
    assert not list(places[1].glob(".*partial*"))


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write a data set and its outputs after the group level, with sidecars of version 0.2.0 that
    participants' tables inherit.
    """
    root = tmp_path_factory.mktemp("gathered")
    data, output_dir = BidsMaker(root / "in"), root / "out"
    for label in ("01", "02"):
        data.subject(label)
        write_as_finished(output_dir, label)
    cohort(output_dir, 2)
    for path in output_dir.glob("sub-*/func/*_metrics.json"):
        path.write_text(json.dumps(FACTS | columns_json(["ev"])))
    write_dataset(output_dir, bids_dir=data.root, version=__version__)
    (output_dir / "group_metrics.json").write_text(
        json.dumps({"task": {"Description": "Label of the task"}})
    )
    assert group((data.root, output_dir)) == 0
    return data.root, output_dir


@pytest.mark.parametrize("validate", [True, False])
def test_pybids_indexes_the_outputs_with_and_without_the_dataset(
    gathered: tuple[Path, Path], *, validate: bool
) -> None:
    tables = indexed_tables(*gathered, validate=validate)
    assert [len(file) for file in tables] == [8, 8], tables
    assert all(file.get_metadata()["statistic"]["Levels"] for table in tables for file in table)


def test_repeating_the_group_level_writes_the_same_tables(places: tuple[Path, Path]) -> None:
    assert group(places) == 0
    first = {path.name: path.read_bytes() for path in places[1].glob("group_*")}
    assert group(places) == 0
    assert {path.name: path.read_bytes() for path in places[1].glob("group_*")} == first
    assert len(first) == 4


def test_the_equivalence_margin_is_used_and_shown(places: tuple[Path, Path]) -> None:
    assert group(places, "--set", "evaluation.margin=0.3") == 0
    ev_rows = [row for row in read_rows(places[1] / "group_stats.tsv") if row["statistic"] == "ev"]
    margins = {(row["part"], row["margin"]) for row in ev_rows}
    # the primary outcome has no equivalence test
    assert margins == {("exploratory", "0.3"), ("primary", "n/a")}
    assert "0.3 for dimensionless values" in (places[1] / "group.html").read_text()


def test_selection_chooses_participants(places: tuple[Path, Path]) -> None:
    assert group(places, "--participant-label", "01", "sub-02", "03") == 0
    assert {row["participant"] for row in read_rows(places[1] / "group_metrics.tsv")} == {
        "sub-01",
        "sub-02",
        "sub-03",
    }
    assert "sub-10" not in (places[1] / "group.html").read_text()


def test_a_single_participant_is_rejected(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert group(places, "--participant-label", "01") == 2
    assert "one participant (sub-01)" in capsys.readouterr().err
    assert not (places[1] / "group.html").exists()


def test_an_unknown_participant_is_rejected_with_the_available_participants(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert group(places, "--participant-label", "99") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "metrics tables are available for" in message
    assert "sub-01" in message
    assert "run the participant level first" not in message


def test_an_output_without_metrics_tables_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([str(tmp_path), str(tmp_path / "out"), "group"]) == 2
    assert "contains no metrics tables" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_dataset_is_rejected_and_an_empty_dataset_is_noted(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([str(places[0] / "nowhere"), str(places[1]), "group"]) == 2
    assert "is not a directory" in capsys.readouterr().err
    (places[0] / "sub-10").rmdir()
    (places[0] / "participants.tsv").unlink()
    assert group(places, "--dry-run") == 0
    assert "missing participants cannot be identified" in capsys.readouterr().out


def test_mixed_settings_are_rejected_with_files_and_differences(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {}
    for smoothing in (4.0, 6.0):
        values = {
            "paths": {"bids_dir": places[0], "output_dir": places[1]},
            "activation": {"smoothing": (0.0, smoothing)},
        }
        settings = Settings.from_mapping(values)
        folder = places[1] / "logs" / f"run{smoothing:g}"
        folder.mkdir(parents=True)
        (folder / "settings.toml").write_text(settings.to_toml())
        texts[smoothing] = analysis_digest(settings)
    for path in places[1].glob("sub-*/func/*_metrics.json"):
        path.write_text(json.dumps({**FACTS, "SettingsDigest": texts[4.0]}))
    write_tables(
        places[1], "09", rows=[detail("sbl", 0.1)], facts={**FACTS, "SettingsDigest": texts[6.0]}
    )
    for options in (
        (),
        (
            "--set",
            "superres.force=true",
        ),
    ):
        assert group(places, *options) == 2
        shown = capsys.readouterr().err
        assert "sub-09_task-tap_desc-evaluation_metrics.tsv" in shown
        assert "activation.smoothing: [0.0, 4.0] and [0.0, 6.0]" in shown
    assert not (places[1] / "group.html").exists()


def test_a_malformed_table_is_rejected_by_name(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = places[1] / "sub-01" / "func" / "sub-01_task-tap_desc-evaluation_metrics.tsv"
    path.write_text("series\tvalue\n")
    assert group(places) == 2
    assert path.name in capsys.readouterr().err


def test_a_dry_run_writes_nothing(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert group(places, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "16 metrics tables for 8 participants" in shown
    assert "missing: sub-09" in shown
    assert not (places[1] / "group_metrics.tsv").exists()
    assert not (places[1] / "logs").exists()


def test_uncombinable_runs_and_outdated_maps_are_named(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def write_map(name: str, voxel_mm: float, weights: dict[str, float]) -> None:
        path = (
            places[1]
            / "sub-01"
            / "func"
            / f"{name}_contrast-all_stat-effect_desc-acquired_statmap"
        )
        affine = np.diag([voxel_mm, voxel_mm, 4, 1])
        save_image(np.ones((4, 4, 2), np.float32), affine, path.with_name(f"{path.name}.nii.gz"))
        path.with_name(f"{path.name}.json").write_text(json.dumps({"RunWeights": weights}))

    write_map("sub-01_task-view_run-1", 4, {})
    write_map("sub-01_task-view_run-2", 5, {})
    write_map("sub-01_task-hear_run-1", 4, {})
    write_map("sub-01_task-hear_space-firstBoldref", 4, {"run-1": 0.5, "run-2": 0.5})
    assert group(places, "--dry-run") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "missing: sub-01_task-view: the participant was excluded from the group maps, because"
        " run-1 and run-2 cannot be combined (run-2: acquired voxels of 5 × 5 × 4 mm; expected"
    ) in shown
    assert "missing: sub-01_task-hear: the stored maps of all runs were not used" in shown
    assert "(run-2 no longer exists)" in shown


def test_tasks_and_resting_state_are_reported_separately(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The paper's table is omitted for resting-state runs; missing runs and methods are listed."""
    for label in ("01", "02"):
        seeds = [
            row for series in ("acquired", "bspline", "sbl") for row in sizes(series, 9, 8, 0.5)
        ]
        write_tables(
            places[1],
            label,
            activation=seeds,
            run="task-rest",
            facts={**FACTS, "MappedBy": "seeds"},
        )
        details = [detail(series, 0.1) for series in ("bspline", "sbl", "srgan")]
        write_tables(places[1], label, rows=details, run="task-view")
    func = places[0] / "sub-01" / "func"
    func.mkdir(parents=True)
    for run in ("task-tap", "task-tap_run-2", "task-rest", "task-view"):  # run-2 has no results
        (func / f"sub-01_{run}_bold.nii.gz").touch()
    assert group(places) == 0
    assert "missing: sub-01_task-tap_run-2: no metrics table" in capsys.readouterr().out
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", (places[1] / "group.html").read_text()))
    assert "Region size (in acquired voxels) and overlap between regions, task tap" in text
    assert "overlap between regions, task rest" not in text
    assert "no srgan: sub-01 task-rest, sub-02 task-rest" in text
    assert "Task rest sub-01, sub-02" in text
    assert "overlap of the two conditions (task rest" not in text
    assert any(row["task"] == "rest" for row in read_rows(places[1] / "group_metrics.tsv"))
    # printed once although two tasks lack it
    assert text.count("srgan: Image quality not assessed") == 1


def test_series_without_maps_are_named_with_the_level_that_stores_them(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert group(places) == 0
    no_maps = (
        "Run the participant level with --set activation.kinds=glm and --level standard or full"
    )
    assert no_maps in capsys.readouterr().out
    assert no_maps in (places[1] / "group.html").read_text()


def test_two_participants_are_not_advised_to_use_another_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for participant in cohort(tmp_path / "out", 2):
        (tmp_path / "in" / participant).mkdir(parents=True)
    assert group((tmp_path / "in", tmp_path / "out")) == 0
    assert "--level" not in capsys.readouterr().out


def test_an_output_directory_of_other_software_is_rejected(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    description = places[1] / "dataset_description.json"
    description.write_text(json.dumps({"GeneratedBy": [{"Name": "fMRIPrep"}]}))
    assert group(places) == 2
    assert "directory contains results of fMRIPrep" in capsys.readouterr().err
    assert not (places[1] / "group.html").exists()


def test_options_without_effect_are_reported(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert group(places, "--smoothing", "3", "--set", "evaluation.margin=0.02") == 0
    message = "no effect at the group level: activation.smoothing"
    assert message in capsys.readouterr().out


def test_options_of_sign_flips_are_passed_to_group_maps(
    places: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bids_sr.group import maps as module

    options_of_maps: list[dict[str, object]] = []
    compute_group_maps = module.compute_group_maps
    monkeypatch.setattr(
        module,
        "compute_group_maps",
        lambda *runs, **keywords: (
            options_of_maps.append(keywords),
            compute_group_maps(*runs, **keywords),
        )[1],
    )
    options = ("--set", "evaluation.group_permutations=50", "--random-seed", "3", "--nprocs", "2")
    assert group(places, *options) == 0
    assert (
        options_of_maps[0]["flips"],
        options_of_maps[0]["seed"],
        options_of_maps[0]["threads"],
    ) == (50, 3, 2)
    assert "no effect" not in capsys.readouterr().out


def test_group_maps_of_other_baselines_require_the_full_level() -> None:
    stored = {"acquired", "bspline", "sbl"}
    (notice,) = list_unstored_series(["acquired", "bspline", "zerofill", "sdmod", "sbl"], stored)
    assert (
        notice
        == "Group maps cannot be computed for zerofill, sdmod because the participant level stores"
        " maps of these series only with --level full."
    )
    assert list_unstored_series(["acquired", "bspline", "sbl"], stored) == []
