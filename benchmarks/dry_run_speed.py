"""Processor time of the dry run of many participants, for two versions of the program.

python benchmarks/dry_run_speed.py FOLDER --before PYTHON [--participants 1000] [--repeats 3]

`--before` is the Python of an environment with the other version; this version belongs to the
Python that runs the script. The runs alternate, and medians are compared. The data set consists of
hard links to one tiny phantom, see `scale.py`. Results are appended to FOLDER/runs.jsonl, and
the same command resumes after an interruption.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import _crowd
from _table import keep

_PROGRAM = """
import sys, time, shutil
from collections import namedtuple
usage = namedtuple("usage", "total used free")
shutil.disk_usage = lambda path: usage(10**18, 0, 10**18)
from bids_sr.cli.main import main
code = main([sys.argv[1], sys.argv[2], "participant", "--dry-run", *sys.argv[3:]])
from bids_sr.version import __version__
print(f"\\nVERSION {__version__} {time.process_time()}")
sys.exit(code)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--options", nargs="*", default=[], help="further options, without --")
    arguments = parser.parse_args()
    data = arguments.folder / f"data-{arguments.participants}"
    if not data.exists():
        source = arguments.folder / "one"
        arguments.folder.mkdir(parents=True, exist_ok=True)
        if not source.exists():
            phantom = Path(sys.executable).parent / "bids-sr-phantom"
            subprocess.run([phantom, source, "--preset", "tiny"], check=True)
        _crowd.make_data(source, data, arguments.participants)
    record = arguments.folder / "runs.jsonl"
    runs = (
        [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    )
    options = [f"--{name}" for name in arguments.options]
    for repeat in range(arguments.repeats):
        for which, python in (
            ("before", arguments.before.absolute()),
            ("now", Path(sys.executable)),
        ):
            key = {"which": which, "repeat": repeat, "participants": arguments.participants}
            if not any(key.items() <= run.items() for run in runs):
                runs.append({**key, **measured(python, data, arguments.folder / "none", options)})
                with record.open("a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
                print(runs[-1], flush=True)
    return report(runs, arguments.participants)


def measured(python: Path, data: Path, out: Path, options: list[str]) -> dict[str, Any]:
    """Return version, exit code and processor time (s) of one dry run, with its children."""
    command = [str(python), "-c", _PROGRAM, str(data.absolute()), str(out.absolute()), *options]
    # python -c would import the program from the current folder
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=data.parent)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    version = next((line for line in text.splitlines() if line.startswith("VERSION")), "VERSION ?")
    return {
        "version": version.split()[1],
        "exit code": os.waitstatus_to_exitcode(status),
        "CPU (s)": round(usage.ru_utime + usage.ru_stime, 1),
        "peak memory (GB)": round(usage.ru_maxrss / 2**20, 2),
    }


def report(runs: list[dict[str, Any]], participants: int) -> int:
    """Write a row per version: median and range of the processor time."""
    rows = []
    runs = [run for run in runs if run["participants"] == participants]
    for which in ("before", "now"):
        version_runs = [run for run in runs if run["which"] == which]
        times = [run["CPU (s)"] for run in version_runs]
        versions = sorted({run["version"] for run in version_runs})
        rows.append(
            {
                "version": f"{which} ({', '.join(versions)})",
                "runs": len(version_runs),
                "exit codes": sorted({run["exit code"] for run in version_runs}),
                "CPU (s), median": median(times),
                "least": min(times),
                "most": max(times),
                "peak memory (GB)": max(run["peak memory (GB)"] for run in version_runs),
            }
        )
    ratio = rows[1]["CPU (s), median"] / rows[0]["CPU (s), median"]
    keep(
        "dry_run_speed",
        f"Dry run of {participants} simulated participants, alternating runs of two versions",
        rows,
        remarks=[f"Now over before: {ratio:.2f}."],
    )
    return max(run["exit code"] for run in runs)


if __name__ == "__main__":
    sys.exit(main())
