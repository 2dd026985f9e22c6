"""Held-out quality of a training recipe against the work it has done.

python benchmarks/recipes.py RECIPE BIDS_DIR TRUTH_DIR [--minutes N] [--seed N] [--threads N]

RECIPE is fast or paper; BIDS_DIR holds a T2*-weighted pair and one BOLD run, TRUTH_DIR the same run measured at high
resolution. The clock may stop the paper recipe; the curve then ends where it stood. Work is counted in floating-point
operations of the steps (forward, backward, critic), which does not depend on the machine; seconds are of the processor.
The truth is opened when training is over: PSNR and SSIM of every eighth volume on its acquired grid, inside the brain,
with the 99th percentile of the mean measured volume there as data range, beside B-spline.
Writes benchmarks/results/recipe_RECIPE.{json,md}.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _table import keep
from superres import FACTOR, brain, one
from torch.utils.flop_counter import FlopCounterMode

from bids_sr.spatial.nifti import SeriesReader, load_image
from bids_sr.sr.games import critics_step
from bids_sr.sr.infer import make_upsampler
from bids_sr.sr.method import Recipe, get_method
from bids_sr.sr.model import LoadedModel, save_model
from bids_sr.sr.networks.blocks import Planes
from bids_sr.sr.pair import TrainingPair
from bids_sr.sr.patches import cut, draw
from bids_sr.sr.train import build_networks, fit, generator_step
from bids_sr.stats.image_quality import psnr, ssim


def work_of_a_step(recipe: Recipe, pair: TrainingPair) -> dict[str, float]:
    """Floating-point operations (1e9) of one step without and with the critic."""
    images, nets = pair.slices("cpu"), build_networks(recipe, pair, 0, "cpu", None)
    which, shape = pair.usable_slices(), images.highres.shape[-2:]
    plan = draw(np.random.default_rng(0), which, (shape[0], shape[1]), recipe)
    batch = cut(images, plan, recipe, Planes(images.factor))
    found = {}
    for adversarial in (False, True):
        with FlopCounterMode(display=False) as counter:
            fake = nets.generator(batch.input)
            for _ in range(recipe.critic_steps if adversarial else 0):
                critics_step(nets, batch, recipe, fake)
            generator_step(nets, batch, fake, recipe, adversarial)
        found["with critic" if adversarial else "without"] = counter.get_total_flops() / 1e9
    return found


def against_truth(bids_dir: Path, truth_dir: Path, model: LoadedModel, threads: int) -> list[dict[str, object]]:
    """PSNR and SSIM of every eighth volume."""
    with SeriesReader(one(bids_dir, "sub-*/func/*_bold.nii.gz")) as reader:
        volumes, affine = list(reader.volumes()), reader.affine
    with SeriesReader(one(truth_dir, "sub-*/func/*_bold.nii.gz")) as reader:
        truth = list(reader.volumes())[::8]
    boldref = np.mean(volumes, axis=0)
    mask = brain(boldref)
    scale = float(np.percentile(boldref[mask], 99))
    inside = np.kron(mask, np.ones((2, 2, 1))) > 0
    span = float(np.percentile(np.mean(truth, axis=0)[inside], 99))
    rows = []
    for name in ("bspline", "srgan"):
        given = {"model": model, "threads": threads} if name == "srgan" else {"affine": affine}
        up = make_upsampler(name, FACTOR, scale=scale, **given)
        made = [up(volume, np.eye(4)) for volume in volumes[::8]]
        pairs = list(zip(truth, made, strict=True))
        rows.append({
            "series": name,
            "PSNR (dB)": round(float(np.mean([psnr(t, m, data_range=span, mask=inside) for t, m in pairs])), 3),
            "SSIM": round(float(np.mean([ssim(t, m, data_range=span, mask=inside) for t, m in pairs])), 4),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=("fast", "paper"))
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("truth_dir", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where the model and its checkpoints stay")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lowres, affine = load_image(one(given.bids_dir, "sub-*/anat/*acq-lowres_T2starw.nii.gz"))
    highres, _ = load_image(one(given.bids_dir, "sub-*/anat/*acq-highres_T2starw.nii.gz"))
    pair = TrainingPair(lowres=lowres, highres=highres, mask=brain(lowres), lowres_affine=affine, factor=FACTOR)
    method = get_method("srgan")
    wanted = method.recipes[given.recipe]
    # looks are closer together, so that the curve shows where it bends; a recipe's end is not changed by them
    recipe = replace(wanted, evaluate_every=min(50, wanted.evaluate_every), patience=None, refit=False)
    work = work_of_a_step(recipe, pair)
    started, busy = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.work or Path(scratch)
        made = fit(
            method, recipe, pair, recipe_name=given.recipe, seed=given.seed, work_dir=folder, threads=given.threads,
            max_minutes=given.minutes,
        )  # fmt: skip
        save_model(folder / f"srgan_{given.recipe}", made.state, made.card)
    busy = time.process_time() - busy
    done = made.log[-1]["iteration"]
    rows, total, at = [], 0.0, 0
    for row in made.log:
        for step in range(at, row["iteration"]):
            total += work["with critic" if step >= recipe.adversarial_from else "without"]
        at = row["iteration"]
        rows.append({
            "iteration": at, "work (1e12)": round(total / 1e3, 3), "processor (s)": round(busy * at / done, 1),
            "held-out PSNR (dB)": round(row["psnr"], 3),
        })  # fmt: skip
    generator = recipe.build_generator(1, pair.factor)
    generator.load_state_dict(dict(made.state))
    model = LoadedModel(generator=generator.eval(), recipe=recipe, card=made.card)
    truth = against_truth(given.bids_dir, given.truth_dir, model, given.threads)
    planned = work["with critic"] * wanted.iterations / 1e3
    note = (
        f"{done} of {wanted.iterations} iterations ({total / 1e3:.4g} of about {planned:.4g} x 1e12 operations) in "
        f"{busy / 60:.1f} min of processor, {(time.monotonic() - started) / 60:.1f} min of clock beside other work; "
        f"best at iteration {made.card['held_out']['iteration']}. Held-out slices of the best weights: "
        f"{json.dumps(made.card['held_out'])}. Against measured volumes: {json.dumps(truth)}."
    )
    thin = rows if len(rows) <= 40 else rows[:: len(rows) // 40] + rows[-1:]
    keep(f"recipe_{given.recipe}", f"srgan, recipe {given.recipe}: held-out PSNR against work", thin, remarks=[note])


if __name__ == "__main__":
    main()
