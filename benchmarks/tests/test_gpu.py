"""Test benchmarks/gpu.py: it needs few packages, stops at its time limit, resumes, and reports its
scores.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FEW_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "nibabel",
    "safetensors",
    "skimage",
    # imported by the packages above
    *("torchgen", "functorch", "triton", "typing_extensions", "packaging", "sympy", "mpmath"),
    *("networkx", "jinja2", "markupsafe", "fsspec", "filelock", "cython_runtime", "lazy_loader"),
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the benchmark with two small trainings: on the pair, and on the low-resolution image
    only.
    """
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu as module

    monkeypatch.setattr(module, "TRAININGS", (("srgan", "fast"), ("tv", "fast")))
    return module


def run_benchmark(
    module: ModuleType, folder: Path, *more: str, clock: Callable[[], float] = time.monotonic
) -> tuple[int, dict[str, Any]]:
    """Run the benchmark with two steps; return its exit code and its table."""
    argv = [str(folder / "work"), "--results", str(folder / "kept"), "--steps", "2"]
    code = module.main([*argv, "--device", "cpu", *more], clock)
    return code, json.loads((folder / "kept" / "gpu.json").read_text())


def test_it_stops_at_its_time_limit_and_resumes(gpu: ModuleType, tmp_path: Path) -> None:
    # the clock advances 1 s per reading: the limit of 2 s is over after the first step
    code, table = run_benchmark(
        gpu, tmp_path, "--minutes", str(2 / 60), clock=count(0.0, 1.0).__next__
    )
    assert code == 3
    assert [row["state"] for row in table["rows"]] == ["search: 1 of 2 steps"]
    code, table = run_benchmark(gpu, tmp_path)
    assert code == 0
    rows = {row["method"]: row for row in table["rows"]}
    assert {name: (row["state"], row["steps"]) for name, row in rows.items()} == {
        "srgan": ("finished", 2),
        "tv": ("finished", 2),
    }
    assert rows["srgan"]["scored on"] == "held-out slices"
    assert "not seen" in rows["tv"]["scored on"]
    for row in rows.values():
        assert row["psnr bspline"] > 20
        assert 0 < row["ssim zerofill"] < 1
    assert "a try, not a result" in (tmp_path / "kept" / "gpu.md").read_text()
    # a further call computes nothing
    before = (tmp_path / "work" / "srgan_fast.safetensors").stat().st_mtime_ns
    assert run_benchmark(gpu, tmp_path)[1]["rows"] == table["rows"]
    assert (tmp_path / "work" / "srgan_fast.safetensors").stat().st_mtime_ns == before


def test_another_number_of_steps_starts_another_training(gpu: ModuleType, tmp_path: Path) -> None:
    assert run_benchmark(gpu, tmp_path, "--methods", "srgan")[0] == 0
    code, table = run_benchmark(gpu, tmp_path, "--methods", "srgan", "--steps", "3")
    assert (code, table["rows"][0]["steps"]) == (0, 3)


def test_the_docstring_states_the_steps_of_the_published_recipes() -> None:
    from bids_sr.sr.method import get_method

    text = (ROOT / "benchmarks" / "gpu.py").read_text().partition('"""')[2].partition('"""')[0]
    steps = {
        tuple(line.replace("--recipe", "").split()[:2]): int(
            line.replace("--recipe", "").split()[2].replace(",", "")
        )
        for line in text.splitlines()
        if "--recipe" in line
    }
    assert len(steps) == 4
    for (method, recipe), number in steps.items():
        assert get_method(method).recipes[recipe].steps == number


SCRIPT = """
import sys
from importlib.machinery import PathFinder

KNOWN = {{*{few!r}, *sys.stdlib_module_names, "bids_sr", "gpu", "_table", "_source_tree"}}

class Few:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in KNOWN:
            return PathFinder.find_spec(name, path, target)

# built-in and frozen modules, and those few; no editable installation of the program
sys.meta_path[:] = [*(
    one for one in sys.meta_path if getattr(one, "__name__", "").endswith("Importer")
), Few]
sys.path[:] = [one for one in sys.path if one != {root!r}]
sys.path.insert(0, {folder!r})
import gpu
assert gpu.commit_or_version()
gpu.TRAININGS = (("srgan", "fast"),)
sys.exit(gpu.main([{work!r}, "--results", {work!r}, "--steps", "1", "--device", "cpu"]))
"""


def test_it_runs_with_few_packages_from_the_source_tree(tmp_path: Path) -> None:
    source_tree = tmp_path / "tree"
    for name in ("bids_sr", "benchmarks/gpu.py", "benchmarks/_table.py"):
        source = ROOT / name
        (source_tree / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(
                source, source_tree / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copyfile(source, source_tree / name)
    shutil.copyfile(
        ROOT / "benchmarks/_source_tree.py", source_tree / "benchmarks/_source_tree.py"
    )
    pair = Path("examples/studyforrest/sub-01/anat")
    shutil.copytree(ROOT / pair, source_tree / pair)
    code = SCRIPT.format(
        few=FEW_PACKAGES,
        root=str(ROOT),
        folder=str(source_tree / "benchmarks"),
        work=str(tmp_path / "work"),
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "| srgan | fast | finished | 1 |" in process.stdout
