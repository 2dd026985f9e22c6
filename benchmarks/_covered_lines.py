"""Lines of the program that each test runs, also in the processes that it starts.

Loaded by pytest with ``-p _covered_lines`` in all workers, as `measure_coverage` does.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _mutations import PRODUCT

_TEST = "BIDS_SR_COVERED_TEST"
_FOLDER = "BIDS_SR_COVERED_FOLDER"
_seconds: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Name the test for the lines that it runs, and measure its time."""
    import coverage

    if (current := coverage.Coverage.current()) is not None:
        current.switch_context(item.nodeid)
    os.environ[_TEST] = item.nodeid
    start = time.monotonic()
    result = yield
    _seconds[item.nodeid] = round(time.monotonic() - start, 3)
    return result


def pytest_sessionfinish() -> None:
    """Write the times of this process."""
    folder = os.environ.get(_FOLDER)
    if folder and _seconds:
        Path(folder, f"seconds-{os.getpid()}.json").write_text(json.dumps(_seconds))


def measure_coverage(checkout: Path, python: Path, folder: Path) -> dict[str, Any]:
    """Run the default tests of a checkout, and return lines by test and module, and seconds.

    Tests may fail: some measure time or memory, which coverage changes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    include = "\n    ".join(f"{checkout / name}/*" for name in PRODUCT)
    (folder / "coveragerc").write_text(
        f"[run]\ndata_file = {folder / 'data'}\nparallel = True\ncontext = ${{{_TEST}-}}\n"
        "concurrency = thread, multiprocessing\nsigterm = True\ndisable_warnings =\n"
        "    no-data-collected\n    module-not-measured\n    module-not-imported\n"
        f"include =\n    {include}\n"
    )
    (folder / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    paths = (folder, Path(__file__).parent, checkout)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "COVERAGE_PROCESS_START": str(folder / "coveragerc"),
        _FOLDER: str(folder),
    }
    command = [str(python), "-m", "pytest", "-q", "-p", "_covered_lines"]
    subprocess.run(command, cwd=checkout, env=environment, check=False, stdout=sys.stderr)
    return read_coverage(checkout, folder)


def read_coverage(checkout: Path, folder: Path) -> dict[str, Any]:
    """Return lines by test and module, and seconds by test, of the files of a run."""
    from coverage import CoverageData

    lines: dict[str, dict[str, set[int]]] = {}
    for path in folder.glob("data.*"):
        data = CoverageData(str(path))
        data.read()
        for file in data.measured_files():
            module = Path(file).relative_to(checkout).as_posix()
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    test = context.rpartition("|")[2]
                    if test:
                        lines.setdefault(test, {}).setdefault(module, set()).add(line)
    seconds: dict[str, float] = {}
    for path in folder.glob("seconds-*.json"):
        seconds |= json.loads(path.read_text())
    return {
        "lines": {
            test: {module: sorted(numbers) for module, numbers in modules.items()}
            for test, modules in lines.items()
        },
        "seconds": seconds,
    }
