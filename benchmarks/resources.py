"""Compare the estimates of preflight with real runs: processor time, peak memory, disk.

python benchmarks/resources.py SCRATCH [--cases tiny plain demo example] [--procs 2] [--mem GB]
[--data NAME=DIR ...] [--name TABLE]

Each case is a run of `bids-sr` on a phantom, or on the example. Processor time includes all
processes, so that it is valid on a machine with other load, and is divided by the speed of the
machine. The second table shows the stages, whose rows are in `bids_sr/cli/stages.py`, and the
third the steps, which declare their `memory`.
"""

import argparse
import pkgutil
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from _monitored import monitored
from _resources import Usage, disk_gb, watch
from _table import keep

import bids_sr
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.stages import estimate_with_time
from bids_sr.engine.step import Step
from bids_sr.survey.preflight.pace import measure_slowdown
from bids_sr.survey.preflight.plan import Estimate
from bids_sr.workflows.call_checks import check

BIN = Path(sys.executable).parent
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "studyforrest"
OPTIONS: dict[str, tuple[str, list[str]]] = {
    "tiny": ("tiny", []),
    "plain": ("tiny", ["--sr-method", "bspline", "--smoothing", "0"]),
    "demo": ("demo", []),
    "example": ("example", []),
}


def data(scratch: Path, name: str) -> Path:
    """Return the data set of a case, which is made unless it exists."""
    target = EXAMPLE if name == "example" else scratch / name
    if "=" in name:
        return Path(name.partition("=")[2])
    if target.exists():
        return target
    subprocess.run([BIN / "bids-sr-phantom", target, "--preset", name], check=True)
    return target


def row(case: str, estimate: Estimate, usage: Usage, out: Path, work: Path) -> dict[str, Any]:
    """Return estimate and measurement of one case, with their ratios."""
    pairs = {
        "core min": (
            sum(stage_row.minutes for stage_row in estimate.rows),
            usage.cpu_seconds / 60 / measure_slowdown(),
        ),
        "memory GB": (estimate.memory_gb, usage.peak_gib * 2**30 / 1e9),
        "work GB": (estimate.work_gb, usage.peak_gb),
        "results GB": (estimate.output_gb, disk_gb(out)),
    }
    shown: dict[str, Any] = {"case": case, "exit": usage.code}
    for name, (estimated, measured) in pairs.items():
        shown |= {
            name: f"{estimated:.2f} / {measured:.2f}",
            f"{name} ratio": round(estimated / max(measured, 1e-9), 2),
        }
    return shown | {
        "work left GB": round(disk_gb(work), 2),
        "read GB": round(usage.read_gb, 1),
        "written GB": round(usage.written_gb, 1),
        "scheduler core s": round(usage.main_cpu_seconds, 1),
    }


def stages(case: str, estimate: Estimate, table: Path) -> list[dict[str, Any]]:
    """Return estimated and measured processor seconds of each stage of one case."""
    usage = pd.read_csv(table, sep="\t")
    stage_of = {step.__name__: str(step.stage) for step in find_steps()}
    measured = usage.groupby(usage["kind"].map(stage_of))["cpu_seconds"].agg(["size", "sum"])
    return [
        {
            "case": case,
            "stage": stage_row.stage,
            "steps": int(measured["size"][stage_row.stage]),
            "estimated s": round(60 * stage_row.minutes, 1),
            "measured s": round(measured["sum"][stage_row.stage] / measure_slowdown(), 1),
        }
        for stage_row in estimate.rows
        if stage_row.stage in measured.index
    ]


def find_steps() -> set[Step[..., object]]:
    """Return all steps of the program."""
    found = set()
    for module in pkgutil.walk_packages(bids_sr.__path__, "bids_sr."):
        values = vars(import_module(module.name)).values()
        found |= {value for value in values if isinstance(value, Step)}
    return found


def steps(case: str, table: Path) -> pd.DataFrame:
    """Summarize the resources of each kind of step: maximum and total."""
    table_of_steps = (
        pd.read_csv(table, sep="\t")
        .groupby("kind")
        .agg(
            steps=("node", "size"),
            core_s=("cpu_seconds", "sum"),
            adds_gb=("grown_gb", "max"),
            left_gb=("left_gb", "max"),
            read_gb=("read_gb", "sum"),
            written_gb=("written_gb", "sum"),
            declared_gb=("declared_gb", "max"),
        )
    )
    return table_of_steps.assign(case=case).reset_index()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--cases", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--mem", type=float, help="given to the runs (GB)")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=DIR", help="other data")
    parser.add_argument("--name", default="resources", help="of the table, below results")
    args = parser.parse_args()
    if args.data and args.cases == list(OPTIONS):
        args.cases = []
    args.scratch.mkdir(parents=True, exist_ok=True)
    rows, stage_rows, kinds = [], [], []
    for text in (*args.cases, *args.data):
        case = text.partition("=")[0]
        name, options = OPTIONS.get(case, (text, []))
        out, work = args.scratch / f"{case}-out", args.scratch / f"{case}-work"
        for folder in (out, work):
            shutil.rmtree(folder, ignore_errors=True)
        arguments = [
            str(data(args.scratch, name)),
            str(out),
            "participant",
            "-w",
            str(work),
            "--nprocs",
            str(args.procs),
        ]
        arguments += [*options, *(["--mem", str(args.mem)] if args.mem else [])]
        settings = parse_settings(arguments).resolve(run_uuid="estimate")
        estimate = estimate_with_time(check(settings), settings)
        table = args.scratch / f"{case}-resources.tsv"
        table.unlink(missing_ok=True)
        usage = watch(monitored(table, arguments), log=args.scratch / f"{case}.log", folder=work)
        rows.append(row(case, estimate, usage, out, work))
        stage_rows += stages(case, estimate, table)
        kinds.append(steps(case, table))
        shutil.rmtree(work, ignore_errors=True)
    ratios = [
        value for case_row in rows for key, value in case_row.items() if key.endswith("ratio")
    ]
    remark = f"Each cell is estimate / measured. Ratios lie from {min(ratios)} to {max(ratios)}."
    bound = f" --mem {args.mem:g} was given." if args.mem else ""
    keep(
        args.name + ("_mem" if args.mem else ""),
        "What a run takes against its estimate",
        rows,
        remarks=[remark + bound],
    )
    if not args.mem:
        keep(f"{args.name}_stages", "Processor time of each stage", stage_rows)
        table = pd.concat(kinds).sort_values(["adds_gb"], ascending=False).round(3)
        keep(f"{args.name}_steps", "What each kind of step takes", table.to_dict("records"))
    return max(case_row["exit"] for case_row in rows)


if __name__ == "__main__":
    sys.exit(main())
