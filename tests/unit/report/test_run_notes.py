"""Test when a call rewrites the page of all participants: after few participants, or as the last
call.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bids_sr.io.notices import RECORD, Notice, read_record, record
from bids_sr.report import run_notes, run_summaries
from bids_sr.report.index_page import write_index
from bids_sr.report.run_notes import is_last_call, read_note, read_run_summaries, record_run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return outputs with verdicts of three participants, the only ones in the data set."""
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
    return record_run(out / "logs" / "run1", labels, settings=settings)


def test_the_call_that_completes_the_participants_is_the_last(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_notes, "_MAX_FEW_PARTICIPANTS", 0)
    data = out.parent / "data"
    _note(out, "01", "02")
    assert not is_last_call(out, data, "a")
    _note(out, "03")
    assert is_last_call(out, data, "a")


def test_changed_settings_require_all_participants_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_notes, "_MAX_FEW_PARTICIPANTS", 0)
    _note(out, "01", "02", "03")
    _note(out, "02", settings="b")
    assert not is_last_call(out, out.parent / "data", "b")
    _note(out, "01", "03", settings="b")
    assert is_last_call(out, out.parent / "data", "b")


def test_the_record_is_read_once_until_it_changes(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, labels = out / "logs" / "run1", [f"{k:02d}" for k in range(1, 9)]
    logs.mkdir(parents=True)
    record(logs, [Notice(what="bold", subject=label, code="left-out") for label in labels])
    reads, read = list[Path](), Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **options: reads.append(self) or read(self, **options)
    )
    _note(out, *labels)
    assert [read_run_summaries(out, label)[-1]["verdict"] for label in labels] == [
        "skipped: bold: "
    ] * 8
    assert reads.count(logs / RECORD) == 1
    record(logs, [Notice(what="more", subject="09", code="left-out")])
    assert [notice.what for notice in read_record(logs)][-1] == "more"


def test_noted_verdicts_are_shown_without_reading_tables(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _note(out, "01", "02")
    monkeypatch.setattr(
        run_summaries, "read_json", lambda file: {"headline": f"read {file.name[:6]}"}
    )
    run_summaries._read_cached_summary.cache_clear()
    page = write_index(out).read_text()
    assert "Found in 01." in page
    assert "Found in 02." in page
    assert "read sub-03" in page


def test_files_changed_after_the_note_are_read_again(out: Path) -> None:
    _note(out, "01")
    _verdict(out, "01", "Another.")
    assert [row["verdict"] for row in read_run_summaries(out, "01")] == ["Another."]
    (out / "sub-01" / "func" / "sub-01_task-tap_desc-verdict_metrics.json").unlink()
    assert read_run_summaries(out, "01") == []


def test_tables_are_read_again_if_the_code_that_reads_them_has_changed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _note(out, "01")
    monkeypatch.setattr(run_summaries, "read_json", lambda _: {"headline": "Read again."})
    run_summaries._read_cached_summary.cache_clear()
    assert [row["verdict"] for row in read_run_summaries(out, "01")] == ["Found in 01."]
    monkeypatch.setattr(run_notes, "digest_program", lambda: "another")
    assert [row["verdict"] for row in read_run_summaries(out, "01")] == ["Read again."]


def test_a_note_is_unchanged_after_writing_and_reading(out: Path) -> None:
    _note(out, "01")
    note = read_note(out / "logs", "01")
    assert note is not None
    assert len(note.rows) == 1
    assert run_notes.Note.from_text(note.to_text()) == note
    # entries of the files of earlier versions
    assert list(json.loads(note.to_text())) == ["run", "last", "settings", "code", "rows"]
    assert run_notes.Note.from_text(replace(note, rows=()).to_text()).rows == ()
