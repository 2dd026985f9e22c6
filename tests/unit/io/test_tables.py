"""Reader of tab-separated tables: rows are lines, single quotation marks are text."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, strategies as st

from bids_sr.io.tables import MalformedTable, join_line, read_frame, read_rows, split_line

CELLS = st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=6)


def write_table(folder: Path, text: str) -> Path:
    path = folder / "table.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_single_quotation_mark_is_text_and_does_not_join_rows(tmp_path: Path) -> None:
    lines = [f"{k}\t2\t{'little' if k % 2 else 'thumb'}\tyes" for k in range(20)]
    lines[4] = '4\t2\tthumb\t"no'
    lines[13] = '13\t2\tlittle\t"maybe'
    path = write_table(tmp_path, "\n".join(["onset\tduration\ttrial_type\tsaid", *lines]) + "\n")
    columns, rows = read_rows(path)
    assert columns == ["onset", "duration", "trial_type", "said"]
    assert [row["onset"] for _, row in rows] == [str(k) for k in range(20)]
    assert (rows[4][1]["said"], rows[13][0]) == ('"no', 15)
    assert read_frame(path)["onset"].tolist() == list(range(20))


def test_quoted_tables_as_written_by_r_are_unquoted(tmp_path: Path) -> None:
    path = write_table(
        tmp_path, '"onset"\t"trial_type"\n1.5\t"left ""hand"""\r\n3\t"a\tb"\n\n4\tn/a\n'
    )
    _, rows = read_rows(path)
    assert [row["trial_type"] for _, row in rows] == ['left "hand"', "a\tb", "n/a"]
    frame = read_frame(path)
    pd.testing.assert_series_equal(frame["onset"], pd.Series([1.5, 3.0, 4.0], name="onset"))
    assert frame["trial_type"].isna().tolist() == [False, False, True]


def test_duplicate_columns_and_ragged_rows_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(MalformedTable, match="several columns have the name 'onset'"):
        read_rows(write_table(tmp_path, "onset\tduration\tonset\n1\t2\t3\n"))
    ragged = write_table(tmp_path, "a\tb\n1\t2\n3\n")
    with pytest.raises(MalformedTable, match="line 3 has 1 cells, but the table has 2 columns"):
        read_frame(ragged)
    assert read_rows(ragged)[1][1] == (3, {"a": "3", "b": None})
    assert read_rows(write_table(tmp_path, "a\n1\t2\t3\n"))[1] == [(2, {"a": "1", "": "2\t3"})]


@pytest.mark.parametrize("end", ["\t\n", "\t\t\r\n", "\t \n"])
@pytest.mark.parametrize("spoiled", ["all", "header", "rows", "one row"])
def test_empty_cells_at_the_end_of_lines_are_omitted(
    tmp_path: Path, spoiled: str, end: str
) -> None:
    lines = ["onset\tduration", "1.5\t2", "4\t", "7\t3"]
    ends = {"all": [0, 1, 2, 3], "header": [0], "rows": [1, 2, 3], "one row": [3]}[spoiled]
    text = "".join(line + (end if k in ends else "\n") for k, line in enumerate(lines))
    path = write_table(tmp_path, text)
    columns, rows = read_rows(path)
    assert columns == ["onset", "duration"]
    assert [row["onset"] for _, row in rows] == ["1.5", "4", "7"]
    assert not any("" in row for _, row in rows)
    frame = read_frame(path)
    assert list(frame) == columns
    assert frame["duration"].fillna(-1).tolist() == [2, -1, 3]


def test_marks_of_missing_values_are_not_numbers(tmp_path: Path) -> None:
    marks = ["n/a", "", "NA", "N/A", "<NA>", "NULL", "None", ".", "nan"]
    path = write_table(tmp_path, "x\tname\n" + "".join(f"{mark}\ta\n" for mark in [*marks, "1.5"]))
    frame = read_frame(path)
    assert frame["x"].isna().tolist() == [True] * len(marks) + [False]
    assert frame["x"].iloc[-1] == 1.5


def test_columns_without_a_name_are_omitted(tmp_path: Path) -> None:
    """The index of pandas is the first column."""
    path = write_table(tmp_path, "\tonset\tduration\n0\t1.5\t2\n1\t4\t3\n")
    assert [row for _, row in read_rows(path)[1]] == [
        {"onset": "1.5", "duration": "2"},
        {"onset": "4", "duration": "3"},
    ]
    assert read_frame(path)["onset"].tolist() == [1.5, 4]


def test_cells_beyond_the_header_are_kept_apart(tmp_path: Path) -> None:
    for header in ("a\tb", "a\tb\t"):
        path = write_table(tmp_path, f"{header}\n1\t2\t\tx\t\n")
        assert read_rows(path)[1] == [(2, {"a": "1", "b": "2", "": "\tx"})]
        with pytest.raises(MalformedTable, match="line 2 has 4 cells"):
            read_frame(path)


def test_blanks_around_names_and_empty_last_lines_are_ignored(tmp_path: Path) -> None:
    path = write_table(tmp_path, '\ufeff"onset "\t duration\n1\t2\n\t\n\t\t\n\n')
    columns, rows = read_rows(path)
    assert columns == ["onset", "duration"]
    assert rows == [(2, {"onset": "1", "duration": "2"})]
    with pytest.raises(MalformedTable, match="'onset'"):
        read_rows(write_table(tmp_path, "onset\tonset \n1\t2\n"))


@given(st.lists(CELLS, min_size=1, max_size=5))
@example(['"', '"'])  # marks of two cells, which must not become one quoted cell
def test_cells_are_recovered_from_a_joined_line(cells: list[str]) -> None:
    assert split_line(join_line(cells)) == cells
