"""The table ``participants.tsv`` of a data set, the only reader for the whole program."""

import re
from collections.abc import Mapping
from pathlib import Path

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError
from bids_sr.io.tables import TABLE_ERRORS, is_missing, read_rows
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.bids.label_lists import list_some

_ID = "participant_id"
_PARTICIPANT = re.compile(r"(?:sub-)?([0-9A-Za-z+]+)")
_SAVE_FIX = "Save the table as tab-separated UTF-8 text."


@frozen
class ParticipantsTable:
    """Participants that a data set lists.

    The file of the table may not exist. `columns` are in the order of the table; empty if there is
    no table. `rows` are cells by column, by participant (``sub-…``). `unnamed` are cells by line
    number, for lines whose participant_id is not a label, such as n/a.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str | None]]
    unnamed: Mapping[int, str]

    def list_skipped_lines(self) -> tuple[str, ...]:
        """Return a sentence on the lines without a participant; empty if there are none."""
        if not self.unnamed:
            return ()
        lines = [f"line {number} ({cell!r})" for number, cell in self.unnamed.items()]
        return (
            f"{self.path}: {list_some(lines, 3)} skipped, because {_ID} is not a participant"
            " label (sub- with letters, digits and +).",
        )


def read_participants_table(bids_dir: Path) -> ParticipantsTable:
    """Return the participants in ``participants.tsv``; none if the data set has no such table.

    Raises `UsageError` if the table exists but cannot be read, has no column participant_id, or
    was not downloaded (`InputError`).
    """
    path = bids_dir / "participants.tsv"
    require_content(path)
    if not path.exists():
        return ParticipantsTable(path=path, columns=(), rows={}, unnamed={})
    try:
        columns, numbered_rows = read_rows(path)
    except TABLE_ERRORS as error:
        raise UsageError(
            str(path), f"the file cannot be read as a table ({error})", _SAVE_FIX
        ) from error
    if _ID not in columns:
        raise UsageError(
            str(path),
            f"the required column {_ID} is missing (existing columns: {list_some(columns, 8)})",
            f"{_SAVE_FIX} Its first column must be {_ID}, with one row per participant.",
        )
    rows: dict[str, Mapping[str, str | None]] = {}
    unnamed: dict[int, str] = {}
    for number, row in numbered_rows:
        cell = (row[_ID] or "").strip()
        match = None if is_missing(cell) else _PARTICIPANT.fullmatch(cell)
        if match is not None:
            rows[f"sub-{match[1]}"] = row
        else:
            unnamed[number] = cell
    return ParticipantsTable(path=path, columns=tuple(columns), rows=rows, unnamed=unnamed)
