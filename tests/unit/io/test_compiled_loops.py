"""Where compiled code is kept, and that it computes where nothing can be kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3]
RUN = """
import numpy as np
from bids_sr.spatial import spline_kernels as kernels
line = np.full((4, 40), 3, np.float32)
kernels.filter_last(line)
assert abs(line - 3).max() < 1e-5
print(sum(kernels.filter_first.stats.cache_hits.values()))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Folder of a program that has the first two of the compiled functions, as all would take
    seconds each time.
    """
    kernels = Path("spatial/spline_kernels.py")
    folder = tmp_path / "installed"
    for file in (
        "__init__.py",
        "io/__init__.py",
        "io/compiled_loops.py",
        "io/arrays.py",
        "spatial/__init__.py",
    ):
        (copy := folder / "bids_sr" / file).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((PACKAGE / "bids_sr" / file).read_bytes())
    parts = (PACKAGE / "bids_sr" / kernels).read_text(encoding="utf-8").split("\n@compiled(")
    assert len(parts) > 4
    (folder / "bids_sr" / kernels).write_text("\n@compiled(".join(parts[:3]), encoding="utf-8")
    return folder


@pytest.fixture
def start(tmp_path: Path, installed: Path):
    """Start a process that computes, with variables; it prints whether the code was there."""
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))
    }

    def begin(**variables: str) -> subprocess.Popen[str]:
        env = plain | {"PYTHONPATH": str(installed), "HOME": str(tmp_path / "home")} | variables
        command = [sys.executable, "-c", RUN]
        return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    return begin


def _hits(process: subprocess.Popen[str]) -> str:
    said = process.communicate(timeout=120)[0].strip()
    assert process.returncode == 0
    return said


def _kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".nbi", ".nbc")]


def test_it_is_kept_by_processor_for_processes_that_follow_and_damage_is_no_obstacle(
    start, tmp_path: Path
) -> None:
    together = [start() for _ in range(2)]
    assert {_hits(one) for one in together} <= {"0", "1"}
    (processor,) = (tmp_path / "home" / ".cache" / "bids-sr").iterdir()
    assert _kept(processor)
    assert _hits(start()) == "1"
    for path in _kept(processor):
        path.write_bytes(path.read_bytes()[:40])
    assert _hits(start()) == "0"


@pytest.mark.parametrize("name", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_the_user_says_where(start, tmp_path: Path, name: str) -> None:
    _hits(start(**{name: str(tmp_path / "chosen")}))
    assert _kept(tmp_path / "chosen")
    assert not (tmp_path / "home").exists()


def test_where_nothing_can_be_kept_it_computes(start, installed: Path) -> None:
    """Neither at home nor, as in an image that is read-only, beside the code."""
    (installed / "bids_sr" / "spatial" / "__pycache__").write_text("no folder")  # whoever runs it
    environment = {"HOME": "/dev/null", "TMPDIR": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    assert _hits(start(**environment)) == "0"
