"""Test that two runs never process the same participant and that a lock of a killed run is taken
over.
"""

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
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_S", 0.05)
    monkeypatch.setattr(lock, "_WATCH_S", 0.3)


def _hold_lock(place: Path, *labels: str, out: str = "out", work: str = "work"):
    return output_lock(place / out, place / work, participants=labels or None, run_uuid="mine")


def _write_lock(path: Path, **changes: object) -> Path:
    """Write a lock as another run would."""
    path.parent.mkdir(parents=True)
    holder = {**lock.asdict(lock._describe_this_process("theirs")), **changes}
    path.write_text(json.dumps(holder))
    return path


def _holder_of(place: Path) -> str:
    """Return the run that holds the lock of participant 01."""
    holder = _read_holder(place / "out/logs/locks/sub-01.lock")
    return holder.run if holder else "nobody"


def test_lock_files_exist_while_held_and_are_removed(tmp_path: Path) -> None:
    with _hold_lock(tmp_path, "01", "02"):
        files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.lock"))
        tops = ("out/logs/locks", "work/locks")
        assert files == [f"{top}/sub-{label}.lock" for top in tops for label in ("01", "02")]
        holder = _read_holder(tmp_path / files[0])
        assert holder is not None
        assert (holder.run, holder.pid) == ("mine", os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_locked_participant_is_rejected_and_others_are_accepted(tmp_path: Path) -> None:
    with _hold_lock(tmp_path, "01"):
        with pytest.raises(UsageError) as error, _hold_lock(tmp_path, "02", "01"):
            pytest.fail("locked twice")
        text = str(error.value)
        assert "another run is working on sub-01\n" in text
        assert f"process {os.getpid()}" in text
        assert "run mine" in text
        assert str(tmp_path / "out/logs/locks/sub-01.lock") in text
        assert "fix:" in text
        assert not list(tmp_path.rglob("sub-02.lock"))  # all or none
        # another participant, and the group level
        with _hold_lock(tmp_path, "02"), _hold_lock(tmp_path):
            pass
    with _hold_lock(tmp_path, "01"):
        pass


def test_a_working_directory_shared_by_two_outputs_is_rejected(tmp_path: Path) -> None:
    with (
        _hold_lock(tmp_path, "01"),
        pytest.raises(UsageError, match="work/locks"),
        _hold_lock(tmp_path, "01", out="other"),
    ):
        pytest.fail("locked twice")
    assert not (tmp_path / "other").exists()


def test_the_group_level_has_one_lock(tmp_path: Path) -> None:
    with (
        _hold_lock(tmp_path),
        pytest.raises(UsageError, match="working on group"),
        _hold_lock(tmp_path),
    ):
        pytest.fail("locked twice")


def test_the_lock_of_a_killed_run_is_taken_over_with_a_warning(
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
    with pytest.raises(UsageError, match=f"process {child.pid}"), _hold_lock(tmp_path, "01"):
        pytest.fail("locked twice")
    child.send_signal(signal.SIGKILL)
    child.wait()
    with caplog.at_level(logging.WARNING), _hold_lock(tmp_path, "01"):
        assert "theirs" in caplog.text
        assert "taking over the lock" in caplog.text


def test_a_later_process_with_the_same_pid_does_not_hold_the_lock(tmp_path: Path) -> None:
    _write_lock(tmp_path / "out/logs/locks/sub-01.lock", ticks="1")
    with _hold_lock(tmp_path, "01"):
        assert _holder_of(tmp_path) == "mine"


@pytest.mark.parametrize("stamp", [1, int(4e18)], ids=["long ago", "in the future"])
def test_a_lock_of_another_machine_without_heartbeat_is_taken_over(
    tmp_path: Path, stamp: int
) -> None:
    path = _write_lock(tmp_path / "out/logs/locks/sub-01.lock", machine="elsewhere", host="other")
    os.utime(path, ns=(stamp, stamp))
    with _hold_lock(tmp_path, "01"):
        holder = _read_holder(path)
        assert holder is not None
        assert holder.run == "mine"


def test_a_lock_of_another_machine_with_heartbeat_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _hold_lock(tmp_path, "01"):
        monkeypatch.setattr(lock, "_identify_machine", lambda: "elsewhere")
        with pytest.raises(UsageError, match="another run"), _hold_lock(tmp_path, "01"):
            pytest.fail("locked twice")


@pytest.mark.parametrize("content", ["", "{", '{"run": 1}'])
def test_an_unreadable_lock_without_heartbeat_is_taken_over(tmp_path: Path, content: str) -> None:
    path = _write_lock(tmp_path / "out/logs/locks/sub-01.lock")
    path.write_text(content)
    with _hold_lock(tmp_path, "01"):
        assert _holder_of(tmp_path) == "mine"


def test_a_run_stops_if_its_lock_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signals = []
    before = signal.signal(signal.SIGTERM, lambda *_: signals.append(1))
    try:
        with _hold_lock(tmp_path, "01"):
            path = tmp_path / "work/locks/sub-01.lock"
            path.unlink()
            _write_lock(tmp_path / "x" / "y", run="theirs").rename(path)
            deadline = time.monotonic() + 10
            while not signals and time.monotonic() < deadline:
                time.sleep(0.02)
        assert signals
        assert "another run has taken over this lock" in caplog.text
        holder = _read_holder(path)
        assert holder is not None
        assert holder.run == "theirs"  # the former holder does not remove the lock
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_unwritable_lock_directory_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="cannot write"), _hold_lock(tmp_path, "01"):
        pytest.fail("locked")
