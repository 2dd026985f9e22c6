"""One job a step on a real SLURM of this machine: outputs against those of MultiProc, time, and
faults.

python benchmarks/slurm_node.py DATA OUT --slurm FOLDER [--quick] [options of bids-sr ...]

FOLDER has the scripts slurm-up and slurm-down; the cluster lies in OUT/slurm and is brought down
at the end. DATA has one participant (``bids-sr-phantom DATA --preset tiny``).
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _outputs import compare
from _table import keep

CHEAP = ["--sr-method", "bspline", "--smoothing", "0", "--skip-bids-validation"]
FEW_MEGABYTES = 'sbatch_args = ["--mem=60M"]\n'
STARTED_WITHIN = 300.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one way to run keeps its files."""

    data: Path
    root: Path
    extra: tuple[str, ...]

    def start(self, plugin: str, settings: str = "") -> "subprocess.Popen[str]":
        """Start the program in this place."""
        self.root.mkdir(parents=True, exist_ok=True)
        command = [
            str(Path(sys.executable).parent / "bids-sr"),
            str(self.data),
            str(self.root / "out"),
            "participant",
        ]
        command += ["-w", str(self.root / "work"), *self.extra]
        if plugin != "MultiProc":
            file = self.root / "plugin.toml"
            file.write_text(
                f'plugin = "{plugin}"\n[plugin_args]\npoll_seconds = 1\ngrace_seconds ='
                f" 5\n{settings}"
            )
            command += ["--use-plugin", str(file)]
        with (self.root / "log.txt").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, text=True)

    def said(self) -> str:
        """What the last run said of crashes."""
        logs = sorted(
            (self.root / "out" / "logs").glob("*/settings.toml"),
            key=lambda path: path.stat().st_mtime,
        )
        return "\n".join(path.read_text() for path in logs[-1].parent.glob("crash*.txt"))


@contextlib.contextmanager
def cluster(scripts: Path, root: Path) -> Iterator[None]:
    """A SLURM of one machine while the context lasts."""
    environment = {
        "CTLD_PORT": "16827",
        "D_PORT": "16828",
        "CGROUP": "1",
        "CGROUP_PLUGIN": "cgroup/v1",
    }
    subprocess.run(
        [scripts / "slurm-up", root],
        check=True,
        env={**environment, **os.environ},
        stdout=sys.stderr,
    )
    os.environ["SLURM_CONF"] = str(root / "etc" / "slurm.conf")
    os.environ.pop("LOGNAME", None)
    try:
        yield
    finally:
        subprocess.run([scripts / "slurm-down", root], check=False)


def jobs() -> list[tuple[str, str, str]]:
    """Identifier, state and name of the jobs in the queue."""
    text = subprocess.run(
        ["squeue", "--noheader", "--format=%i|%T|%j"], capture_output=True, text=True, check=True
    ).stdout
    return [(row[0], row[1], row[2]) for row in (line.split("|") for line in text.splitlines())]


def a_running_job(driver: "subprocess.Popen[str]") -> tuple[str, str, int]:
    """Identifier, name and process of a job whose step has begun."""
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline and driver.poll() is None:
        for number, state, name in jobs():
            *_, place, token = name.split(".")
            pid = _process(f"{token}/{int(place):06d}") if state == "RUNNING" else 0
            if pid:
                return number, name.rsplit(".", 2)[0], pid
        time.sleep(0.1)
    raise RuntimeError("no job was seen to run")


def _process(folder: str) -> int:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (
                (entry / "cmdline").read_bytes().decode(errors="replace")
                if entry.name.isdigit()
                else ""
            )
            if "bids_sr.execution.node_job" in words and folder in words:
                return int(entry.name)
    return 0


def ended(driver: "subprocess.Popen[str]", seconds: float) -> int:
    """Exit code of a run; one that has not ended by then is killed."""
    try:
        return driver.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.wait()


def kill(number: str, pid: int) -> None:
    """End the process of a job as the kernel would."""
    os.kill(pid, signal.SIGKILL)


def cancel(number: str, pid: int) -> None:
    """End a job from outside."""
    subprocess.run(["scancel", number], check=True)


def disturbed(
    place: Place, plugin: str, fault: Callable[[str, int], None] | None, says: str
) -> dict[str, Any]:
    """Run with one fault; exit code, whether the step is named with the reason, and what is left
    in the queue.
    """
    driver = place.start(plugin, "" if fault else FEW_MEGABYTES)
    number, name, pid = a_running_job(driver) if fault else ("", r"sub_\w+", 0)
    struck = time.monotonic()
    if fault:
        fault(number, pid)
    code = ended(driver, 3600)
    text = place.said()
    return {
        "plugin": plugin,
        "fault": fault.__name__ if fault else "60 MB for each job",
        "exit code": code,
        "step and reason named": bool(re.search(rf"\b{name}\b", text)) and says in text,
        "s to the end of the rest": round(time.monotonic() - struck),
        "jobs left": len(jobs()),
    }


def interrupted(place: Place, plugin: str, number: signal.Signals) -> dict[str, Any]:
    """Run, and end the driver by a signal."""
    driver = place.start(plugin)
    a_running_job(driver)
    struck = time.monotonic()
    driver.send_signal(number)
    code = ended(driver, 60)
    while jobs() and time.monotonic() - struck < 60:
        time.sleep(0.2)
    return {
        "plugin": plugin,
        "fault": f"{number.name} to the driver",
        "exit code": code,
        "step and reason named": "-",
        "s to the end of the rest": round(time.monotonic() - struck, 1),
        "jobs left": len(jobs()),
    }


def plain(place: Place, plugin: str, reference: Path | None) -> dict[str, Any]:
    """Run undisturbed, and compare with the outputs of the reference."""
    start = time.monotonic()
    code = ended(place.start(plugin), 3600)
    seconds = time.monotonic() - start
    count, wrong = compare(reference, place.root / "out") if reference else (0, [])
    for line in wrong:
        sys.stderr.write(f"{plugin}: {line}\n")
    return {
        "plugin": plugin,
        "exit code": code,
        "s": round(seconds, 1),
        "files compared": count,
        "files that differ": len(wrong),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--slurm", type=Path, required=True, help="folder of slurm-up and slurm-down"
    )
    parser.add_argument("--quick", action="store_true", help="faults with the SLURM plugin only")
    given, extra = parser.parse_known_args()
    # a shell has it ignored in what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = given.out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    places = {
        name: Place(given.data.absolute(), out / name, (*CHEAP, *extra))
        for name in ("MultiProc", "SLURM", "SLURMGraph", "SLURM faults", "SLURMGraph faults")
    }
    reference = places["MultiProc"].root / "out"
    with cluster(given.slurm.absolute(), out / "slurm"):
        runs = [plain(places["MultiProc"], "MultiProc", None)]
        runs += [plain(places[name], name, reference) for name in ("SLURM", "SLURMGraph")]
        faults = []
        for plugin in ("SLURM",) if given.quick else ("SLURM", "SLURMGraph"):
            place = places[f"{plugin} faults"]
            faults += [
                disturbed(place, plugin, kill, "0:9"),
                disturbed(place, plugin, cancel, "CANCELLED"),
            ]
            faults += [disturbed(place, plugin, None, "OUT_OF_MEMORY")]
            faults += [
                interrupted(place, plugin, number) for number in (signal.SIGTERM, signal.SIGINT)
            ]
            runs.append(
                {
                    **plain(place, plugin, reference),
                    "plugin": f"{plugin}, the same command after all faults",
                }
            )
    for row in runs:
        row["time to MultiProc's"] = round(row["s"] / runs[0]["s"], 2)
    keep("slurm_node", "One job a step: outputs and time", runs)
    keep("slurm_node_faults", "One job a step: faults", faults, remarks=[_verdict(runs, faults)])
    return 0 if _holds(runs, faults) else 1


def _holds(runs: list[dict[str, Any]], faults: list[dict[str, Any]]) -> bool:
    same = all(row["exit code"] == 0 and row["files that differ"] == 0 for row in runs)
    struck = [row for row in faults if "driver" not in row["fault"]]
    told = all(row["exit code"] == 1 and row["step and reason named"] is True for row in struck)
    ended = [row for row in faults if "driver" in row["fault"]]
    quick = all(row["exit code"] == 130 and row["s to the end of the rest"] <= 10 for row in ended)
    return same and told and quick and not any(row["jobs left"] for row in faults)


def _verdict(runs: list[dict[str, Any]], faults: list[dict[str, Any]]) -> str:
    return "Every bar holds." if _holds(runs, faults) else "A bar does not hold."


if __name__ == "__main__":
    sys.exit(main())
