"""Segmented lesions and tissues: a claim in the abstract of the attention U-Net paper.

The claim: automatic segmentations of super-resolved images have fewer false positives and are more
accurate than segmentations of interpolated images, for tissues and lesions, in protocols with more
than three scans in training. Heads with lesions are simulated, so that the reference is the known
fraction of each tissue, whereas the paper compares with segmentations of the high-resolution scans
(edited manually for lesions).

The claim has four measures: false positives (ml) and Dice coefficient, each of lesions and of
tissues. Images are compared with the interpolation that has the better mean, by the mean
difference across test heads, with its 95 % interval (Student's t). Noise-free high-resolution
scans (*truth*) show what can be reached; `unet` and `vit` are listed, but are not part of the
claim. `docs/papers_page.py` has the rule for the verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from _papers_attunet import AFFINE, CONTRASTS, FACTORS, PROTOCOLS, STEPS, STEPS_OF_VIT, recipe_of
from _papers_heads import VOXEL, ScannedHead, Scene, scanned_head, scene
from _papers_training import train
from _table import keep
from scipy import stats

from bids_sr.io.arrays import Array
from bids_sr.sr.networks.data.contrast_channels import contrast_image
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.inference.apply_to_contrasts import super_resolve_contrasts
from bids_sr.structural.lesions import segment_hyperintensities
from bids_sr.structural.multispectral import fit_classes, segment_multispectral
from bids_sr.structural.tissue_overlap import overlap

LESIONS = 20  # per head
SHAPE = (48, 64, 48)  # voxels
TRAINED, TESTED = range(8), range(8, 20)  # half of them by each protocol
NETWORKS = ("unet", "vit", "attunet")
INTERPOLATIONS = {"B-spline": "bspline", "trilinear": "linear"}
TRUTH, MEASURED = "truth", "high-resolution scan"
FALSE_LESIONS, DICE_OF_LESIONS = "lesions: false positives (ml)", "lesions: Dice"
FALSE_TISSUES, DICE_OF_TISSUES = "tissues: false positives (ml)", "tissues: Dice"
CLAIMED = (FALSE_LESIONS, DICE_OF_LESIONS, FALSE_TISSUES, DICE_OF_TISSUES)
"""Measures of the claim."""
VOLUME = "lesions: volume difference (%)"
BETTER, WORSE, SAME = "better", "worse", "no difference"
ML = VOXEL**3 / 1000
Values = dict[str, float]
"""Value by measure."""


@lru_cache(maxsize=4)
def scans_of(number: int, interpolation: str = "bspline") -> ScannedHead:
    """Return scans of a head with lesions by its protocol."""
    factor = FACTORS[PROTOCOLS[number % 2]]
    return scanned_head(number, factor, SHAPE, lesions=LESIONS, interpolation=interpolation)


def training_image(number: int) -> TrainingImage:
    """Return a head for training, with all contrasts as channels."""
    scans = scans_of(number)
    return contrast_image(
        scans.fine, scans.coarse, scans.mask, AFFINE, CONTRASTS, f"lesions-{number}"
    )


def known_tissues(head: Scene) -> dict[str, Array]:
    """Return the voxels of the brain that consist at least half of a tissue, by class.

    The class ``pial`` is missing because it has no tissue of its own.
    """
    rest = 1 - head.fractions["veins"]  # venous blood replaces its share of all other tissues
    shares = {
        "csfSpaces": rest * head.fractions["csf"],
        "veins": head.fractions["veins"],
        "brainTissue": rest * sum(head.fractions[name] for name in ("gm", "wm", "lesion")),
    }
    return {name: head.mask & (share >= 0.5) for name, share in shares.items()}


def values_of(images: Array, measured: Array, head: Scene) -> Values:
    """Return all measures of the scans (C, X, Y, Z) of one head.

    The intensities of the tissue classes are fitted to the measured scans, as in the program.
    """
    lesions = segment_hyperintensities(
        images[CONTRASTS.index("FLAIR")], head.mask, (VOXEL,) * 3, head.lesion_locations
    )
    known_lesions = head.mask & (head.fractions["lesion"] >= 0.5)
    model = fit_classes(dict(zip(CONTRASTS, measured, strict=True)), head.mask)
    classes = segment_multispectral(
        dict(zip(CONTRASTS, images, strict=True)), head.mask, model=model
    )
    known = known_tissues(head)
    dice = {name: _dice(known[name], classes[name]) for name in known}
    return {
        DICE_OF_LESIONS: _dice(known_lesions, lesions),
        FALSE_LESIONS: ML * (lesions & ~known_lesions).sum(),
        VOLUME: 100 * (lesions.sum() / known_lesions.sum() - 1),
        DICE_OF_TISSUES: float(np.mean([*dice.values()])),
        FALSE_TISSUES: ML * sum((classes[name] & ~known[name]).sum() for name in known),
        **{f"{name}: Dice": value for name, value in dice.items()},
    }


def _dice(known: Array, found: Array) -> float:
    value = overlap(known, found)["dice"]
    assert value is not None
    return value


def rows_of(values: Mapping[str, Sequence[Values]]) -> list[dict[str, Any]]:
    """Return one row per measure and images, from the values of each test head by images."""
    rows = []
    for measure in values[TRUTH][0]:
        heads = {name: np.array([row[measure] for row in of]) for name, of in values.items()}
        lower_is_better = "false" in measure
        digits = 3 if measure.endswith("Dice") else 2
        sign = -1 if lower_is_better else 1
        best = max(INTERPOLATIONS, key=lambda name: sign * heads[name].mean())
        for name, found in heads.items():
            difference = found - heads[best]
            compared = name != best and measure != VOLUME
            rows.append(
                {
                    "measure": measure,
                    "images": name,
                    "mean": f"{found.mean():z.{digits}f}",
                    "95 % interval": _interval(found, digits),
                    "best interpolation": best if measure != VOLUME else "–",
                    "difference": f"{difference.mean():z.{digits}f}" if compared else "–",
                    "interval of the difference": _interval(difference, digits)
                    if compared
                    else "–",
                    "outcome": _outcome(sign * difference) if compared else "–",
                }
            )
    return rows


def _limits(heads: Array) -> tuple[float, float]:
    """Return the 95 % interval of the mean across heads."""
    half = stats.t.ppf(0.975, len(heads) - 1) * heads.std(ddof=1) / np.sqrt(len(heads))
    return float(heads.mean() - half), float(heads.mean() + half)


def _interval(heads: Array, digits: int) -> str:
    low, high = _limits(heads)
    return f"{low:z.{digits}f} to {high:z.{digits}f}"


def _outcome(gains: Array) -> str:
    low, high = _limits(gains)
    return BETTER if low > 0 else WORSE if high < 0 else SAME


def lesions(work: Path) -> None:
    """Abstract: lesions and tissues, segmented in super-resolved and in interpolated scans."""
    trained = [training_image(number) for number in TRAINED]
    models = {
        method: train(
            work, method, f"lesions-{method}", recipe_of(method), trained, (1.0, 1.0, 1.0)
        )
        for method in NETWORKS
    }
    values: dict[str, list[Values]] = {}
    for number in TESTED:
        head, scans = scene(number, SHAPE, LESIONS), scans_of(number)
        images = {TRUTH: scans.truth, MEASURED: scans.fine}
        images |= {name: scans_of(number, of).coarse for name, of in INTERPOLATIONS.items()}
        for method, model in models.items():
            images[method] = super_resolve_contrasts(model, scans.coarse, scans.mask, AFFINE)
        for name, image in images.items():
            values.setdefault(name, []).append(values_of(image, scans.fine, head))
    keep(
        "papers_attunet_lesions",
        "Attention U-Net, abstract: segmentation of lesions and tissues",
        rows_of(values),
        remarks=[
            f"Simulated heads ({VOXEL:.0f} mm voxels, noise of 2 %) with {LESIONS} lesions each"
            f" and T1w, T2w and FLAIR images: {len(TRAINED)} heads for training and"
            f" {len(TESTED)} other heads for testing, half of them by each protocol (averages of"
            " 2 × 2 voxels in plane, or along one in-plane axis and across slices), so that each"
            f" protocol has {len(TRAINED) // 2} heads in training. The networks were trained for"
            f" {STEPS} steps with recipe fast and the loss MAE + 0.1 (1 − SSIM) (`vit`:"
            f" {STEPS_OF_VIT} steps).",
            "Lesions are segmented in FLAIR images with a map of likely locations, tissues"
            " (csfSpaces, veins, brainTissue) by the multispectral segmentation, whose classes are"
            " fitted once per head, to the high-resolution scan, as in the program. The reference"
            " are voxels that consist at least half of the simulated tissue. Tissues: mean Dice"
            " and sum of false positives of the three classes. The pial layer has no tissue of its"
            " own and is left out. *truth* are noise-free high-resolution scans.",
            "Values are means across test heads. Intervals are 95 % intervals of the mean"
            " (Student's t). Differences are from the best interpolation of the measure, in the"
            " same heads. An outcome is better or worse if the interval of the difference excludes"
            " 0, without correction for multiple comparisons.",
        ],
    )


PARTS: dict[str, Callable[[Path], None]] = {"attunet_lesions": lesions}
