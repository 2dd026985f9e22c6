"""``--mem`` and ``--nprocs`` are kept by the whole program, measured from outside."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from .conftest import BIN, call

GIVEN_GB, PROCESSORS = 1.7, 4


def _session(leader: int) -> list[int]:
    """Processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[3]) == leader:
                found.append(int(entry.name))
    return found


def _pss_gb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024e-9


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_given_is_not_exceeded(tiny: Path, tmp_path: Path) -> None:
    command = [
        str(BIN / "bids-sr"), str(tiny), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work"), "--sloppy",
        "--smoothing", "0", "--nprocs", str(PROCESSORS), "--mem", str(GIVEN_GB), "--resource-monitor",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "8", "OPENBLAS_NUM_THREADS": "8"}
    run = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.3):
            peak[0] = max(peak[0], sum(map(_pss_gb, _session(run.pid))))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    text, _ = run.communicate()
    done.set()
    sampler.join()
    assert run.returncode == 0, text
    assert f"of {PROCESSORS} processors be used" in text
    assert 0.5 < peak[0] < GIVEN_GB
    (table,) = (tmp_path / "out").glob("logs/*/resources.tsv")
    heads, *rows = (line.split("\t") for line in table.read_text().splitlines())
    for row in rows:
        told = dict(zip(heads, row, strict=True))
        took, seconds = float(told["cpu_seconds"]), float(told["seconds"])
        assert took < 1.15 * seconds + 0.3, f"{told['node']} took {took:.1f} processor seconds in {seconds:.1f} s"


@pytest.mark.slow
def test_too_little_memory_is_refused_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = call([str(BIN / "bids-sr"), str(tiny), str(out), "participant", "--mem", "0.9"])
    assert code == 2, text
    assert "--mem 0.9" in text
    assert "Give --mem 1" in text
    assert not out.exists()
