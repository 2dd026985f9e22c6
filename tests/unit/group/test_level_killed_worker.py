"""A process of the group level that is killed, as by the kernel if memory is short."""

import multiprocessing
import threading
import time
from pathlib import Path

import pytest
from data.group_maps import Study

from bids_sr.group import maps as group_maps
from bids_sr.notices import read_failed_steps


def call_with_killed_worker(study: Study, n_workers: int) -> int:
    """Run the group level, kill one of its processes, and return the exit code."""

    def kill_first_worker() -> None:
        deadline = time.monotonic() + 60
        workers = multiprocessing.active_children()
        while len(workers) < n_workers and time.monotonic() < deadline:
            time.sleep(0.01)
            workers = multiprocessing.active_children()
        workers[0].kill()

    thread = threading.Thread(target=kill_first_worker)
    thread.start()
    try:
        return study.call("--nprocs", "2")
    finally:
        thread.join()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("effects", "n_workers", "step"),
    [
        ({"all": 1.0}, 2, "group maps"),
        ({}, 1, "tables and tests of metrics (group_stats.tsv)"),
    ],
)
def test_a_killed_process_is_reported_and_the_same_command_repairs_the_results(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    effects: dict[str, float],
    n_workers: int,
    step: str,
) -> None:
    study = Study(tmp_path, ("01", "02", "03"))
    for number, participant in enumerate(study.participants):
        percent = {contrast: value + number for contrast, value in effects.items()}
        study.write_run(participant, percent)
    monkeypatch.setattr(group_maps, "CHUNK", 2)  # otherwise no processes for few participants
    assert call_with_killed_worker(study, n_workers) == 1
    error_text = capsys.readouterr().err
    assert f"killed: {step}\n" in error_text
    assert "insufficient memory" in error_text
    assert "--nprocs" in error_text
    (failed,) = read_failed_steps(study.out / "logs")[""]
    assert (failed.what, failed.code) == (step, "killed")
    assert study.files() == {}
    assert not list(study.out.glob(".group*"))
    if not effects:
        return
    assert study.call("--nprocs", "2") == 0
    results = study.files()
    assert "group.html" in results
    assert any(name.endswith("statmap.nii.gz") for name in results)
    assert call_with_killed_worker(study, n_workers) == 1
    assert study.files() == results
