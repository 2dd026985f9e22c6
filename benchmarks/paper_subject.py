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

The roofline compares the kernels of the two slowest stages, one thread each as in the run, with
the best convolution in cache, the best large matrix product, and copies of arrays larger than
the caches, measured at the same time; benchmarks/_roofline.py defines work and bytes. --keep-run
uses the run in WORK, with its load and processors. Writes
benchmarks/results/paper_subject{,_roofline}.{json,md}.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import numpy as np
import pandas as pd
from _monitored import monitored
from _pair import pair_of
from _resources import watch
from _roofline import (
    Kernel,
    Peaks,
    measure_peaks,
    of_a_volume,
    of_training,
    on_threads,
    row as roofline_row,
    seconds,
)
from _table import keep

from bids_sr import steps
from bids_sr.io.atomic_files import write_json
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.pipeline import step as pipeline
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import load_model

RESOURCES = "resources.tsv"
"""Table in the work folder with the resources of each step."""
BIN = Path(sys.executable).parent
MOST_MINUTES, MOST_GB = 5, 1.7
SERIES, TRAINING = "super-resolution: ", "training"
MAPS, EVALUATION, REGISTRATION = "activation maps", "evaluation", "registration of run and pair"
STAGES = {
    **dict.fromkeys(("join_quality", "compare_maps"), EVALUATION),
    "estimate_variance": "variance maps of the run",
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
        for module_info in walk_packages(steps.__path__, f"{steps.__name__}.")
    )
    all_steps = [
        step
        for module in step_modules
        for step in vars(module).values()
        if isinstance(step, pipeline.Step)
    ]
    return {step.__name__: step.__module__.split(".")[2:] for step in all_steps}


def stage_of(node: str, step: str) -> str:
    """Return the stage of a step, from its node and its name.

    >>> stage_of("bids_sr_wf.sub_01_wf.run_wf.srgan.super_resolve", "super_resolve")
    'super-resolution: srgan'
    """
    if step in ("super_resolve", "correct_motion"):
        return SERIES + (node.split(".")[-2] if step == "super_resolve" else "raw")
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


def heaviest(stage_table: pd.DataFrame) -> list[str]:
    """Return the two stages with the most processor time; all series are one stage."""
    merged = stage_table.cpu.groupby(
        [
            str(name).partition(":")[0] if SERIES in str(name) else name
            for name in stage_table.index
        ]
    )
    return merged.sum().sort_values(ascending=False).index[:2].tolist()


def report_roofline(
    kernels: list[Kernel], peaks: Peaks, stage_table: pd.DataFrame, counts: Mapping[str, int]
) -> None:
    """Store table and figure, and the fraction of each stage's processor time that the kernels
    explain.
    """
    took = {kernel.name: seconds(kernel.run) for kernel in kernels}
    rows = [roofline_row(kernel, peaks, took[kernel.name]) for kernel in kernels]
    two = heaviest(stage_table)
    shares = []
    for stage in stage_table.index:
        part = str(stage).removeprefix(SERIES)
        kernel_s = sum(
            kernel.parts.count(part) * kernel.share * took[kernel.name] for kernel in kernels
        ) * counts.get(part, 0)
        if kernel_s:
            shares.append(f"{stage} {100 * kernel_s / stage_table.cpu[stage]:.0f} %")
    remarks = [
        f"The two stages that took most: {' and '.join(two)}. Counted are the kernels of training"
        " and of all series"
        + (
            "."
            if {SERIES.partition(":")[0], TRAINING} == set(two)
            else "; others are libraries' own code (ANTs, say)."
        )
        + " One thread each, as in the run.",
        (
            f"Best here, one thread: convolution in cache {peaks.convolution:.1f} GFLOP/s, matrix"
            f" product of 2048 {peaks.product:.1f} GFLOP/s; copy {peaks.copy:.1f} GB/s, triad"
            f" {peaks.triad:.1f} GB/s of arrays of 268 MB; copy in cache {peaks.cached:.1f} GB/s."
            " A roof is the lower of the best convolution and intensity times the better of copy"
            " and triad."
        ),
        (
            "Share of the stage's processor time in the run that these kernels take when run"
            f" alone: {', '.join(shares)}. The rest is reading and writing series, looks at"
            " held-out slices, interpreters, and two steps sharing caches and memory."
        ),
        (
            "Splines are compiled loops over rows of voxels; their rows are in a cache, and their"
            " work is the algorithm's."
        ),
    ]
    keep(
        "paper_subject_roofline",
        "Roofline of what a whole subject spends most on",
        rows,
        remarks=remarks,
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
    stage_table, pair = stages(options.work), pair_of(phantom)
    (bold,) = phantom.glob("sub-*/func/*_bold.nii.gz")
    with SeriesReader(bold) as reader:
        volume, affine, shape = next(iter(reader.volumes())), reader.affine, reader.shape
    keep(
        "paper_subject",
        "A whole subject of the paper's size",
        table(stage_table, usage),
        remarks=[verdict(usage, options.preset)],
    )
    (weights,) = out.glob("sourcedata/models/**/*srgan*.safetensors")
    model = load_model(weights)
    (fine,) = phantom.glob("sub-*/anat/*acq-highres_T2starw.nii.gz")
    data, grid = load_image(fine)
    steps = sum(phase["iterations"] for phase in model.card.json["phases"].values())
    names = [str(name).removeprefix(SERIES) for name in stage_table.index if SERIES in str(name)]
    with on_threads(1):
        kernels = [
            *of_training(get_method("srgan").recipes["fast"], pair),
            *of_a_volume(
                np.asarray(volume), affine, pair.factor, model, PosedImage(data=data, affine=grid)
            ),
        ]
        counts = {TRAINING: steps, **dict.fromkeys(names, int(shape[3]))}
        report_roofline(kernels, measure_peaks(), stage_table, counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
