"""Who writes the page over all participants: a call over few of them, or the one that finds itself
the last.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bids_sr.notices import RECORD, Notice, record, recorded
from bids_sr.report import run_notes, run_summaries
from bids_sr.report.index_page import write_index
from bids_sr.report.run_notes import is_last, note_of, note_run, rows_of


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three participants with a verdict, and the data set of these three."""
    for label in ("01", "02", "03"):
        (tmp_path / "data" / f"sub-{label}").mkdir(parents=True)
        for name in ("func", "figures"):
            (tmp_path / "out" / f"sub-{label}" / name).mkdir(parents=True)
        _verdict(tmp_path / "out", label, f"Found in {label}.")
    return tmp_path / "out"


def _verdict(out: Path, label: str, text: str) -> None:
    file = out / f"sub-{label}" / "func" / f"sub-{label}_task-tap_desc-verdict_metrics.json"
    file.write_text(json.dumps({"headline": text}))
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))


def _note(out: Path, *labels: str, settings: str = "a") -> bool:
    return note_run(out / "logs" / "run1", labels, settings=settings)


def test_the_last_of_many_finds_that_it_is(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_notes, "_FEW", 0)
    data = out.parent / "data"
    _note(out, "01", "02")
    assert not is_last(out, data, "a")
    _note(out, "03")
    assert is_last(out, data, "a")


def test_with_other_settings_all_have_to_be_run_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_notes, "_FEW", 0)
    _note(out, "01", "02", "03")
    _note(out, "02", settings="b")
    assert not is_last(out, out.parent / "data", "b")
    _note(out, "01", "03", settings="b")
    assert is_last(out, out.parent / "data", "b")


def test_the_record_is_read_once_for_all_until_it_grows(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, labels = out / "logs" / "run1", [f"{k:02d}" for k in range(1, 9)]
    logs.mkdir(parents=True)
    record(logs, [Notice(what="bold", subject=each, code="left-out") for each in labels])
    reads, read = list[Path](), Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **how: reads.append(self) or read(self, **how)
    )
    _note(out, *labels)
    assert [rows_of(out, label)[-1]["verdict"] for label in labels] == ["skipped: bold: "] * 8
    assert reads.count(logs / RECORD) == 1
    record(logs, [Notice(what="more", subject="09", code="left-out")])
    assert [each.what for each in recorded(logs)][-1] == "more"


def test_few_participants_are_shown_after_each_call(out: Path) -> None:
    _note(out, "01")
    assert is_last(out, out.parent / "data", "a")


def test_what_is_noted_is_shown_without_reading_tables(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _note(out, "01", "02")
    monkeypatch.setattr(
        run_summaries, "read_json", lambda file: {"headline": f"read {file.name[:6]}"}
    )
    run_summaries._cached_summary.cache_clear()
    page = write_index(out).read_text()
    assert "Found in 01." in page
    assert "Found in 02." in page
    assert "read sub-03" in page


def test_files_that_changed_after_the_note_are_read(out: Path) -> None:
    _note(out, "01")
    _verdict(out, "01", "Another.")
    assert [row["verdict"] for row in rows_of(out, "01")] == ["Another."]
    (out / "sub-01" / "func" / "sub-01_task-tap_desc-verdict_metrics.json").unlink()
    assert rows_of(out, "01") == []


def test_a_call_that_recomputes_nothing_changes_nothing(out: Path) -> None:
    assert _note(out, "01")
    assert not _note(out, "01")
    assert _note(out, "01", settings="b")
    _verdict(out, "01", "Another.")
    assert _note(out, "01", settings="b")


def test_a_note_survives_the_file(out: Path) -> None:
    _note(out, "01")
    note = note_of(out / "logs", "01")
    assert note is not None
    assert len(note.rows) == 1
    assert run_notes.Note.from_text(note.to_text()) == note
    assert run_notes.Note.from_text(replace(note, rows=()).to_text()).rows == ()
