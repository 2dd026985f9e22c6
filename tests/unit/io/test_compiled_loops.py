"""Cache of compiled functions, and computation without a cache."""

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
    """Return a folder with a package that contains the first two compiled functions.

    Compiling all of them takes seconds per call.
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
    parts = (PACKAGE / "bids_sr" / kernels).read_text(encoding="utf-8").split("\n@compile_for(")
    assert len(parts) > 4
    (folder / "bids_sr" / kernels).write_text("\n@compile_for(".join(parts[:3]), encoding="utf-8")
    return folder


@pytest.fixture
def start(tmp_path: Path, installed: Path):
    """Return a function that starts a computation with environment variables.

    The process prints whether it used cached code.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))
    }

    def start_process(**variables: str) -> subprocess.Popen[str]:
        env = (
            environment
            | {"PYTHONPATH": str(installed), "HOME": str(tmp_path / "home")}
            | variables
        )
        command = [sys.executable, "-c", RUN]
        return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    return start_process


def _hits(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=120)[0].strip()
    assert process.returncode == 0
    return output


def _cached_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".nbi", ".nbc")]


def test_code_is_cached_per_cpu_type_and_damaged_caches_are_replaced(
    start, tmp_path: Path
) -> None:
    processes = [start() for _ in range(2)]
    assert {_hits(process) for process in processes} <= {"0", "1"}
    (cache_of_cpu,) = (tmp_path / "home" / ".cache" / "bids-sr").iterdir()
    assert _cached_files(cache_of_cpu)
    assert _hits(start()) == "1"
    for path in _cached_files(cache_of_cpu):
        path.write_bytes(path.read_bytes()[:40])
    assert _hits(start()) == "0"


def test_code_is_compiled_again_after_a_change_of_the_compilation(start, installed: Path) -> None:
    assert [_hits(start()), _hits(start())] == ["0", "1"]
    settings = installed / "bids_sr" / "io" / "compiled_loops.py"
    settings.write_text(settings.read_text().replace('"contract", "nsz"', '"contract"'))
    assert _hits(start()) == "0"


@pytest.mark.parametrize("name", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_environment_variables_set_the_cache_directory(start, tmp_path: Path, name: str) -> None:
    _hits(start(**{name: str(tmp_path / "chosen")}))
    assert _cached_files(tmp_path / "chosen")
    assert not (tmp_path / "home").exists()


def test_results_are_computed_without_a_writable_cache(start, installed: Path) -> None:
    """Neither home nor the package folder is writable, as in a read-only container image."""
    (installed / "bids_sr" / "spatial" / "__pycache__").write_text("no folder")  # also for root
    environment = {"HOME": "/dev/null", "TMPDIR": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    assert _hits(start(**environment)) == "0"
