"""Months between sessions, from tables with missing times."""

from pathlib import Path

import pytest

from bids_sr.io.notices import UsageError
from bids_sr.survey.bids.session_times import months_of_sessions


@pytest.mark.parametrize("mark", ["n/a", "NA", "NULL", ".", ""])
@pytest.mark.parametrize(
    ("column", "first", "last"), [(None, "2024-01-01", "2024-12-31"), ("month", "0", "12")]
)
def test_sessions_without_a_time_are_omitted(
    tmp_path: Path, column: str | None, first: str, last: str, mark: str
) -> None:
    cells = {"a": first, "b": mark, "c": last}
    rows = "".join(f"ses-{label}\t{cell}\n" for label, cell in cells.items())
    table = tmp_path / "sub-01" / "sub-01_sessions.tsv"
    table.parent.mkdir()
    table.write_text(f"session_id\t{column or 'acq_time'}\n{rows}")
    months = months_of_sessions(tmp_path, {"sub-01": ["a", "b", "c"]}, column)
    assert months == {("sub-01", "a"): 0.0, ("sub-01", "c"): pytest.approx(12, abs=0.01)}


def write_dates(folder: Path, sessions: list[tuple[str, str]], scans: dict[str, str]) -> None:
    """Write dates to the sessions table (label, date), and to scans tables by label."""
    participant = folder / "sub-01"
    participant.mkdir()
    rows = "".join(f"ses-{label}\t{date}\n" for label, date in sessions)
    (participant / "sub-01_sessions.tsv").write_text(f"session_id\tacq_time\n{rows}")
    for label, date in scans.items():
        session = participant / f"ses-{label}"
        session.mkdir()
        text = f"filename\tacq_time\nanat/x.nii.gz\t{date}\n"
        (session / f"sub-01_ses-{label}_scans.tsv").write_text(text)


def test_dates_of_both_tables_are_joined(tmp_path: Path) -> None:
    scans = {"a": "2024-01-01T10:00:00", "b": "2024-07-01", "c": "2024-12-31"}
    write_dates(tmp_path, [("a", "2024-01-01"), ("b", "n/a"), ("a", "2024-01-01")], scans)
    months = months_of_sessions(tmp_path, {"sub-01": ["a", "b", "c"]})
    assert [round(months["sub-01", label]) for label in "abc"] == [0, 6, 12]


@pytest.mark.parametrize(
    ("sessions", "scans"),
    [
        ([("a", "2024-01-01"), ("b", "2024-07-01"), ("b", "2025-07-01")], {}),
        ([("a", "2024-01-01"), ("b", "2024-07-01")], {"b": "2025-07-01"}),
        ([("a", "1900-01-01"), ("b", "2024-07-01")], {}),
        ([("a", "2024-07-01"), ("b", "1970-01-01")], {}),
        ([("a", "1900-01-01"), ("b", "n/a")], {"b": "2024-07-01"}),
        ([("a", "2024-07-01"), ("b", "9999-12-31")], {}),
    ],
    ids=["rows", "tables", "1900", "1970", "scans", "9999"],
)
def test_contradictory_dates_are_refused(
    tmp_path: Path, sessions: list[tuple[str, str]], scans: dict[str, str]
) -> None:
    write_dates(tmp_path, sessions, scans)
    with pytest.raises(UsageError, match="sub-01_sessions"):
        months_of_sessions(tmp_path, {"sub-01": ["a", "b"]})


def test_equal_dates_are_named_and_shifted_dates_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Anonymized dates are before 1925, and keep their differences."""
    write_dates(tmp_path, [("a", "1900-01-01"), ("b", "1900-01-01"), ("c", "1900-07-01")], {})
    months = months_of_sessions(tmp_path, {"sub-01": ["a", "b", "c"]})
    assert [round(months["sub-01", label]) for label in "abc"] == [0, 0, 6]
    assert "ses-a, ses-b" in caplog.text
    table = tmp_path / "sub-01/sub-01_sessions.tsv"
    table.write_text(table.read_text().replace("b\t1900-01-01", "b\t1900-01-01T18:00:00"))
    caplog.clear()
    months_of_sessions(tmp_path, {"sub-01": ["a", "b", "c"]})
    assert not caplog.text
