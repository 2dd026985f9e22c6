"""Put faults into the program one by one, and check that the tests detect each of them.

``mutants.toml`` lists the faults, over all layers. Each is put into a copy of a checkout, and
only the tests that should detect it are run there, until the first failure. Before that, the same
tests must pass without any fault.

    python benchmarks/mutants.py                                   this checkout
    python benchmarks/mutants.py --checkout ../before --name mutants_before    another one
    python benchmarks/mutants.py --list                            the module of each; runs nothing

A fault is located by its function or class and a snippet of its source, in any module, so that
the list can be used before and after a change of the layout.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from _table import keep

HERE = Path(__file__).resolve()
PRODUCT = ("bids_sr", "workflows", "boilerplate")
KILLED, SURVIVED, ABSENT, BROKEN = "killed", "survived", "snippet not found", "tests do not run"
_PYTEST = ("-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider")
_LONGEST_S = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One fault.

    Attributes
    ----------
    name, layer, fault : name, layer, and effect of the fault
    function : function or class whose source contains the snippet; "" for a whole module
    snippet, replacement : source before and after
    tests : ends of the paths of the test files that should detect it
    """

    name: str
    layer: str
    fault: str
    function: str
    snippet: str
    replacement: str
    tests: tuple[str, ...]


def read_mutants(path: Path) -> list[Mutant]:
    """Read the list of faults."""
    tables = tomllib.loads(path.read_text())
    return [
        Mutant(**{**table, "name": name, "tests": tuple(table["tests"])})
        for name, table in tables.items()
    ]


def sources_of(root: Path) -> dict[Path, str]:
    """Return modules of the program in a checkout, by path."""
    files = (path for folder in PRODUCT for path in sorted((root / folder).rglob("*.py")))
    return {path.relative_to(root): path.read_text() for path in files}


def _spans(source: str, function: str) -> list[tuple[int, int]]:
    """Return first and last line (from 0) of every function or class with this name."""
    if not function:
        return [(0, source.count("\n") + 1)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds) and node.name == function
    )
    return [(node.lineno - 1, node.end_lineno or node.lineno) for node in nodes]


def place(sources: Mapping[Path, str], mutant: Mutant) -> tuple[Path, str] | None:
    """Return the module with the fault, and its source with the fault.

    None unless the snippet occurs exactly once.
    """
    matches = []
    for path, source in sources.items():
        if mutant.snippet not in source:
            continue
        lines = source.splitlines(keepends=True)
        for first, last in _spans(source, mutant.function):
            part = "".join(lines[first:last])
            if part.count(mutant.snippet) == 1:
                changed = part.replace(mutant.snippet, mutant.replacement)
                matches.append((path, "".join([*lines[:first], changed, *lines[last:]])))
            elif mutant.snippet in part:
                return None
    return matches[0] if len(matches) == 1 else None


def test_files(root: Path, mutant: Mutant) -> list[str]:
    """Return paths of the tests in a checkout."""
    paths = [
        path.relative_to(root).as_posix() for path in sorted((root / "tests").rglob("test_*.py"))
    ]
    return [path for name in mutant.tests for path in paths if f"/{path}".endswith(f"/{name}")]


def copy_checkout(source: Path, target: Path) -> None:
    """Copy the files of a checkout that git tracks or does not ignore, and its links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file() or (source / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name, follow_symlinks=False)


def run_tests(python: Path, root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run pytest; return its exit code, and the first test that failed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        done = subprocess.run(
            [str(python), *_PYTEST, *tests],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no end in {_LONGEST_S} s"
    summary = done.stdout.partition("short test summary info")[2].splitlines()
    first = next((line for line in summary if line.startswith(("FAILED ", "ERROR "))), "")
    return done.returncode, first.partition(" - ")[0].partition(" ")[2].removeprefix("tests/")


def try_mutant(mutant: Mutant, root: Path, python: Path) -> dict[str, Any]:
    """Put one fault into a copy, run its tests, and remove the fault."""
    start, row = (
        time.monotonic(),
        {"fault": mutant.name, "layer": mutant.layer, "what": mutant.fault},
    )
    placed = place(sources_of(root), mutant)
    if placed is None:
        return {**row, "module": "", "result": ABSENT, "by": "", "s": 0}
    path, changed = placed
    before = (root / path).read_text()
    (root / path).write_text(changed)
    try:
        code, first = run_tests(python, root, test_files(root, mutant))
    finally:
        (root / path).write_text(before)
    result = {0: SURVIVED, 1: KILLED}.get(code, KILLED if first else BROKEN)
    return {
        **row,
        "module": path.as_posix(),
        "result": result,
        "by": first,
        "s": round(time.monotonic() - start),
    }


def main() -> int:
    """Try the faults; return 0 if the tests detect all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--list", action="store_true", help="name the faults and where each stands, and end"
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="only these")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once (default: 1)")
    parser.add_argument(
        "--checkout", type=Path, default=HERE.parents[1], help="of which code (default: this one)"
    )
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="with the packages that tests need",
    )
    parser.add_argument("--name", default="mutants", help="of the table in benchmarks/results")
    parser.add_argument(
        "--unchecked", action="store_true", help="do not run the tests without a fault first"
    )
    options = parser.parse_args()
    mutants = [
        m
        for m in read_mutants(HERE.with_suffix(".toml"))
        if not options.only or m.name in options.only
    ]
    checkout = options.checkout.resolve()
    if options.list:
        sources = sources_of(checkout)
        for mutant in mutants:
            placed = place(sources, mutant)
            print(f"{mutant.name:28}{mutant.layer:18}{placed[0] if placed else ABSENT}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        rows = try_all(
            mutants,
            checkout,
            Path(folder),
            options.jobs,
            options.python.absolute(),
            checked=not options.unchecked,
        )
    missed = [row["fault"] for row in rows if row["result"] != KILLED]
    remarks = [f"{len(rows) - len(missed)} of {len(rows)} faults are seen."]
    remarks += [f"Not: {', '.join(missed)}."] * bool(missed)
    if options.only:
        for row in rows:
            print(row)
    else:
        keep(
            options.name,
            "Faults put into the product, and what the tests said",
            rows,
            remarks=remarks,
        )
    return 1 if missed else 0


def try_all(
    mutants: Sequence[Mutant],
    checkout: Path,
    folder: Path,
    jobs: int,
    python: Path,
    *,
    checked: bool,
) -> list[dict[str, Any]]:
    """Try faults in one copy per job.

    Raises
    ------
    SystemExit : the tests fail without any fault
    """
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(jobs):
        copy_checkout(checkout, folder / str(number))
        copies.put(folder / str(number))
    if checked:
        root = copies.get()
        tests = sorted({path for mutant in mutants for path in test_files(root, mutant)})
        code, first = run_tests(python, root, tests)
        copies.put(root)
        if code:
            raise SystemExit(f"the tests fail without any fault (exit code {code}): {first}")

    def try_one(mutant: Mutant) -> dict[str, Any]:
        root = copies.get()
        try:
            row = try_mutant(mutant, root, python)
        finally:
            copies.put(root)
        print(
            f"{row['result']:18}{row['fault']:28}{row['s']:>4} s  {row['by']}",
            file=sys.stderr,
            flush=True,
        )
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(try_one, mutants))


if __name__ == "__main__":
    sys.exit(main())
