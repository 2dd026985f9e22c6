"""Table of the GAN-CPCE and GAN-CIRCLE paper, cross-validated over parts of a head."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from _papers_data import T1W, series
from _papers_training import downsample, image_of, scores, short_recipe, train, upsample
from _table import keep

from bids_sr.io.grids import Factor

STEPS = {"cpce": 400, "circle": 2000}
BATCHES = {"cpce": 4, "circle": 1}
PATCH = 32  # pixels; the smallest image that the critic of circle supports
LOOKS = 5  # validation steps per training
FOLDS = 4
FACTOR: Factor = (2.0, 2.0, 1.0)
INTERPOLATIONS = {"zero filling": "zerofill", "cubic spline": "bspline", "trilinear": "linear"}
PAPER = {"cpce": (0.9563, 33.2031), "circle": (0.9465, 32.2995)}


def table(work: Path) -> None:
    """Table 1: PSNR and SSIM of networks and of interpolations of the same k-space."""
    data, zooms = series(T1W)
    data = data[:94, :, 20:116]
    parts = np.array_split(data, FOLDS, axis=2)
    pairs = [downsample(part, "kspace", FACTOR) for part in parts]
    values: dict[str, list[dict[str, float]]] = {
        name: [scores(covered, upsample(method, low, FACTOR)) for low, covered in pairs]
        for name, method in INTERPOLATIONS.items()
    }
    for method in STEPS:
        steps = STEPS[method]
        recipe = short_recipe(
            method,
            steps,
            patch=PATCH,
            batch=BATCHES[method],
            evaluate_every=steps // LOOKS,
            patience=None,
        )
        folds = []
        for fold, (low, covered) in enumerate(pairs):
            images = [
                image_of(part, zooms, "T1w", f"part-{k}")
                for k, part in enumerate(parts)
                if k != fold
            ]
            network = train(work, method, f"slices-{method}-{fold}", recipe, images, FACTOR)
            folds.append(scores(covered, upsample(network, low, FACTOR)))
        values[method] = folds
    write(values)


def write(values: Mapping[str, list[dict[str, float]]]) -> None:
    """Store the table."""
    zero = values["zero filling"]
    rows = []
    for name, folds in values.items():
        gains = [fold["psnr"] - base["psnr"] for fold, base in zip(folds, zero, strict=True)]
        ssim, psnr = PAPER.get(name, ("–", "–"))
        rows.append(
            {
                "images": name,
                "SSIM": spread(folds, "ssim", 4),
                "PSNR (dB)": spread(folds, "psnr", 2),
                "PSNR − zero filling (dB)": f"{np.mean(gains):.2f} ± {np.std(gains, ddof=1):.2f}",
                "PSNR − zero filling of the folds": " ".join(f"{gain:.2f}" for gain in gains),
                "paper: SSIM": ssim,
                "paper: PSNR": psnr,
            }
        )
    trainings = " and ".join(
        f"`{name}` was trained for {STEPS[name]:,} steps of {BATCHES[name]}"
        f" {'patches' if BATCHES[name] > 1 else 'patch'}"
        for name in STEPS
    )
    remark = (
        f"The results are from a cross-validation with {FOLDS} folds. Each quarter of 96 slices of"
        " one T1w image (2 mm, `examples/studyforrest`) was used once for testing, and the other"
        f" quarters for training. With recipe fast, {trainings} of {PATCH} × {PATCH} pixels"
        " (64 × 64 in the paper). Held-out slices of the training quarters determined which"
        " weights were kept. As in the paper, the low-resolution images contain only the central"
        " quarter of k-space. Resampled to the high-resolution grid, they are identical to zero"
        " filling. Values are mean ± SD across folds. The paper does not report values for the"
        " low-resolution images."
    )
    keep("papers_cpce", "GAN-CPCE and GAN-CIRCLE, table 1", rows, remarks=[remark])


def spread(folds: list[dict[str, float]], key: str, digits: int) -> str:
    """Return mean ± SD of a score across folds as text."""
    values = [fold[key] for fold in folds]
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


PARTS: dict[str, Callable[[Path], None]] = {"cpce": table}
