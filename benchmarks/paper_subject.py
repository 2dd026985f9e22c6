"""A whole subject of the paper's size, every stage: where the time goes, beside what the paper's
recipe would cost.

python benchmarks/paper_subject.py WORK [--preset paper] [--procs 2] [--paper-steps 6] [--keep-run]

Makes the phantom (64 x 64 x 30 x 900 and its pair; kept in WORK), then runs, bound to two
processors,

    bids-sr PHANTOM OUT participant --skip-bids-validation

with all as it comes: default methods and baselines, both kinds of maps, both smoothings,
evaluation and reports. The validator is left out because it looks at the input alone; the monitor
writes what each step took, which is what the table adds up. `step s` is the clock of the steps of
a stage, of which two may run side by side, `processor s` that of all their threads. Memory is the
peak over the whole group of processes (PSS, so that shared pages count once).

The paper's recipe is not run: what stands beside is seconds a step of `paper-mse`, measured here,
times its 100,000 steps, and seconds a slice of its generator times slices and volumes, each on as
many threads as is fastest. Looks at held-out slices, and the second training on all slices that
`paper-mse` adds, are not in it; nor are the features of VGG-19 that `paper` is taught by, whose
weights do not come with the program: with them a step takes 1.3 times as long.

The roofline times the kernels of the two stages that took most, one thread each as in the run,
against the best convolution in cache, the best large matrix product, and copies of arrays beyond
the caches, measured here and now; how work and bytes are counted stands in
benchmarks/_roofline.py. --keep-run takes the run that WORK has, with the load and the processors
that it had. Writes benchmarks/results/paper_subject{,_roofline}.{json,md} and
paper_subject_roofline.svg.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import numpy as np
import pandas as pd
import torch
from _monitored import monitored
from _pair import Pair
from _recipes_run import training_pair
from _resources import watch
from _roofline import (
    Kernel,
    Peaks,
    Step,
    measure_peaks,
    of_a_volume,
    of_training,
    of_variance,
    on_threads,
    seconds,
)
from _roofline import row as roofline_row
from _table import RESULTS, keep
from variance import drawn_prior

from bids_sr import steps
from bids_sr.io.atomic_files import write_json
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.pipeline import step as pipeline
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import load_model

RESOURCES = "resources.tsv"
"""Among the work: what each step took."""
BIN = Path(sys.executable).parent
SERIES, TRAINING = "super-resolution: ", "training"
MAPS, EVALUATION, REGISTRATION = "activation maps", "evaluation", "registration of run and pair"
STAGES = {
    **dict.fromkeys(("measure_quality", "join_quality", "compare_maps"), EVALUATION),
    "estimate_variance": "variance maps of the run",
    "figures": "figures and reports",
    **dict.fromkeys(("store", "primary"), "writing the results"),
    "training": TRAINING,
    **dict.fromkeys(("evaluation", "quality", "judgment"), EVALUATION),
    **dict.fromkeys(("activation", "active_regions"), MAPS),
    "motion": "head motion, slice timing, confounds",
    "anatomy": "anatomy: bias field, brain, template, tissues",
    "registration": REGISTRATION,
}
"""Step, or the module or folder in which it stands, and its stage."""


@cache
def modules_of_steps() -> dict[str, list[str]]:
    """Every step with the modules around it, the nearest first."""
    found = (
        import_module(each.name) for each in walk_packages(steps.__path__, f"{steps.__name__}.")
    )
    every = [
        one for module in found for one in vars(module).values() if isinstance(one, pipeline.Step)
    ]
    return {one.__name__: one.__module__.split(".")[:1:-1] for one in every}


def stage_of(node: str, step: str) -> str:
    """The stage of a step, by its node and its name.

    >>> stage_of("bids_sr_wf.sub_01_wf.run_wf.srgan.super_resolve", "super_resolve")
    'super-resolution: srgan'
    """
    if step in ("super_resolve", "undo_motion"):
        return SERIES + (node.split(".")[-2] if step == "super_resolve" else "raw")
    names = (step, *modules_of_steps().get(step, ()))
    return next((STAGES[name] for name in names if name in STAGES), "other steps")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What the run took, in all (s, GiB); preset, processors, and load of the machine over five
    minutes when it ended.

    The last three are None where the run was made before they were kept.
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


def run(given: argparse.Namespace, phantom: Path, out: Path) -> Finished:
    """The run of a user, or the one that is there."""
    notes = given.work / "run.json"
    if given.keep_run and notes.exists():
        kept = Finished(**json.loads(notes.read_text()))
        if kept.preset not in (None, given.preset):
            sys.exit(f"{given.work} has a run of the preset {kept.preset}, not of {given.preset}")
        return kept
    notes.unlink(missing_ok=True)  # of the run whose results are removed now
    work = given.work / "work"
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    command = [
        phantom,
        out,
        "participant",
        "-w",
        work,
        "--nprocs",
        given.procs,
        "--skip-bids-validation",
    ]
    table = given.work / RESOURCES
    table.unlink(missing_ok=True)
    usage = watch(monitored(table, [*map(str, command)]), log=given.work / "run.log", every=1.0)
    took = {
        key: value for key, value in asdict(usage).items() if key in Finished.__dataclass_fields__
    }
    found = Finished(**took, preset=given.preset, procs=given.procs, load=os.getloadavg()[1])
    write_json(notes, asdict(found))
    return found


def phantom_of(given: argparse.Namespace) -> Path:
    """The phantom that is in WORK, or a new one, which has its name once it is complete."""
    phantom = Path(given.work / given.preset)
    if not phantom.exists():
        part = phantom.with_name(f".{given.preset}.part")
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run([BIN / "bids-sr-phantom", part, "--preset", given.preset], check=True)
        part.rename(phantom)
    return phantom


def stages(work: Path) -> pd.DataFrame:
    """Steps, clock and processor time by stage, largest first."""
    table = pd.read_csv(work / RESOURCES, sep="\t")
    table["stage"] = [
        stage_of(node, kind) for node, kind in zip(table.node, table.kind, strict=True)
    ]
    found = table.groupby("stage").agg(
        steps=("node", "size"),
        seconds=("seconds", "sum"),
        cpu=("cpu_seconds", "sum"),
        peak_gb=("peak_gb", "max"),
    )
    return found.sort_values("cpu", ascending=False)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Seconds (clock, processor) of a training step and of a slice with the paper's recipe, and
    the threads of each.
    """

    step: tuple[float, float]
    slice: tuple[float, float]
    threads: tuple[int, int]


def _timed(act: Any, count: int) -> tuple[float, float]:
    act()
    clock, busy = time.perf_counter(), time.process_time()
    for _ in range(count):
        act()
    return (time.perf_counter() - clock) / count, (time.process_time() - busy) / count


def measure_paper(pair: Pair, procs: int, count: int) -> Paper:
    """A few steps and slices of the paper's recipe, on one thread and all; the faster counts."""
    recipe = get_method("srgan").recipes["paper-mse"]
    step = Step(recipe, pair)
    shape = pair.highres.shape[:2]
    images = [
        torch.rand(n, 1, *shape).contiguous(memory_format=torch.channels_last) for n in (1, 4)
    ]
    net = step.nets.generator
    steps, slices = {}, {}
    for threads in sorted({1, procs}):
        with on_threads(threads):
            steps[threads] = _timed(step, count)
            with torch.inference_mode():
                each = [
                    (t / len(x), b / len(x))
                    for x in images
                    for t, b in [_timed(lambda x=x: net(x), 2)]
                ]
            slices[threads] = min(each)
    best, fast = min(steps, key=lambda n: steps[n][0]), min(slices, key=lambda n: slices[n][0])
    return Paper(step=steps[best], slice=slices[fast], threads=(best, fast))


def table(
    found: pd.DataFrame, usage: Finished, paper: Paper, sizes: tuple[int, int]
) -> list[dict[str, Any]]:
    """The stages of the run, with what the paper's recipe would cost beside them; sizes: slices,
    volumes.
    """
    planned = get_method("srgan").recipes["paper-mse"].steps
    count = sizes[0] * sizes[1]
    instead = {
        TRAINING: [planned * value for value in paper.step],
        f"{SERIES}srgan": [count * value for value in paper.slice],
    }
    rows, clock, busy = [], 0.0, 0.0
    for name, one in found.iterrows():
        other = instead.get(str(name), [one.seconds, one.cpu])
        clock, busy = clock + other[0] - one.seconds, busy + other[1]
        rows.append(
            {
                "stage": name,
                "steps": int(one.steps),
                "step s": round(one.seconds, 1),
                "processor s": round(one.cpu, 1),
                "% of processor": round(100 * one.cpu / usage.cpu_seconds, 1),
                "peak GB of a step": round(one.peak_gb, 2),
                "recipe paper-mse, processor s": round(other[1], 1),
            }
        )
    beside = usage.cpu_seconds - found.cpu.sum()
    rows.append(
        {
            "stage": "starting, checks, scheduler, workers",
            "steps": "",
            "step s": "",
            "processor s": round(beside, 1),
            "% of processor": round(100 * beside / usage.cpu_seconds, 1),
            "peak GB of a step": "",
            "recipe paper-mse, processor s": round(beside, 1),
        }
    )
    rows.append(
        {
            "stage": "the whole run",
            "steps": int(found.steps.sum()),
            "step s": f"{usage.seconds:.1f} on the clock",
            "processor s": round(usage.cpu_seconds, 1),
            "% of processor": 100.0,
            "peak GB of a step": f"{usage.peak_gib * 2**30 / 1e9:.2f} all processes",
            "recipe paper-mse, processor s": round(busy + beside, 1),
        }
    )
    return rows


def verdict(
    usage: Finished, paper: Paper, sizes: tuple[int, int], given: argparse.Namespace
) -> list[str]:
    """What the table says, in words."""
    planned = get_method("srgan").recipes["paper-mse"].steps
    training, slices = planned * paper.step[0] / 3600, sizes[0] * sizes[1] * paper.slice[0] / 3600
    memory = usage.peak_gib * 2**30 / 1e9
    bars = f"{usage.seconds / 60:.1f} min (bar 8) and {memory:.2f} GB (bar 2)"
    held = usage.code == 0 and usage.seconds <= 480 and memory <= 2
    procs, load = ("not kept" if v is None else f"{v:g}" for v in (usage.procs, usage.load))
    return [
        (
            f"Exit code {usage.code}; {bars} on {procs} processors:"
            f" {'held' if held else 'NOT held'}. Preset {given.preset}; load of the machine when"
            f" it ended {load} over five minutes."
        ),
        (
            f"Recipe paper-mse on the same machine: {paper.step[0]:.3f} s a step on"
            f" {paper.threads[0]} threads, {planned} steps: {training:.1f} h; {paper.slice[0]:.3f}"
            f" s a slice on {paper.threads[1]} threads, {sizes[0]} slices of {sizes[1]} volumes:"
            f" {slices:.1f} h. Together {(training + slices) * 3600 / usage.seconds:.0f} times the"
            " whole run above, on the clock."
        ),
    ]


def heaviest(found: pd.DataFrame) -> list[str]:
    """The two stages that took most of the processor; all series are one stage."""
    merged = found.cpu.groupby(
        [str(name).partition(":")[0] if SERIES in str(name) else name for name in found.index]
    )
    return merged.sum().sort_values(ascending=False).index[:2].tolist()


def report_roofline(
    kernels: list[Kernel], peaks: Peaks, found: pd.DataFrame, counts: Mapping[str, int]
) -> None:
    """Table and figure; how much of each stage's processor time the kernels explain is below."""
    took = {kernel.name: seconds(kernel.run) for kernel in kernels}
    rows = [roofline_row(kernel, peaks, took[kernel.name]) for kernel in kernels]
    two = heaviest(found)
    told = []
    for stage in found.index:
        part = str(stage).removeprefix(SERIES)
        made = sum(
            kernel.parts.count(part) * kernel.share * took[kernel.name] for kernel in kernels
        ) * counts.get(part, 0)
        if made:
            told.append(f"{stage} {100 * made / found.cpu[stage]:.0f} %")
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
            f" alone: {', '.join(told)}. The rest is reading and writing series, looks at held-out"
            " slices, interpreters, and two steps sharing caches and memory."
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
    draw(rows, peaks)


def draw(rows: list[dict[str, Any]], peaks: Peaks) -> None:
    """Both roofs, and the kernels under them."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "paper_subject"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 5.5), layout="constrained")
    x = np.geomspace(0.5, 200, 200)
    for name, speed, style in (
        ("memory", max(peaks.copy, peaks.triad), "-"),
        ("cache", peaks.cached, ":"),
    ):
        roof = np.minimum(peaks.convolution, x * speed)
        axes.plot(
            x,
            roof,
            style,
            color="black",
            linewidth=1,
            label=f"best convolution, {name} ({speed:.0f} GB/s)",
        )
    for k, one in enumerate(rows):
        color = plt.get_cmap("tab10")(k)
        axes.plot(one["FLOP/byte"], one["GFLOP/s"], "o", color=color, label=one["kernel"])
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    figure.legend(fontsize="small", loc="outside lower center", ncols=2)
    figure.savefig(RESULTS / "paper_subject_roofline.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument(
        "--paper-steps", type=int, default=6, help="of the paper's recipe that are timed"
    )
    parser.add_argument("--keep-run", action="store_true")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    phantom, out = phantom_of(given), given.work / "out"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.procs])
    usage = run(given, phantom, out)
    if usage.code:
        sys.stderr.write((given.work / "run.log").read_text()[-4000:])
        return usage.code
    found, pair = stages(given.work), training_pair(phantom)
    paper = measure_paper(pair, given.procs, given.paper_steps)
    (bold,) = phantom.glob("sub-*/func/*_bold.nii.gz")
    with SeriesReader(bold) as reader:
        volume, affine, shape = next(iter(reader.volumes())), reader.affine, reader.shape
    sizes = int(shape[2]), int(shape[3])
    keep(
        "paper_subject",
        "A whole subject of the paper's size",
        table(found, usage, paper, sizes),
        remarks=verdict(usage, paper, sizes, given),
    )
    (weights,) = out.glob("sourcedata/models/**/*srgan*.safetensors")
    model = load_model(weights)
    (fine,) = phantom.glob("sub-*/anat/*acq-highres_T2starw.nii.gz")
    data, grid = load_image(fine)
    steps = sum(phase["iterations"] for phase in model.card.json["phases"].values())
    names = [str(name).removeprefix(SERIES) for name in found.index if SERIES in str(name)]
    with on_threads(1):
        kernels = [
            *of_training(get_method("srgan").recipes["fast"], pair),
            *of_a_volume(
                np.asarray(volume), affine, pair.factor, model, PosedImage(data=data, affine=grid)
            ),
            of_variance(drawn_prior(volume.shape), volume.shape),
        ]
        report_roofline(
            kernels, measure_peaks(), found, {TRAINING: steps, **dict.fromkeys(names, sizes[1])}
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
