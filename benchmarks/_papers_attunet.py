"""Contrasts and volumes of the attention U-Net paper, on simulated heads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _papers_heads import CONTRASTS, VOXEL, ScannedHead, scanned_head
from _papers_training import short_recipe, train
from _table import keep

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.data.contrast_channels import contrast_image
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.inference.apply_to_contrasts import super_resolve_contrasts
from bids_sr.sr.recipe import Recipe
from bids_sr.structural.image_quality import similarity_rows
from bids_sr.structural.multispectral import CLASSES, fit_classes, segment_multispectral

STEPS = 100
STEPS_OF_VIT = 800  # after 100 steps, it returned its input
LOOKS = 5  # validation steps per training
FACTORS: dict[str, Factor] = {"A: in plane": (2.0, 2.0, 1.0), "B: across slices": (1.0, 2.0, 2.0)}
PROTOCOLS = tuple(FACTORS)
TRAINED, TESTED = range(4), range(4, 8)
AFFINE = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
FUSED = tuple(range(len(CONTRASTS)))
DATA = (
    "simulated heads (3 mm voxels, noise of 2 %) with T1w, T2w and FLAIR images. Four heads were"
    " used for training and four other heads for testing. Each protocol was used for half of the"
    " training heads and half of the test heads. Protocol A averages 2 × 2 voxels in plane, and"
    " protocol B averages 2 × 2 voxels along one in-plane axis and across slices. The networks"
    f" were trained for {STEPS} steps with recipe fast and the loss MAE + 0.1 (1 − SSIM)"
)
SIMILARITY = ("mae", "nmse", "psnr", "ssim")
Scores = dict[str, float]
"""Similarity metrics by name."""
_heads: dict[int, ScannedHead] = {}


def head(number: int) -> ScannedHead:
    """Return scans of a head by its protocol."""
    if number not in _heads:
        _heads[number] = scanned_head(number, FACTORS[PROTOCOLS[number % 2]])
    return _heads[number]


def recipe_of(method: str, **settings: Any) -> Recipe:
    """Return recipe `fast` with the number of steps of the tables."""
    steps = STEPS_OF_VIT if method == "vit" else STEPS
    return short_recipe(method, steps, evaluate_every=steps // LOOKS, patience=None, **settings)


def images_of(numbers: Sequence[int], channels: Sequence[int]) -> list[TrainingImage]:
    """Return heads for training, with some of the contrasts as channels."""
    names = [CONTRASTS[k] for k in channels]
    return [
        contrast_image(
            head(n).fine[list(channels)],
            head(n).coarse[list(channels)],
            head(n).mask,
            AFFINE,
            names,
            f"head-{n}",
        )
        for n in numbers
    ]


def apply(model: LoadedModel, number: int, channels: Sequence[int]) -> Array:
    """Return the super-resolved contrasts of a head."""
    scans = head(number)
    return super_resolve_contrasts(model, scans.coarse[list(channels)], scans.mask, AFFINE)


def trained(work: Path, name: str, recipe: Recipe, channels: Sequence[int] = FUSED) -> LoadedModel:
    """Train an attention U-Net on the training heads."""
    images = images_of(TRAINED, channels)
    return train(work, "attunet", name, recipe, images, (1.0, 1.0, 1.0))


def scores_of_contrasts(
    image: Array, fine: Array, mask: Array, channels: Sequence[int] = FUSED
) -> Scores:
    """Return similarity metrics in the brain, averaged across contrasts."""
    values: dict[str, list[float]] = {key: [] for key in SIMILARITY}
    for k, channel in enumerate(channels):
        for score in similarity_rows(
            CONTRASTS[channel], {"image": image[k]}, fine[k], mask, range(image.shape[3])
        ):
            if score.region == "brain" and score.statistic in values:
                values[score.statistic].append(score.value)
    return {key: float(np.mean(value)) for key, value in values.items()}


def similarity(images: Sequence[Array]) -> dict[str, list[float]]:
    """Return similarity metrics in the brain of each test head, averaged across contrasts."""
    heads = [
        scores_of_contrasts(image, head(number).fine, head(number).mask)
        for number, image in zip(TESTED, images, strict=True)
    ]
    return {key: [values[key] for values in heads] for key in SIMILARITY}


def spread(values: Any, digits: int) -> str:
    """Return mean ± SD as text."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def settings(work: Path) -> None:
    """Section 4.1: one network of three contrasts, or one network per contrast."""
    base = recipe_of("attunet")
    fused = trained(work, "attunet", base)
    models = [trained(work, f"attunet-{CONTRASTS[k]}", base, (k,)) for k in FUSED]
    images = {
        "three contrasts": [apply(fused, number, FUSED) for number in TESTED],
        "one network per contrast": [
            np.concatenate(
                [apply(model, number, (k,)) for k, model in zip(FUSED, models, strict=True)]
            )
            for number in TESTED
        ],
    }
    spline = similarity([head(number).coarse for number in TESTED])
    rows = []
    for name, heads in images.items():
        values = similarity(heads)
        rows.append(
            {
                "setting": name,
                "PSNR − B-spline (dB)": spread(np.subtract(values["psnr"], spline["psnr"]), 2),
                "SSIM": spread(values["ssim"], 4),
                "MAE": spread(values["mae"], 4),
            }
        )
    remark = f"The table is based on {DATA}. Values are mean ± SD across test heads."
    keep("papers_attunet_settings", "Attention U-Net: contrasts", rows, remarks=[remark])


def _volumes(images: Array, mask: Array, measured: Array | None = None) -> dict[str, float]:
    """Return the volume (ml) of each class of the multispectral segmentation.

    The intensities of the classes are fitted to `measured`; None fits them to `images`.
    """
    fitted = fit_classes(
        dict(zip(CONTRASTS, images if measured is None else measured, strict=True)), mask
    )
    masks = segment_multispectral(dict(zip(CONTRASTS, images, strict=True)), mask, model=fitted)
    return {name: float(masks[name].sum()) * VOXEL**3 / 1000 for name in CLASSES}


def volumes(work: Path) -> None:
    """Figure 10: volumes of super-resolved scans."""
    network = trained(work, "attunet", recipe_of("attunet"))
    outputs = {
        "B-spline": [head(number).coarse for number in TESTED],
        "attunet": [apply(network, number, FUSED) for number in TESTED],
    }
    measured = [_volumes(head(n).fine, head(n).mask) for n in TESTED]
    found = {
        method: [
            _volumes(image, head(n).mask, head(n).fine)
            for n, image in zip(TESTED, images, strict=True)
        ]
        for method, images in outputs.items()
    }
    paper = {
        "csfSpaces": "within 20 to 40 %; SR comparable with interpolation",
        "veins": "within 20 to 40 %; SR better than interpolation",
        "pial": "within 20 to 40 %; SR better than interpolation",
        "brainTissue": "–",
    }
    rows = []
    for name in CLASSES:
        for method, volumes_found in found.items():
            pairs = [
                (volume[name], base[name])
                for volume, base in zip(volumes_found, measured, strict=True)
            ]
            differences = [200 * (a - b) / (a + b) for a, b in pairs if a + b > 0]
            mean, sd = np.mean(differences), np.std(differences, ddof=1)
            rows.append(
                {
                    "class": name,
                    "method": method,
                    "volume, measured (ml)": f"{np.mean([b for _, b in pairs]):.1f}",
                    "volume (ml)": f"{np.mean([a for a, _ in pairs]):.1f}",
                    "difference (% of the mean)": spread(differences, 1),
                    "limits of agreement (%)": f"{mean - 1.96 * sd:.1f} to {mean + 1.96 * sd:.1f}",
                    "paper": paper[name],
                }
            )
    remark = (
        f"The table is based on {DATA}. Volumes are from the multispectral segmentation of"
        " the brain, whose classes are fitted once per head, to the measured scans, as in the"
        " program. Differences are between a method and the measured scans, in percent of the mean"
        " of both volumes, as in the Bland–Altman plots of the paper (mean ± SD across test heads,"
        " limits of agreement: mean ± 1.96 SD). The values of the paper are read from the text on"
        " figure 10."
    )
    keep("papers_attunet_volumes", "Attention U-Net, figure 10: volumes", rows, remarks=[remark])


PARTS: dict[str, Callable[[Path], None]] = {
    "attunet_settings": settings,
    "attunet_volumes": volumes,
}
