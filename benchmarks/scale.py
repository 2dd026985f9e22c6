"""Index, dry run, group level and page of many participants: time, processor time, peak memory,
and their growth.

python benchmarks/scale.py FOLDER [--subjects 1000] [--only index dry-run group page] [--grid OUT]
[--keep]

One tiny phantom goes through the participant level once; all participants are hard links to its
data and results. A dry run would be refused because of disk space (about 0.6 GB per participant),
so free space is simulated; the rest is the command. 10,000 participants need 5 GB, most of it for
the long table, and a million directory entries in FOLDER; they are removed at the end.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _crowd
from _resources import watch
from _table import keep

BIN = Path(sys.executable).parent
BARS = {
    1000: {"index, first": 60, "index, second": 5, "dry run": 90, "group level": 60},
    10_000: {"group level": 600, "page over participants": 10},
}  # s
PARTS = ("index", "dry-run", "group", "page")


def main() -> int:
    if sys.argv[1:2] == ["--inner"]:
        return inner(*sys.argv[2:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--grid", type=Path, metavar="OUT", help="an output whose maps are timed, as the example's"
    )
    parser.add_argument("--keep", action="store_true", help="leave the crowd")
    arguments = parser.parse_args()
    source, out = prepared(arguments.folder)
    sizes = [n for n in (10, 100, 1000, 10_000) if n < arguments.subjects] + [arguments.subjects]
    rows: list[dict[str, Any]] = []
    for count in sizes:
        rows += measured(arguments.folder, source, out, count, arguments.only)
    first = {row["what"]: row for row in rows if row["participants"] == sizes[0]}
    for row in rows:
        row["CPU s a participant, over that of the smallest"] = (
            row["CPU (s)"] / row["participants"] / (first[row["what"]]["CPU (s)"] / sizes[0])
        )
        row["bar (s)"] = BARS.get(row["participants"], {}).get(row["what"], "–")
    if not arguments.keep:
        for name in ("data", "results", "database"):
            shutil.rmtree(arguments.folder / name, ignore_errors=True)
    remarks = [] if arguments.grid is None else [map_seconds(arguments.grid)]
    keep(
        "scale",
        f"Up to {arguments.subjects} simulated participants, {os.cpu_count()} cores",
        rows,
        remarks=remarks,
    )
    return max(row["exit code"] for row in rows)


def prepared(folder: Path) -> tuple[Path, Path]:
    """Make one phantom and its results, once."""
    source, out = folder / "one", folder / "one-out"
    folder.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        subprocess.run([BIN / "bids-sr-phantom", source, "--preset", "tiny"], check=True)
    if not (out / "sub-01.html").exists():
        options = ["-w", folder / "work", "--sr-method", "sbl", "--smoothing", "0", "5"]
        subprocess.run([BIN / "bids-sr", source, out, "participant", *options], check=True)
    return source, out


def measured(
    folder: Path, source: Path, out: Path, count: int, only: Sequence[str]
) -> list[dict[str, Any]]:
    """Return rows for one number of participants."""
    data, results, database = folder / "data", folder / "results", folder / "database"
    _crowd.make_data(source, data, count)
    inner_call = [sys.executable, __file__, "--inner"]
    commands: list[tuple[str, list[str]]] = []
    if "index" in only:
        shutil.rmtree(database, ignore_errors=True)
        commands += [
            (f"index, {which}", [*inner_call, "index", str(data), str(database)])
            for which in ("first", "second")
        ]
    if "dry-run" in only:
        commands.append(("dry run", [*inner_call, "dry-run", str(data), str(folder / "none")]))
    if {"group", "page"} & set(only):
        _crowd.make_results(out, results, count, data)
    if "group" in only:
        commands.append(("group level", [str(BIN / "bids-sr"), str(data), str(results), "group"]))
    if "page" in only:
        commands.append(("page over participants", [*inner_call, "page", str(results), ""]))
    rows = []
    for task, command in commands:
        before, start = _cpu(), time.monotonic()
        usage = watch(
            command, log=folder / f"{task.replace(' ', '-')}-{count}.log", interval_s=0.2
        )
        rows.append(
            {
                "participants": count,
                "what": task,
                "exit code": usage.code,
                "wall (s)": round(time.monotonic() - start, 1),
                "CPU (s)": round(_cpu() - before, 1),
                "peak PSS (GB)": round(usage.peak_gib * 1.074, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def map_seconds(out: Path) -> str:
    """Measure the cost of a group map on the grid of an output, by sampling its participant ten
    times.
    """
    import nibabel as nb

    from bids_sr.group.input_maps import ParticipantMaps, find_maps
    from bids_sr.group.map_plan import common_smoothing, common_space
    from bids_sr.group.template_sampling import load_target, prepare_participant_sampling

    runs = find_maps(out).runs
    space, fwhm = common_space(runs), common_smoothing(runs)
    if space is None or fwhm is None:
        raise SystemExit(f"{out}: no effect maps that reach a template")
    target, run = load_target(space), runs[0]
    person = ParticipantMaps(runs=[run])
    keys = sorted(key for key in run.maps[""] if key[2:] == (fwhm, "effect"))
    prepare_participant_sampling(person, target, keys).sample(keys)
    start = time.process_time()
    for _ in range(10):
        prepare_participant_sampling(person, target, keys).sample(keys)
    seconds = (time.process_time() - start) / 10
    shape = "x".join(map(str, nb.load(run.map_file(keys[-1])).shape))
    return (
        f"Maps of {shape} voxels, {len(keys)} of a participant: {seconds:.3f} s of a processor a"
        f" participant, {seconds / len(keys):.4f} s a map;"
        f" {10_000 * seconds / 60:.0f} min for 10,000 participants on one processor."
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def inner(task: str, data: str, place: str) -> int:
    """Make one measurement in a separate process."""
    if task == "index":
        from bids_sr.survey.bids.layout import open_index
        from bids_sr.survey.bids.participant_selection import list_participants

        labels = list_participants(Path(data))
        index = open_index(Path(data), labels, labels, Path(place), {})
        return 0 if all(index.find("bold", label) for label in labels) else 1
    if task == "page":
        from bids_sr.report.index_page import write_index

        return 0 if write_index(Path(data)).stat().st_size else 1
    from collections import namedtuple

    from bids_sr.cli.main import main as bids_sr

    usage = namedtuple("usage", "total used free")
    shutil.disk_usage = lambda _path: usage(10**18, 0, 10**18)
    return bids_sr([data, place, "participant", "--dry-run"])


if __name__ == "__main__":
    sys.exit(main())
