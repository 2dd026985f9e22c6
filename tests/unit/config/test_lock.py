"""Test that two runs never process the same participant and that the lock of a stopped run is
taken over, with runs in other processes.
"""

import contextlib
import errno
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bids_sr.config import lock
from bids_sr.config.lock import find_running, output_lock
from bids_sr.io.notices import UsageError

_LEASE_S = 1.5  # in all processes of these tests
_PROGRAM = """
import pathlib, socket, sys, time
from bids_sr.config import lock
if sys.argv[2]:
    socket.gethostname = lambda: sys.argv[2]
lock._BEAT_S, lock._LEASE_S = 0.2, float(sys.argv[3])
place = pathlib.Path(sys.argv[1])
with lock.output_lock(place / "out", place / "work", participants=["01"], run_uuid="theirs"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_S", 0.2)
    monkeypatch.setattr(lock, "_LEASE_S", _LEASE_S)


def _hold_lock(place: Path, *labels: str, run: str = "mine", out: str = "out"):
    return output_lock(place / out, place / "work", participants=labels or None, run_uuid=run)


@contextlib.contextmanager
def _hold_elsewhere(place: Path, host: str = "") -> Iterator["subprocess.Popen[str]"]:
    """Hold the lock of participant 01 in another process."""
    command = [sys.executable, "-c", _PROGRAM, str(place), host, str(_LEASE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def test_locks_exist_while_held_and_are_removed(tmp_path: Path) -> None:
    with _hold_lock(tmp_path, "01", "02"):
        for folder in ("out/logs/locks", "work/locks"):
            assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [
                "mine.json",
                "mine.lease",
            ]
        assert list(find_running(tmp_path / "out")) == ["sub-01", "sub-02"]
    assert list(tmp_path.iterdir()) == []
    assert find_running(tmp_path / "out") == {}


def test_a_second_run_is_refused_soon_and_the_lock_of_a_killed_run_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _hold_elsewhere(tmp_path) as child:
        start = time.monotonic()
        with (
            pytest.raises(UsageError, match="sub-01") as error,
            _hold_lock(tmp_path, "02", "01"),
        ):
            pytest.fail("locked twice")
        assert time.monotonic() - start < _LEASE_S
        text = str(error.value)
        assert f"process {child.pid}" in text
        assert "run theirs" in text
        assert str(tmp_path / "out/logs/locks/theirs.lease") in text
        assert "fix:" in text
        assert list(find_running(tmp_path / "out")) == ["sub-01"]  # all or none
        # another participant, and the group level
        with _hold_lock(tmp_path, "02"), _hold_lock(tmp_path, run="other"):
            pass
        child.kill()
        child.wait()
        start = time.monotonic()
        with caplog.at_level(logging.WARNING), _hold_lock(tmp_path, "01"):
            assert time.monotonic() - start < _LEASE_S
            assert "theirs" in caplog.text
            assert list(find_running(tmp_path / "out")) == ["sub-01"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_stopped_on_another_host_does_not_delay_other_participants(tmp_path: Path) -> None:
    def hold_same_participant() -> float:
        start = time.monotonic()
        with _hold_lock(tmp_path, "01"):
            return time.monotonic() - start

    with _hold_elsewhere(tmp_path, host="other") as child, ThreadPoolExecutor(1) as pool:
        child.send_signal(signal.SIGSTOP)
        waiting = pool.submit(hold_same_participant)
        time.sleep(_LEASE_S / 3)
        start = time.monotonic()
        with _hold_lock(tmp_path, "02", run="second"):
            assert time.monotonic() - start < _LEASE_S / 3
            assert not waiting.done()
        assert waiting.result() >= _LEASE_S


def test_a_run_stopped_on_another_host_loses_its_lock_and_ends(tmp_path: Path) -> None:
    with _hold_elsewhere(tmp_path, host="other") as child:
        with pytest.raises(UsageError, match="other"), _hold_lock(tmp_path, "01"):
            pytest.fail("locked twice")
        child.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with _hold_lock(tmp_path, "01"):
            assert time.monotonic() - start >= _LEASE_S
            child.send_signal(signal.SIGCONT)
            assert child.wait(timeout=10) == -signal.SIGTERM
            assert list(find_running(tmp_path / "out")) == ["sub-01"]


def test_a_run_on_another_host_without_heartbeat_is_not_running(tmp_path: Path) -> None:
    with _hold_elsewhere(tmp_path, host="other") as child:
        child.kill()
        child.wait()
        start = time.monotonic()
        assert find_running(tmp_path / "out") == {}
        assert time.monotonic() - start >= _LEASE_S


def test_a_working_directory_shared_by_two_outputs_is_rejected(tmp_path: Path) -> None:
    with (
        _hold_lock(tmp_path, "01"),
        pytest.raises(UsageError, match="work/locks"),
        _hold_lock(tmp_path, "01", out="other", run="second"),
    ):
        pytest.fail("locked twice")
    assert not (tmp_path / "other").exists()


def test_the_group_level_has_one_lock(tmp_path: Path) -> None:
    with (
        _hold_lock(tmp_path),
        pytest.raises(UsageError, match="group"),
        _hold_lock(tmp_path, run="second"),
    ):
        pytest.fail("locked twice")


@pytest.mark.parametrize("content", ["", "{", '{"run": 1}'])
def test_damaged_records_of_other_runs_are_ignored(tmp_path: Path, content: str) -> None:
    path = tmp_path / "out/logs/locks/theirs.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with _hold_lock(tmp_path, "01"):
        assert list(find_running(tmp_path / "out")) == ["sub-01"]


def test_an_unwritable_lock_directory_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match=str(tmp_path)), _hold_lock(tmp_path, "01"):
        pytest.fail("locked")


def test_a_full_disk_is_reported_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, _content: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(lock, "write_json", fail)
    with pytest.raises(UsageError, match="No space left"), _hold_lock(tmp_path, "01"):
        pytest.fail("locked")
    assert list(tmp_path.iterdir()) == []
