"""Draw faults at random, put each into the program, and list those that no test detects.

    python benchmarks/mutants.py --seed 1 --number 40                     whole program
    python benchmarks/mutants.py --seed 1 --number 40 --under bids_sr/glm workflows
    python benchmarks/mutants.py --seed 1 --number 40 --list              draw only

Before the first fault, the default tests run once with coverage (a quarter of an hour), and the
lines that each test runs are kept in a file (``--coverage``). For a fault, the tests that run its
line are run, tests of the same package first, until one fails. They run in a process that is
forked after the libraries have been imported, in a clone of the checkout. Logs, texts and
annotations are not changed.

Results are appended to a file (``--results``), and faults that are there are not tried again.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _covered_lines import measure_coverage
from _mutations import PRODUCT, Mutant, draw_mutants
from _table import keep

HERE = Path(__file__).resolve()
KILLED, SURVIVED, UNCOVERED = "killed", "survived", "no test runs it"
_NO_TESTS = 5
"""Exit code of pytest: none of the tests is collected."""
_LIBRARIES = (
    "bids",
    "nibabel",
    "nilearn.glm.first_level",
    "nipype.pipeline.engine",
    "numpy",
    "pandas",
    "pytest",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.stats",
    "torch",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """Lines by test and module, and seconds by test."""

    lines: Mapping[str, Mapping[str, Sequence[int]]]
    seconds: Mapping[str, float]

    def find_tests(self, mutant: Mutant, longest_s: float) -> list[str]:
        """Return the tests for a fault, tests of its package first, within about `longest_s`.

        They run a line of the statement, or belong to the module by their name, because a function
        may run only once in a process. Of code that is compiled, or runs when its module is
        imported, they run any line of the module, or of a module that imports it, or are tests of
        the package.
        """
        first, last = mutant.lines
        modules = (mutant.module, *mutant.importers)
        if mutant.is_traced:
            tests = [
                test
                for test in self.seconds
                if Path(mutant.module).stem in Path(test.partition("::")[0]).stem
                or any(
                    first <= line <= last
                    for line in self.lines.get(test, {}).get(mutant.module, ())
                )
            ]
        else:
            folder = f"tests/unit/{Path(mutant.module).parts[1]}/"
            tests = [
                test
                for test in self.seconds
                if test.startswith(folder)
                or not self.lines.get(test, {}).keys().isdisjoint(modules)
            ]
        files = defaultdict(list)
        for test in tests:
            files[test.partition("::")[0]].append(test)
        cost = {file: sum(self.seconds.get(t, 1.0) for t in files[file]) for file in files}
        parts = set(Path(mutant.module).with_suffix("").parts)

        def rank(file: str) -> tuple[int, float]:
            shared = sum(part.removeprefix("test_") in parts for part in Path(file[:-3]).parts)
            return -shared, cost[file]

        chosen: list[str] = []
        total = 0.0
        for file in sorted(files, key=rank):
            if not chosen or total + cost[file] <= longest_s:
                chosen += files[file]
                total += cost[file]
        return chosen


def main() -> int:
    """Try faults; return 0 if the tests detect all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, required=True, help="of the draw")
    parser.add_argument("--number", type=int, default=40, help="of faults (default: 40)")
    parser.add_argument("--under", nargs="+", default=PRODUCT, help="paths of modules begin so")
    parser.add_argument("--list", action="store_true", help="print the draw, and end")
    parser.add_argument("--checkout", type=Path, default=HERE.parents[1], help="of which code")
    parser.add_argument("--coverage", type=Path, default=Path("build/coverage.json"))
    parser.add_argument("--results", type=Path, default=Path("build/mutants.jsonl"))
    parser.add_argument("--jobs", type=int, default=1, help="faults at once (default: 1)")
    parser.add_argument(
        "--longest", type=float, default=90.0, help="seconds of tests per fault (default: 90)"
    )
    parser.add_argument(
        "--equivalent",
        type=Path,
        default=HERE.parent / "results" / "mutants_equivalent.tsv",
        help="table of faults that change no result, each with the reason",
    )
    parser.add_argument("--name", help="store the counts as a table in benchmarks/results")
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    mutants = draw_mutants(checkout, options.number, options.seed, options.under)
    if options.list:
        for mutant in mutants:
            print(_describe(mutant))
        return 0
    if not options.coverage.exists():
        if find_spec("coverage") is None:
            sys.exit("The package coverage is missing: pip install -e '.[benchmarks]'")
        options.coverage.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            content = measure_coverage(checkout, Path(sys.executable), Path(folder))
        options.coverage.write_text(json.dumps(content))
    coverage = Coverage(**json.loads(options.coverage.read_text()))
    rows = _read_rows(options.results)
    rest = [mutant for mutant in mutants if _describe(mutant) not in rows]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        _try_all(rest, checkout, Path(folder), coverage, options)
    rows = _read_rows(options.results)
    results = [rows[_describe(mutant)] for mutant in mutants]
    reasons = _read_equivalent(options.equivalent)
    missed = [row for row in results if row["result"] != KILLED and row["mutant"] not in reasons]
    for row in missed:
        print(f"{row['result']:16}{row['mutant']}")
    equivalent = sum(row["mutant"] in reasons for row in results)
    print(
        f"{len(results)} faults, {equivalent} equivalent, {len(missed)} of the others not detected"
    )
    if options.name:
        keep(
            options.name,
            "Faults drawn at random, and how many of them the tests detect",
            _count_by_part(results, reasons),
            remarks=[f"Not detected: `{row['mutant']}`" for row in missed],
        )
    return 1 if missed else 0


def _count_by_part(
    results: Sequence[Mapping[str, Any]], reasons: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return numbers of faults by part of the program, and in total."""
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in results:
        folders = Path(row["mutant"].partition(":")[0]).parts[:-1]
        result = "equivalent" if row["mutant"] in reasons else row["result"]
        for part in ("/".join(folders[:2]), "all"):
            parts[part][result] += 1
    return [
        {
            "part": part,
            "faults": counts.total(),
            "equivalent": counts["equivalent"],
            "detected": counts[KILLED],
            "not detected": counts[SURVIVED] + counts[UNCOVERED],
        }
        for part, counts in sorted(parts.items(), key=lambda item: (item[0] == "all", item[0]))
    ]


def _read_equivalent(path: Path) -> dict[str, str]:
    """Return the reasons of faults that change nothing, by fault."""
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    return dict(line.split("\t", 1) for line in lines)


def _describe(mutant: Mutant) -> str:
    """Return place and change of a fault in one line."""
    place = f"{mutant.module}:{mutant.lines[0]} {mutant.function}"
    return f"{place} [{mutant.kind}] {mutant.before} -> {mutant.after}"


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a file of results by their faults; none if there is no file."""
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text().splitlines())
    return {row["mutant"]: row for row in rows}


def _try_all(
    mutants: Sequence[Mutant],
    checkout: Path,
    folder: Path,
    coverage: Coverage,
    options: argparse.Namespace,
) -> None:
    """Try faults, each job in a copy of its own, and append their rows to the results."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    for name in _LIBRARIES:
        __import__(name)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    workers = []
    for number in range(options.jobs):
        copy = folder / str(number)
        _copy_checkout(checkout, copy)
        args = (mutants[number :: options.jobs], copy, coverage, options.results, options.longest)
        workers.append(get_context("fork").Process(target=_try_in_copy, args=args))
        workers[-1].start()
    for worker in workers:
        worker.join()


def _copy_checkout(source: Path, target: Path) -> None:
    """Clone the commit of a checkout, with the folder beside it that some tests read."""
    command = ["git", "clone", "--quiet", "--shared", str(source), str(target)]
    subprocess.run(command, check=True)
    beside = source.parent / "shared"
    if beside.exists() and not (target.parent / "shared").exists():
        (target.parent / "shared").symlink_to(beside)


def _try_in_copy(
    mutants: Sequence[Mutant], copy: Path, coverage: Coverage, results: Path, longest_s: float
) -> None:
    """Put faults into a copy one after the other, and run their tests.

    A test that detects a fault has to pass without it; those that do not are left out.
    """
    passing: set[str] = set()
    failing: set[str] = set()
    for mutant in mutants:
        start = time.monotonic()
        result = ""
        while not result:
            tests = [t for t in coverage.find_tests(mutant, longest_s) if t not in failing]
            expected_s = sum(coverage.seconds.get(test, 1.0) for test in tests)
            path = copy / mutant.module
            before = path.read_text(encoding="utf-8")
            path.write_text(mutant.source, encoding="utf-8")
            try:
                result, by = (
                    _run_tests(copy, tests, 60 + 5 * expected_s) if tests else (UNCOVERED, "")
                )
            finally:
                path.write_text(before, encoding="utf-8")
            if result == KILLED and by in tests and by not in passing:
                passes = _run_tests(copy, [by], 300)[0] == SURVIVED
                (passing if passes else failing).add(by)
                result = KILLED if passes else ""
        row = {
            "mutant": _describe(mutant),
            "result": result,
            "by": by,
            "tests": len(tests),
            "s": round(time.monotonic() - start, 1),
        }
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{result:10}{row['s']:6} s  {row['mutant']}  {by}", file=sys.stderr, flush=True)


def _run_tests(copy: Path, tests: Sequence[str], limit_s: float) -> tuple[str, str]:
    """Run tests in a forked process; return the result, and the first test that failed."""
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    child = os.fork()
    if child == 0:
        os.setsid()
        with (folder / "log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            os._exit(_run_pytest(copy, tests, folder))
    end = time.monotonic() + limit_s
    code = None
    while code is None and time.monotonic() < end:
        process, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if process else None
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    lines = (folder / "log").read_text(errors="replace").splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED ", "ERROR "))), "")
    shutil.rmtree(folder, ignore_errors=True)
    if code == 99:
        raise SystemExit("\n".join(lines))
    if code in (0, _NO_TESTS):
        return SURVIVED, ""
    name = failed.partition(" - ")[0].partition(" ")[2]
    return KILLED, name or ("no end" if code is None else f"exit code {code}")


def _run_pytest(copy: Path, tests: Sequence[str], folder: Path) -> int:
    """Run pytest in this process, in the copy."""
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    os.environ |= {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder),
    }
    sys.dont_write_bytecode = True
    tempfile.tempdir = None
    import pytest

    args = ["-x", "-q", "--no-header", "-n", "0", "-p", "no:cacheprovider", "--tb=line"]
    args += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    try:
        chosen = _ChosenTests(tests)
        return int(pytest.main([*args, "-m", "slow or not slow", *files], plugins=[chosen]))
    except BaseException:
        traceback.print_exc()
        return 99


class _ChosenTests:
    """Plugin of pytest that keeps some of the collected tests, in their given order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._order = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the chosen tests."""
        kept = [item for item in items if item.nodeid in self._order]
        items[:] = sorted(kept, key=lambda item: self._order[item.nodeid])


if __name__ == "__main__":
    sys.exit(main())
