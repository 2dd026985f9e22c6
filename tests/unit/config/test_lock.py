"""Two runs never work on one participant; a run that died holds nobody up."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_sr.config import UsageError, lock
from bids_sr.config.lock import _read_holder, output_lock


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_S", 0.05)
    monkeypatch.setattr(lock, "_WATCH_S", 0.3)


def _held(place: Path, *labels: str, out: str = "out", work: str = "work"):
    return output_lock(place / out, place / work, participants=labels or None, run_uuid="mine")


def _left_by(path: Path, **changes: object) -> Path:
    """A lock as another run left it."""
    path.parent.mkdir(parents=True)
    facts = {**lock.asdict(lock._own_holder("theirs")), **changes}
    path.write_text(json.dumps(facts))
    return path


def _run_of(place: Path) -> str:
    """Which run holds the lock of participant 01."""
    holder = _read_holder(place / "out/logs/locks/sub-01.lock")
    return holder.run if holder else "nobody"


def test_locks_are_there_while_held_and_leave_nothing(tmp_path: Path) -> None:
    with _held(tmp_path, "01", "02"):
        files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.lock"))
        tops = ("out/logs/locks", "work/locks")
        assert files == [f"{top}/sub-{label}.lock" for top in tops for label in ("01", "02")]
        holder = _read_holder(tmp_path / files[0])
        assert holder is not None
        assert (holder.run, holder.pid) == ("mine", os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_the_same_participant_is_refused_and_others_are_not(tmp_path: Path) -> None:
    with _held(tmp_path, "01"):
        with pytest.raises(UsageError) as refused, _held(tmp_path, "02", "01"):
            pytest.fail("locked twice")
        text = str(refused.value)
        assert "another run is working on sub-01\n" in text
        assert f"process {os.getpid()}" in text
        assert "run mine" in text
        assert str(tmp_path / "out/logs/locks/sub-01.lock") in text
        assert "fix:" in text
        assert not list(tmp_path.rglob("sub-02.lock"))  # all or none
        with _held(tmp_path, "02"), _held(tmp_path):  # other participants; the group level
            pass
    with _held(tmp_path, "01"):
        pass


def test_one_working_directory_for_two_outputs_is_refused(tmp_path: Path) -> None:
    with (
        _held(tmp_path, "01"),
        pytest.raises(UsageError, match="work/locks"),
        _held(tmp_path, "01", out="other"),
    ):
        pytest.fail("locked twice")
    assert not (tmp_path / "other").exists()


def test_the_group_level_is_locked_once(tmp_path: Path) -> None:
    with _held(tmp_path), pytest.raises(UsageError, match="working on group"), _held(tmp_path):
        pytest.fail("locked twice")


def test_a_killed_run_is_taken_over_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import pathlib, time\nfrom bids_sr.config.lock import output_lock\nplace ="
        f" pathlib.Path({str(tmp_path)!r})\nwith output_lock(place / 'out', place / 'work',"
        " participants=['01'], run_uuid='theirs'):\n    print('held', flush=True)\n   "
        " time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=f"process {child.pid}"), _held(tmp_path, "01"):
        pytest.fail("locked twice")
    child.send_signal(signal.SIGKILL)
    child.wait()
    with caplog.at_level(logging.WARNING), _held(tmp_path, "01"):
        assert "theirs" in caplog.text
        assert "taking over the lock" in caplog.text


def test_another_process_of_the_same_number_does_not_hold_the_lock(tmp_path: Path) -> None:
    _left_by(tmp_path / "out/logs/locks/sub-01.lock", ticks="1")
    with _held(tmp_path, "01"):
        assert _run_of(tmp_path) == "mine"


@pytest.mark.parametrize("stamp", [1, int(4e18)], ids=["long ago", "in the future"])
def test_a_silent_holder_elsewhere_is_taken_over_whatever_the_clock_says(
    tmp_path: Path, stamp: int
) -> None:
    path = _left_by(tmp_path / "out/logs/locks/sub-01.lock", machine="elsewhere", host="other")
    os.utime(path, ns=(stamp, stamp))
    with _held(tmp_path, "01"):
        holder = _read_holder(path)
        assert holder is not None
        assert holder.run == "mine"


def test_a_beating_holder_elsewhere_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _held(tmp_path, "01"):
        monkeypatch.setattr(lock, "_machine", lambda: "elsewhere")
        with pytest.raises(UsageError, match="another run"), _held(tmp_path, "01"):
            pytest.fail("locked twice")


@pytest.mark.parametrize("content", ["", "{", '{"run": 1}'])
def test_a_lock_that_cannot_be_read_and_does_not_beat_is_taken_over(
    tmp_path: Path, content: str
) -> None:
    path = _left_by(tmp_path / "out/logs/locks/sub-01.lock")
    path.write_text(content)
    with _held(tmp_path, "01"):
        assert _run_of(tmp_path) == "mine"


def test_a_run_that_lost_its_lock_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    try:
        with _held(tmp_path, "01"):
            path = tmp_path / "work/locks/sub-01.lock"
            path.unlink()
            _left_by(tmp_path / "x" / "y", run="theirs").rename(path)
            until = time.monotonic() + 10
            while not told and time.monotonic() < until:
                time.sleep(0.02)
        assert told
        assert "another run has taken over this lock" in caplog.text
        holder = _read_holder(path)
        assert holder is not None
        assert holder.run == "theirs"  # not removed by the one that lost it
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="cannot write"), _held(tmp_path, "01"):
        pytest.fail("locked")
