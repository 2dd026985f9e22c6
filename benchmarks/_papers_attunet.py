"""Tables of the attention U-Net paper, on simulated heads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _papers_curves import Panel, keep_curves
from _papers_heads import CONTRASTS, VOXEL, ScannedHead, scanned_head, scene, with_noise
from _papers_portions import Curve, Portion
from _papers_training import SEED, short_recipe
from _table import keep
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.data.contrast_channels import contrast_image
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.inference.apply_to_contrasts import super_resolve_contrasts
from bids_sr.sr.recipe import Recipe
from bids_sr.structural.image_quality import quality_rows, similarity_rows, wm2max
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
DATA_OF_ALL = f"{DATA} (`vit`: {STEPS_OF_VIT} steps)"
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


def psnr(model: LoadedModel, channels: Sequence[int]) -> float:
    """Return the mean PSNR (dB) in the middle slices of the test heads, for curves."""
    values = []
    for number in TESTED:
        scans = head(number)
        z = slice(scans.mask.shape[2] // 2 - 4, scans.mask.shape[2] // 2 + 4)
        coarse, fine, mask = scans.coarse[..., z], scans.fine[..., z], scans.mask[..., z]
        image = super_resolve_contrasts(model, coarse[list(channels)], mask, AFFINE)
        values.append(_mean_psnr(fine[list(channels)], image, mask))
    return float(np.mean(values))


def _mean_psnr(fine: Array, image: Array, mask: Array) -> float:
    """Return the PSNR (dB, peak 1) in a mask, averaged across channels."""
    errors = ((fine - image)[:, mask] ** 2).mean(axis=1)
    return float(np.mean(-10 * np.log10(errors)))


def trained(
    portion: Portion,
    name: str,
    recipe: Recipe,
    channels: Sequence[int] = FUSED,
    changes: Sequence[str] = (),
) -> tuple[LoadedModel, Curve]:
    """Train a network on the training heads; the method is the first word of the name."""
    return portion.train(
        f"attunet-{name}",
        name.partition("-")[0],
        recipe,
        images_of(TRAINED, channels),
        (1.0, 1.0, 1.0),
        lambda model: psnr(model, channels),
        changes=changes,
    )


def outputs_of(
    portion: Portion,
) -> tuple[dict[str, list[Array]], dict[str, int], dict[str, Curve]]:
    """Return test heads by method, numbers of parameters, and curves."""
    outputs = {"B-spline": [head(number).coarse for number in TESTED]}
    sizes, curves = {"B-spline": 0}, {}
    for method in ("unet", "vit", "attunet"):
        model, curves[method] = trained(portion, method, recipe_of(method))
        sizes[method] = sum(p.numel() for p in model.generator.parameters())
        outputs[method] = [apply(model, number, FUSED) for number in TESTED]
    return outputs, sizes, curves


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


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean ± SD as text."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def table_1(_: Path, portion: Portion) -> None:
    """Table 1: similarity by method."""
    outputs, sizes, curves = outputs_of(portion)
    paper = {"vit": ".9443 and .9562", "attunet": ".9852"}
    rows = []
    for method, images in outputs.items():
        values = similarity(images)
        rows.append(
            {
                "method": method,
                "MAE": spread(values["mae"], 4),
                "NMSE": spread(values["nmse"], 4),
                "PSNR (dB)": spread(values["psnr"], 2),
                "SSIM": spread(values["ssim"], 4),
                "parameters": f"{sizes[method]:,}",
                "paper: SSIM": paper.get(method, "–"),
                "paper: PSNR": "35.39" if method == "attunet" else "–",
            }
        )
    remark = f"The table is based on {DATA_OF_ALL}. Values are mean ± SD across test heads."
    keep("papers_attunet_1", "Attention U-Net, table 1", rows, remarks=[remark])
    slices = slice(head(4).mask.shape[2] // 2 - 4, head(4).mask.shape[2] // 2 + 4)
    line = np.mean(
        [
            _mean_psnr(
                head(n).fine[..., slices], head(n).coarse[..., slices], head(n).mask[..., slices]
            )
            for n in TESTED
        ]
    )
    remark = f"{remark} The curves are based on the eight middle slices of the test heads."
    panels = [Panel("three contrasts", curves, {"B-spline": float(line)})]
    keep_curves("attunet", "Attention U-Net: PSNR by training step", panels, remark)


def table_2(_: Path, portion: Portion) -> None:
    """Table 2: absolute error of quality metrics by protocol."""
    outputs, _sizes, _curves = outputs_of(portion)
    rows = []
    for protocol in PROTOCOLS:
        for method, images in outputs.items():
            errors: dict[str, list[float]] = {}
            for number, image in zip(TESTED, images, strict=True):
                if PROTOCOLS[number % 2] != protocol:
                    continue
                scans = head(number)
                for k, name in enumerate(CONTRASTS):
                    both = {"measured": scans.fine[k], method: image[k]}
                    measures = {
                        (row.series, row.statistic): row.value
                        for row in quality_rows(
                            name, both, scans.mask, scans.tissues, (VOXEL,) * 3
                        )
                        if row.region == "brain" and row.value is not None
                    }
                    for key in ("cjv", "efc", "fwhm", "wm2max"):
                        if key == "cjv" and name != "T1w":
                            continue
                        error = abs(measures[method, key] - measures["measured", key])
                        errors.setdefault(key, []).append(error)
            rows.append(
                {
                    "protocol": protocol,
                    "method": method,
                    **{key.upper(): spread(value, 4) for key, value in errors.items()},
                }
            )
    remarks = [
        f"The table is based on {DATA_OF_ALL}.",
        "Values are mean ± SD across two heads and three contrasts, and FWHM is in mm. CJV"
        " was only computed for T1w images, because the mean intensities of gray and white"
        " matter are nearly equal in the simulated T2w and FLAIR images.",
        describe_contrast(outputs),
    ]
    keep(
        "papers_attunet_2",
        "Attention U-Net, table 2: absolute error of quality metrics by protocol",
        rows,
        remarks=remarks,
    )


def describe_contrast(outputs: Mapping[str, Sequence[Array]]) -> str:
    """Return sentences on what changes CJV and WM2max in the test heads.

    `outputs` are super-resolved test heads by method. The interpolated scans of the tables are
    limited to 1, but the output of networks is not.
    """
    measured = [head(number).fine for number in TESTED]
    joint = []
    for method, images in {"the measured scans": measured, **outputs}.items():
        deviations, contrast = _spread_and_contrast(images)
        joint.append(f"{deviations:.3f} and {contrast:.3f} ({method})")
    limited = {m: [np.clip(image, 0, 1) for image in heads] for m, heads in outputs.items()}
    unlimited = {
        **outputs,
        "B-spline": [
            scanned_head(n, FACTORS[PROTOCOLS[n % 2]], limit=np.inf).coarse for n in TESTED
        ],
    }
    errors = [
        ", ".join(f"{_error_of_maximum(images):.3f} ({m})" for m, images in case.items())
        for case in (limited, unlimited)
    ]
    return (
        "CJV is the sum of the standard deviations of white and gray matter divided by the"
        f" difference between their means. Sum and difference are {', '.join(joint)}: compared"
        " with B-spline interpolation, `unet` and `attunet` have a smaller difference, and `vit`"
        " has a larger sum. WM2max is divided by the 99.95 % percentile of the image. In the"
        " table, the interpolated scans are limited to the range of the measured scans, and the"
        " output of the networks is not. It exceeds this range in CSF of T2w images and in gray"
        " matter of FLAIR images. The mean error of WM2max depends on this limit: with it, the"
        f" error is {errors[0]}; without it, {errors[1]}."
    )


def _spread_and_contrast(images: Sequence[Array]) -> tuple[float, float]:
    """Return numerator and denominator of CJV in T1w images, averaged across test heads."""
    values = []
    for number, image in zip(TESTED, images, strict=True):
        tissues = head(number).tissues
        white, gray = image[0][tissues["wm"]], image[0][tissues["gm"]]
        values.append((white.std() + gray.std(), abs(white.mean() - gray.mean())))
    spread_mean, contrast = np.mean(values, axis=0)
    return float(spread_mean), float(contrast)


def _error_of_maximum(images: Sequence[Array]) -> float:
    """Return the mean absolute error of WM2max in the test heads."""
    return float(
        np.mean(
            [
                abs(
                    wm2max(image[k], head(number).tissues["wm"])
                    - wm2max(head(number).fine[k], head(number).tissues["wm"])
                )
                for number, image in zip(TESTED, images, strict=True)
                for k in range(len(CONTRASTS))
            ]
        )
    )


def settings(_: Path, portion: Portion) -> None:
    """Sections 4.1 and 4.2: contrasts, patches and filters."""
    rows = []

    def add(name: str, finding: str, images: Sequence[Array]) -> None:
        values = similarity(images)
        base = similarity([head(number).coarse for number in TESTED])
        gains = np.subtract(values["psnr"], base["psnr"])
        rows.append(
            {
                "setting": name,
                "PSNR − B-spline (dB)": spread(gains, 2),
                "SSIM": spread(values["ssim"], 4),
                "MAE": spread(values["mae"], 4),
                "paper": finding,
            }
        )

    def add_fused(name: str, label: str, finding: str, recipe: Recipe, *changes: str) -> None:
        model, _curve = trained(portion, name, recipe, changes=changes)
        add(label, finding, [apply(model, number, FUSED) for number in TESTED])

    base = recipe_of("attunet")
    add_fused("attunet", "three contrasts, whole slices, 16 filters", "best model", base)
    models = [trained(portion, f"attunet-single-{CONTRASTS[k]}", base, (k,))[0] for k in FUSED]
    single = [
        np.concatenate(
            [apply(model, number, (k,)) for k, model in zip(FUSED, models, strict=True)]
        )
        for number in TESTED
    ]
    add("one network per contrast", "worse", single)
    add_fused(
        "attunet-patch-32",
        "patches of 32 × 32",
        "slightly worse than slices; smaller patches worse",
        replace(base, patch=32, batch=12),
    )
    add_fused(
        "attunet-filters-8",
        "8 filters",
        "fewer filters worse (64 best, 128 not better)",
        base,
        "filters=8",
    )
    remark = (
        f"The table is based on {DATA}. A step used four slices or 12 patches of 32 × 32"
        " pixels, which are the same number of pixels. Networks that were"
        " trained on patches were applied to whole slices. Values are mean ± SD across test heads."
        " The paper reports these comparisons in supplementary figures that were not available to"
        " us. The column *paper* summarizes the text of sections 4.1 and 4.2."
    )
    keep("papers_attunet_settings", "Attention U-Net: settings", rows, remarks=[remark])


def _volumes(images: Array, mask: Array, measured: Array | None = None) -> dict[str, float]:
    """Return the volume (ml) of each class of the multispectral segmentation.

    The intensities of the classes are fitted to `measured`; None fits them to `images`.
    """
    fitted = fit_classes(
        dict(zip(CONTRASTS, images if measured is None else measured, strict=True)), mask
    )
    masks = segment_multispectral(dict(zip(CONTRASTS, images, strict=True)), mask, model=fitted)
    return {name: float(masks[name].sum()) * VOXEL**3 / 1000 for name in CLASSES}


def volumes(_: Path, portion: Portion) -> None:
    """Figure 10: volumes of super-resolved scans."""
    outputs, _sizes, _curves = outputs_of(portion)
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
        f"The table is based on {DATA_OF_ALL}. Volumes are from the multispectral segmentation of"
        " the brain, whose classes are fitted once per head, to the measured scans, as in the"
        " program. Differences are between a method and the measured scans, in percent of the mean"
        " of both volumes, as in the Bland–Altman plots of the paper (mean ± SD across test heads,"
        " limits of agreement: mean ± 1.96 SD). The values of the paper are read from the text on"
        " figure 10."
    )
    keep("papers_attunet_volumes", "Attention U-Net, figure 10: volumes", rows, remarks=[remark])


def repeated(_: Path, _portion: Portion) -> None:
    """Figure 13: volumes of repeated scans of the same heads at high resolution."""
    paper = {
        "csfSpaces": "1 to 4.72 (.91 to 8.21)",
        "veins": ".5 to 2.70 (.75 to 5.12)",
        "pial": "9.24 to 12.71 (7.60 to 14.27)",
        "brainTissue": "–",
    }
    changes: dict[str, list[float]] = {name: [] for name in CLASSES}
    for number in TESTED:
        base: dict[str, float] = {}
        for month in range(4):
            rng = np.random.default_rng([SEED, number, 3, month])
            clean = scene(number, (48, 64, 48))
            shift = rng.uniform(-0.5, 0.5, 3)
            images = np.stack(
                [
                    with_noise(
                        ndimage.shift(clean.images[name], shift, order=3, mode="nearest"), rng
                    )
                    for name in CONTRASTS
                ]
            )
            mask = ndimage.shift(clean.mask.astype(np.float32), shift, order=1) > 0.5
            current = _volumes(images, mask)
            base = base or current
            if month:
                for name in CLASSES:
                    if base[name] > 0:
                        changes[name].append(100 * abs(current[name] / base[name] - 1))
    rows = []
    for name, values in changes.items():
        if not values:
            continue
        first, median, third = np.percentile(values, (25, 50, 75))
        rows.append(
            {
                "class": name,
                "absolute change from baseline (%), median (IQR)": (
                    f"{median:.2f} ({first:.2f} to {third:.2f})"
                ),
                "paper: range of medians (range of quartiles)": paper[name],
            }
        )
    remark = (
        "Each of the four test heads was scanned four times at high resolution, with new noise and"
        " a random shift of up to half a voxel. The simulated brain does not change, so that the"
        " changes show the variability of the segmentation. Values are median and quartiles of the"
        " absolute change from the first scan across heads and scans. In the paper, 87 patients"
        " were scanned at up to four months."
    )
    keep(
        "papers_attunet_repeated",
        "Attention U-Net, figure 13: volumes of repeated scans",
        rows,
        remarks=[remark],
    )


PARTS: dict[str, Callable[[Path, Portion], None]] = {
    "attunet_1": table_1,
    "attunet_2": table_2,
    "attunet_settings": settings,
    "attunet_volumes": volumes,
    "attunet_repeated": repeated,
}
