"""Settings of recipe `fast` of srgan, compared with dcnet: accuracy on held-out slices of one
pair.

python benchmarks/small_srgan.py PAIR WORK [--seeds N]

PAIR has train_lowres.nii, train_highres.nii and pair_mask.nii, from the working directory of
`bids-sr` (step register_pair). Every variant is trained with N seeds; WORK stores one JSON file
per training, and finished trainings are not repeated. No variant was chosen by a single seed.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _table import keep

from bids_sr.networks.data.images import TrainingImage, pair_image
from bids_sr.networks.training.trainer import train_network
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.recipe import Recipe

FACTOR = (2.0, 2.0, 1.0)
_FAST = get_method("srgan").recipes["fast"]


VARIANTS: dict[str, Recipe] = {
    "srgan": _FAST,
    "critic at four times the rate": replace(_FAST, critic_learning_rate=4e-4),
    "dcnet": get_method("dcnet").recipes["fast"],
}


def pair_of(folder: Path) -> TrainingImage:
    """Return the pair as in training."""
    low, high, mask = (
        nib.load(folder / f"{name}.nii")  # type: ignore[attr-defined]
        for name in ("train_lowres", "train_highres", "pair_mask")
    )
    lowres, highres = (np.asarray(image.dataobj, np.float32) for image in (low, high))
    return pair_image(lowres, highres, np.asarray(mask.dataobj) > 0.5, low.affine, FACTOR)


def trained(pair: TrainingImage, name: str, seed: int) -> dict[str, Any]:
    """Return held-out scores and processor seconds of one training."""
    method = get_method("dcnet" if name == "dcnet" else "srgan")
    start_s = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        request = ModelRequest(
            method=method.name,
            replacement_recipe=VARIANTS[name],
            factor=FACTOR,
            random_seed=seed,
            omp_nthreads=1,
        )
        card = train_network(request, (pair,), Path(work)).card
    held_out: Any = card["held_out"]
    scores = {key: held_out[key] for key in ("network", "zerofill", "bspline")}
    return {"scores": scores, "seconds": time.process_time() - start_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    pair = pair_of(arguments.pair)
    rows = []
    for name in VARIANTS:
        trainings = []
        for seed in range(arguments.seeds):
            file = arguments.work / f"{name.replace(' ', '_')}-{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(trained(pair, name, seed)))
            trainings.append(json.loads(file.read_text()))
        psnr, ssim = (
            [training["scores"]["network"][key] for training in trainings]
            for key in ("psnr", "ssim")
        )
        rows.append(
            {
                "variant": name,
                "PSNR (dB)": float(np.mean(psnr)),
                "lowest": min(psnr),
                "highest": max(psnr),
                "SSIM": float(np.mean(ssim)),
                "processor seconds": float(
                    np.mean([training["seconds"] for training in trainings])
                ),
            }
        )
    plain = trainings[0]["scores"]
    remark = "; ".join(
        f"{name} {plain[name]['psnr']:.2f} dB, SSIM {plain[name]['ssim']:.3f}"
        for name in ("zerofill", "bspline")
    )
    keep(
        "small_srgan",
        "srgan, recipe fast, and variants of it: held-out slices of one pair",
        rows,
        remarks=[
            f"{arguments.seeds} seeds per variant. Interpolation of the same slices: {remark}."
        ],
    )


if __name__ == "__main__":
    main()
