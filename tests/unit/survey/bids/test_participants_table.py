"""The list of participants is read completely, or refused with file, reason and remedy."""

from pathlib import Path

import pytest
from data.calls import problem_of

from bids_sr.io.notices import UsageError
from bids_sr.survey.bids.participants_table import read_participants_table

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
    assert table.rows["sub-01"]["surname"] == "Müller"
    assert table.columns == ("participant_id", "surname")
    assert table.list_skipped_lines() == ()


@pytest.mark.parametrize(
    "cell", ["n/a", "", "N/A", "NA", "None", "sub-", "sub-n/a", "sub-0 1", "../01"]
)
def test_a_line_without_a_label_is_skipped_and_named(tmp_path: Path, cell: str) -> None:
    path = write_listing(tmp_path, f"participant_id\tage\nsub-01\t30\n{cell}\t31\nsub-03\t32\n")
    table = read_participants_table(tmp_path)
    assert list(table.rows) == ["sub-01", "sub-03"]
    (line,) = table.list_skipped_lines()
    assert str(path) in line
    assert f"line 3 ({cell!r}) skipped" in line


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (TEXT.encode("latin-1"), ["2", "0xfc"]),
        (TEXT.encode("utf-16"), ["UTF-16"]),
        ("participant_id\tage\nsub-01\t30\n".encode("utf-16-le"), ["NUL"]),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), ["UTF-16"]),
        ("participant_id,age\nsub-01,30\n", ["participant_id", "participant_id,age"]),
        ("age\tsex\n30\tf\n", ["participant_id", "age, sex"]),
        ("", ["participant_id", "none"]),
        ("participant_id\tage\tage\nsub-01\t1\t2\n", ["'age'"]),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str | bytes, values: list[str]
) -> None:
    path = write_listing(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        read_participants_table(tmp_path)
    problem_of(caught.value.problems, str(path), *values, "UTF-8")


def test_a_list_that_was_not_downloaded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.symlink_to(".git/annex/objects/aa/bb/MD5E-s9--00.tsv")
    with pytest.raises(UsageError) as caught:
        read_participants_table(tmp_path)
    problem_of(caught.value.problems, str(path), "datalad get", code="annex")
