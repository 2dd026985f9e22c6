"""Training that begins with a network learned from simulated heads, against training from nothing.

python benchmarks/warm_start.py heads --work DIR [--heads N]
python benchmarks/warm_start.py learn --work DIR [--heads N] [--steps N]
python benchmarks/warm_start.py race BIDS_DIR --work DIR [--heads N] [--seeds N] [--steps N …] [--rates R …] [--on …]
    [--recipe-runs DIR]
python benchmarks/warm_start.py score BIDS_DIR TRUTH_DIR --work DIR [--every N]
python benchmarks/warm_start.py table --work DIR

`heads` simulates T2*-weighted pairs of N heads, each with a coarse matrix of 40 and of 64, other fields of view,
slices, poses, contrasts and noise; the last two heads are never learned from. `learn` trains the network of `fast` on
the others for --steps. `race` trains on the pair of BIDS_DIR, and on the last two heads, from nothing by the recipe,
from nothing by the recipe shortened to --steps, and from the learned network in --steps at peak learning rates of
--rates; every run goes through its whole schedule. What counts is when the held-out PSNR comes within .02 dB of the
recipe's own end (the mean of its seeds), looked at every ten steps, those from nothing by the recipe every 50. A step
is the same work in all of them; seconds are of the processor, looks included. --recipe-runs names the --work of
`recipes.py train fast` on the same pair, whose runs then are those from nothing by the recipe.
`score` opens the truth of the measured run for models of the race: from nothing, from nothing in the
first of --steps, warm in that many at the first of --rates, and the learned network as it is. `table` writes
benchmarks/results/warm_start.{json,md}.

The bar, set before: that PSNR in at most a quarter of the recipe's time, on the measured pair and on simulated heads,
and scores against the measured run no worse. Only then the network would ship.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _methods_run import shortened
from _recipes_run import Measured, read_log, training_pair
from _table import keep
from _warm_heads import kept_pairs
from safetensors.torch import load_file, save_file
from superres import FACTOR

from bids_sr.sr.loop import split
from bids_sr.sr.method import Recipe, get_method
from bids_sr.sr.model import LoadedModel, read_card
from bids_sr.sr.networks.blocks import Planes
from bids_sr.sr.networks.subpixel import SubPixelNet
from bids_sr.sr.pair import TrainingPair
from bids_sr.sr.patches import SliceSet
from bids_sr.sr.train import _PairPhase, _psnr, build_networks, fit, predict

Row = dict[str, Any]
State = dict[str, torch.Tensor]
METHOD = get_method("srgan")
FAST = METHOD.recipes["fast"]
KEPT_BACK = 2  # heads
FIRST_SEED = 1000
LOOK = 10
NEAR_DB = 0.02


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("heads", "learn", "race", "score", "table"))
    parser.add_argument("bids_dir", type=Path, nargs="?")
    parser.add_argument("truth_dir", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 7e-4])
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--recipe-runs", type=Path)
    parser.add_argument("--on", nargs="+", choices=("measured", "head 40", "head 64"))
    given = parser.parse_args()
    if given.what in ("race", "score") and given.bids_dir is None:
        parser.error(f"{given.what} needs a data set")
    return given


def heads_of(given: argparse.Namespace) -> dict[int, list[TrainingPair]]:
    """All simulated pairs by matrix."""
    folder = given.work / "heads"
    folder.mkdir(parents=True, exist_ok=True)
    return kept_pairs(range(FIRST_SEED, FIRST_SEED + given.heads), folder)


def stacked(pairs: list[TrainingPair]) -> tuple[SliceSet, tuple[int, ...]]:
    """Slices of several heads of one matrix, each head in its own intensity; those that show enough of the head."""
    sets, usable, first = [pair.slices() for pair in pairs], [], 0
    for pair in pairs:
        usable += [first + z for z in pair.usable_slices()]
        first += pair.lowres.shape[2]
    joined = {name: torch.cat([getattr(one, name) for one in sets]) for name in ("lowres", "highres", "mask")}
    return SliceSet(**joined, factor=sets[0].factor), tuple(usable)


@dataclass(kw_only=True)
class Heads(_PairPhase):
    """Training on several matrices: each step draws one of them."""

    groups: list[tuple[SliceSet, tuple[int, ...]]]
    watched: list[tuple[SliceSet, tuple[int, ...]]]

    @property
    def scored(self) -> bool:
        return True

    def step(self) -> dict[str, float]:
        self.images, self.slices = self.groups[int(self.rng.integers(len(self.groups)))]
        return super().step()

    def score(self) -> float:
        found = [
            _psnr(predict(self.nets.generator, images, which, self.recipe), images, which)
            for images, which in self.watched
        ]
        return float(np.mean(found))


def learn(given: argparse.Namespace) -> None:
    """The network of the simulated heads; the last heads choose its weights among the looks."""
    pairs, steps = heads_of(given), given.steps[0]
    recipe = replace(shortened(FAST, steps), evaluate_every=max(1, steps // 12))
    groups = [stacked(each[:-KEPT_BACK]) for each in pairs.values()]
    watched = [(images, which[::6]) for images, which in (stacked(each[-KEPT_BACK:]) for each in pairs.values())]
    any_pair = pairs[40][0]
    phase = Heads(
        name="search", recipe=recipe, images=groups[0][0], slices=(), held_out=(), iterations=steps,
        nets=build_networks(recipe, any_pair, 0, "cpu", None), planes=Planes(groups[0][0].factor),
        signature=f"heads-{given.heads}-{steps}", checkpoint=given.work / "learn.checkpoint.safetensors",
        deadline=None, progress=None, rng=np.random.default_rng(0), groups=groups, watched=watched,
    )  # fmt: skip
    begun = time.process_time()
    phase.run()
    save_file({key: value.contiguous() for key, value in phase.best.items()}, given.work / "learned.safetensors")
    (given.work / "learned.json").write_text(json.dumps({
        "heads": given.heads - KEPT_BACK, "steps": steps, "processor seconds": round(time.process_time() - begun, 1),
        "curve": [[row["iteration"], round(row["psnr"], 3)] for row in phase.at.log],
        "parameters": sum(value.numel() for value in phase.best.values()),
        "bytes": (given.work / "learned.safetensors").stat().st_size,
    }) + "\n")  # fmt: skip


def starting_with(state: State) -> Callable[..., SubPixelNet]:
    """What makes a generator that begins there."""

    def learned_net(channels: int, factor: tuple[float, float, float]) -> SubPixelNet:
        net = SubPixelNet(channels, factor)
        net.load_state_dict(state)
        return net

    return learned_net


def untrained(state: State, pair: TrainingPair) -> float:
    """Held-out PSNR of the learned network as it is."""
    _, held = split(pair.usable_slices(), FAST.hold_out)
    images = pair.slices()
    return _psnr(predict(starting_with(state)(1, pair.factor), images, held, FAST), images, held)


def run(pair: TrainingPair, recipe: Recipe, seed: int, keep_at: Path | None) -> Row:
    """Train once; held-out PSNR and seconds of the processor at each look."""
    clock: dict[int, float] = {}
    begun = time.process_time()

    def note(_phase: str, iteration: int, _all: int) -> None:
        clock[iteration] = time.process_time() - begun

    looks_at = FAST.evaluate_every if recipe.iterations == FAST.iterations else LOOK
    recipe = replace(recipe, patience=None, refit=False, evaluate_every=looks_at)
    with tempfile.TemporaryDirectory() as work:
        made = fit(METHOD, recipe, pair, recipe_name="fast", seed=seed, work_dir=work, progress=note)
    if keep_at is not None:
        save_file({key: value.contiguous() for key, value in made.state.items()}, keep_at)
    looks = [(int(row["iteration"]), float(row["psnr"])) for row in made.log]
    return {
        "curve": [[at, round(psnr, 4), round(clock[at], 2)] for at, psnr in looks],
        "best": made.card["held_out"]["network"]["psnr"], "ssim": made.card["held_out"]["network"]["ssim"],
        "seconds": round(clock[looks[-1][0]], 2),
    }  # fmt: skip


def found_runs(given: argparse.Namespace) -> None:
    """Runs from nothing by the recipe, which `recipes.py train` made of the measured pair."""
    for path in sorted(given.recipe_runs.glob("srgan_fast_seed*.json")):
        card = read_card(path.with_suffix(".safetensors"))
        log = read_log(given.recipe_runs / f"fast_seed{card['seed']}" / "log_search.tsv")
        held, stem = card["held_out"]["network"], f"measured_cold_{FAST.steps}_{FAST.learning_rate:g}_{card['seed']}"
        (given.work / f"{stem}.json").write_text(json.dumps({
            "data": "measured", "start": "cold", "steps": FAST.steps, "rate": FAST.learning_rate, "seed": card["seed"],
            "curve": [[int(row["iteration"]), round(float(row["psnr"]), 4)] for row in log],
            "best": held["psnr"], "ssim": held["ssim"],
        }) + "\n")  # fmt: skip
        shutil.copyfile(path.with_suffix(".safetensors"), given.work / f"{stem}.safetensors")


def race(given: argparse.Namespace) -> None:
    """Every run of every pair; those that were made are found again."""
    if given.recipe_runs is not None:
        found_runs(given)
    state = load_file(given.work / "learned.safetensors")
    pairs = heads_of(given)
    data = {"measured": training_pair(given.bids_dir), "head 40": pairs[40][-1], "head 64": pairs[64][-2]}
    settings = [("cold", FAST.steps, FAST.learning_rate)]
    settings += [("warm", steps, rate) for steps in given.steps for rate in given.rates]
    settings += [("cold", steps, FAST.learning_rate) for steps in given.steps]
    for where, pair in data.items():
        if given.on and where not in given.on:
            continue
        for start, steps, rate in settings:
            for seed in range(given.seeds):
                stem = f"{where.replace(' ', '')}_{start}_{steps}_{rate:g}_{seed}"
                notes = given.work / f"{stem}.json"
                if notes.exists():
                    continue
                recipe = replace(shortened(FAST, steps), learning_rate=rate) if steps != FAST.steps else FAST
                if start == "warm":
                    recipe = replace(recipe, build_generator=starting_with(state))
                found = run(pair, recipe, seed, given.work / f"{stem}.safetensors" if where == "measured" else None)
                notes.write_text(json.dumps({
                    "data": where, "start": start, "steps": steps, "rate": rate, "seed": seed,
                    "learned as it is": round(untrained(state, pair), 3), **found,
                }) + "\n")  # fmt: skip
                sys.stderr.write(f"{stem}: {found['best']:.3f} dB in {found['seconds']:.0f} s\n")


def reached(runs: list[Row], wanted: float) -> tuple[float, int]:
    """(steps, seeds that get there): mean over the seeds that reach a held-out PSNR."""
    first = [next((look[0] for look in run["curve"] if look[1] >= wanted), None) for run in runs]
    there = [at for at in first if at is not None]
    return (float(np.mean(there)) if there else float("nan")), len(there)


def summary(runs: list[Row]) -> list[Row]:
    """One row for each pair and setting."""
    out = []
    for where in dict.fromkeys(run["data"] for run in runs):
        own = [run for run in runs if run["data"] == where]
        end = float(np.mean([r["best"] for r in own if r["start"] == "cold" and r["steps"] == FAST.steps]))
        for start, steps, rate in sorted({(run["start"], run["steps"], run["rate"]) for run in own}):
            these = [run for run in own if (run["start"], run["steps"], run["rate"]) == (start, steps, rate)]
            best, seconds = [run["best"] for run in these], [run["seconds"] for run in these if "seconds" in run]
            at, count = reached(these, end - NEAR_DB)
            out.append({
                "pair": where, "start": start, "steps": steps, "peak rate": rate, "seeds": len(these),
                "held-out PSNR (dB)": round(float(np.mean(best)), 3),
                "SD": round(float(np.std(best, ddof=1)), 3) if len(best) > 1 else "",
                "over the recipe's end": round(float(np.mean(best)) - end, 3),
                "SSIM": round(float(np.mean([run["ssim"] for run in these])), 4),
                "seeds within .02 dB": count, "steps until then": round(at) if count else "",
                "share of the recipe's steps": round(at / FAST.steps, 3) if count else "",
                "processor s": round(float(np.mean(seconds)), 1) if seconds else "",
                "in a quarter": count == len(these) and at <= FAST.steps / 4,
            })  # fmt: skip
    return out


def score(given: argparse.Namespace) -> None:
    """Series of models of the race against the measured run."""
    chosen = {"learned from heads, as it is": given.work / "learned.safetensors"}
    wanted = [f"{start}_{given.steps[0]}_{given.rates[0]:g}" for start in ("warm", "cold")]
    wanted += [f"cold_{FAST.steps}_{FAST.learning_rate:g}"]
    for stem in wanted:
        for path in sorted(given.work.glob(f"measured_{stem}_*.safetensors"))[: given.seeds]:
            chosen[path.stem.removeprefix("measured_").replace("_", " ")] = path
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        judge = Measured.read(given.bids_dir, given.truth_dir, Path(scratch), every=given.every, maps=True)
        for label, path in ({"bspline": None, "zerofill": None} | chosen).items():
            notes = given.work / f"truth_{label.replace(' ', '_')}.json"  # found again when a run was stopped
            if not notes.exists():
                model = None
                if path is not None:
                    net = starting_with(load_file(path))(1, FACTOR).eval()
                    model = LoadedModel(generator=net, recipe=FAST, card={"method": "srgan"})
                notes.write_text(json.dumps(judge.scores(label if model is None else "srgan", model, 1)))
            rows.append({"series": label, **json.loads(notes.read_text())})
    rows = [{key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()} for row in rows]
    keep("warm_start_truth", "Models that began with simulated heads, and others, against the measured run", rows)


def table(given: argparse.Namespace) -> None:
    """The table of the race."""
    runs = [json.loads(path.read_text()) for path in sorted(given.work.glob("*_*_*_*_*.json"))]
    about = json.loads((given.work / "learned.json").read_text())
    as_it_is = {run["data"]: run["learned as it is"] for run in runs if run["start"] == "warm"}
    note = (
        f"The network learned from {about['heads']} simulated heads, each with two matrices, in {about['steps']} steps "
        f"({about['processor seconds'] / 60:.1f} min of processor); {about['parameters']} parameters, {about['bytes']} "
        f"bytes. Its held-out PSNR before any training on the pair: {json.dumps(as_it_is)}. The heads of the race were "
        "not learned from, but chose among twelve looks at the learning."
    )
    title = "srgan, recipe fast: begun with a network of simulated heads, or from nothing"
    keep("warm_start", title, summary(runs), remarks=[note])


def main() -> None:
    given = options()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    {"heads": heads_of, "learn": learn, "race": race, "score": score, "table": table}[given.what](given)


if __name__ == "__main__":
    main()
