"""Held-out quality of srgan's recipes against the work they have done, and what their series are
worth.

python benchmarks/recipes.py train RECIPE BIDS_DIR --work DIR [--seeds N] [--minutes M] [--threads
N] python benchmarks/recipes.py log RECIPE BIDS_DIR --work DIR
python benchmarks/recipes.py score RECIPE BIDS_DIR [TRUTH_DIR] --work DIR [--every N] [--no-maps]
[--threads N] python benchmarks/recipes.py compare

BIDS_DIR holds a T2*-weighted pair and one BOLD run: either one made by bids-sr-phantom, with its
truth, or one whose measured high-resolution run lies in TRUTH_DIR. `train` keeps models and
checkpoints in --work and goes on from there; --minutes of the clock may end it early. RECIPE is
`fast` or `paper-mse` (what `paper` was called when most of this was run); `paper` itself holds
nothing out, so that it has no such curve. Looks at held-out slices are at most 50 steps apart
(those of `paper-mse` are 1000 otherwise) and end no training, and nothing is trained again on all
slices, which `paper-mse` as users have it does: models here have the weights of their best look.
`log` draws the curve from the log of a training that goes on or was stopped. `score` opens the
truth: series of the models in --work beside baselines. t maps need every volume made, which takes
the network of `paper-mse` some ten minutes for a run of 136 volumes; --no-maps leaves them out.
`compare` reads the tables.

Work is counted in floating-point operations of the steps (forward, backward, critic), which does
not depend on the machine, and not the looks at held-out slices. PSNR and SSIM of a measured run
are means over every n-th volume inside the brain, with the 99th percentile of the mean measured
volume there as data range; no motion is undone. For a phantom they are those of the mean volume
against the noise-free image, with the known motion undone. Writes
benchmarks/results/recipe_RECIPE[_phantom][_scores].{json,md} and recipes.{json,md,svg}.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from _recipes_compare import compare
from _recipes_run import (
    Known,
    Measured,
    curve,
    is_phantom,
    read_log,
    training_pair,
    work_after,
    work_of_a_step,
)
from _table import keep

from bids_sr.series import VALIDATION_BASELINES
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import read_card
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "log", "score", "compare"))
    parser.add_argument("recipe", choices=("fast", "paper-mse"), nargs="?")
    parser.add_argument("bids_dir", type=Path, nargs="?")
    parser.add_argument("truth_dir", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, help="where models and checkpoints stay")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--no-maps", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.what != "compare" and (
        given.recipe is None or given.bids_dir is None or given.work is None
    ):
        parser.error(f"{given.what} needs a recipe, a data set and --work")
    return given


def looked_at(name: str) -> Recipe:
    """The recipe with looks closer together, so that the curve shows where it bends, and with no
    end by them.

    The best of more looks is a little better by chance. `paper-mse` as users have it is trained
    again on all slices for as many steps as did best; here it keeps the weights of its best look,
    so that these can be judged.
    """
    wanted = get_method("srgan").recipes[name]
    return replace(
        wanted, evaluate_every=min(50, wanted.evaluate_every), patience=None, refit=False
    )


def train(given: argparse.Namespace) -> None:
    """Train every seed; the curve, and a remark for each."""
    recipe, pair = looked_at(given.recipe), training_pair(given.bids_dir)
    work, rows, remarks = work_of_a_step(recipe, pair), [], []
    planned = work_after(recipe.iterations, recipe, work)
    for seed in range(given.seeds):
        clock, busy = time.monotonic(), time.process_time()
        made = fit(
            TrainingRequest(
                method=get_method("srgan"),
                recipe=given.recipe,
                changed=recipe,
                seed=seed,
                threads=given.threads,
                max_train_minutes=given.minutes,
            ),
            pair,
            given.work / f"{given.recipe}_seed{seed}",
        )
        save_model(given.work / f"srgan_{given.recipe}_seed{seed}", made.state, made.card)
        clock, busy = time.monotonic() - clock, time.process_time() - busy
        rows += curve(made.log, recipe, work, seed)
        held, done = made.card["held_out"], made.log[-1]["iteration"]
        scores = {name: held[name] for name in ("network", *VALIDATION_BASELINES)}
        remarks.append(
            f"Seed {seed}: {done} of {recipe.iterations} iterations"
            f" ({work_after(done, recipe, work):.4g} of {planned:.4g} x 1e12 operations) in"
            f" {busy / 60:.1f} min of processor, {clock / 60:.1f} min of clock beside other work;"
            f" best at iteration {held['iteration']}; held-out slices: {json.dumps(scores)}."
        )
    put(given, rows, remarks)


def put(given: argparse.Namespace, rows: list[dict], remarks: list[str]) -> None:
    """The table of a curve."""
    kind = "_phantom" if is_phantom(given.bids_dir) else ""
    title = f"srgan, recipe {given.recipe}: held-out PSNR against work{' (phantom)' * bool(kind)}"
    keep(f"recipe_{given.recipe}{kind}", title, rows, remarks=remarks)


def log(given: argparse.Namespace) -> None:
    """The curve of a training from its log, also of one resumed or made by another program."""
    recipe, pair = looked_at(given.recipe), training_pair(given.bids_dir)
    rows = curve(read_log(given.work / "log_search.tsv"), recipe, work_of_a_step(recipe, pair), 0)
    remarks = [f"From the log, after {rows[-1]['iteration']} of {recipe.iterations} iterations."]
    for path in sorted(given.work.glob(f"srgan_{given.recipe}*.safetensors")):
        held = read_card(path).held_out
        scores = {name: held[name] for name in ("network", *VALIDATION_BASELINES)}
        remarks.append(
            f"Best at iteration {held['iteration']}; held-out slices: {json.dumps(scores)}."
        )
    put(given, rows, remarks)


def score(given: argparse.Namespace) -> None:
    """Series of the models in the work folder against the truth, beside baselines."""
    kind = "_phantom" if is_phantom(given.bids_dir) else ""
    paths = sorted(given.work.glob(f"srgan_{given.recipe}*.safetensors"))
    if not paths:
        sys.exit(f"{given.work}: no model of the recipe {given.recipe}")
    if not kind and given.truth_dir is None:
        sys.exit("a measured run is scored against TRUTH_DIR")
    models = [load_model(path) for path in paths]  # all are there before the truth is opened
    with tempfile.TemporaryDirectory() as scratch:
        more = {"every": given.every, "maps": not given.no_maps}
        judge: Known | Measured
        if kind:
            judge = Known.read(given.bids_dir, **more)
        else:
            judge = Measured.read(given.bids_dir, given.truth_dir, Path(scratch), **more)
        rows = []
        for name, model in [(name, None) for name in VALIDATION_BASELINES] + [
            ("srgan", model) for model in models
        ]:
            busy = time.process_time()
            found = judge.scores(name, model, given.threads)
            held = None if model is None else model.card.json["held_out"]["network"]
            rows.append(
                {
                    "series": (
                        name
                        if model is None
                        else f"srgan {given.recipe}, seed {model.card.json['seed']}"
                    ),
                    **{key: round(value, 4) for key, value in found.items()},
                    "held-out PSNR (dB)": "" if held is None else held["psnr"],
                    "held-out SSIM": "" if held is None else held["ssim"],
                    "iteration": "" if model is None else model.card.json["held_out"]["iteration"],
                    "processor (s)": round(time.process_time() - busy, 1),
                }
            )
    keep(
        f"recipe_{given.recipe}{kind}_scores",
        f"srgan, recipe {given.recipe}, against the truth{' (phantom)' * bool(kind)}",
        rows,
    )


def main() -> None:
    given = options()
    torch.set_num_threads(given.threads)
    {"train": train, "log": log, "score": score, "compare": lambda _given: compare()}[given.what](
        given
    )


if __name__ == "__main__":
    main()
