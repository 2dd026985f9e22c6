"""Super-resolved volumes against measured ones: benchmarks/superres.py BIDS_DIR TRUTH_DIR [--seeds
N] [--threads N].

BIDS_DIR holds one BOLD run and a T2*-weighted pair of a head that was acquired at low resolution,
TRUTH_DIR the same run at high resolution, on the grid of the pair's fine image. Two parts:

- `acquired`: every volume is upsampled on its own grid and compared with the measured volume. No
  motion is undone.
- `corrected`: head motion is estimated on the low-resolution run; series and truth are each
  interpolated once with it.

All models are trained before the truth is opened; `refit` is seed 0 trained again on all slices,
and the column `held out` is the PSNR over the slices that the others have never seen. PSNR and
SSIM are means over volumes, inside the brain; the data range is the 99th percentile of the mean
measured volume there. Writes benchmarks/results/superres.{json,md}. Each opening of the truth is
noted in benchmarks/TRUTH.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from _pair import Pair
from numpy.typing import NDArray
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.metrics.image_similarity import psnr, ssim
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.hmc import estimate_motion
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import Upsampler, make_upsampler
from bids_sr.sr.inference.guided_baselines import PosedImage, match_gain
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.resolution.matrices import downsample
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit

FACTOR = (2.0, 2.0, 1.0)
Array = NDArray[np.floating]


def one(root: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{root}: {len(found)} files match {pattern}, not one")
    return found[0]


def brain(image: Array) -> NDArray[np.bool_]:
    """Bright voxels with their holes filled, slice by slice."""
    bright = image > 0.2 * np.percentile(image, 98)
    return np.stack([ndimage.binary_fill_holes(bright[..., z]) for z in range(image.shape[2])], -1)


def train(
    pair: Pair, seed: int, threads: int, *, refit: bool = False
) -> tuple[LoadedModel, float, float]:
    """(model, seconds, seconds of processor) of the fast recipe."""
    method = get_method("srgan")
    recipe = replace(method.recipes["fast"], refit=refit)
    started, busy = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as work:
        asked = TrainingRequest(
            method=method,
            recipe="fast",
            changed=recipe,
            factor=pair.factor,
            seed=seed,
            threads=threads,
        )
        made = fit(asked, (pair.image(),), Path(work))
    generator = recipe.build_generator(1, pair.factor)
    generator.load_state_dict(dict(made.state))
    model = LoadedModel(
        generator=generator.eval(), recipe=recipe, card=ModelCard.from_json(made.card)
    )
    return model, time.monotonic() - started, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("truth_dir", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="score every n-th volume")
    given = parser.parse_args()
    run = one(given.bids_dir, "sub-*/func/*_bold.nii.gz")
    lowres, affine = load_image(one(given.bids_dir, "sub-*/anat/*acq-lowres_T2starw.nii.gz"))
    highres, fine = load_image(one(given.bids_dir, "sub-*/anat/*acq-highres_T2starw.nii.gz"))
    pair = Pair(
        lowres=lowres, highres=highres, mask=brain(lowres), lowres_affine=affine, factor=FACTOR
    )
    models = {f"srgan {seed}": train(pair, seed, given.threads) for seed in range(given.seeds)}
    models["srgan 0, refit"] = train(pair, 0, given.threads, refit=True)

    with SeriesReader(run) as reader:
        volumes = list(reader.volumes())
        affine = reader.affine
    boldref = np.mean(volumes, axis=0)
    mask = brain(boldref)
    scale = float(np.percentile(boldref[mask], 99))
    guide = PosedImage(data=highres, affine=fine)
    gain = match_gain(highres, boldref, mask)
    common = {"affine": affine, "scale": scale, "guide": guide, "gain": gain}
    ups = {
        name: make_upsampler(
            name,
            UpsamplerInputs(factor=FACTOR, mean=PosedImage(data=boldref, affine=affine), **common),
        )
        for name in (*INTERPOLATIONS, *PAIR_BASELINES)
    }
    for name, (model, _, _) in models.items():
        ups[name] = make_upsampler(
            "srgan", UpsamplerInputs(factor=FACTOR, scale=scale, threads=given.threads), model
        )

    motion = estimate_motion(volumes, boldref.astype(np.float32), mask, affine)
    with SeriesReader(one(given.truth_dir, "sub-*/func/*_bold.nii.gz")) as reader:
        truth = list(reader.volumes())
    chosen = range(0, len(volumes), given.every)
    held = models["srgan 0"][0].card["held_out"]["slices"]
    still = np.repeat(np.eye(4)[None], len(volumes), 0)
    result = {
        "acquired": compare(ups, volumes, truth, chosen, fine, mask, held, still, False),
        "corrected": compare(ups, volumes, truth, chosen, fine, mask, held, motion.matrices, True),
        "training": {
            name: {"seconds": round(wall, 1), "processor_seconds": round(busy, 1)}
            for name, (_, wall, busy) in models.items()
        },
        "held_out_of_pair": {
            name: model.card.json["held_out"] for name, (model, _, _) in models.items()
        },
        "threads": given.threads,
        "volumes": len(chosen),
        "gain_of_guide": gain,
        "load_average": round(os.getloadavg()[0], 1),
    }
    write(result, Path(__file__).parent / "results")


def compare(
    ups: dict[str, Upsampler],
    volumes: list[Array],
    truth: list[Array],
    chosen: range,
    fine: Array,
    mask: Array,
    held: list[int],
    poses: Array,
    resample: bool,
) -> dict[str, dict[str, float]]:
    """Scores of every upsampler; where `resample`, image and truth go through the same transform,
    once each.
    """
    shape = truth[0].shape
    inside = np.kron(mask, np.ones((2, 2, 1))) > 0
    unseen = inside.copy()
    unseen[..., [z for z in range(shape[2]) if z not in held]] = False

    def placed(image: Array, t: int) -> Array:
        return sample_volume(image, fine, shape, fine, poses[t]) if resample else image

    wanted = {t: placed(truth[t], t) for t in chosen}
    span = float(np.percentile(np.mean(list(wanted.values()), axis=0)[inside], 99))
    rows = {}
    for name, up in ups.items():
        started, seconds, scores = 0.0, 0.0, []
        for t in chosen:
            started = time.perf_counter()
            image = up(volumes[t], poses[t])
            seconds += time.perf_counter() - started
            off = np.linalg.norm(
                downsample(image, volumes[t].shape) - volumes[t]
            ) / np.linalg.norm(volumes[t])
            image = placed(image, t)
            scores.append(
                [
                    psnr(wanted[t], image, data_range=span, mask=inside),
                    ssim(wanted[t], image, data_range=span, mask=inside),
                    off,
                    psnr(wanted[t], image, data_range=span, mask=unseen),
                ]
            )
        mean = np.mean(scores, axis=0)
        rows[name] = {
            "psnr": round(float(mean[0]), 3),
            "ssim": round(float(mean[1]), 4),
            "inconsistency": round(float(mean[2]), 5),
            "psnr_held_out": round(float(mean[3]), 3),
            "seconds_a_volume": round(seconds / len(chosen), 4),
        }
    for row in rows.values():
        row["psnr_over_bspline"] = round(row["psnr"] - rows["bspline"]["psnr"], 3)
    return rows


def write(result: dict, folder: Path) -> None:
    """JSON, and a table for readers."""
    folder.mkdir(exist_ok=True)
    (folder / "superres.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "# Super-resolution against measured volumes",
        "",
        "`benchmarks/superres.py BIDS_DIR TRUTH_DIR`",
        "",
    ]
    keys = (
        "psnr",
        "psnr_over_bspline",
        "psnr_held_out",
        "ssim",
        "inconsistency",
        "seconds_a_volume",
    )
    for part in ("acquired", "corrected"):
        lines += [f"## {part}", ""]
        lines += [
            "| series | PSNR dB | over bspline | held out | SSIM | inconsistency | s a volume |"
        ]
        lines += ["| --- " * 7 + "|"]
        for name, row in result[part].items():
            lines.append(f"| {name} | " + " | ".join(f"{row[key]:.5g}" for key in keys) + " |")
        seeds = [row["psnr"] for name, row in result[part].items() if name[-1].isdigit()]
        lines += [
            "",
            f"Spread of srgan over {len(seeds)} seeds: {max(seeds) - min(seeds):.3f} dB.",
            "",
        ]
    made = json.dumps(result["training"])
    lines.append(
        f"Training on {result['threads']} threads, {result['load_average']} processes wanting to"
        f" run: {made}"
    )
    text = "\n".join(lines) + "\n"
    (folder / "superres.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
