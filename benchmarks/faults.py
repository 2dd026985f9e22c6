"""The fault matrix: whatever happens to a run, the next run produces the outputs of an undisturbed
run.

python benchmarks/faults.py DATA SCRATCH [--kills 20] [--seed 0] [--jobs 1] [--only NAME ...] [--
options of bids-sr]

Run it as root on Linux, for disks that fill up and read-only disks; on the `tiny` phantom and
with, for example, `--sr-method srgan sbl --set run.sloppy=true --smoothing 0`. Images are compared
voxel by voxel, tables, transforms and weights byte by byte.
"""

import argparse
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _faults import Run, differences, end_all, fingerprints, mounted, processes_left, workers_of
from _table import keep

Row = dict[str, Any]
SIGNALS = (
    (r"participant level", signal.SIGTERM),
    (r"  results ", signal.SIGINT),
    (r"  time ", signal.SIGTERM),
    (r"anatomy: ", signal.SIGHUP),
    (r"motion and slice", signal.SIGTERM),
    (r"training|T2\* pair: reg", signal.SIGINT),
    (r"super-resolution and", signal.SIGTERM),
    (r"figures|evaluation", signal.SIGHUP),
    (r" reports\n", signal.SIGTERM),
)
"""Signals, and the line of the output after which they are sent."""


@dataclass
class Matrix:
    """Settings that all faults share."""

    data: Path
    scratch: Path
    options: Sequence[str]
    rng: np.random.Generator
    seconds: float = 0.0
    reference: dict[str, str] | None = None
    text: str = ""

    def run(self, name: str, **folders: Any) -> Run:
        """Start a run in directories with this name."""
        places = {
            "out": self.scratch / name / "out",
            "work": self.scratch / name / "work",
            **folders,
        }
        return Run(data=self.data, options=self.options, **places)

    def finished(
        self,
        name: str,
        fault: str,
        moment: str,
        first: str,
        *runs: Run,
        right: bool = True,
        clean: bool = True,
    ) -> Row:
        """Repeat the command until it ends, and compare.

        `right`: whether the disturbed run ended correctly; `clean`: remove the directories
        afterwards.
        """
        last = self.run(name)
        code = last.end()
        differ = differences(self.reference or {}, fingerprints(last.out))
        half = sorted(set().union(*(run.watch.half for run in (*runs, last))))
        row = {
            "fault": fault,
            "moment": moment,
            "exit": first,
            "exit of the rerun": code,
            "differing files": len(differ),
            "half-written files seen": len(half),
            "seconds of the rerun": round(last.seconds, 1),
            "holds": "yes" if right and not (code or differ or half) else "NO",
            "_names": differ[:10] + half[:10],
            "_text": last.text[-3000:] if code else "",
        }
        if clean and not differ and not code:
            shutil.rmtree(self.scratch / name, ignore_errors=True)
        return row


def undisturbed(matrix: Matrix) -> list[Row]:
    """Make the run that all others are compared with; a second run must change nothing."""
    run = matrix.run("reference")
    code = run.end()
    if code:
        sys.exit(f"the undisturbed run ended with {code}:\n{run.text}")
    matrix.seconds, matrix.reference, matrix.text = run.seconds, fingerprints(run.out), run.text
    stamps = {path: path.stat().st_mtime_ns for path in run.out.rglob("*.nii.gz")}
    row = matrix.finished(
        "reference", "none", f"{run.seconds:.0f} s in all", f"{code}", run, clean=False
    )
    touched = sum(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())
    row["fault"] = f"none, {len(matrix.reference)} files compared, {touched} images written again"
    return [row]


def killed(matrix: Matrix, number: int, moment: float) -> Row:
    """Send SIGKILL at one moment, alternately to all processes and only to the scheduler."""
    name, all_of_it = f"kill{number:02d}", number % 2 == 0
    run = matrix.run(name)
    alive = run.until(moment)
    run.kill(all_of_it=all_of_it)
    run.end()
    left = processes_left(run)
    fault = "SIGKILL to all" if all_of_it else "SIGKILL to the scheduler"
    outcome = f"{run.process.returncode}" + (f", {left} processes left" if left else "")
    at = f"{moment:.1f} s" + ("" if alive else " (it had ended)")
    return matrix.finished(name, fault, at, outcome, run, right=not left)


def signaled(matrix: Matrix) -> list[Row]:
    """Send signals at several stages of one run that resumes each time; measure the time to
    stop.
    """
    rows, runs = [], []
    for pattern, number in (
        (pattern, number) for pattern, number in SIGNALS if re.search(pattern, matrix.text)
    ):
        run = matrix.run("signals")
        runs.append(run)
        if not run.wait_for(pattern):
            run.end()
            continue
        time.sleep(float(matrix.rng.uniform(0, 1)))
        sent = time.monotonic()
        run.process.send_signal(number)
        code = run.end(limit=60)
        rows.append((pattern, number.name, code, time.monotonic() - sent, processes_left(run)))
    slowest = max(rows, key=lambda row: row[3])
    codes, stage = sorted({row[2] for row in rows}), re.split(r"[|\\]", slowest[0])[0].strip()
    left = sum(row[4] for row in rows)
    outcome = (
        f"{codes}, slowest {slowest[3]:.1f} s ({slowest[1]} after {stage}), {left} processes left"
    )
    right = codes == [130] and slowest[3] <= 10 and not left
    return [
        matrix.finished(
            "signals",
            "SIGINT, SIGTERM, SIGHUP",
            f"{len(rows)} stages",
            outcome,
            *runs,
            right=right,
        )
    ]


def twice(matrix: Matrix) -> list[Row]:
    """Start two runs with one output, with one working directory, and both together."""
    run = matrix.run("twice")
    run.wait_for(r" running")
    outcomes, right, folder = [], True, matrix.scratch / "twice"
    places = {
        "one output": {"work": folder / "other-work"},
        "one working directory": {"out": folder / "other-out"},
    }
    for shared, folders in places.items():
        second = matrix.run("twice", **folders)
        code = second.end(limit=300)
        named = bool(
            re.search(
                rf"another run is working on sub-.*process {run.process.pid}",
                second.text,
                re.DOTALL,
            )
        )
        outcomes.append(f"{shared}: {code}, holder {'named' if named else 'NOT named'}")
        right = right and code == 2 and named
    code = run.end()
    first, right = f"{code}; a second run over " + "; over ".join(outcomes), right and code == 0
    row = matrix.finished(
        "twice", "two runs, the second later", "while running", first, run, right=right
    )
    concurrent = [matrix.run("together"), matrix.run("together")]
    codes = sorted(call.end() for call in concurrent)
    right = codes == [0, 2]
    last = matrix.finished(
        "together", "two runs, started together", "0 s", f"{codes}", *concurrent, right=right
    )
    return [row, last]


def full(matrix: Matrix) -> list[Row]:
    """Fill the disk of the output, then the disk of the work, at a random moment."""
    rows = []
    for disk in ("out", "work"):
        name = f"full-{disk}"
        place = matrix.scratch / name / disk
        with mounted(place, "-t", "tmpfs", "-o", "size=16g", "tmpfs") as again:
            run = matrix.run(name)
            run.wait_for(r" running")
            moment = float(matrix.rng.uniform(0.1, 0.6)) * matrix.seconds
            run.until(time.monotonic() - run.began + moment)
            again(f"size={shutil.disk_usage(place).used + 300_000}")
            code = run.end()
            message = re.search(
                r"(the disk is full|no space left).{0,300}?are free on the file system",
                run.text,
                re.DOTALL,
            )
            first, right = (
                f"{code}, room {'told' if message else 'NOT told'}",
                code == 1 and bool(message),
            )
            again("size=16g")
            at = f"{moment:.1f} s of the steps"
            rows.append(
                matrix.finished(
                    name, f"disk full ({disk})", at, first, run, right=right, clean=False
                )
            )
        shutil.rmtree(matrix.scratch / name, ignore_errors=True)
    return rows


def read_only(matrix: Matrix) -> list[Row]:
    """Use an output that cannot be written: an error before anything is done."""
    place = matrix.scratch / "read-only" / "out"
    with mounted(place, "-t", "tmpfs", "-o", "size=1m", "tmpfs") as again:
        again("ro")
        run = matrix.run("read-only")
        code = run.end(limit=300)
        named = "read-only" in run.text and str(place) in run.text
        first, right = f"{code}, place {'named' if named else 'NOT named'}", code == 2 and named
    return [
        matrix.finished("read-only", "read-only output", "from the start", first, run, right=right)
    ]


def memory(matrix: Matrix) -> list[Row]:
    """Kill workers as the kernel does when memory is short: once, for a while, and by a limit of
    the kernel.
    """
    run = matrix.run("oom-once")
    run.wait_for(r"training|motion and slice")
    _kill_workers(run, seconds=0)
    code = run.end()
    rows = [
        matrix.finished(
            "oom-once", "workers killed once", "in a step", f"{code}", run, right=code == 0
        )
    ]
    run = matrix.run("oom")
    run.wait_for(r"training|motion and slice")
    _kill_workers(run, seconds=20)
    code = run.end()
    named = sorted(set(re.findall(r"killed: (\S+)\n  why: .* killed twice", run.text)))
    remedy = "Request more memory (--mem" in run.text
    first = f"{code}, {len(named)} steps named, remedy {'named' if remedy else 'NOT named'}"
    right = code == 1 and bool(named) and remedy
    rows.append(
        matrix.finished("oom", "workers killed for 20 s", "in a step", first, run, right=right)
    )
    group = Path("/sys/fs/cgroup/memory") / f"bids-sr-faults-{os.getpid()}"
    return [*rows, *_limited(matrix, group)] if os.access(group.parent, os.W_OK) else rows


def _kill_workers(run: Run, seconds: float) -> None:
    until = time.monotonic() + seconds
    while run.process.poll() is None:
        for pid in workers_of(run):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() >= until:
            return
        time.sleep(0.5)


def _limited(matrix: Matrix, group: Path) -> list[Row]:
    """Shrink a memory limit of the kernel when the steps begin, so that it ends one of the
    processes.
    """
    group.mkdir()
    try:
        run = matrix.run("oom-kernel")
        (group / "cgroup.procs").write_text(str(run.process.pid))
        run.wait_for(r"training|motion and slice")
        time.sleep(1)
        used = int((group / "memory.usage_in_bytes").read_text())
        limit = max(
            used - int((group / "memory.stat").read_text().split("total_cache ")[1].split()[0]),
            2**28,
        )
        try:
            (group / "memory.limit_in_bytes").write_text(str(int(limit * 1.02)))
        except OSError:
            limit = 0
        code = run.end()
        killed_by_kernel = re.findall(
            r"oom_kill (\d+)", (group / "memory.oom_control").read_text()
        )
        first = (
            f"{code}, {''.join(killed_by_kernel) or '?'} killed by the"
            f" kernel{'' if limit else ', limit refused'}"
        )
        return [
            matrix.finished("oom-kernel", "memory limit of the kernel", "in a step", first, run)
        ]
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.2)


def clock(matrix: Matrix) -> list[Row]:
    """Date files in work and output to the future and the past; change the clock during a run."""
    run = matrix.run("clock")
    run.until(matrix.seconds * 0.6)
    run.kill(all_of_it=True)
    run.end()
    count = _touch(matrix, matrix.scratch / "clock")
    rows = [
        matrix.finished(
            "clock", f"{count} files of the future or past", "after a kill", "-9", run, clean=False
        )
    ]
    count = _touch(matrix, matrix.scratch / "clock")
    rows.append(matrix.finished("clock", f"{count} files of the future or past", "when done", "0"))
    return [*rows, _set_clock(matrix)]


def _touch(matrix: Matrix, folder: Path) -> int:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    chosen = [path for path in files if matrix.rng.random() < 0.2]
    for path in chosen:
        moment = time.time() + float(matrix.rng.uniform(-1, 1)) * 1e8
        os.utime(path, (moment, moment))
    return len(chosen)


def _set_clock(matrix: Matrix) -> Row:
    """Change the clock, as Python reports it to every process of a run, by one day back, then two
    forward.
    """
    hook, offset = matrix.scratch / "clock-hook", matrix.scratch / "clock-offset"
    hook.mkdir(exist_ok=True)
    offset.write_text("0")
    (hook / "sitecustomize.py").write_text(
        "import time\nreal = time.time\ndef told():\n    return real() +"
        f" float(open({str(offset)!r}).read() or 0)\ntime.time = told\n"
    )
    path = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")]))
    run = matrix.run("clock-set", environment={"PYTHONPATH": path})
    for share, jump in ((0.3, -86400), (0.6, 86400)):
        run.until(share * matrix.seconds)
        offset.write_text(str(jump))
    code = run.end(limit=5 * matrix.seconds + 300)
    fault = "clock set back, then forward"
    return matrix.finished("clock-set", fault, "30 % and 60 %", f"{code}", run, right=code == 0)


def truncated(matrix: Matrix) -> list[Row]:
    """Truncate or empty work files: after a kill, and after the end."""
    run = matrix.run("cut")
    run.until(matrix.seconds * 0.6)
    run.kill(all_of_it=True)
    run.end()
    count = _cut(matrix, matrix.scratch / "cut" / "work")
    rows = [
        matrix.finished(
            "cut", f"{count} work files cut or emptied", "after a kill", "-9", run, clean=False
        )
    ]
    for _ in range(2):
        count = _cut(matrix, matrix.scratch / "cut" / "work")
        rows.append(
            matrix.finished(
                "cut", f"{count} work files cut or emptied", "when done", "0", clean=False
            )
        )
    shutil.rmtree(matrix.scratch / "cut", ignore_errors=True)
    return rows


def _cut(matrix: Matrix, folder: Path) -> int:
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size > 0
    ]
    chosen = [path for path in files if matrix.rng.random() < 0.05]
    for path in chosen:
        size = path.stat().st_size
        os.truncate(path, int(matrix.rng.choice([0, size // 2, size - 1])))
    return len(chosen)


FAULTS: dict[str, Callable[[Matrix], list[Row]]] = {
    "signals": signaled,
    "twice": twice,
    "full": full,
    "read-only": read_only,
    "memory": memory,
    "clock": clock,
    "cut": truncated,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the files")
    parser.add_argument("--jobs", type=int, default=1, help="faults that are tried at one time")
    parser.add_argument(
        "--only", nargs="+", choices=["kills", *FAULTS], default=["kills", *FAULTS]
    )
    args, options = parser.parse_known_args()
    options = [option for option in options if option != "--"]
    if os.getuid() != 0 and {"full", "read-only"} & set(args.only):
        parser.error("full and read-only disks need root; leave them out with --only")
    matrix = Matrix(args.data, args.scratch.absolute(), options, np.random.default_rng(args.seed))
    # a shell lets its background processes ignore this signal,
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # and nohup this one; ignored signals would also be ignored by the runs
    signal.signal(signal.SIGHUP, lambda *_: None)
    rows = undisturbed(matrix)
    moments = (
        sorted(matrix.rng.uniform(0.02, 1.0, args.kills) * matrix.seconds)
        if "kills" in args.only
        else []
    )
    streams = matrix.rng.spawn(len(FAULTS))
    with ThreadPoolExecutor(args.jobs) as pool:
        later = [
            pool.submit(lambda k=k, at=at: [killed(matrix, k, at)]) for k, at in enumerate(moments)
        ]
        for (name, fault), rng in zip(FAULTS.items(), streams, strict=True):
            if name in args.only:
                case_matrix = replace(matrix, rng=rng)
                later.append(pool.submit(fault, case_matrix))
        for done in later:
            rows += done.result()
            print(
                f"{rows[-1]['fault']}, {rows[-1]['moment']}: {rows[-1]['exit']}:"
                f" {rows[-1]['holds']}",
                file=sys.stderr,
            )
    failed = [row for row in rows if row["holds"] != "yes"]
    remarks = [
        f"{row['fault']}, {row['moment']}: {', '.join(row['_names'])} {row['_text']}"
        for row in failed
    ]
    cores = len(os.sched_getaffinity(0))
    remarks.append(
        f"{len(rows) - len(failed)} of {len(rows)} hold; {cores} cores, {args.jobs} at a time."
    )
    shown = [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]
    keep("faults", "The fault matrix", shown, remarks=remarks)
    return int(bool(failed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        end_all()
