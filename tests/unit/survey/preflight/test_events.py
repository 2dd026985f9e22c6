"""Notices about events: names, missing values, modulation, pass bands, and short runs."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, plan_for, problem_of
from data.dataset import BidsMaker

from bids_sr.glm.regressors import DesignError, read_events
from bids_sr.survey.bids.findings import Findings
from bids_sr.survey.preflight.events import check_events

TABLE = "sub-01_task-tap_events.tsv"
BASELINE = ("--sr-method", "bspline")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("caf\u00e9", "cafe\u0301", ["'caf\\xe9'", "'cafe\\u0301'"]),
        ("thumb", "Thumb", ["'Thumb'", "'thumb'"]),
        ("thumb", "thu\u200bmb", ["'thu\\u200bmb'", "'thumb'"]),
        ("x2", "x\u00b2", None),
    ],
)
def test_types_that_look_alike_are_reported(
    maker: BidsMaker, first: str, second: str, names: list[str] | None
) -> None:
    maker.events(rows=[(0, 4, first), (8, 4, second), (16, 4, first), (24, 4, second)])
    warnings = plan_for(maker, *BASELINE).warnings
    similar = [notice for notice in warnings if "Unicode" in notice.why]
    assert len(similar) == (names is not None)
    assert about(similar, "sub-01_task-tap", *(names or ())) == similar


@pytest.mark.parametrize(("high", "is_reported"), [("2", True), ("0.51", True), ("0.4", False)])
def test_a_pass_band_above_nyquist_is_reported(
    maker: BidsMaker, high: str, *, is_reported: bool
) -> None:
    maker.bold(n_volumes=200)
    warnings = plan_for(maker, *BASELINE, "--band-pass", "0.005", high).warnings
    assert bool(about(warnings, "", "0.5")) is is_reported


@pytest.mark.parametrize(
    ("header", "values", "level", "mentioned"),
    [
        ("modulation", ["1", "2.5"], "note", ["go 1 to 2.5 (mean 1.75)"]),
        ("modulation", ["-1", "1.01"], "note", ["go -1 to 1.01 (centered)"]),
        ("modulation", ["1", "high"], "warning", ["'high'"]),
        ("modulation", ["1", "n/a"], "warning", ["'n/a'"]),
        ("modulation", ["1", "1"], None, []),
        ("response_time", ["1", "2.5"], None, []),
    ],
)
def test_a_modulation_is_noted_or_ignored_with_a_warning(
    tmp_path: Path, header: str, values: list[str], level: str | None, mentioned: list[str]
) -> None:
    table = tmp_path / TABLE
    rows = [f"{10 + 20 * k}\t8\tgo\t{value}" for k, value in enumerate(values)]
    rows = [f"onset\tduration\ttrial_type\t{header}", *rows, "200\t8\trest\tn/a"]
    table.write_text("\n".join(rows) + "\n")
    with Findings() as findings:
        assert check_events(table, tmp_path / "bold.nii.gz", 300.0) == ("go",)
    notices = about(findings.notices, TABLE, "modulation", *mentioned)
    assert [notice.level for notice in findings.notices] == [level] * len(notices)
    assert bool(notices) is (level is not None)


@pytest.mark.parametrize(
    ("modulations", "repeated"), [((1, 2), None), ((1, 1, 2), "1 of 4"), ((2, 2), "1 of 3")]
)
def test_events_that_differ_in_modulation_are_not_repetitions(
    tmp_path: Path, modulations: tuple[int, ...], repeated: str | None
) -> None:
    table = tmp_path / TABLE
    rows = [f"10\t8\tgo\t{value}\n" for value in modulations]
    header = "onset\tduration\ttrial_type\tmodulation\n"
    table.write_text("".join([header, *rows, "30\t8\tgo\t2\n"]))
    with Findings() as findings:
        check_events(table, tmp_path / "bold.nii.gz", 300.0)
    repetitions = [notice for notice in findings.notices if "trial_type" in notice.why]
    assert len(repetitions) == (repeated is not None)
    assert about(repetitions, TABLE, repeated or "") == repetitions


@pytest.mark.parametrize(("n_types", "is_split"), [(2, True), (9, False)])
def test_dense_events_are_reported_before_the_run(
    maker: BidsMaker, n_types: int, *, is_split: bool
) -> None:
    """With 9 types of 2 blocks, joined blocks are not enough for split halves."""
    maker.events(rows=[(1 + 1.2 * k, 0.5, f"type{k % n_types}") for k in range(18)])
    plan = plan_for(maker, *BASELINE)
    assert len(about(plan.warnings, "sub-01_task-tap", "30", "18")) == 1
    assert (plan.unsplit == frozenset()) is is_split


def test_non_steady_volumes_reduce_the_length_of_a_short_run(maker: BidsMaker) -> None:
    path = maker.bold(n_volumes=18)
    maker.events(rows=[(5.0, 2.0, "thumb"), (11.0, 2.0, "little")])
    assert plan_for(maker, *BASELINE).problems == ()
    image = nb.load(path)
    brighter = np.asarray(image.dataobj).astype(np.float32)
    brighter[..., :4] *= 3
    nb.Nifti1Image(brighter, image.affine, image.header).to_filename(path)
    problems = plan_for(maker, *BASELINE).problems
    problem_of(problems, str(path), "16", "18", "4", code="events")


def write_types(table: Path, types: Sequence[str], header: str = "", cells: str = "") -> Path:
    """Write blocks of 8 s of the types in turn, with further columns."""
    rows = [f"{10 + 20 * k}\t8\t{name}{cells}" for k, name in enumerate(types)]
    table.write_text("\n".join([f"onset\tduration\ttrial_type{header}", *rows]) + "\n")
    return table


@pytest.mark.parametrize("mark", ["NA", "N/A", "<NA>", "NULL", "None", "."])
def test_missing_types_are_counted_unless_levels_list_them(tmp_path: Path, mark: str) -> None:
    table = write_types(tmp_path / TABLE, ["go", mark, "stop", f" {mark} ", "none", "na", "n/a"])
    bold = tmp_path / "bold.nii.gz"
    with Findings() as findings:
        assert check_events(table, bold, 300.0) == ("go", "stop", "none", "na")
    (note,) = about(findings.notices, TABLE, "2", f"'{mark}'", "Levels")
    assert (note.level, findings.notices) == ("note", [note])
    assert read_events(table).conditions == ["go", "na", "none", "stop"]
    with Findings() as findings:
        assert mark in check_events(table, bold, 300.0, levels=("go", mark))
    assert findings.notices == []
    assert read_events(table, ("go", mark)).spans()[mark] == [(30.0, 8.0), (70.0, 8.0)]


@pytest.mark.parametrize("types", [["rest"], ["NA"], ["Baseline", "n/a", "."]])
def test_a_table_of_rest_is_refused_with_resting_state_as_a_remedy(
    tmp_path: Path, types: list[str]
) -> None:
    table = write_types(tmp_path / TABLE, types)
    with Findings() as findings:
        assert check_events(table, tmp_path / "bold.nii.gz", 300.0) == ()
    problem = problem_of(findings.problems, str(table), "--ignore events", code="input")
    marks = [name for name in types if name in ("NA", ".")]
    assert all(f"'{mark}'" in problem.remedy for mark in marks)
    assert ("Levels" in problem.remedy) == bool(marks)


def test_types_whose_events_all_have_modulation_0_are_not_modeled(tmp_path: Path) -> None:
    types = ["go", "stop", "go", "stop"]
    table = write_types(tmp_path / TABLE, types, header="\tmodulation", cells="\t{}")
    text = table.read_text()
    table.write_text(text.format(0, 2, 0, 0))
    with Findings() as findings:
        assert check_events(table, tmp_path / "bold.nii.gz", 300.0) == ("stop",)
    assert about(findings.notices, TABLE, "'go'", "modulation 0")
    events = read_events(table)
    assert (events.conditions, events.unmodulated) == (["stop"], ("go",))
    table.write_text(text.format(0, 0, 0, 0))
    with Findings() as findings:
        assert check_events(table, tmp_path / "bold.nii.gz", 300.0) == ()
    problem_of(findings.problems, str(table), "modulation 0")
    with pytest.raises(DesignError, match="modulation 0"):
        read_events(table)


@pytest.mark.parametrize("header", ["modulation", "strength"])
def test_all_readers_agree_on_types_that_list_the_events_of_others(
    tmp_path: Path, header: str
) -> None:
    """With a modulation, a type with the events of others is not their sum."""
    lines = [f"onset\tduration\ttrial_type\t{header}"]
    for k in range(6):
        onset = 10 + 20 * k
        lines += [f"{onset}\t8\t{('go', 'stop')[k % 2]}\t{1 + k}", f"{onset}\t8\ttrial\t1"]
    (table := tmp_path / TABLE).write_text("\n".join(lines) + "\n")
    with Findings():
        types = check_events(table, tmp_path / "bold.nii.gz", 300.0)
    assert sorted(types) == read_events(table).conditions
    assert ("trial" in types) is (header == "modulation")
