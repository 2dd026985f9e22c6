"""What training and applying each method costs: the `costs` of the files in bids_sr/sr/methods.

python benchmarks/method_costs.py BIDS_DIR WORK [--recipe fast] [--methods NAME ...] [--threads N]

BIDS_DIR holds one BOLD run and a T2*-weighted pair. Seconds are of the processor, so that they
hold on a machine that is not alone, though neighbors in the caches make them longer; the columns
`of srgan` divide by what srgan took in the same run. A step is the difference between a long and a
short training, a look at the held-out part the difference between many and few of them. Recipes of
the papers are timed with a batch of one, times their batch: the steps of some take minutes. A
training that stops early costs less than `training s`, which is for all steps of the recipe.
Writes benchmarks/results/method_costs_RECIPE.{json,md}.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _methods_run import LOOKS, Pace, Scene, pace_of, shortened, train
from _table import keep

from bids_sr.sr.method import Method, get_method, get_recipe, method_names, recipe_name
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.recipe import Recipe, RecipeName

FINE = 4  # fine voxels an acquired one, at the factor of the scene


def pace(recipe: Recipe, name: RecipeName, scene: Scene, method: Method, threads: int) -> Pace:
    """Seconds of a step, of a look, and once; for recipes of papers those of a look are within the
    step.
    """

    def seconds_of(one: Recipe) -> float:
        return train(scene, method, one, name, 0, threads, None)[1]

    if name == "fast":
        return pace_of(recipe, seconds_of)
    small = replace(recipe, batch=1)
    short, long_ = (seconds_of(shortened(small, steps, 1)) for steps in (1, 3))
    step = recipe.batch * max(1e-3, (long_ - short) / 2)
    return Pace(once=0.0, step=step, look=0.0)


def volume_seconds(
    scene: Scene, method: Method, recipe: Recipe, name: RecipeName, work: Path, threads: int
) -> float:
    """Processor seconds of a volume, by a model that was hardly trained."""
    made, _ = train(
        scene, method, shortened(replace(recipe, batch=1), 2, 1), name, 0, threads, None
    )
    weights, _ = save_model(work / f"{method.name}_{name}", made.state, made.card)
    upsampler = scene.upsampler(method.name, load_model(weights), threads)
    count = 4 if name == "fast" else 1
    if name == "fast":
        upsampler(scene.volumes[0], np.eye(4))
    begun = time.process_time()
    for t in range(count):
        upsampler(scene.volumes[t], np.eye(4))
    return (time.process_time() - begun) / count


def row(
    scene: Scene, method: Method, name: RecipeName, work: Path, threads: int
) -> dict[str, Any]:
    """Figures of one method."""
    recipe = get_recipe(method, recipe_name(method, name))
    took = pace(recipe, name, scene, method, threads)
    looks = recipe.steps // recipe.look_every
    fixed, growing = took.step * recipe.steps, took.look * looks
    if recipe.patch is None:  # whole slices or volumes grow with the grid
        fixed, growing = 0.0, fixed + growing
    million = FINE * scene.boldref.size / 1e6
    volume = volume_seconds(scene, method, recipe, name, work, threads)
    return {
        "method": method.name,
        "once s": round(took.once, 2),
        "s a step": round(took.step, 4),
        "steps": recipe.steps,
        "s a look": round(took.look, 3),
        "looks": looks,
        "training s": round(took.once + fixed + growing, 1),
        "always s": round(took.once + fixed, 1),
        "s a million fine voxels": round(growing / million, 1),
        "s a volume": round(volume, 4),
        "volume s a million fine voxels": round(volume / million, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recipe", choices=("fast", "paper-mse"), default="fast")
    parser.add_argument("--methods", nargs="+", default=list(method_names()))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    scene = Scene.read(given.bids_dir, given.work)
    names = ["srgan", *(name for name in given.methods if name != "srgan")]
    rows: list[dict[str, Any]] = []
    for name in names:
        rows.append(row(scene, get_method(name), given.recipe, given.work, given.threads))
        for key in ("training s", "s a volume"):
            rows[-1][f"{key}, of srgan"] = round(rows[-1][key] / max(rows[0][key], 1e-9), 2)
        remark = (
            f"Grid {'x'.join(map(str, scene.boldref.shape))}, factor 2 in plane; {given.threads}"
            f" thread. `training s` has all steps and looks of the recipe; {LOOKS} looks or more"
            " were timed."
        )
        keep(
            f"method_costs_{given.recipe}",
            f"Cost of methods, recipe {given.recipe}",
            rows,
            remarks=[remark],
        )


if __name__ == "__main__":
    main()
