"""The published SRGAN (`srgan`, recipe `paper`) and changes of it, trained in portions.

nice -n 19 python benchmarks/srgan_training.py WORK [--row NAME] [--seed N] [--steps N]
                                               [--minutes M]

Trains on the T2*w pair of examples/studyforrest on one thread, with squared error in place of
VGG-19 features, and with every fifth slice held out, so that the log has a PSNR of slices that
were not trained on. Rows are changes of the recipe (`ROWS`). WORK/ROW-SEED keeps checkpoint and
log; the same command resumes, also with another number of steps. At the steps of `SNAPSHOTS`, the
checkpoint is copied to steps_N.safetensors.

python benchmarks/srgan_training.py WORK --score RUN

Scores copies on a run: RUN is the working directory of a finished call (see `small_srgan.py`).
The generator is linear for small changes, so that the effects of the super-resolved series are the
derivative of the generator at the mean of the run, along the effects of the acquired series. The
derivative agrees with scores of whole series to .01. Copies that were scored before are not scored
again (WORK/scores.json). The table results/srgan_training.{json,md} has the scores, with those of
trainings in other folders, and what a perfect static image would explain (`static_rows`).
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _table import RESULTS, keep
from gpu import FACTOR, Pair
from small_srgan import REGIONS, Call, chosen_rows, compared, folder_in
from torch import nn

from bids_sr.glm.block_effects import Effects
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.spatial.matrices import upsample
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import remove_prefix
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.training.phase import read_checkpoint
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe import Recipe

PSNR = "PSNR, held-out slices (dB)"
SNAPSHOTS = (250, 500, 750, 1_000, 2_000, 5_000, 10_000, 15_000)
PATCH, BATCH = 64, 2
PATCHES_PER_EPOCH = round(16 * 64 * 72 / PATCH**2)  # training slices of the example
PAPER_EPOCHS = 100_000 * BATCH / (30 * 128**2 / PATCH**2)  # 30 slices of 128 x 128 voxels
STEPS_OF_EXPOSURE = round(PAPER_EPOCHS * PATCHES_PER_EPOCH / BATCH)
REMARKS = (
    f"An epoch has {PATCHES_PER_EPOCH} patches of 64 × 64 voxels, which"
    f" cover the training slices once; the published 100,000 steps are {PAPER_EPOCHS:,.0f}"
    f" epochs of 30 slices of 128 × 128 voxels, which {STEPS_OF_EXPOSURE:,} steps reach here.",
    "Explained variance of the detail (contrast all, without conditions that cannot be split"
    " into halves), from the derivative of the generator at the mean of the run. Squared error"
    " in place of VGG-19, with a weight of 4 (weight 1: 1); every fifth slice is held out.",
)
ROWS = ("published", "no critic", "critic from 500", "weight 1")


class CallEnded(Exception):
    """The last step of a call was reached."""


def checkpoint_file(folder: Path) -> Path:
    """Return the checkpoint in the folder of a training."""
    return folder / "search.checkpoint.safetensors"


def count_completed_steps(folder: Path) -> int:
    """Return the number of steps in the checkpoint of a training; 0 without a checkpoint."""
    checkpoint = read_checkpoint(checkpoint_file(folder))
    if checkpoint is None:
        return 0
    progress = checkpoint[1]["progress"]
    assert isinstance(progress, dict)
    return int(progress["iteration"])


def recipe_of_row(row: str) -> Recipe:
    """Return the published recipe with the change of a row; every fifth slice is held out."""
    recipe = replace(
        get_method("srgan").recipes["paper"], hold_out=5, keep="last", evaluate_every=250
    )
    match row:
        case "no critic":
            return replace(
                recipe,
                build_critic=None,
                losses=tuple(term for term in recipe.losses if term.kind != "adversarial"),
            )
        case "critic from 500":
            return replace(recipe, adversarial_from=500)
        case "weight 1":
            return replace(
                recipe,
                losses=tuple(
                    replace(term, weight=1.0) if term.kind == "content" else term
                    for term in recipe.losses
                ),
            )
    return recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--row", choices=ROWS, default=ROWS[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000, help="last step of this call")
    parser.add_argument("--minutes", type=float, help="time limit of this call")
    parser.add_argument("--score", type=Path, help="only score the copies on this call")
    options = parser.parse_args()
    work: Path = options.work
    if options.score:
        score(work, Call(options.score))
        return
    request = request_training(options.row, options.seed, options.minutes)
    work /= f"{options.row.replace(' ', '_')}-{options.seed}"
    if count_completed_steps(work) >= options.steps:
        return

    def copy(_phase: str, step: int, _steps: int) -> None:
        if step in SNAPSHOTS:
            shutil.copy(checkpoint_file(work), work / f"steps_{step}.safetensors")
        if step >= options.steps:
            raise CallEnded

    with suppress(CallEnded):
        train_network(request, (Pair.read().image,), work, copy)


def request_training(row: str, seed: int, minutes: float | None) -> ModelRequest:
    """Return the request of a training; `minutes` is None without a time limit."""
    return ModelRequest(
        method="srgan",
        recipe="paper",
        replacement_recipe=recipe_of_row(row),
        factor=FACTOR,
        random_seed=seed,
        omp_nthreads=1,
        max_train_minutes=minutes,
    )


def load_generator(file: Path, recipe: Recipe) -> nn.Module:
    """Return the generator of a checkpoint."""
    tensors, _ = read_checkpoint(file) or ({}, {})
    generator = recipe.build_generator(1, FACTOR)
    generator.load_state_dict(remove_prefix(tensors, "generator."))
    return generator.eval()


def to_run(effects: Effects, maps: Array, mean: Array) -> Effects:
    """Return effects of a series whose block effects and mean are given."""
    return replace(effects, series="srgan", betas=maps.astype(np.float32), mean=mean)


def differentiate(generator: nn.Module, call: Call, zerofilled: Effects) -> Effects:
    """Return the effects of a series that a generator super-resolves."""
    inputs = call.inputs(call.run / "srgan/super_resolve")
    boldref = load_image(Path(inputs["boldref"]))[0]
    mask = load_image(Path(inputs["bold_mask"]))[0] > 0
    scale = float(np.percentile(boldref[mask], 99))

    def apply(volume: Array) -> Array:
        slices = np.moveaxis(upsample("lanczos", volume, FACTOR), 2, 0)[:, None] / scale
        with torch.inference_mode():
            image = [generator(one[None])[0, 0] for one in torch.from_numpy(np.float32(slices))]
        return np.moveaxis(scale * torch.stack(image).numpy(), 0, 2)

    acquired = get_operator("kspace", zerofilled.mean.shape, FACTOR)
    mean = acquired.forward(torch.from_numpy(np.float64(zerofilled.mean))).numpy()
    super_resolved = apply(mean)
    maps = [
        apply(mean + acquired.forward(torch.from_numpy(np.float64(one))).numpy()) - super_resolved
        for one in np.moveaxis(zerofilled.betas, 3, 0)
    ]
    return to_run(zerofilled, np.stack(maps, axis=3), super_resolved)


def explained(call: Call, effects: Effects | None) -> dict[str, float]:
    """Return the explained variance of the detail by region; of zero filling for None."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        file = call.run / "srgan/measure_effects/effects.npz"
        if effects is not None:
            file = effects.save(work / "effects")
        rows, _ = compared(call, "srgan", str(file), folder_in(work, "scores"))
    series = "zerofill" if effects is None else "srgan"
    return {name: round(values[0], 4) for name, values in chosen_rows(rows, series).items()}


def static_rows(call: Call, zerofilled: Effects) -> list[dict[str, Any]]:
    """Return what static images explain, and how similar static and functional detail are.

    A perfect static image is the mean of the measured run. As a factor, each volume is zero filled
    and multiplied by its ratio to the zero-filled mean; added once, it does not change effects,
    which are those of zero filling. r is the correlation of its detail, and of the detail of one
    half of the effect, with the detail of the effect and of the other half.
    """
    measured = Effects.load(call.run / "measured/measure_effects/effects.npz")
    ratio = measured.mean / np.maximum(zerofilled.mean, 0.05 * zerofilled.mean_signal)
    as_factor = to_run(zerofilled, zerofilled.betas * ratio[..., None], measured.mean)
    contrast = call.inputs(call.run / "compare_halves")["contrasts"]["all"]
    weights = measured.halves(contrast)
    assert weights is not None
    halves = [beyond_nyquist(measured.effect(half), FACTOR) for half in weights]
    static = beyond_nyquist(measured.mean, FACTOR)
    effect = sum(halves) / 2
    active = effect_mask(call, measured)
    similar = {
        name: float(np.corrcoef(static[mask], effect[mask])[0, 1])
        for name, mask in (("brain", measured.mask), ("active voxels", active))
    }
    same = {
        name: float(np.corrcoef(halves[0][mask], halves[1][mask])[0, 1])
        for name, mask in (("brain", measured.mask), ("active voxels", active))
    }
    return [
        {"row": "zero filling", **explained(call, None)},
        {"row": "static image as a factor", **explained(call, as_factor)},
        {"row": "r of static detail", **rounded(similar)},
        {"row": "r of halves", **rounded(same)},
    ]


def effect_mask(call: Call, measured: Effects) -> Array:
    """Return the tenth of the voxels of the brain with the largest absolute effect."""
    contrast = call.inputs(call.run / "compare_halves")["contrasts"]["all"]
    weights = measured.run_weights(contrast)
    assert weights is not None
    effect = np.abs(measured.effect(weights))
    return measured.mask & (effect >= np.percentile(effect[measured.mask], 90))


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Return values with four decimals."""
    return {name: round(value, 4) for name, value in values.items()}


def score(work: Path, call: Call) -> None:
    """Score the copies that were not scored before, and write the table."""
    store = work / "scores.json"
    scores = json.loads(store.read_text()) if store.exists() else {}
    zerofilled = Effects.load(call.run / "zerofill/measure_effects/effects.npz")
    if "static" not in scores:
        scores["static"] = static_rows(call, zerofilled)
    for row in ROWS:
        for file in sorted(work.glob(f"{row.replace(' ', '_')}-*/steps_*.safetensors")):
            key = f"{file.parent.name}/{file.stem}"
            if key not in scores:
                generator = load_generator(file, recipe_of_row(row))
                scores[key] = explained(call, differentiate(generator, call, zerofilled))
                store.write_text(json.dumps(scores, indent=1))
    store.write_text(json.dumps(scores, indent=1))
    static = [{"steps": "–", "seed": "–", PSNR: "–", **row} for row in scores.pop("static")]
    trained = []
    for key, values in scores.items():
        folder, _, stem = key.partition("/")
        name, _, seed = folder.rpartition("-")
        steps = int(stem.rpartition("_")[2])
        log = pd.read_csv(work / folder / "log_search.tsv", sep="\t").set_index("iteration")
        trained.append(
            {
                "row": name.replace("_", " "),
                "seed": seed,
                "steps": steps,
                PSNR: f"{log['psnr'][steps]:.2f}",
                **values,
            }
        )
    scored = {(row["row"], row["seed"]) for row in trained}
    table = RESULTS / "srgan_training.json"
    trained += [
        row
        for row in json.loads(table.read_text())["rows"]
        if row["row"] in ROWS and (row["row"], row["seed"]) not in scored
    ]
    trained.sort(key=lambda row: (ROWS.index(row["row"]), row["seed"], row["steps"]))
    keys = ("row", "seed", "steps", PSNR, *REGIONS)
    keep(
        table.stem,
        "Published training of `srgan` on the pair of the example",
        [{key: row[key] for key in keys} for row in (*static, *trained)],
        remarks=REMARKS,
    )


if __name__ == "__main__":
    main()
