"""Events tables: notices about names, missing values, modulation, repetitions and times."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, plan_for, problem_of
from data.dataset import EVENTS, BidsMaker
from data.records import make_run, make_settings, make_table

from bids_sr.glm.regressors import DesignError
from bids_sr.io.notices import Notice
from bids_sr.survey.notices import InputError, judge
from bids_sr.survey.preflight import events
from bids_sr.survey.preflight.events import EventsTable
from bids_sr.survey.preflight.run_model import band_above_nyquist, choose_split

TABLE = "sub-01_task-tap_events.tsv"
BASELINE = ("--sr-method", "bspline")
BOLD = Path("sub-01_task-tap_bold.nii.gz")
COLUMNS = ("onset", "duration", "trial_type")


def judge_table(table: EventsTable, duration: float = 300.0) -> list[Notice]:
    """Return the notices about an events table of a run of this length (s)."""
    rules = judge(events.TABLE_RULES, table), judge(events.RUN_RULES, table, BOLD, duration)
    return [notice for notices in rules for notice in notices]


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
    first: str, second: str, names: list[str] | None
) -> None:
    similar = [*events.alike_types({BOLD: [first], Path("run-2_bold.nii"): [second, first]})]
    assert [notice.level for notice in similar] == ["warning"] * (names is not None)
    assert about(similar, BOLD.name, *(names or ())) == similar


@pytest.mark.parametrize(("high", "is_reported"), [("2", True), ("0.51", True), ("0.4", False)])
def test_a_pass_band_above_nyquist_is_reported(high: str, *, is_reported: bool) -> None:
    settings = make_settings("--band-pass", "0.005", high)
    notices = [*band_above_nyquist(make_run(n_volumes=200), settings)]
    assert len(notices) == len(about(notices, BOLD.name, "0.5")) == is_reported


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
    header: str, values: list[str], level: str | None, mentioned: list[str]
) -> None:
    rows = [(10 + 20 * k, 8, "go", value) for k, value in enumerate(values)]
    table = make_table([*rows, (200, 8, "rest", "n/a")], (*COLUMNS, header))
    assert table.list_types(300.0) == ("go",)
    notices = judge_table(table)
    assert [notice.level for notice in notices] == [level] * (level is not None)
    assert about(notices, TABLE, "modulation", *mentioned) == notices


@pytest.mark.parametrize(
    ("modulations", "repeated"), [((1, 2), None), ((1, 1, 2), "1 of 4"), ((2, 2), "1 of 3")]
)
def test_events_that_differ_in_modulation_are_not_repetitions(
    modulations: tuple[int, ...], repeated: str | None
) -> None:
    rows = [*((10, 8, "go", value) for value in modulations), (30, 8, "go", 2)]
    notices = [*events.repeated_events(make_table(rows, (*COLUMNS, "modulation")))]
    assert len(notices) == (repeated is not None)
    assert about(notices, TABLE, repeated or "") == notices


def test_a_repeated_event_is_noted_and_modeled_once() -> None:
    (notice,) = judge_table(make_table([*EVENTS, EVENTS[2]]))
    assert "1 of 5" in notice.why
    assert "line 6" in notice.why


@pytest.mark.parametrize(("n_types", "is_split"), [(2, True), (9, False)])
def test_dense_events_are_reported_before_the_run(n_types: int, *, is_split: bool) -> None:
    """With 9 types of 2 blocks, joined blocks are not enough for split halves."""
    table = make_table([(1 + 1.2 * k, 0.5, f"type{k % n_types}") for k in range(18)])
    settings = make_settings("--dummy-scans", "0")
    choice = choose_split(make_run(), table.make_events(), settings)
    assert len(about(choice.notices, "sub-01_task-tap", "30", "18")) == 1
    assert choice.value is is_split


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


@pytest.mark.parametrize("mark", ["NA", "N/A", "<NA>", "NULL", "None", "."])
def test_missing_types_are_counted_unless_levels_list_them(mark: str) -> None:
    types = ["go", mark, "stop", f" {mark} ", "none", "na", "n/a"]
    rows = [(10 + 20 * k, 8, name) for k, name in enumerate(types)]
    table = make_table(rows)
    assert table.list_types(300.0) == ("go", "stop", "none", "na")
    notices = judge_table(table)
    (note,) = about(notices, TABLE, "2", f"'{mark}'", "Levels")
    assert (note.level, notices) == ("note", [note])
    assert table.make_events().conditions == ["go", "na", "none", "stop"]
    table = make_table(rows, levels=("go", mark))
    assert mark in table.list_types(300.0)
    assert judge_table(table) == []
    assert table.make_events().spans()[mark] == [(30.0, 8.0), (70.0, 8.0)]


@pytest.mark.parametrize("types", [["rest"], ["NA"], ["Baseline", "n/a", "."]])
def test_a_table_of_rest_is_refused_with_resting_state_as_a_remedy(types: list[str]) -> None:
    table = make_table([(10 + 20 * k, 8, name) for k, name in enumerate(types)])
    assert table.list_types(300.0) == ()
    problems = [notice for notice in judge_table(table) if notice.level == "error"]
    problem = problem_of(problems, TABLE, "--ignore events", code="input")
    marks = [name for name in types if name in ("NA", ".")]
    assert all(f"'{mark}'" in problem.remedy for mark in marks)
    assert ("Levels" in problem.remedy) == bool(marks)


def test_types_whose_events_all_have_modulation_0_are_not_modeled() -> None:
    def modulate(*values: int) -> EventsTable:
        types = ("go", "stop") * 2
        rows = [(10 + 20 * k, 8, *pair) for k, pair in enumerate(zip(types, values, strict=True))]
        return make_table(rows, (*COLUMNS, "modulation"))

    table = modulate(0, 2, 0, 0)
    assert table.list_types(300.0) == ("stop",)
    assert about(judge_table(table), TABLE, "'go'", "modulation 0")
    modeled = table.make_events()
    assert (modeled.conditions, modeled.unmodulated) == (["stop"], ("go",))
    table = modulate(0, 0, 0, 0)
    assert table.list_types(300.0) == ()
    problem_of([n for n in judge_table(table) if n.level == "error"], TABLE, "modulation 0")
    with pytest.raises(DesignError, match="modulation 0"):
        table.make_events()


@pytest.mark.parametrize("header", ["modulation", "strength"])
def test_all_readers_agree_on_types_that_list_the_events_of_others(header: str) -> None:
    """With a modulation, a type with the events of others is not their sum."""
    onsets = [10 + 20 * k for k in range(6)]
    rows = [(onset, 8, ("go", "stop")[k % 2], 1 + k) for k, onset in enumerate(onsets)]
    table = make_table([*rows, *((onset, 8, "trial", 1) for onset in onsets)], (*COLUMNS, header))
    types = table.list_types(300.0)
    assert sorted(types) == table.make_events().conditions
    assert ("trial" in types) is (header == "modulation")


@pytest.mark.parametrize(
    ("rows", "types", "values"),
    [
        ((), ["thumb", "little"], None),
        (((-27.9, 0.9, "thumb"), (-3.0, 1.0, "little")), ["thumb", "little"], None),
        (((0.0, 1.0, "thumb"), (1.0, 1.0, "thumb")), ["thumb", "little"], None),
        (((31.0, 5.0, "rest"), ("n/a", "n/a", "baseline")), ["thumb", "little"], None),
        (((90.0, 1.0, "thumb"), (95.0, 1.0, "late")), ["thumb", "little"], ["30"]),
        (((3.0, "n/a", "thumb"), ("n/a", 1.0, "little")), ["thumb", "little"], ["2", "6"]),
        (((-60.0, 1.0, "early"),), ["thumb", "little"], ["'early'", "24"]),
        (((28.0, 5.0, "thumb"),), ["thumb", "little"], ["30"]),
    ],
)
def test_events_outside_the_run_or_without_times_are_not_modeled(
    rows: Sequence[Sequence[object]], types: list[str], values: list[str] | None
) -> None:
    table = make_table([*EVENTS, *rows])
    assert [*table.list_types(30.0)] == types
    notices = judge_table(table, 30.0)
    assert {notice.level for notice in notices} <= {"note"}
    assert bool(notices) is (values is not None)
    assert values is None or about(notices, TABLE, *values)


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ([("soon", 4.0, "thumb"), *EVENTS], ["2", "'soon'"]),
        ([("inf", 1.0, "thumb")], ["'inf'"]),
        ([(1.0, -1.0, "thumb")], ["2", "'-1.0'"]),
        ([(-90.0, 1.0, "thumb")], ["24"]),
        ([("n/a", 4.0, "thumb"), (4.0, "n/a", "little")], ["--ignore events"]),
        ([(2.0, 4.0, "thumb"), (30.0, 4.0, "little"), (40.0, 4.0, "thumb")], ["30"]),
        ([*EVENTS, (28, 1e9, "thumb")], ["28", "1e+09"]),
        ([(-1e9, 1, "thumb"), *EVENTS], ["-1e+09"]),
    ],
)
def test_times_that_cannot_be_of_the_run_are_refused(
    rows: Sequence[Sequence[object]], values: list[str]
) -> None:
    notices = judge_table(make_table(rows), 30.0)
    problem_of([notice for notice in notices if notice.level == "error"], TABLE, *values)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"onset\ttrial_type\n2\tthumb\n", ["duration", "onset, trial_type"]),
        (b"", ["none", "--ignore events"]),
        (b"onset\tduration\ttrial_type\n", ["--ignore events"]),
        ("onset\tduration\ttrial_type\n1\t1\tDäumling\n".encode("latin-1"), ["2"]),
        (b"onset\tduration\ttrial_type\n1\t1\tth\0umb\n", ["UTF-8"]),
        (b"onset\tduration\n" + b"1\t0\n" * 50_001, ["50000"]),
    ],
)
def test_a_file_that_is_no_table_of_events_is_refused(
    tmp_path: Path, content: bytes, values: list[str]
) -> None:
    (path := tmp_path / TABLE).write_bytes(content)
    with pytest.raises(InputError) as refusal:
        events.read_events_table(path)
    problem_of(refusal.value.problems, str(path), *values)


def test_a_row_with_more_cells_than_columns_is_refused(tmp_path: Path) -> None:
    (path := tmp_path / TABLE).write_text("onset\tduration\n5\t1\n9\t1\t3\t4\n")
    notices = judge_table(events.read_events_table(path))
    problem_of([notice for notice in notices if notice.level == "error"], str(path), "3")
    assert about(notices, str(path), "'task'")


@pytest.mark.parametrize("row", ["62\t14 thumb", "62\t14"])
def test_a_row_that_ends_before_its_type_is_refused(tmp_path: Path, row: str) -> None:
    text = f"onset\tduration\ttrial_type\n5\t1\tthumb\n{row}\n"
    (path := tmp_path / TABLE).write_text(text)
    notices = judge_table(events.read_events_table(path))
    problem_of([notice for notice in notices if notice.level == "error"], str(path), "3")


@pytest.mark.parametrize("size", ["1e100", "1e-300", "-1e7"])
def test_extreme_modulation_is_not_used(tmp_path: Path, size: str) -> None:
    text = f"onset\tduration\ttrial_type\tmodulation\n5\t1\tthumb\t{size}\n9\t1\tthumb\t1\n"
    (path := tmp_path / TABLE).write_text(text)
    table = events.read_events_table(path)
    assert {row.amplitude for row in table.rows} == {1.0}
    assert [notice.level for notice in about(judge_table(table), str(path), size)] == ["warning"]
