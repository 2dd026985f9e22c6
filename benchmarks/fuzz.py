"""Preflight on spoiled data sets: exit code, traceback and time of each; whatever passes must be
readable.

python benchmarks/fuzz.py [--n 300] [--seed 0] [--only KIND] [--keep FOLDER]

Each case runs in a forked process of its own: the whole of preflight, voxels too, stops where work
would begin. A case fails if it ends with another code than 0 or 2, shows a traceback, takes more
than 10 s of processor time (or 60 s of wall clock, as where something is waited for), needs more
than 1.5 GB, writes anything, passes with an image that cannot be read, or passes in silence where
something has to be said (`expected` in the mutations).
"""

import argparse
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from _table import keep
from bidsmaker import BidsMaker
from mutations_of_derivatives import ALL

from bids_sr.cli import main as cli

LIMIT_S, WALL_S, MEMORY_GB, UNREADABLE = 10.0, 60.0, 1.5, 77


@dataclass(frozen=True, kw_only=True)
class Case:
    """Result of one damaged data set."""

    number: int
    kind: str
    code: int
    seconds: float
    gigabytes: float
    text: str
    wrote: bool
    expected: str = ""
    accepted: bool = False

    @property
    def failure(self) -> str:
        """Description of the failure; "" if none."""
        if self.code < 0:
            return f"killed by signal {-self.code} after {self.seconds:.0f} s"
        if self.code == UNREADABLE:
            return "passed, and cannot be read"
        if self.code not in (0, 2):
            return f"exit {self.code}"
        if "Traceback" in self.text:
            return "traceback"
        if self.seconds > LIMIT_S:
            return f"{self.seconds:.0f} s"
        if self.gigabytes > MEMORY_GB:
            return f"{self.gigabytes:.1f} GB"
        if self.accepted and self.code != 0:
            return "refused, and is sound"
        if self.code == 0 and self.expected and not re.search(self.expected, self.text):
            return "accepted in silence"
        return "written to" if self.wrote and self.code == 2 else ""


def warm_up(folder: Path) -> None:
    """Import everything that preflight needs, before anything is forked."""
    from bids_sr.preflight import check_data

    maker = BidsMaker(folder / "bids")
    maker.subject()
    settings = cli.parse_settings([str(maker.root), str(folder / "out"), "participant"]).resolve(
        run_uuid="x"
    )
    from bids_sr import preflight

    plan = preflight.check(settings)
    assert (plan.problems, check_data(plan)) == ((), ())


def _child(argv: Sequence[str], log: Path) -> None:
    """Run preflight like the command; the process exits with its code."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(3 * LIMIT_S), int(3 * LIMIT_S) + 1))
    plans = []
    checked = cli._check_plan
    cli._check_plan = lambda settings: plans.append(checked(settings)) or plans[-1]

    def stop(settings: object) -> None:
        from bids_sr.preflight import dry_run_text

        print(dry_run_text(plans[-1], settings))  # type: ignore[arg-type]
        sys.exit(_readable(plans[-1]))

    for name in ("_write_settings", "_work", "_set_aside", "_locked"):
        if hasattr(cli, name):
            setattr(cli, name, stop)
    code = 1
    try:
        code = cli.main(argv)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _readable(plan: object) -> int:
    from bids_sr.glm.design import build_design, contrast_vector
    from bids_sr.glm.regressors import read_events
    from bids_sr.io.nifti import SeriesReader

    try:
        for run_ in (run_ for subject in plan.subjects for run_ in subject.runs):  # type: ignore[attr-defined]
            if run_.events is None:
                continue
            design = build_design(read_events(run_.events), n_volumes=run_.n_volumes, tr=run_.tr)
            for name, weights in plan.contrasts[run_.bold].items():  # type: ignore[attr-defined]
                contrast_vector(design, name, weights)
        for path in (path for subject in plan.subjects for path in subject.images):  # type: ignore[attr-defined]
            with SeriesReader(path) as reader:
                for _ in reader.volumes():
                    pass
    except Exception as error:
        print(f"cannot be read: {error!r}")
        return UNREADABLE
    return 0


def try_case(number: int, kind: str, rng: np.random.Generator, folder: Path) -> Case:
    """Damage a data set and run preflight on it."""
    shutil.rmtree(folder, ignore_errors=True)
    maker = BidsMaker(folder / "bids")
    maker.subject()
    options = ALL[kind](rng, maker) or []
    validated = [] if number % 10 == 0 else ["--skip-bids-validation"]
    out, log = folder / "out", folder / "log"
    argv = [
        str(maker.root),
        str(out),
        "participant",
        "-w",
        str(folder / "work"),
        *validated,
        *options,
    ]
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        os.setsid()
        _child(argv, log)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > WALL_S:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.02)
    wrote = out.exists() or (folder / "work").exists()
    return Case(
        number=number,
        kind=kind,
        expected=maker.expected,
        accepted=maker.accepted,
        wrote=wrote,
        code=os.waitstatus_to_exitcode(status),
        seconds=usage.ru_utime + usage.ru_stime,
        gigabytes=usage.ru_maxrss / 2**20,
        text=log.read_text(errors="replace") if log.exists() else "",
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=Path, help="folder for the logs of failures")
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else sorted(ALL)
    cases = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        warm_up(Path(name) / "warm")
        for number in range(arguments.first, arguments.first + arguments.n):
            kind = kinds[number % len(kinds)]
            case = try_case(
                number, kind, np.random.default_rng([arguments.seed, number]), Path(name) / "case"
            )
            cases.append(case)
            if case.failure:
                print(f"{number} {kind}: {case.failure}\n{case.text[-1500:]}", flush=True)
                if arguments.keep:
                    shutil.copytree(
                        Path(name) / "case",
                        arguments.keep / str(number),
                        symlinks=True,
                        dirs_exist_ok=True,
                    )
    return report(cases, arguments.seed)


def report(cases: Sequence[Case], seed: int) -> int:
    """Store a table of the kinds; return exit code 1 if any case failed."""
    rows = []
    for kind in sorted({case.kind for case in cases}):
        kind_cases = [case for case in cases if case.kind == kind]
        codes = Counter(case.code for case in kind_cases)
        rows.append(
            {
                "kind": kind,
                "cases": len(kind_cases),
                "refused (2)": codes[2],
                "taken (0)": codes[0],
                "failed": sum(bool(case.failure) for case in kind_cases),
                "longest (CPU s)": round(max(case.seconds for case in kind_cases), 1),
                "most memory (GB)": round(max(case.gigabytes for case in kind_cases), 2),
            }
        )
    total = {"kind": "all", "cases": len(cases)}
    for key in ("refused (2)", "taken (0)", "failed"):
        total[key] = sum(row[key] for row in rows)
    for key in ("longest (CPU s)", "most memory (GB)"):
        total[key] = max(row[key] for row in rows)
    keep("fuzz", f"Preflight on {len(cases)} spoiled data sets, seed {seed}", [*rows, total])
    return int(bool(total["failed"]))


if __name__ == "__main__":
    sys.exit(main())
