"""A process of the group level that is killed, as by the kernel if memory is short."""

import multiprocessing
import threading
import time
from pathlib import Path

import pytest
from data.group_maps import Study

from bids_sr.group import maps as group_maps
from bids_sr.io.notices import read_failed_steps


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
    ("has_maps", "n_workers", "step"),
    [(True, 2, "group maps"), (False, 1, "tables and tests of metrics (group_stats.tsv)")],
)
def test_a_killed_process_is_reported_and_changes_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_maps: bool, n_workers: int, step: str
) -> None:
    """Results of an earlier call exist if there are maps. A call without processes
    repairs them.
    """
    study = Study(tmp_path, ("01", "02", "03"))
    for number, participant in enumerate(study.participants):
        study.write_run(participant, {"all": 1.0 + number} if has_maps else {})
    monkeypatch.setattr(group_maps, "CHUNK", 2)  # otherwise no processes for few participants
    if has_maps:
        assert study.call("--nprocs", "1") == 0
    results = study.files()
    assert any(name.endswith("statmap.nii.gz") for name in results) == has_maps
    assert call_with_killed_worker(study, n_workers) == 1
    (failed,) = read_failed_steps(study.out / "logs")[""]
    assert (failed.what, failed.code) == (step, "killed")
    assert "--nprocs" in failed.remedy
    assert study.files() == results
    assert not list(study.out.glob(".group*"))
    assert study.call("--nprocs", "1") == 0
    repaired = study.files()
    assert "group.html" in repaired
    assert {name: repaired[name] for name in results if not name.endswith("html")} == {
        name: content for name, content in results.items() if not name.endswith("html")
    }
