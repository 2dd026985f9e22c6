"""Time of every stage for one participant of the paper's size.

python benchmarks/paper_subject.py WORK [--preset paper] [--procs 2] [--keep-run]

Makes the phantom (64 x 64 x 30 x 900 and its pair; stored in WORK), then runs, bound to two
processors,

    bids-sr PHANTOM OUT participant --skip-bids-validation

with default settings: methods and baselines, both kinds of maps, both smoothings, evaluation and
reports. The validator is left out because it only reads the input. The monitor records the
resources of each step, which the table sums. `step s` is the wall time of the steps of a stage,
which may run in parallel; `processor s` is the time of all their threads. Memory is the
peak over the whole group of processes (PSS, so that shared pages count once).

--keep-run
uses the run in WORK, with its load and processors. Writes
benchmarks/results/paper_subject.{json,md}.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pandas as pd
from _monitored import monitored
from _resources import watch
from _table import keep

import bids_sr
from bids_sr.engine import step as pipeline
from bids_sr.io.atomic_files import write_json

RESOURCES = "resources.tsv"
"""Table in the work folder with the resources of each step."""
BIN = Path(sys.executable).parent
MOST_MINUTES, MOST_GB = 5, 1.7
SERIES, TRAINING = "super-resolution: ", "training"
MAPS, EVALUATION, REGISTRATION = "activation maps", "evaluation", "registration of run and pair"
STAGES = {
    **dict.fromkeys(("join_quality", "compare_maps"), EVALUATION),
    "estimate_variance": "prior SD maps of the run",
    "figures": "figures and reports",
    **dict.fromkeys(("store", "primary_dataset"), "writing the results"),
    "training": TRAINING,
    **dict.fromkeys(("evaluation", "quality", "judgment", "reconstruction_error"), EVALUATION),
    **dict.fromkeys(("activation", "clusters", "region_growth", "seeds"), MAPS),
    "motion": "head motion, slice timing, confounds",
    "anatomy": "anatomy: bias field, brain, template, tissues",
    **dict.fromkeys(("registration", "spaces", "surfaces"), REGISTRATION),
}
"""Step, or its module or folder, and its stage."""


@cache
def modules_of_steps() -> dict[str, list[str]]:
    """Return every step with the folders and the module that contain it, the outermost first."""
    step_modules = (
        import_module(module_info.name)
        for module_info in walk_packages(bids_sr.__path__, "bids_sr.")
        if ".steps" in module_info.name
    )
    all_steps = [
        step
        for module in step_modules
        for step in vars(module).values()
        if isinstance(step, pipeline.Step)
    ]
    return {step.__name__: step.__module__.split(".")[1:] for step in all_steps}


def stage_of(node: str, step: str) -> str:
    """Return the stage of a step, from its node and its name.

    >>> stage_of("bids_sr_wf.sub_01_wf.run_wf.srgan.super_resolve", "super_resolve")
    'super-resolution: srgan'
    """
    if step in ("super_resolve", "correct_motion"):
        return SERIES + (node.split(".")[-2] if step == "super_resolve" else "acquired")
    names = (step, *modules_of_steps().get(step, ()))
    return next((STAGES[name] for name in names if name in STAGES), "other steps")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Total resources of the run (s, GiB); preset, processors, and load of the machine over five
    minutes at its end.

    The last three are None for runs that did not record them.
    """

    code: int
    seconds: float
    peak_gib: float
    cpu_seconds: float
    main_cpu_seconds: float
    processes: int
    preset: str | None = None
    procs: int | None = None
    load: float | None = None


def run(options: argparse.Namespace, phantom: Path, out: Path) -> Finished:
    """Run the program like a user, or load the existing run."""
    notes = options.work / "run.json"
    if options.keep_run and notes.exists():
        earlier = Finished(**json.loads(notes.read_text()))
        if earlier.preset not in (None, options.preset):
            sys.exit(
                f"{options.work} has a run of the preset {earlier.preset}, not of {options.preset}"
            )
        return earlier
    notes.unlink(missing_ok=True)  # describes the run whose results are removed now
    work = options.work / "work"
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    command = [
        phantom,
        out,
        "participant",
        "-w",
        work,
        "--nprocs",
        options.procs,
        "--skip-bids-validation",
    ]
    table = options.work / RESOURCES
    table.unlink(missing_ok=True)
    usage = watch(
        monitored(table, [*map(str, command)]), log=options.work / "run.log", interval_s=1.0
    )
    took = {
        key: value for key, value in asdict(usage).items() if key in Finished.__dataclass_fields__
    }
    finished = Finished(
        **took, preset=options.preset, procs=options.procs, load=os.getloadavg()[1]
    )
    write_json(notes, asdict(finished))
    return finished


def phantom_of(options: argparse.Namespace) -> Path:
    """Return the phantom in WORK, or a new one, which gets its name once it is complete."""
    phantom = Path(options.work / options.preset)
    if not phantom.exists():
        part = phantom.with_name(f".{options.preset}.part")
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run([BIN / "bids-sr-phantom", part, "--preset", options.preset], check=True)
        part.rename(phantom)
    return phantom


def stages(work: Path) -> pd.DataFrame:
    """Return steps, wall and processor time by stage, largest first."""
    table = pd.read_csv(work / RESOURCES, sep="\t")
    table["stage"] = [
        stage_of(node, kind) for node, kind in zip(table.node, table.kind, strict=True)
    ]
    summary = table.groupby("stage").agg(
        steps=("node", "size"),
        seconds=("seconds", "sum"),
        cpu=("cpu_seconds", "sum"),
        peak_gb=("peak_gb", "max"),
    )
    return summary.sort_values("cpu", ascending=False)


def table(stage_table: pd.DataFrame, usage: Finished) -> list[dict[str, Any]]:
    """Return the stages of the run, and its overhead."""

    def row(stage: str, count: Any, clock: Any, cpu: float, peak: Any) -> dict[str, Any]:
        return {
            "stage": stage,
            "steps": count,
            "step s": clock,
            "processor s": round(cpu, 1),
            "% of processor": round(100 * cpu / usage.cpu_seconds, 1),
            "peak GB of a step": peak,
        }

    overhead_s = usage.cpu_seconds - stage_table.cpu.sum()
    clock, peak = f"{usage.seconds:.1f} on the clock", f"{_gb(usage):.2f} all processes"
    return [
        *(
            row(
                str(name),
                int(stage_row.steps),
                round(stage_row.seconds, 1),
                stage_row.cpu,
                round(stage_row.peak_gb, 2),
            )
            for name, stage_row in stage_table.iterrows()
        ),
        row("starting, checks, scheduler, workers", "", "", overhead_s, ""),
        row("the whole run", int(stage_table.steps.sum()), clock, usage.cpu_seconds, peak),
    ]


def _gb(usage: Finished) -> float:
    return usage.peak_gib * 2**30 / 1e9


def verdict(usage: Finished, preset: str) -> str:
    """Return the result of the table in words."""
    minutes, memory = usage.seconds / 60, _gb(usage)
    within_limits = usage.code == 0 and minutes <= MOST_MINUTES and memory <= MOST_GB
    procs, load = ("not kept" if v is None else f"{v:g}" for v in (usage.procs, usage.load))
    return (
        f"Exit code {usage.code}; {minutes:.1f} min (bar {MOST_MINUTES}) and {memory:.2f} GB (bar"
        f" {MOST_GB}) on {procs} processors: {'held' if within_limits else 'NOT held'}."
        f" Preset {preset}; load of the machine when it ended {load} over five minutes."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--keep-run", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    phantom, out = phantom_of(options), options.work / "out"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.procs])
    usage = run(options, phantom, out)
    if usage.code:
        sys.stderr.write((options.work / "run.log").read_text()[-4000:])
        return usage.code
    keep(
        "paper_subject",
        "A whole subject of the paper's size",
        table(stages(options.work), usage),
        remarks=[verdict(usage, options.preset)],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
