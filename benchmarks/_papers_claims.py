"""Claims of two papers on simulated heads, with scaled versions of the published networks.

Both networks of a comparison keep the published depth and have an eighth of the published filters
(of `vit`, twice the parameters of `attunet`, as published). A network with an eighth of the
filters has about 1/64 of the parameters, so that the training data have about 1/64 of the
published size. Trainings are shorter than in the papers, and only networks that are better than
interpolation are compared. The units of all
tests are twelve simulated heads that were not used for training.

Each part of a claim is the mean of paired differences, which is positive if it has the direction
of the claim, with 95 % interval and p value (Student's t). If the claim is that something does not
help, the part is the benefit, and has a margin, the smallest benefit that would matter. Margins
were written before the first training: a tenth of the gain of the network over interpolation.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from _papers_heads import (
    CONTRASTS,
    VOXEL,
    ScannedHead,
    noisy_scans,
    scanned_head,
)
from _papers_training import downsample, image_of, scores, train, upsample
from _table import RESULTS, keep
from scipy import stats

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.spatial.effective_resolution import effective_resolution
from bids_sr.sr.method import get_method
from bids_sr.sr.methods.attunet import remove_critic
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.data.contrast_channels import contrast_image
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.inference.apply_to_contrasts import super_resolve_contrasts
from bids_sr.sr.recipe import Recipe, network
from bids_sr.structural.image_quality import similarity_rows

TRAINED, TESTED = range(2), range(2, 14)
TABLE = "papers_claims"
SHAPE = (48, 64, 48)  # voxels
SHARE_OF_GAIN = 0.1
"""Share of the gain of a network over interpolation that is the margin of a claim of no help."""
# Liang & Zhang 2023
WIDTH = 8  # of 64 filters
STEPS, STEPS_3D = 400, 150
PATCHES = (78, 312)  # 5,000 and 20,000, divided by 64
FACTORS: dict[int, Factor] = {2: (2.0, 2.0, 1.0), 3: (2.0, 2.0, 2.0)}
# Li et al. 2022
WIDTHS = (8, 16, 32, 64, 128)  # of 64 to 1,024 filters
STEPS_OF_LI, STEPS_OF_VIT = 200, 800  # after 100 steps, vit returns its input
PROTOCOLS: tuple[Factor, Factor] = ((2.0, 2.0, 1.0), (1.0, 2.0, 2.0))
OTHER_PROTOCOL: Factor = (2.0, 2.0, 2.0)
AFFINE = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
GRID: Factor = (1.0, 1.0, 1.0)
Scores = dict[str, Array]
"""Value in each test head, by metric."""


@dataclass(frozen=True)
class Part:
    """Part of a claim.

    `differences` are paired differences of units, positive in the direction of the claim, or the
    benefit that the claim denies if there is a `margin`.
    """

    name: str
    differences: Array
    margin: float | None = None

    @property
    def row(self) -> dict[str, Any]:
        """Row of the table."""
        test = stats.ttest_1samp(self.differences, 0)
        lower, upper = test.confidence_interval()
        digits = 3 - int(np.ceil(np.log10(max(abs(lower), abs(upper)))))
        return {
            "part": self.name,
            "units": len(self.differences),
            "difference": round(float(np.mean(self.differences)), digits),
            "lower": round(float(lower), digits),
            "upper": round(float(upper), digits),
            "p": float(f"{test.pvalue:.2g}"),
            "margin": "" if self.margin is None else round(self.margin, digits),
            "by unit": " ".join(f"{value:.{max(digits, 0)}f}" for value in self.differences),
        }


def keep_claim(claim: str, scaled: str, parts: Sequence[Part]) -> None:
    """Replace the rows of a claim in the table; `scaled` says what differs from the paper."""
    file = RESULTS / f"{TABLE}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = [row for row in rows if row["claim"] != claim]
    rows += [{"claim": claim, **part.row, "scaled": scaled} for part in parts]
    remark = (
        "Unless the last column has others, units are twelve simulated heads"
        f" ({VOXEL:.0f} mm voxels, noise of 2 %), and two other heads were used for training."
        " Differences are positive in the direction of the claim; with a margin, they are the"
        " benefit that the claim denies. p values are from paired t tests."
    )
    keep(TABLE, "Claims of the papers on simulated heads", rows, remarks=[remark])


# Liang & Zhang 2023: one contrast, downsampled by block averages


@lru_cache(maxsize=64)
def scan(number: int, contrast: str) -> Array:
    """Return a scan of a head."""
    return noisy_scans(number, SHAPE)[contrast]


def train_liang(work: Path, method: str, patches: int) -> LoadedModel:
    """Train a network with recipe `paper` on T1w scans, with an eighth of its filters."""
    recipe: Recipe = get_method(method).recipes["paper"]  # type: ignore[assignment]
    steps, ndim = (STEPS, 2) if method == "resnet2d" else (STEPS_3D, 3)
    settings: dict[str, Any] = {} if ndim == 2 else {"batch": 2}
    if recipe.build_critic is not None:
        settings["build_critic"] = network("volumetric.ResNetCritic3d", width=WIDTH)
    recipe = replace(
        recipe,
        build_generator=network("residual.ResNet", ndim=ndim, width=WIDTH),
        patches=patches,
        epochs=None,
        iterations=steps,
        evaluate_every=steps // 4,
        patience=None,
        **settings,
    )
    images = [image_of(scan(n, "T1w"), (VOXEL,) * 3, "T1w", f"head-{n}") for n in TRAINED]
    return train(work, method, f"{method}-{patches}", recipe, images, FACTORS[ndim])


def score_liang(
    model: str | LoadedModel, contrast: str = "T1w", factor: Factor = FACTORS[2]
) -> Scores:
    """Return scores of a network, or an interpolation given by name, in each test head."""
    heads = []
    for number in TESTED:
        low, covered = downsample(scan(number, contrast), "block", factor)
        image = upsample(model, low, factor)
        resolution = effective_resolution(image, (VOXEL,) * 3) or np.nan
        heads.append(scores(covered, image) | {"resolution": resolution})
    return {key: np.array([values[key] for values in heads]) for key in heads[0]}


def compare_samples(work: Path) -> None:
    """Table 1, in 2D as in the paper, and the effective resolution of another contrast."""
    few, many = (train_liang(work, "resnet2d", number) for number in PATCHES)
    gain = 100 * (1 - score_liang(many)["rmse"] / score_liang(few)["rmse"])
    scaled = f"{WIDTH} of 64 filters, {STEPS} steps"
    keep_claim(
        "liang_samples",
        f"{scaled}; {PATCHES[0]} and {PATCHES[1]} patches for 5,000 and 20,000",
        [Part("RMSE reduction by more patches (%)", gain)],
    )
    cubic, found = (score_liang(model, "FLAIR")["resolution"] for model in ("bspline", many))
    keep_claim(
        "liang_effective_resolution",
        f"{scaled}, 2D; FLAIR in place of T2w",
        [Part("cubic − network (mm)", cubic - found)],
    )


def compare_gan(work: Path) -> None:
    """Figure 4A: ResNet and GAN."""
    residual, adversarial = (
        score_liang(train_liang(work, method, PATCHES[1]), factor=FACTORS[3])["rmse"]
        for method in ("resnet3d", "gan3d")
    )
    keep_claim(
        "liang_gan",
        f"{WIDTH} of 64 filters, {STEPS_3D} steps of two patches",
        [Part("RMSE reduction by ResNet (%)", 100 * (1 - residual / adversarial))],
    )


# Li et al. 2022: three contrasts of whole slices


@lru_cache(maxsize=32)
def head(number: int) -> ScannedHead:
    """Return scans of a head; protocols alternate, and heads from 100 on are of another kind."""
    if number >= 100:
        return scanned_head(number, OTHER_PROTOCOL, SHAPE, lesions=20)
    return scanned_head(number, PROTOCOLS[number % 2], SHAPE)


def recipe_of_li(method: str, divisor: float = 1, *, critic: float = 0.0) -> Recipe:
    """Return recipe `fast` with an eighth of the published filters, divided by `divisor`.

    The networks add their output to the interpolated scans. `critic` is the weight of the critic
    in the loss; 0 omits the critic.
    """
    recipe: Recipe = get_method(method).recipes["fast"]  # type: ignore[assignment]
    widths = tuple(int(width / divisor) for width in WIDTHS)
    steps = STEPS_OF_VIT if method == "vit" else STEPS_OF_LI
    settings: dict[str, Any] = {
        "iterations": steps,
        "evaluate_every": steps // 4,
        "patience": None,
    }
    if method == "unet":  # as published: two convolutions per level
        settings["build_generator"] = network("unet.UNet", widths=widths, head="residual")
    if method == "attunet":
        settings["build_generator"] = network(
            "unet.attention_unet", widths=widths, head="residual", sizes="multiple"
        )
    recipe = replace(recipe, **settings)
    if critic == 0:
        return remove_critic(recipe) if recipe.build_critic is not None else recipe
    losses = tuple(
        replace(term, weight=critic) if term.kind == "adversarial" else term
        for term in recipe.losses
    )
    build_critic = network("critics.guiding_critic", width=8)
    return replace(recipe, losses=losses, build_critic=build_critic)


def train_li(
    work: Path,
    name: str,
    recipe: Recipe,
    numbers: Sequence[int] = TRAINED,
    start: LoadedModel | None = None,
) -> LoadedModel:
    """Train a network on whole slices of heads; the method is the first word of the name."""
    images: list[TrainingImage] = [
        contrast_image(head(n).fine, head(n).coarse, head(n).mask, AFFINE, CONTRASTS, f"head-{n}")
        for n in numbers
    ]
    return train(work, name.partition("-")[0], name, recipe, images, GRID, start)


def apply_li(model: LoadedModel) -> list[Array]:
    """Return the super-resolved contrasts of each test head."""
    return [super_resolve_contrasts(model, head(n).coarse, head(n).mask, AFFINE) for n in TESTED]


def score_li(images: Sequence[Array]) -> Scores:
    """Return PSNR (dB), SSIM and MAE in the brain of each test head, averaged over contrasts."""
    heads = []
    for number, image in zip(TESTED, images, strict=True):
        fine, mask = head(number).fine, head(number).mask
        rows = [
            row
            for k, contrast in enumerate(CONTRASTS)
            for row in similarity_rows(
                contrast, {"image": image[k]}, fine[k], mask, range(image.shape[3])
            )
            if row.region == "brain"
        ]
        heads.append(
            {
                key: float(np.mean([row.value for row in rows if row.statistic == key]))
                for key in ("psnr", "ssim", "mae")
            }
        )
    return {key: np.array([values[key] for values in heads]) for key in heads[0]}


def pair(label: str, better: Scores, worse: Scores) -> list[Part]:
    """Return the parts of a claim that one network is better than another."""
    return [
        Part(f"{name}, {label}", sign * (better[key] - worse[key]))
        for key, name, sign in (("psnr", "PSNR (dB)", 1), ("ssim", "SSIM", 1))
    ]


def no_help(label: str, helped: Scores, base: Scores, interpolated: Scores) -> list[Part]:
    """Return the parts of a claim that something does not help."""
    return [
        Part(
            f"{name}, {label}",
            helped[key] - base[key],
            SHARE_OF_GAIN * float(np.mean(base[key] - interpolated[key])),
        )
        for key, name in (("psnr", "PSNR (dB)"), ("ssim", "SSIM"))
    ]


def compare_li(work: Path) -> None:
    """Tables and sections 4.1 to 4.6: models, contrasts, critic, pre-training and filters."""
    scaled = (
        f"8 of 64 filters, slices of two heads, {STEPS_OF_LI} steps of four slices, input added"
    )
    model = train_li(work, "attunet", recipe_of_li("attunet"))
    base, spline = score_li(apply_li(model)), score_li([head(n).coarse for n in TESTED])
    assert np.mean(base["psnr"] - spline["psnr"]) > 0
    for name in ("unet", "vit"):
        other = score_li(apply_li(train_li(work, name, recipe_of_li(name))))
        steps = f"; vit {STEPS_OF_VIT} steps" if name == "vit" else ""
        keep_claim(f"li_{name}", scaled + steps, pair(f"attunet − {name}", base, other))
    critic = recipe_of_li("attunet", critic=0.1)
    guided = score_li(apply_li(train_li(work, "attunet-critic", critic)))
    keep_claim(
        "li_critic",
        f"{scaled}; weight of the critic .1",
        no_help("critic − none", guided, base, spline),
    )
    first = train_li(work, "attunet-other", recipe_of_li("attunet"), numbers=(100, 101))
    tuned = train_li(work, "attunet-pretrained", recipe_of_li("attunet"), start=first)
    keep_claim(
        "li_pretraining",
        f"{scaled}; pre-training for as many steps on two heads with lesions and another protocol",
        no_help("pre-trained − not", score_li(apply_li(tuned)), base, spline),
    )
    half = score_li(apply_li(train_li(work, "attunet-half", recipe_of_li("attunet", 2))))
    double = score_li(
        apply_li(train_li(work, "attunet-double", recipe_of_li("attunet", 0.5)))  # type: ignore[arg-type]
    )
    keep_claim(
        "li_filters",
        f"4, 8 and 16 for 32, 64 and 128 filters; {scaled}",
        pair("8 − 4 filters", base, half) + pair("8 − 16 filters", base, double),
    )


PARTS: dict[str, Callable[[Path], None]] = {
    "claims_of_samples": compare_samples,
    "claims_of_li": compare_li,
    "claims_of_gan": compare_gan,
}
