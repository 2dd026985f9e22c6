"""`guided` on a level where everything is known, then against what was measured.

benchmarks/guided.py level DATA [--only NAME …]    settings, scored one level down (20 -> 40), on held-out slices
benchmarks/guided.py series DATA OUT [--seeds N]   finer series, for `beyond_nyquist.py DATA TRUTH --series NAME=FILE`
benchmarks/guided.py scenes PHANTOM …              effect maps against the known activation of phantoms
benchmarks/guided.py cost                          training and application of a run of 64 x 64 x 30 x 900

DATA holds one run and a T2*-weighted pair. Settings are chosen by `level` on data that are not the truth; every opening
of the truth is noted in benchmarks/TRUTH.md.
Writes benchmarks/results/guided_{level,scenes,cost}.{json,md}; rows of earlier runs with the same names stay.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _guided_run import DUMMIES, FACTOR, Run, learn, one, prepare, recipe_with
from _table import RESULTS, keep

from bids_sr.spatial.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.guided_apply import GuidedUpsampler, Guides
from bids_sr.sr.guided_train import TrainingSeries
from bids_sr.sr.infer import Upsampler, make_upsampler, super_resolve_series
from bids_sr.sr.interpolate import upsample
from bids_sr.sr.levels import level_above, to_slices, to_volume
from bids_sr.sr.model import load_model
from bids_sr.sr.temporal import temporal_statistics
from bids_sr.stats.blocks import block_design
from bids_sr.stats.design import read_events
from bids_sr.stats.effects import Effects, block_effects
from bids_sr.stats.splithalf import beyond_nyquist

Row = dict[str, Any]
HIGH_PASS = 0.01
TRIED: dict[str, Row] = {
    "as it is": {},
    "seed 1": {"seed": 1},
    "seed 2": {"seed": 2},
    "1500 steps": {"iterations": 1500},
    "400 steps": {"iterations": 400},
    "16 channels": {"width": 16},
    "3 layers": {"depth": 3},
    "rate 2e-3": {"learning_rate": 2e-3},
    "15 components": {"components": 15},
    "80 components": {"components": 80},
    "no limit on gradients": {"gradient_limit": None},
    "guide: T1w": {"kind": "t1w"},
    "guide: none": {"kind": "none"},
    "factor 1.5": {"factor": (1.5, 1.5, 1.0)},
    "factor 3": {"factor": (3.0, 3.0, 1.0)},
}


def merged(name: str, title: str, rows: list[Row], keys: tuple[str, ...], remarks: list[str]) -> None:
    """Keep a table, with the rows of earlier runs that are not made anew."""
    file = RESULTS / f"{name}.json"
    old = json.loads(file.read_text())["rows"] if file.exists() else []
    fresh = {tuple(row[key] for key in keys) for row in rows}
    keep(name, title, [row for row in old if tuple(row[key] for key in keys) not in fresh] + rows, remarks=remarks)


def level(given: argparse.Namespace) -> None:
    """Explained share of what zero filling misses, one level down, on held-out slices: mean over 40 components."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(given.data, Path(folder), components=80)
        for name in given.only or TRIED:
            changes = dict(TRIED[name])
            kind, seed, factor = (
                changes.pop(key, default) for key, default in (("kind", "highres"), ("seed", 0), ("factor", FACTOR))
            )
            if kind not in run.guides or (factor != FACTOR and kind == "highres" and "kind" in TRIED[name]):
                continue
            data = run.training(kind, FACTOR) if factor == FACTOR else run.training("none", factor)
            started = time.process_time()
            model, made = learn(data, recipe_with(**changes), seed=seed, threads=given.threads)
            held = model.card["held_out"]
            rows.append({
                "data": given.data.resolve().name, "what": name if factor == FACTOR else f"{name}, no guide",
                "explained, held out": held["explained_over_zerofill"],
                "explained, training slices": held["explained_over_zerofill_in_training"],
                "best at step": held["iteration"], "of": made.card["phases"]["search"]["iterations"],
                "processor seconds": round(time.process_time() - started, 1),
            })  # fmt: skip
    remark = "Explained: 1 - squared error over that of zero filling. Components other than 40 are scored on their own."
    merged("guided_level", "guided: what was tried, one level down", rows, ("data", "what"), [remark])


def write_series(run: Run, upsampler: Upsampler, name: str) -> Path:
    """A finer series on disk, in the pose of the reference."""
    shape, grid = hr_grid(run.boldref.shape, run.affine, FACTOR)
    path = run.folder / f"{name}.nii"
    with SeriesReader(run.acquired) as reader:
        size = (*shape, reader.shape[3])
        with SeriesWriter(path, size, grid, reader.tr, header_like=reader.header) as writer:
            off = super_resolve_series(reader, writer, upsampler, run.poses, shape, grid, factor=FACTOR)
    worst[name] = float(np.nanmax(off))
    return path


worst: dict[str, float] = {}


def effects_of(path: Path, name: str, mask: Any, events: Path) -> Effects:
    """Effect of every block in a series."""
    with SeriesReader(path) as reader:
        design = block_design(
            read_events(events), n_volumes=reader.shape[3], tr=reader.tr, high_pass=HIGH_PASS, source=str(events),
            n_dummy=DUMMIES,
        )  # fmt: skip
        return block_effects(reader, mask, design, series=name)


def series(given: argparse.Namespace) -> None:
    """Finer series of several seeds and guides on the run's own grid (no motion is undone), for beyond_nyquist.py."""
    given.out.mkdir(exist_ok=True, parents=True)
    run = prepare(given.data, given.out, still=True)
    for kind in given.guides:
        for seed in range(given.seeds if kind == "highres" else 1):
            model, _ = learn(run.training(kind), recipe_with(), seed=seed, threads=given.threads)
            name = f"guided_{kind}_{seed}"
            path = write_series(run, run.upsampler(model, kind, given.threads), name)
            held = model.card["held_out"]["explained_over_zerofill"]
            sys.stdout.write(f"{name}={path} held out {held}, inconsistency {worst[name]:.1e}\n")
            sys.stdout.flush()
    if given.srgan is not None:  # a network that a whole run has trained on the pair
        scale = float(np.percentile(run.boldref[run.mask], 99))
        static = make_upsampler("srgan", FACTOR, model=load_model(given.srgan), scale=scale, threads=given.threads)
        path = write_series(run, static, "srgan")
        sys.stdout.write(f"srgan={path}, inconsistency {worst['srgan']:.1e}\n")


def scenes(given: argparse.Namespace) -> None:
    """Correlation of effect maps with the known activation, all of it and what lies beyond Nyquist."""
    rows = []
    for root in given.data:
        with tempfile.TemporaryDirectory() as folder:
            run = prepare(root, Path(folder))
            mask = np.kron(run.mask, np.ones((2, 2, 1))) > 0
            events = one(root, "sub-*/func/*_events.tsv")
            maps = "derivatives/ground-truth/sub-*/func/*contrast-{}_stat-effect*.nii.gz"
            known = {name: load_image(one(root, maps.format(name)))[0] for name in ("thumb", "little")}
            ups: dict[str, Upsampler] = {name: make_upsampler(name, FACTOR) for name in ("bspline", "zerofill")}
            held = {}
            for kind in given.guides:
                model, _ = learn(run.training(kind), recipe_with(), threads=given.threads)
                held[f"guided {kind}"] = model.card["held_out"]["explained_over_zerofill"]
                ups[f"guided {kind}"] = run.upsampler(model, kind, given.threads)
            for name, upsampler in ups.items():
                path = write_series(run, upsampler, name.replace(" ", "_"))
                found = effects_of(path, name, mask, events)
                path.unlink()
                free = noise_free(upsampler, run, known, mask)
                rows.append({"scene": root.resolve().name, "series": name} | against(found, known, mask) | free | {
                    "explained a level down": held.get(name, 0.0)})  # fmt: skip
    merged("guided_scenes", "guided on phantoms: effect maps against the known activation", rows,
           ("scene", "series"), ["Mean over thumb and little; registration from ground truth; r in the brain, and "
                                 "where the activation is above a tenth of its maximum (active)."])  # fmt: skip


def noise_free(upsampler: Upsampler, run: Run, known: dict[str, Any], mask: Any) -> Row:
    """The known activation itself, brought down and up again without noise: error over B-spline's where it is active,
    and correlation beyond Nyquist there. All series are linear in the change, so that this is what they do to it."""
    level = level_above(run.boldref.shape, FACTOR)
    errors, plain, alike = 0.0, 0.0, []
    for wanted in known.values():
        coarse = np.ascontiguousarray(to_volume(level.down(to_slices(wanted))))
        spline = upsample("bspline", coarse, FACTOR)
        made = upsampler(coarse, np.eye(4))
        if isinstance(upsampler, GuidedUpsampler):
            made = to_volume(upsampler.detail(coarse, np.eye(4)) + level.up(to_slices(coarse)))
        where = mask & (np.abs(wanted) > 0.1 * np.abs(wanted).max())
        errors += float(np.square(made - wanted)[where].sum())
        plain += float(np.square(spline - wanted)[where].sum())
        a, b = (beyond_nyquist(image[..., None], FACTOR)[..., 0] for image in (made, wanted))
        alike.append(float(np.corrcoef(a[where], b[where])[0, 1]))
    ratio = round((errors / plain) ** 0.5, 4)
    return {
        "noise-free: rms error over bspline": ratio,
        "noise-free: r beyond, active": round(float(np.mean(alike)), 4),
    }


def against(found: Effects, known: dict[str, Any], mask: Any) -> Row:
    """Correlations, mean over conditions."""
    out: dict[str, list[float]] = {}
    for condition, wanted in known.items():
        chosen = [i for i, block in enumerate(found.blocks) if block.condition == condition and block.used]
        effect = found.betas[..., chosen].mean(-1)
        active = mask & (np.abs(wanted) > 0.1 * np.abs(wanted).max())
        beyond = [beyond_nyquist(image[..., None], FACTOR)[..., 0] for image in (effect, wanted)]
        for band, (a, b) in {"r": (effect, wanted), "r beyond": beyond}.items():
            for region, where in (("brain", mask), ("active", active)):
                out.setdefault(f"{band}, {region}", []).append(float(np.corrcoef(a[where], b[where])[0, 1]))
    return {key: round(float(np.mean(values)), 4) for key, values in out.items()}


def cost(given: argparse.Namespace) -> None:
    """Seconds for a run of 64 x 64 x 30 x 900 of noise in an ellipsoid: what is timed does not depend on content."""
    shape, count = (64, 64, 30), 900
    rng = np.random.default_rng(0)
    x, y, z = np.indices(shape)
    mask = ((x - 31.5) / 22) ** 2 + ((y - 31.5) / 27) ** 2 + ((z - 15) / 16) ** 2 < 1
    affine = np.diag([3.75, 3.75, 4.0, 1.0])
    fine, grid = hr_grid(shape, affine, FACTOR)
    torch.set_num_threads(given.threads)
    row: Row = {"threads": given.threads}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nii"
        with SeriesWriter(path, (*shape, count), affine, 0.5) as writer:
            still = (100 + 900 * mask).astype(np.float32)
            for _ in range(count):
                writer.append(still + rng.normal(0, 10, shape).astype(np.float32))
        started = time.monotonic()
        with SeriesReader(path) as reader:
            statistics = temporal_statistics(reader, mask)
        row["statistics s"] = time.monotonic() - started
        guide = rng.random(fine).astype(np.float32)
        data = TrainingSeries(
            statistics=statistics, mask=mask, affine=affine, factor=FACTOR, guide=guide, guide_kind="highres"
        )  # fmt: skip
        started, busy = time.monotonic(), time.process_time()
        model, _ = learn(data, recipe_with(), threads=given.threads)
        row["training s"], row["training, processor s"] = time.monotonic() - started, time.process_time() - busy
        started = time.monotonic()
        static = Guides(statistics, mask, affine, FACTOR, None)
        upsampler = GuidedUpsampler(model.generator, static)
        upsampler.anchor(np.eye(4))
        row["kernels of a pose s"] = time.monotonic() - started
        seconds, busy_s = {"application": 0.0, "read and write": 0.0}, {"application": 0.0, "read and write": 0.0}
        pose = np.eye(4)
        with SeriesReader(path) as reader, SeriesWriter(Path(folder) / "out.nii", (*fine, count), grid, 0.5) as writer:
            clocks = [time.monotonic(), time.process_time()]
            for volume in reader.volumes():
                for key, work in (("read and write", None), ("application", lambda v: upsampler(v, pose))):
                    if work is not None:
                        result = work(volume)
                    now = [time.monotonic(), time.process_time()]
                    seconds[key] += now[0] - clocks[0]
                    busy_s[key] += now[1] - clocks[1]
                    clocks = now
                pose[0, 3] = 0.15 * rng.random()
                ready = np.ascontiguousarray(result)  # as the interpolation leaves it
                clocks = [time.monotonic(), time.process_time()]
                writer.append(ready)
        row |= {f"{key} s": value for key, value in seconds.items()}
        row |= {f"{key}, processor s": value for key, value in busy_s.items()}
        row["application over read and write"] = busy_s["application"] / busy_s["read and write"]
        row["anchors"] = upsampler.anchors
    row["load average"] = round(os.getloadavg()[0], 1)
    rounded = {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}
    merged("guided_cost", "guided: cost for 64 x 64 x 30 x 900, by 2", [rounded], ("threads",),
           ["The one interpolation that every series needs is not counted."])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, work in (("level", level), ("series", series), ("scenes", scenes), ("cost", cost)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("--threads", type=int, default=2)
        if name in ("level", "series"):
            command.add_argument("data", type=Path)
        if name == "level":
            command.add_argument("--only", nargs="+", choices=TRIED)
        if name == "series":
            command.add_argument("out", type=Path)
            command.add_argument("--seeds", type=int, default=5)
            command.add_argument("--srgan", type=Path, help="weights of a network trained on the run's pair")
        if name == "scenes":
            command.add_argument("data", type=Path, nargs="+")
        if name in ("scenes", "series"):
            command.add_argument("--guides", nargs="+", default=["highres"])
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
