"""Training that begins with a network learned from simulated heads, against training from nothing.

python benchmarks/warm_start.py heads --work DIR [--heads N]
python benchmarks/warm_start.py learn --work DIR [--heads N] [--steps N]
python benchmarks/warm_start.py race BIDS_DIR --work DIR [--seeds N] [--steps N …] [--rates R …]
[--on …]
    [--recipe-runs DIR]
python benchmarks/warm_start.py score BIDS_DIR TRUTH_DIR --work DIR [--seeds N] [--steps N …]
[--rates R …] [--every N] python benchmarks/warm_start.py table --work DIR

`heads` simulates T2*-weighted pairs of N heads, each with a coarse matrix of 40 and of 64, other
fields of view, slices, poses, contrasts and noise. `learn` trains the network of `fast` for
--steps (2000 if not given) on all but the last two heads, on which it is looked at. `race` trains
on the pair of BIDS_DIR, and on two further heads, from nothing by the recipe, from nothing by the
recipe shortened to --steps, and from the learned network in --steps at peak learning rates of
--rates; every run goes through its whole schedule. What counts is when the held-out PSNR comes
within .02 dB of the recipe's own end (the mean of its seeds), at looks 50 steps apart in all runs
(short ones are looked at every ten, of which the others stay in the files alone). A step is the
same work in all of them; seconds are of the processor, looks included. --recipe-runs names the
--work of `recipes.py train fast` on the same pair, whose runs then are those from nothing by the
recipe. A run knows its data and the learned network by their checksums; it is made anew where they
are others. `score` opens the truth of the measured run once every run of the race on its pair is
there (--seeds, --steps and --rates are those of the race), for these models: from nothing, from
nothing in the first of --steps, warm in that many at the first of --rates, and the learned network
as it is. `table` writes benchmarks/results/warm_start.{json,md}.

The bar, set before: that PSNR in at most a quarter of the recipe's time, on the measured pair and
on simulated heads, and scores against the measured run no worse. Only then the network would ship.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _kept import MADE, checksum, kept_rows, read_note, write_note
from _methods_run import shortened
from _pair import Pair
from _recipes_run import Measured, read_log, training_pair
from _table import keep
from _warm_heads import MATRICES, kept_pairs
from _warm_race import runs_of_race, summary
from safetensors.torch import load_file, save
from superres import FACTOR

from bids_sr.io.atomic_files import write_bytes
from bids_sr.sr.data.examples import Batch, Examples
from bids_sr.sr.data.validation import ScoredWindow, validation_windows
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard, read_card
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.residual2d import SubPixelNet
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.phase import Phase, compare
from bids_sr.sr.training.trainer import fit

Row = dict[str, Any]
State = dict[str, torch.Tensor]
METHOD = get_method("srgan")
FAST = METHOD.recipes["fast"]
KEPT_BACK = 2  # heads
FIRST_SEED = 1000
LOOK = 10
PAIRS = ("measured", "head 40", "head 64")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("heads", "learn", "race", "score", "table"))
    parser.add_argument("bids_dir", type=Path, nargs="?")
    parser.add_argument("truth_dir", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, nargs="+", help="of the learning, 2000; of the race, 200 100 50"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 7e-4])
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--recipe-runs", type=Path)
    parser.add_argument("--on", nargs="+", choices=PAIRS)
    given = parser.parse_args()
    if given.what in ("race", "score") and given.bids_dir is None:
        parser.error(f"{given.what} needs a data set")
    if given.what == "learn" and given.steps and len(given.steps) > 1:
        parser.error("there is one learning, of one number of steps")
    given.steps = given.steps or ([2000] if given.what == "learn" else [200, 100, 50])
    return given


def keep_state(path: Path, state: State) -> None:
    """Weights, in whole or not at all."""
    write_bytes(path, save({key: value.contiguous() for key, value in state.items()}))


def heads_of(given: argparse.Namespace) -> dict[int, list[Pair]]:
    """All simulated pairs by matrix."""
    folder = given.work / "heads"
    folder.mkdir(parents=True, exist_ok=True)
    return kept_pairs(range(FIRST_SEED, FIRST_SEED + given.heads), folder)


class Heads:
    """Several heads of several matrices as examples: each step draws one of the matrices."""

    ndim, channels = 2, 1

    def __init__(self, groups: list[list[Pair]], recipe: Recipe) -> None:
        self.recipe, self.factor = replace(recipe, hold_out=0), groups[0][0].factor
        self.groups = [
            Examples(
                tuple(pair.image(str(k)) for k, pair in enumerate(pairs)),
                self.recipe,
                self.factor,
                2,
            )
            for pairs in groups
        ]

    def batch(
        self, rng: np.random.Generator, parts: Any, *, iteration: int, seed: int, size: int
    ) -> Batch:
        group = self.groups[int(rng.integers(len(self.groups)))]
        return group.batch(rng, group.train, iteration=iteration, seed=seed, size=size)

    def validation(self) -> tuple[ScoredWindow, ...]:
        """Some slices of each group."""
        return tuple(
            window for group in self.groups for window in validation_windows(group, group.train)
        )


def learn(given: argparse.Namespace) -> None:
    """The network of the simulated heads; the last heads choose its weights among the looks."""
    pairs, steps = heads_of(given), given.steps[0]
    recipe = replace(shortened(FAST, steps), evaluate_every=max(1, steps // 12))
    heads = Heads([each[:-KEPT_BACK] for each in pairs.values()], recipe)
    phase = Phase(
        name="search",
        training=TrainingRequest(method=METHOD, changed=recipe),
        iterations=steps,
        examples=heads,
        parts=(),
        windows=Heads([each[-KEPT_BACK:] for each in pairs.values()], recipe).validation(),
        signature=f"heads-{given.heads}-{steps}",
        folder=given.work,
    )
    begun = time.process_time()
    phase.run()
    keep_state(given.work / "learned.safetensors", phase.best)
    write_note(
        given.work / "learned.json",
        {
            "heads": given.heads - KEPT_BACK,
            "steps": steps,
            "processor seconds": round(time.process_time() - begun, 1),
            "curve": [[row["iteration"], round(row["psnr"], 3)] for row in phase.at.log],
            "parameters": sum(value.numel() for value in phase.best.values()),
            "bytes": (given.work / "learned.safetensors").stat().st_size,
        },
    )


def starting_with(state: State) -> Callable[..., SubPixelNet]:
    """What makes a generator that begins there."""

    def learned_net(channels: int, factor: tuple[float, float, float]) -> SubPixelNet:
        net = SubPixelNet(channels, factor)
        net.load_state_dict(state)
        return net

    return learned_net


def untrained(state: State, pair: Pair) -> float:
    """Held-out PSNR of the learned network as it is."""
    examples = pair.examples(FAST)
    windows = validation_windows(examples, examples.held)
    return compare(starting_with(state)(1, pair.factor), examples, windows)["network"]["psnr"]


def run(pair: Pair, recipe: Recipe, seed: int, keep_at: Path | None) -> Row:
    """Train once; held-out PSNR and seconds of the processor at each look."""
    clock: dict[int, float] = {}
    begun = time.process_time()

    def note(_phase: str, iteration: int, _all: int) -> None:
        clock[iteration] = time.process_time() - begun

    looks_at = FAST.evaluate_every if recipe.iterations == FAST.iterations else LOOK
    recipe = replace(recipe, patience=None, refit=False, evaluate_every=looks_at)
    with tempfile.TemporaryDirectory() as work:
        made = fit(
            TrainingRequest(
                method=METHOD, recipe="fast", changed=recipe, factor=pair.factor, seed=seed
            ),
            (pair.image(),),
            Path(work),
            note,
        )
    if keep_at is not None:
        keep_state(keep_at, made.state)
    looks = [(int(row["iteration"]), float(row["psnr"])) for row in made.log]
    return {
        "curve": [[at, round(psnr, 4), round(clock[at], 2)] for at, psnr in looks],
        "best": made.card["held_out"]["network"]["psnr"],
        "ssim": made.card["held_out"]["network"]["ssim"],
        "seconds": round(clock[looks[-1][0]], 2),
    }


def stem_of(where: str, start: str, steps: int, rate: float, seed: int) -> str:
    """What the files of a run are called."""
    return f"{where.replace(' ', '')}_{start}_{steps}_{rate:g}_{seed}"


def settings_of(given: argparse.Namespace) -> list[tuple[str, int, float]]:
    """(start, steps, peak rate) of all runs on a pair."""
    out = [("cold", FAST.steps, FAST.learning_rate)]
    out += [("warm", steps, rate) for steps in given.steps for rate in given.rates]
    return out + [("cold", steps, FAST.learning_rate) for steps in given.steps]


def origin(pair: Pair, start: str, learned: str) -> dict[str, str]:
    """Checksums of what a run is made from; learned: that of the network's file."""
    return pair.checksums() | ({"learned": learned} if start == "warm" else {})


def found_runs(given: argparse.Namespace, pair: Pair) -> None:
    """Runs from nothing by the recipe, which `recipes.py train` made of the measured pair."""
    for path in sorted(given.recipe_runs.glob("srgan_fast_seed*.json")):
        weights = path.with_suffix(".safetensors")
        card = read_card(weights)
        if card["data_sha256"] != pair.checksums():
            sys.exit(f"{weights} was trained on another pair")
        log = read_log(given.recipe_runs / f"fast_seed{card['seed']}" / "log_search.tsv")
        held, setting = card["held_out"]["network"], ("cold", FAST.steps, FAST.learning_rate)
        notes = given.work / "race" / f"{stem_of('measured', *setting, card['seed'])}.json"
        write_bytes(notes.with_suffix(".safetensors"), weights.read_bytes())
        write_note(
            notes,
            {
                "data": "measured",
                **dict(zip(("start", "steps", "rate"), setting, strict=True)),
                "seed": card["seed"],
                MADE: origin(pair, "cold", ""),
                "curve": [[int(row["iteration"]), round(float(row["psnr"]), 4)] for row in log],
                "best": held["psnr"],
                "ssim": held["ssim"],
            },
        )


def race_pair(given: argparse.Namespace, where: str) -> Pair:
    """The measured pair, or that of a head which was neither learned from nor looked at."""
    if where == "measured":
        return training_pair(given.bids_dir)
    matrix = int(where.removeprefix("head "))
    seed = (
        FIRST_SEED
        + read_note(given.work / "learned.json")["heads"]
        + KEPT_BACK
        + list(MATRICES).index(matrix)
    )
    return kept_pairs(range(seed, seed + 1), given.work / "heads")[matrix][0]


def is_made(notes: Path, own: dict[str, str]) -> bool:
    """Whether a run is there and was made from the same."""
    return notes.exists() and read_note(notes).get(MADE) == own


def race(given: argparse.Namespace) -> None:
    """Every run of every pair; those that were made are found again."""
    folder, learned = given.work / "race", given.work / "learned.safetensors"
    folder.mkdir(exist_ok=True)
    state, sum_ = load_file(learned), checksum(learned)
    for where in PAIRS:
        if given.on and where not in given.on:
            continue
        pair = race_pair(given, where)
        if where == "measured" and given.recipe_runs is not None:
            found_runs(given, pair)
        for start, steps, rate in settings_of(given):
            for seed in range(given.seeds):
                notes = folder / f"{stem_of(where, start, steps, rate, seed)}.json"
                own = origin(pair, start, sum_)
                if is_made(notes, own):
                    continue
                recipe = (
                    replace(shortened(FAST, steps), learning_rate=rate)
                    if steps != FAST.steps
                    else FAST
                )
                if start == "warm":
                    recipe = replace(recipe, build_generator=starting_with(state))
                weights = notes.with_suffix(".safetensors") if where == "measured" else None
                found = run(pair, recipe, seed, weights)
                write_note(
                    notes,
                    {
                        "data": where,
                        "start": start,
                        "steps": steps,
                        "rate": rate,
                        "seed": seed,
                        MADE: own,
                        "learned as it is": round(untrained(state, pair), 3),
                        **found,
                    },
                )
                sys.stderr.write(
                    f"{notes.stem}: {found['best']:.3f} dB in {found['seconds']:.0f} s\n"
                )


def missing(given: argparse.Namespace, pair: Pair, learned: str) -> list[str]:
    """Runs of the race on the measured pair that are not there yet."""
    wanted = [
        (stem_of("measured", *setting, seed), origin(pair, setting[0], learned))
        for setting in settings_of(given)
        for seed in range(given.seeds)
    ]
    return [stem for stem, own in wanted if not is_made(given.work / "race" / f"{stem}.json", own)]


def score(given: argparse.Namespace) -> None:
    """Series of models of the race against the measured run, which is opened when the race on its
    pair is over.
    """
    learned = given.work / "learned.safetensors"
    left = missing(given, training_pair(given.bids_dir), checksum(learned))
    if left:
        sys.exit(
            "the truth stays closed until the race on the measured pair is over; not there:"
            f" {', '.join(left)}"
        )
    chosen: dict[str, Path | None] = {
        "bspline": None,
        "zerofill": None,
        "learned from heads, as it is": learned,
    }
    settings = [("warm", given.steps[0], given.rates[0])]
    settings += [("cold", steps, FAST.learning_rate) for steps in (given.steps[0], FAST.steps)]
    for setting in settings:
        for seed in range(given.seeds):
            stem = stem_of("measured", *setting, seed)
            chosen[stem.removeprefix("measured_").replace("_", " ")] = (
                given.work / "race" / f"{stem}.safetensors"
            )
    rows = []
    (given.work / "truth").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        judge = Measured.read(
            given.bids_dir, given.truth_dir, Path(scratch), every=given.every, maps=True
        )
        for label, path in chosen.items():
            own = {"every": given.every, "run": [given.bids_dir.name, given.truth_dir.name]}
            own["model"] = None if path is None else checksum(path)

            def scored(label: str = label, path: Path | None = path) -> list[Row]:
                if path is None:
                    return [judge.scores(label, None, 1)]
                net = starting_with(load_file(path))(1, FACTOR).eval()
                return [
                    judge.scores(
                        "srgan",
                        LoadedModel(generator=net, recipe=FAST, card=ModelCard(method="srgan")),
                        1,
                    )
                ]

            (found,) = kept_rows(
                given.work / "truth" / f"{label.replace(' ', '_')}.json", own, scored
            )
            rows.append({"series": label, **found})
    rows = [
        {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()} for row in rows
    ]
    keep(
        "warm_start_truth",
        "Models that began with simulated heads, and others, against the measured run",
        rows,
    )


def table(given: argparse.Namespace) -> None:
    """The table of the race."""
    runs = runs_of_race(given.work / "race", checksum(given.work / "learned.safetensors"))
    about = read_note(given.work / "learned.json")
    as_it_is = {run["data"]: run["learned as it is"] for run in runs if run["start"] == "warm"}
    note = (
        f"The network learned from {about['heads']} simulated heads, each with two matrices, in"
        f" {about['steps']} steps ({about['processor seconds'] / 60:.1f} min of processor);"
        f" {about['parameters']} parameters, {about['bytes']} bytes. Its held-out PSNR before any"
        f" training on the pair: {json.dumps(as_it_is)}. The heads of the race were neither"
        " learned from nor among the two that chose among the looks at the learning."
    )
    how = (
        f"PSNR and steps are those of looks {FAST.evaluate_every} steps apart in all runs, SSIM"
        f" that of the weights kept, of short runs the best of looks {LOOK} steps apart. The first"
        f" share is of all steps of the recipe ({FAST.steps}), the second of those after which the"
        " recipe itself is within .02 dB of its end, in the mean of its seeds that get there."
    )
    title = "srgan, recipe fast: begun with a network of simulated heads, or from nothing"
    keep("warm_start", title, summary(runs), remarks=[note, how])


def main() -> None:
    given = options()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    {"heads": heads_of, "learn": learn, "race": race, "score": score, "table": table}[given.what](
        given
    )


if __name__ == "__main__":
    main()
