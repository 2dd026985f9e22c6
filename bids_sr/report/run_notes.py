"""Notes of each participant's last run in ``logs/latest``: name, settings, index rows.

The page over thousands of participants is made of these rows, not of the tables of all. The last
call of a data set learns here that it is the last.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_whole
from bids_sr.notices import Notice, recorded
from bids_sr.report.run_summaries import VERDICT, RunSummary, name_below, run_summary, stamps_of

_FEW = 100
"""So many participants may be read at the end of every call."""


@frozen
class _PageRow:
    """One run of a participant."""

    file: str  # of its verdict, below the participant's folder
    stamps: tuple[int, ...]  # of the files that the summary was read from
    summary: RunSummary


@frozen
class Note:
    """One participant.

    `run`: name of the folder of logs of its outputs; `last`: of the last call, which may have left
    out all of it. `settings`: digest of those that decide results.
    """

    run: str
    last: str = ""
    settings: str = ""
    rows: tuple[_PageRow, ...] = ()

    def to_text(self) -> str:
        """Return it as JSON."""
        return f"{json.dumps(asdict(self))}\n"

    @classmethod
    def from_text(cls, text: str) -> "Note":
        """Parse a note as written."""
        values = json.loads(text)
        rows = tuple(
            _PageRow(file=row["file"], stamps=tuple(row["stamps"]), summary=dict(row["summary"]))
            for row in values.get("rows", ())
        )
        last, settings = values.get("last", ""), values.get("settings", "")
        return cls(run=values["run"], last=last, settings=settings, rows=rows)


def note_of(logs: Path, label: str) -> Note | None:
    """The note of a participant (label without ``sub-``), None where no run left one."""
    try:
        return Note.from_text(_file(logs, label).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_run(log_dir: Path, labels: Sequence[str], *, settings: str) -> bool:
    """Note that a run made outputs of these participants; whether anything but its name is new.

    Names of logs follow a clock that may be set, so that they tell no order. Participants of whom
    all is left out, as the record of the run says, are noted too; the logs of their outputs stay
    those of an earlier run.
    """
    logs, changed = log_dir.parent, False
    for label in dict.fromkeys([*labels, *_left_out(log_dir)]):
        before = note_of(logs, label)
        note = Note(
            run=log_dir.name if label in labels or before is None else before.run,
            last=log_dir.name,
            settings=settings,
            rows=tuple(_read(logs.parent / f"sub-{label}", label)),
        )
        changed |= before is None or _shown(logs, label, before) != _shown(logs, label, note)
        write_whole(_file(logs, label), note.to_text())
    return changed


def left_out_text(notice: Notice) -> str:
    """Why a run was left out, in a line."""
    return f"skipped: {Path(notice.what).name}: {notice.why}"


def _left_out(log_dir: Path) -> dict[str, dict[str, str]]:
    """Participant (label) → name of each run that a call left out → why, in a line."""
    reasons: dict[str, dict[str, str]] = {}
    for each in recorded(log_dir):
        if each.code == "left-out":
            runs = reasons.setdefault(each.subject, {})
            why = left_out_text(each)
            name = name_below(each.run, each.subject)
            runs[name] = "; ".join(dict.fromkeys(filter(None, (runs.get(name), why))))
    return reasons


def rows_of(root: Path, label: str) -> list[RunSummary]:
    """Return the index rows of a participant's runs, as noted unless files have changed since.

    A run that the last call left out is told as that, also where an earlier one has left results
    of it.
    """
    logs, folder = root / "logs", root / f"sub-{label}"
    note = note_of(logs, label)
    rows = () if note is None else note.rows
    if not rows or any(stamps_of(folder / row.file) != row.stamps for row in rows):
        rows = tuple(_read(folder, label))
    out = {} if note is None else _left_out(logs / note.last).get(label, {})
    return [
        *(row.summary for row in rows if row.summary["run"] not in out),
        *(RunSummary(run=run, verdict=why) for run, why in out.items()),
    ]


def noted(root: Path) -> list[str]:
    """Return labels (without ``sub-``) of all participants that runs have noted."""
    return [
        path.stem.removeprefix("sub-")
        for path in _file(root / "logs", "").parent.glob("sub-*.json")
    ]


def is_last(root: Path, bids_dir: Path, settings: str) -> bool:
    """Return whether all participants of a dataset were run with these settings.

    It is also true where there are few participants in the output.
    """
    there = set(noted(root))
    if len(there) <= _FEW:
        return True
    labels = [path.name.removeprefix("sub-") for path in bids_dir.glob("sub-*") if path.is_dir()]
    if not there.issuperset(labels):
        return False
    notes = (note_of(root / "logs", label) for label in labels)
    return all(note is not None and note.settings == settings for note in notes)


def _read(folder: Path, label: str) -> Iterator[_PageRow]:
    for place in ("func", "ses-*/func"):
        for file in sorted(folder.glob(f"{place}/*{VERDICT}")):
            stamps = stamps_of(file)
            yield _PageRow(
                file=str(file.relative_to(folder)), stamps=stamps, summary=run_summary(file, label)
            )


def _shown(logs: Path, label: str, note: Note) -> tuple[object, ...]:
    """What the index shows of a note."""
    out = _left_out(logs / note.last).get(label)
    return note.settings, [row.summary for row in note.rows], out


def _file(logs: Path, label: str) -> Path:
    return logs / "latest" / f"sub-{label}.json"
