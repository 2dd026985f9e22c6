"""The list of participants is read completely, or refused with file, reason and remedy."""

from pathlib import Path

import pytest

from bids_sr.bids.participants_table import read_participants_table
from bids_sr.notices import UsageError

TEXT = "participant_id\tsurname\nsub-01\tMüller\n02\tRené\n"


def write_listing(folder: Path, content: str | bytes) -> Path:
    path = folder / "participants.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("content", [TEXT, b"\xef\xbb\xbf" + TEXT.encode()])
def test_participants_are_listed_with_their_cells(tmp_path: Path, content: str | bytes) -> None:
    write_listing(tmp_path, content)
    table = read_participants_table(tmp_path)
    assert list(table.rows) == ["sub-01", "sub-02"]
    assert (table.rows["sub-01"]["surname"] or "") == "Müller"
    assert table.columns == ("participant_id", "surname")
    assert table.list_skipped_lines() == ()


def test_a_data_set_without_a_list_has_no_rows(tmp_path: Path) -> None:
    table = read_participants_table(tmp_path)
    assert (table.rows, table.columns, table.list_skipped_lines()) == ({}, (), ())


@pytest.mark.parametrize("cell", ["n/a", "", "N/A", "sub-", "sub-n/a", "sub-0 1", "../01"])
def test_a_line_without_a_label_is_skipped_and_named(tmp_path: Path, cell: str) -> None:
    path = write_listing(tmp_path, f"participant_id\tage\nsub-01\t30\n{cell}\t31\nsub-03\t32\n")
    table = read_participants_table(tmp_path)
    assert list(table.rows) == ["sub-01", "sub-03"]
    (line,) = table.list_skipped_lines()
    assert str(path) in line
    assert f"line 3 ({cell!r}) skipped" in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (TEXT.encode("latin-1"), "not encoded in UTF-8: line 2 has the byte 0xfc"),
        (TEXT.encode("utf-16"), "encoded in UTF-16"),
        ("participant_id\tage\nsub-01\t30\n".encode("utf-16-le"), "NUL bytes"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "encoded in UTF-16"),
        ("participant_id,age\nsub-01,30\n", "participant_id is missing (existing columns: parti"),
        ("age\tsex\n30\tf\n", "participant_id is missing (existing columns: age, sex)"),
        ("", "participant_id is missing (existing columns: none)"),
        ("participant_id\tage\tage\nsub-01\t1\t2\n", "several columns have the name 'age'"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    path = write_listing(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        read_participants_table(tmp_path)
    (problem,) = caught.value.problems
    assert problem.what == str(path)
    assert reason in problem.why
    assert "UTF-8" in problem.remedy


def test_a_list_that_was_not_downloaded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.symlink_to(".git/annex/objects/aa/bb/MD5E-s9--00.tsv")
    with pytest.raises(UsageError) as caught:
        read_participants_table(tmp_path)
    (problem,) = caught.value.problems
    assert problem.what == str(path)
    assert "datalad get" in problem.remedy
