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
        "io/lazy.py",
        "spatial/__init__.py",
    ):
        (copy := folder / "bids_sr" / file).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((PACKAGE / "bids_sr" / file).read_bytes())
    parts = (PACKAGE / "bids_sr" / kernels).read_text(encoding="utf-8").split("\n@compile_for(")
    assert len(parts) > 4
    (folder / "bids_sr" / kernels).write_text("\n@compile_for(".join(parts[:3]), encoding="utf-8")
    return folder


def run(installed: Path, **variables: str) -> str:
    """Compute in a process of its own, and return how many functions came from a cache."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))
    }
    folders = {"PYTHONPATH": str(installed), "HOME": str(installed.parent / "home")}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environment | folders | variables,
        cwd=installed.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


def cached_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".nbi", ".nbc")]


def test_code_is_cached_and_compiled_again_if_it_is_damaged_or_compiled_otherwise(
    installed: Path,
) -> None:
    assert [run(installed), run(installed)] == ["0", "1"]
    (cache_of_cpu,) = (installed.parent / "home" / ".cache" / "bids-sr").iterdir()
    files = cached_files(cache_of_cpu)
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:40])
    assert run(installed) == "0"
    settings = installed / "bids_sr" / "io" / "compiled_loops.py"
    settings.write_text(settings.read_text().replace('"contract", "nsz"', '"contract"'))
    assert run(installed) == "0"


def test_results_are_computed_without_a_writable_cache(installed: Path) -> None:
    """Neither home nor the package folder is writable, as in a read-only container image."""
    (installed / "bids_sr" / "spatial" / "__pycache__").write_text("no folder")  # also for root
    environment = {"HOME": "/dev/null", "TMPDIR": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(installed, **environment) == "0"
