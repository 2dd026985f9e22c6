"""Wall time until the verdict of a run is known, for two versions of the program.

python benchmarks/first_verdict.py FOLDER --before PYTHON [--data BIDS] [--repeats 3]

`--before` is the Python of an environment with the other version; this version belongs to the
Python that runs the script. The runs alternate, on two workers, and medians are compared. The time
ends when a step `decide_verdict` has written the first verdict, which the console then shows.
The rest of the run is then stopped, unless `--whole` is given. Run it on a machine that computes
nothing else.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

_LOOK_S = 0.1
_VERDICTS = [  # written when the step has ended; it was `judge` before
    f"bids_sr_wf/*/*/{step}*/_left*.json" for step in ("decide_verdict", "judge")
]
_MOST_S = 3600.0


def seconds_to_verdict(
    python: Path, data: Path, folder: Path, *, options: list[str], to_end: bool
) -> dict[str, float]:
    """Run the participant level and return the wall time to the verdict and of the run (s).

    `folder`: parent of output and work directory, emptied before. The time of the run is NaN if it
    was stopped.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work = folder / "work"
    line = [str(python.parent / "bids-sr"), str(data), str(folder / "out"), "participant"]
    line += ["-w", str(work), "--nprocs", "2", *options]
    with (folder / "log.txt").open("w") as log:
        start = time.monotonic()
        process = subprocess.Popen(
            line, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        verdict = float("nan")
        while process.poll() is None and time.monotonic() - start < _MOST_S:
            if verdict != verdict and any(any(work.glob(name)) for name in _VERDICTS):
                verdict = time.monotonic() - start
                if not to_end:
                    break
            time.sleep(_LOOK_S)
        end = time.monotonic() - start if process.poll() is not None else float("nan")
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    if verdict != verdict:
        raise SystemExit(f"{folder / 'log.txt'}: the run ended without a verdict")
    return {"verdict": verdict, "run": end}


def main() -> int:
    """Compare two versions, and print every time and the ratio of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--data", type=Path, help="data set; by default the phantom")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="let the runs end")
    arguments, options = parser.parse_known_args()
    data = arguments.data or arguments.folder / "phantom"
    if not data.exists():
        phantom = Path(sys.executable).parent / "bids-sr-phantom"
        subprocess.run([str(phantom), str(data)], check=True, env=os.environ)
    pythons = {"before": arguments.before, "after": Path(sys.executable)}
    times_by_version: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    for _ in range(arguments.repeats):
        for name, python in pythons.items():
            times = seconds_to_verdict(
                python, data, arguments.folder / name, options=options, to_end=arguments.whole
            )
            times_by_version[name].append(times)
            sys.stdout.write(f"{name} {json.dumps(times)}\n")
            sys.stdout.flush()
    before, after = (
        median(run_times["verdict"] for run_times in times_by_version[name]) for name in pythons
    )
    sys.stdout.write(
        f"to the verdict: {before:.1f} s, {after:.1f} s, ratio {after / before:.3f}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
