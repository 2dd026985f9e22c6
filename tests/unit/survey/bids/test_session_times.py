"""Months between sessions, from tables with missing times."""

from pathlib import Path

import pytest

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
