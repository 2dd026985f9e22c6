"""What the adversarial term of srgan's recipe fast does: the same trainings with and without it.

python benchmarks/adversarial.py BIDS_DIR --work DIR [--seeds N] [--threads N]

BIDS_DIR holds a T2*-weighted pair. Each seed trains recipe `fast` as users have it, once as it is,
once with weight 0 of the adversarial term (the critic is still trained and looked at, so that
weights to begin with, batches and every draw of chance are the same) and once with 30 times the
weight: a control, which tells whether these figures could show an effect at all. Scored on the
held-out slices, which also chose the step that is kept, in every arm alike. Differences are those
of one seed, so that the interval (Student's t over seeds, 95 %) is that of pairs.

Beyond Nyquist: the part of a slice's spectrum that the coarse image does not hold, inside the
head; its energy over that of the fine image (1 as sharp as measured, zero filling 0), and its
correlation with it. The first number rises and the second falls where a critic makes detail of its
own. `moved` is how far the output lies from that of the arm without the term (root mean square, %
of the range), and for the arm without it from that of the next seed.

Trainings are kept in --work and not made again. Writes
benchmarks/results/adversarial{,_seeds}.{json,md}.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _pair import Pair
from _recipes_run import training_pair
from _table import keep
from numpy.typing import NDArray
from scipy import stats

from bids_sr.metrics.image_similarity import psnr, ssim
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit

Array = NDArray[Any]
SRGAN = get_method("srgan")
ARMS = {"with": 1.0, "without": 0.0, "30 times": 30.0}
MEASURES = ("PSNR (dB)", "SSIM", "energy beyond Nyquist", "r beyond Nyquist", "step kept")


def weighted(recipe: Recipe, times: float) -> Recipe:
    """The recipe with so many times the weight of its adversarial term."""
    return replace(
        recipe,
        losses=tuple(
            replace(term, weight=times * term.weight) if term.kind == "adversarial" else term
            for term in recipe.losses
        ),
    )


def beyond(
    image: Array, truth: Array, inside: Array, factor: Sequence[float]
) -> tuple[float, float]:
    """(energy over that of the truth, correlation with the truth) beyond the acquired limit;
    slices first.
    """
    found, true = (
        np.moveaxis(beyond_nyquist(np.moveaxis(each, 0, 2), factor), 2, 0)[inside].astype(float)
        for each in (image, truth)
    )
    return float((found**2).sum() / (true**2).sum()), float(np.corrcoef(found, true)[0, 1])


def figures(output: Array, pair: Pair, held: Sequence[int]) -> dict[str, float]:
    """What is told of the network's images of the held-out slices."""
    images = pair.examples(SRGAN.recipes["fast"]).at(0)
    truth, mask = (
        np.moveaxis(each[0].numpy()[..., list(held)], 2, 0)
        for each in (images.target, images.inside)
    )
    energy, r = beyond(output, truth, mask > 0, pair.factor)
    return {
        "PSNR (dB)": psnr(truth, output, data_range=1.0, mask=mask > 0),
        "SSIM": ssim(
            *(np.moveaxis(each, 0, -1) for each in (truth, output)),
            data_range=1.0,
            mask=np.moveaxis(mask > 0, 0, -1),
        ),
        "energy beyond Nyquist": energy,
        "r beyond Nyquist": r,
    }


def trained(
    pair: Pair, arm: str, seed: int, given: argparse.Namespace
) -> tuple[dict[str, Any], Array]:
    """(figures, images of the held-out slices) of one training, from --work where it is there."""
    folder = given.work / f"{arm.replace(' ', '-')}_seed{seed}"
    told, images = folder / "figures.json", folder / "held_out.npy"
    if not told.exists():
        recipe = weighted(SRGAN.recipes["fast"], ARMS[arm])
        asked = TrainingRequest(
            method=SRGAN,
            recipe="fast",
            changed=recipe,
            factor=pair.factor,
            seed=seed,
            threads=given.threads,
        )
        made = fit(asked, (pair.image(),), Path(folder))
        net = recipe.build_generator(1, pair.factor)
        net.load_state_dict(made.state)
        examples = pair.examples(recipe)
        held = examples.held
        with torch.inference_mode():
            output = torch.cat(
                [net.eval()(w.batch.input) for w in validation_windows(examples, held)]
            )[:, 0].numpy()
        np.save(images, output)
        row = {
            **figures(output, pair, [part.slices[0] for part in held]),
            "step kept": made.card["held_out"]["iteration"],
        }
        told.write_text(json.dumps(row))
    return json.loads(told.read_text()), np.load(images)


def compared(name: str, one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Mean of both, mean difference of pairs, and its interval."""
    difference = np.subtract(one, other)
    middle, n = float(difference.mean()), len(difference)
    half = (
        float(stats.t.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n))
        if n > 1
        else float("nan")
    )
    return {
        "measure": name,
        "this arm": float(np.mean(one)),
        "without": float(np.mean(other)),
        "difference": middle,
        "lower": middle - half,
        "upper": middle + half,
        "SD over seeds": float(np.std(other, ddof=1)) if n > 1 else "",
    }


def rms(one: Array, other: Array, inside: Array) -> float:
    """Root mean square difference in the head, % of the range."""
    return 100 * float(np.sqrt(np.mean((one - other)[inside].astype(float) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pair, seeds = training_pair(given.bids_dir), range(given.seeds)
    made = {seed: {arm: trained(pair, arm, seed, given) for arm in ARMS} for seed in seeds}
    examples = pair.examples(SRGAN.recipes["fast"])
    held = [part.slices[0] for part in examples.held]
    inside = np.moveaxis(examples.at(0).inside[0].numpy()[..., held], 2, 0)
    rows = [
        {
            "seed": seed,
            "adversarial term": arm,
            **made[seed][arm][0],
            "moved (%)": rms(
                made[seed][arm][1],
                made[(seed + 1) % len(seeds) if arm == "without" else seed]["without"][1],
                inside,
            ),
        }
        for seed in seeds
        for arm in ARMS
    ]
    keep(
        "adversarial_seeds",
        "srgan, recipe fast, with and without its adversarial term: each seed",
        rows,
    )

    def column(arm: str, name: str) -> list[float]:
        return [row[name] for row in rows if row["adversarial term"] == arm]

    table = [
        {"adversarial term": arm, **compared(name, column(arm, name), column("without", name))}
        for arm in ARMS
        if arm != "without"
        for name in (*MEASURES, "moved (%)")
    ]
    keep(
        "adversarial",
        "srgan, recipe fast: what its adversarial term does, on held-out slices",
        table,
        remarks=[
            f"{len(seeds)} seeds an arm, {len(held)} held-out slices of one pair; lower and upper:"
            " 95 % interval of the difference of pairs of one seed. `30 times` is the control: an"
            " effect that can be seen. `moved`: how far the output lies from that without the"
            " term, beside how far two seeds without it lie apart."
        ],
    )


if __name__ == "__main__":
    main()
