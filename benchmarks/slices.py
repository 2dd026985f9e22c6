"""cpce and circle on slices of a T1w whose k-space was truncated, against interpolation and beside
their paper.

benchmarks/slices.py BIDS_DIR [--seconds S] [--folds N] [--used N] [--methods NAME …] [--slices N]

Axial slices of the T1w are padded with zeros to a square of 256 or, where they are larger, cropped
to it; the central quarter of their k-space is kept (factor 2 along both axes), as gan-cpce-circle
does. Folds are slabs of neighboring slices, because neighbors show nearly the same: a network is
scored on the slab that it was not trained on. PSNR has the range of the scored slices as peak and
is a mean over the whole slices, background too, as in the paper (it does not say; ours); `head` is
inside the head alone. Every network gets the same processor time and its whole schedule.

One head here, 8,000 slices of many there: only how methods stand to each other and to
interpolation may be compared. Writes benchmarks/results/slices.{json,md}.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _files import one
from _methods_run import brain
from _table import keep
from numpy.typing import NDArray
from scipy import stats
from tv import learn

from bids_sr.io.nifti import load_image
from bids_sr.metrics.image_similarity import psnr, ssim
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.resolution.matrices import kspace_crop

Array = NDArray[Any]
Row = dict[str, Any]
SIDE = 256
FACTOR = (2.0, 2.0, 1.0)
INTERPOLATIONS = ("zerofill", "bspline", "linear", "lanczos")
PAPER = {"cpce": (33.20, 0.9563), "circle": (32.30, 0.9465)}  # PSNR (dB), SSIM


def square(image: Array, affine: Array) -> tuple[Array, Array]:
    """Slices padded or cropped to SIDE x SIDE around their center, and the affine that follows."""
    moved = np.array(affine, dtype=float)
    for axis in (0, 1):
        n = image.shape[axis]
        start = (n - SIDE) // 2
        if start < 0:
            pad = [(0, 0)] * 3
            pad[axis] = (-start, SIDE - n + start)
            image = np.pad(image, pad)
        else:
            image = np.take(image, range(start, start + SIDE), axis)
        moved[:3, 3] += moved[:3, axis] * start
    return np.ascontiguousarray(image, np.float32), moved


def slabs(depth: int, folds: int) -> list[range]:
    """Neighboring slices that are held out together."""
    edges = np.linspace(0, depth, folds + 1).round().astype(int)
    return [range(a, b) for a, b in pairwise(edges.tolist())]


def scored(name: str, model: LoadedModel | None, fine: Array, coarse: Array, affine: Array) -> Row:
    """PSNR and SSIM of a slab."""
    mask = brain(coarse)
    scale = float(np.percentile(coarse[mask], 99))
    made = make_upsampler(name, UpsamplerInputs(factor=FACTOR, affine=affine, scale=scale), model)(
        coarse, np.eye(4)
    )
    head, span = brain(fine), float(np.ptp(fine))
    return {
        "psnr": psnr(fine, made, data_range=span),
        "ssim": ssim(fine, made, data_range=span),
        "psnr head": psnr(fine, made, data_range=span, mask=head),
        "ssim head": ssim(fine, made, data_range=span, mask=head),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--seconds", type=float, default=120, help="of processor time a training")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument(
        "--used", type=int, default=None, help="folds that are held out in turn; all by default"
    )
    parser.add_argument("--methods", nargs="+", default=["cpce", "circle", "unet"])
    parser.add_argument("--slices", type=int, default=96, help="in the middle of the head")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    image, affine = load_image(one(given.bids_dir, "sub-*/anat/*_T1w.nii.gz"))
    first = (image.shape[2] - given.slices) // 2
    whole, grid = square(image[..., first : first + given.slices], affine)
    coarse, coarse_affine = kspace_crop(whole, grid, factor=FACTOR)
    rows: list[Row] = []
    for fold, held in enumerate(slabs(given.slices, given.folds)[: given.used]):
        kept = [z for z in range(given.slices) if z not in held]
        fine, small = whole[..., held.start : held.stop], coarse[..., held.start : held.stop]
        rows += [
            {"method": n, "fold": fold} | scored(n, None, fine, small, coarse_affine)
            for n in INTERPOLATIONS
        ]
        training = (
            TrainingImage(
                fine=np.ascontiguousarray(whole[..., kept]),
                coarse=np.ascontiguousarray(coarse[..., kept]),
                mask=brain(whole[..., kept]),
                affine=grid,
                contrast="T1w",
                name="T1w",
            ),
        )
        for name in given.methods:
            model, busy, steps = learn(name, training, FACTOR, given.seconds, fold, given.threads)
            figures = scored(name, model, fine, small, coarse_affine)
            rows.append({"method": name, "fold": fold, "seconds": busy, "steps": steps} | figures)
            sys.stderr.write(f"{rows[-1]}\n")
    report(rows, given)


def report(rows: list[Row], given: argparse.Namespace) -> None:
    """Means over folds, and each network against zero filling by a paired t test over folds."""
    table = []
    plain = np.array([row["psnr"] for row in rows if row["method"] == "zerofill"])
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        more = np.array([row["psnr"] for row in own]) - plain
        test = (
            stats.ttest_1samp(more, 0).pvalue if len(more) > 1 and more.std() > 0 else float("nan")
        )
        printed = PAPER.get(name)
        table.append(
            {
                "method": name,
                "PSNR (dB)": round(float(np.mean([row["psnr"] for row in own])), 2),
                "over zerofill": round(float(more.mean()), 2),
                "p, paired over folds": round(float(test), 4),
                "paper, PSNR": printed[0] if printed else "",
                "SSIM": round(float(np.mean([r["ssim"] for r in own])), 4),
                "paper, SSIM": printed[1] if printed else "",
                "PSNR, head": round(float(np.mean([row["psnr head"] for row in own])), 2),
                "SSIM, head": round(float(np.mean([row["ssim head"] for row in own])), 4),
                "steps": own[0].get("steps", 0),
                "processor s": round(own[0].get("seconds", 0.0), 1),
            }
        )
    remark = (
        f"{given.slices} slices, {len(plain)} of {given.folds} folds, {given.seconds:g} s of"
        " processor a training."
    )
    remarks = [remark, "No weights of VGG-19: the feature loss is off."]
    keep("slices", "T1w slices with the central quarter of k-space", table, remarks=remarks)


if __name__ == "__main__":
    main()
