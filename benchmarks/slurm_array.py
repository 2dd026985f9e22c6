"""The array way against a real SLURM: overhead a participant over the bare command, and what
faults leave.

python benchmarks/slurm_array.py DATA OUT SLURM_TOOLS [options of bids-sr ...]

DATA: a data set of four participants or more (``bids-sr-phantom DATA --preset tiny --subjects 5``;
with four, one is left after three faults, and the group level wants two). SLURM_TOOLS: folder with
``slurm-up`` and ``slurm-down``, which start a SLURM of one machine that confines memory. OUT must
not exist. Processors of a task: all that there are.
"""

import csv
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from _table import keep

from bids_sr.slurm.job_states import State
from bids_sr.slurm.slurm_calls import queue
from bids_sr.slurm.submission import submissions
from bids_sr.slurm.submissions import overview

CPUS = len(os.sched_getaffinity(0))
SMALL_MB = 700  # runs out while the program imports and loads
SLURM = {"CPUS": str(max(4, CPUS)), "MEM_MB": "16000", "CGROUP": "1", "CGROUP_PLUGIN": "cgroup/v1"}


def call(program: str, *arguments: object) -> tuple[int, str, float]:
    """Exit code, output and wall time (s) of a console script of this environment, or of another
    program.
    """
    beside = Path(sys.executable).parent / program
    command = [str(beside) if beside.exists() else program, *map(str, arguments)]
    began = time.monotonic()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout, time.monotonic() - began


def until_running(out: Path, name: str, *, progress: str = "running") -> str:
    """Wait until a participant's log says so; return its job."""
    while True:
        for fate in overview(out).fates:
            if fate.participant == name:
                if (
                    fate.state is State.RUNNING
                    and fate.log.exists()
                    and f" {progress}\n" in fate.log.read_text()
                ):
                    return fate.job
                if not fate.open:
                    raise SystemExit(f"{name} ended before it could be disturbed: {fate}")
        time.sleep(0.5)


def pid_of(out: Path, name: str) -> int:
    """The process of the program that works on a participant: the oldest with its label."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in words and name.encode() in words:
            found.append(int(entry.name))
    return min(found)


def difference(one: Path, other: Path) -> tuple[int, float]:
    """Rows of a table, and the largest relative difference of its numbers to another; infinite
    where texts differ.
    """
    tables = [
        list(csv.reader(path.open(encoding="utf-8"), delimiter="\t")) for path in (one, other)
    ]
    if [len(row) for row in tables[0]] != [len(row) for row in tables[1]]:
        return len(tables[0]) - 1, math.inf
    largest = 0.0
    for a, b in zip(*([cell for row in table for cell in row] for table in tables), strict=True):
        if a != b:
            try:
                x, y = float(a), float(b)
            except ValueError:
                return len(tables[0]) - 1, math.inf
            largest = max(largest, abs(x - y) / max(abs(x), abs(y), 1e-12))
    return len(tables[0]) - 1, largest


def overhead(
    data: Path, root: Path, names: list[str], options: list[str]
) -> list[dict[str, object]]:
    """The same participants one after the other, by the bare command and by an array."""
    code, told, array = call(
        "bids-sr-slurm",
        data,
        root / "array",
        *options,
        "-w",
        root / "work-array",
        "--cpus",
        CPUS,
        "--array",
        "%1",
        "--wait",
        "--no-group",
    )
    if code:
        raise SystemExit(told)
    request = submissions(root / "array")[0].arrays[0].request
    bare = []
    for name in names:
        code, told, seconds = call(
            "bids-sr",
            data,
            root / "bare",
            "participant",
            *options,
            "-w",
            root / "work-bare",
            "--nprocs",
            CPUS,
            "--mem",
            f"{request.memory_mb * 0.9 / 1024:.2f}G",
            "--participant-label",
            name,
        )
        if code:
            raise SystemExit(told)
        bare.append(seconds)
    call("bids-sr", data, root / "bare", "group", *options, "-w", root / "work-bare")
    each = (array - sum(bare)) / len(names)
    return [
        {
            "what": f"bare command, {len(names)} participants one after the other (s)",
            "value": round(sum(bare), 1),
        },
        {
            "what": "array, one task at a time, from the call to the end of --wait (s)",
            "value": round(array, 1),
        },
        {"what": "overhead a participant (s; bar: 10)", "value": round(each, 1)},
    ]


def faults(
    data: Path, root: Path, names: list[str], options: list[str]
) -> list[dict[str, object]]:
    """One killed, one out of memory, one cancelled; then a retry."""
    out = root / "faults"
    killed, small, cancelled, *others = names
    code, told, _ = call(
        "bids-sr-slurm",
        data,
        out,
        *options,
        "-w",
        root / "work-faults",
        "--cpus",
        CPUS,
        "--array",
        "%1",
    )
    if code:
        raise SystemExit(told)
    job = submissions(out)[0].arrays[0].job
    call("scontrol", "update", f"JobId={job}_2", f"MinMemoryNode={SMALL_MB}")
    until_running(out, killed)
    os.kill(pid_of(out, killed), signal.SIGKILL)
    until_running(out, cancelled)
    call("bids-sr-slurm", "cancel", out, "--participant-label", cancelled)
    while any(fate.open for fate in overview(out).fates):
        time.sleep(1)
    code, table, _ = call("bids-sr-slurm", "status", out)
    print(table)
    before = {fate.participant: fate for fate in overview(out).fates}
    retried, after_text, seconds = call("bids-sr-slurm", "retry", out, "--wait")
    print(after_text)
    after = {fate.participant: fate for fate in overview(out).fates}
    size, largest = difference(out / "group_metrics.tsv", root / "bare" / "group_metrics.tsv")
    seen = queue([each.job_name for each in submissions(out)])
    left = [state for state in seen.values() if state in ("PENDING", "RUNNING")]
    here = {
        row["participant"]
        for row in csv.DictReader((out / "group_metrics.tsv").open(), delimiter="\t")
    }
    rows: list[dict[str, object]] = [
        {
            "what": f"{fault}: state after the fault",
            "value": f"{before[name].state}, {before[name].why}",
        }
        for fault, name in (("killed", killed), ("out of memory", small), ("cancelled", cancelled))
    ]
    return [
        *rows,
        {
            "what": "the others",
            "value": ", ".join(sorted({before[name].state for name in others})),
        },
        {"what": "group level with those that were done", "value": before["group"].state},
        {"what": "exit code of status", "value": code},
        {"what": "exit code of retry --wait", "value": retried},
        {"what": "time of the retry (s)", "value": round(seconds, 1)},
        {
            "what": "states after the retry",
            "value": ", ".join(sorted({fate.state for fate in after.values()})),
        },
        {"what": "participants in the group table", "value": f"{len(here)} of {len(names)}"},
        {
            "what": f"largest relative difference of its {size} rows to the undisturbed ones",
            "value": largest,
        },
        {"what": "jobs left in the queue", "value": len(left)},
    ]


def main() -> int:
    data, root, tools = (Path(text).absolute() for text in sys.argv[1:4])
    options = sys.argv[4:]
    names = sorted(path.name for path in data.glob("sub-*") if path.is_dir())
    if root.exists() or len(names) < 4:
        raise SystemExit("OUT must not exist, and DATA must have four participants or more")
    root.mkdir(parents=True)
    os.chdir(root)
    place = root / "slurm"
    subprocess.run([tools / "slurm-up", place], env={**SLURM, **os.environ}, check=True)
    try:
        text = (place / "env.sh").read_text()
        os.environ["SLURM_CONF"] = re.findall(r"SLURM_CONF=(\S+)", text)[0]
        rows = [*overhead(data, root, names, options), *faults(data, root, names, options)]
    finally:
        subprocess.run([tools / "slurm-down", place], check=False)
    keep(
        "slurm_array",
        f"One array task a participant: {len(names)} participants, {CPUS} processors each",
        rows,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
