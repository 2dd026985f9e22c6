"""Notes on the last run of each participant in ``logs/latest``: name, settings, index rows.

The index page of thousands of participants is built from these rows instead of all tables. The
last call of a dataset also recognizes from the notes that it is the last.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bids_sr.io.atomic_files import write_text
from bids_sr.io.code_digests import digest_program
from bids_sr.io.frozen import frozen
from bids_sr.io.json_values import parse_json
from bids_sr.io.notices import Notice, read_record
from bids_sr.report.run_summaries import (
    RunSummary,
    read_run_summary,
    read_times,
    strip_participant,
)
from bids_sr.report.stored_verdicts import VERDICT_SUFFIX

_MAX_FEW_PARTICIPANTS = 100
"""Number of participants whose files may be read at the end of every call."""


@frozen
class _PageRow:
    """Index row of one run."""

    file: str  # path of its verdict below the participant's folder
    stamps: tuple[int, ...]  # modification times of the files that the summary was read from
    summary: RunSummary


@frozen
class Note:
    """Note on one participant.

    `log_folder` is the name of the log folder of its outputs, and `last_log_folder` of the last
    call, which may have skipped all of its runs. `settings` is a digest of the settings that
    affect results, and `code` a digest of the program that read `rows` from the tables.
    """

    log_folder: str
    last_log_folder: str = ""
    settings: str = ""
    code: str = ""
    rows: tuple[_PageRow, ...] = ()

    def to_text(self) -> str:
        """Return the note as JSON."""
        entries = asdict(self)
        folders = {"run": entries.pop("log_folder"), "last": entries.pop("last_log_folder")}
        return f"{json.dumps(folders | entries)}\n"

    @classmethod
    def from_text(cls, text: str) -> "Note":
        """Parse a note from JSON."""
        values = parse_json(text)
        rows = tuple(
            _PageRow(file=row["file"], stamps=tuple(row["stamps"]), summary=dict(row["summary"]))
            for row in values.get("rows", ())
        )
        texts = {name: values.get(name, "") for name in ("settings", "code")}
        last_log_folder = values.get("last", "")
        return cls(log_folder=values["run"], last_log_folder=last_log_folder, rows=rows, **texts)


def record_run(log_dir: Path, labels: Sequence[str], *, settings: str) -> bool:
    """Record that a run produced outputs of participants; return True if their notes changed.

    Participants whose runs were all skipped are also recorded; their outputs still belong to the
    logs of an earlier run. The names of log folders contain the time of the run. They are ignored
    in the comparison of notes, because clocks can be wrong.
    """
    logs, has_changed = log_dir.parent, False
    for label in dict.fromkeys([*labels, *_list_skip_reasons(log_dir)]):
        previous = read_note(logs, label)
        note = Note(
            log_folder=(
                log_dir.name if label in labels or previous is None else previous.log_folder
            ),
            last_log_folder=log_dir.name,
            settings=settings,
            code=digest_program(),
            rows=tuple(_read_page_rows(logs.parent / f"sub-{label}", label)),
        )
        has_changed |= previous is None or _get_index_content(
            logs, label, previous
        ) != _get_index_content(logs, label, note)
        write_text(_get_note_path(logs, label), note.to_text())
    return has_changed


def _get_index_content(logs: Path, label: str, note: Note) -> tuple[object, ...]:
    """Return the parts of a note that the index page shows."""
    skip_reasons = _list_skip_reasons(logs / note.last_log_folder).get(label)
    return note.settings, [row.summary for row in note.rows], skip_reasons


def read_run_summaries(root: Path, label: str) -> list[RunSummary]:
    """Return the index rows of a participant's runs.

    The rows of the participant's note are used unless files or the program have changed since
    it was written.
    A run that the last call skipped is listed as skipped, even if an earlier run left results.
    """
    logs, folder = root / "logs", root / f"sub-{label}"
    note = read_note(logs, label)
    is_current = note is not None and note.code == digest_program()
    rows = note.rows if note is not None and is_current else ()
    if not rows or any(read_times(folder / row.file) != row.stamps for row in rows):
        rows = tuple(_read_page_rows(folder, label))
    skip_reasons = (
        {} if note is None else _list_skip_reasons(logs / note.last_log_folder).get(label, {})
    )
    return [
        *(row.summary for row in rows if row.summary["run"] not in skip_reasons),
        *(RunSummary(run=run, verdict=reason) for run, reason in skip_reasons.items()),
    ]


def _read_page_rows(folder: Path, label: str) -> Iterator[_PageRow]:
    """Yield the index row of each evaluated run in a participant's folder."""
    for pattern in ("func", "ses-*/func"):
        for file in sorted(folder.glob(f"{pattern}/*{VERDICT_SUFFIX}")):
            stamps = read_times(file)
            yield _PageRow(
                file=str(file.relative_to(folder)),
                stamps=stamps,
                summary=read_run_summary(file, label),
            )


def _list_skip_reasons(log_dir: Path) -> dict[str, dict[str, str]]:
    """Return one-line reasons for skipped runs, by participant (label) and run."""
    reasons: dict[str, dict[str, str]] = {}
    for notice in read_record(log_dir):
        if notice.code == "left-out":
            runs = reasons.setdefault(notice.subject, {})
            reason = describe_skipped_run(notice)
            name = strip_participant(notice.run, notice.subject)
            runs[name] = "; ".join(dict.fromkeys(filter(None, (runs.get(name), reason))))
    return reasons


def describe_skipped_run(notice: Notice) -> str:
    """Return the reason why a run was skipped, in one line."""
    return f"skipped: {Path(notice.what).name}: {notice.why}"


def is_last_call(root: Path, bids_dir: Path, settings: str) -> bool:
    """Return True if this call completes a dataset: all participants have these settings.

    Also return True if the output has only a few participants.
    """
    labels_with_notes = set(list_noted_labels(root))
    if len(labels_with_notes) <= _MAX_FEW_PARTICIPANTS:
        return True
    labels = [path.name.removeprefix("sub-") for path in bids_dir.glob("sub-*") if path.is_dir()]
    if not labels_with_notes.issuperset(labels):
        return False
    notes = (read_note(root / "logs", label) for label in labels)
    return all(note is not None and note.settings == settings for note in notes)


def list_noted_labels(root: Path) -> list[str]:
    """Return the labels (without ``sub-``) of all participants with notes."""
    return [
        path.stem.removeprefix("sub-")
        for path in _get_note_path(root / "logs", "").parent.glob("sub-*.json")
    ]


def read_note(logs: Path, label: str) -> Note | None:
    """Return the note on a participant (label without ``sub-``), or None if there is no note."""
    try:
        return Note.from_text(_get_note_path(logs, label).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _get_note_path(logs: Path, label: str) -> Path:
    """Return the file of the note on a participant."""
    return logs / "latest" / f"sub-{label}.json"
