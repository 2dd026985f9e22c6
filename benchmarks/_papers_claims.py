"""Claims of three papers on simulated heads, with scaled versions of the published networks.

Both networks of a comparison keep the published depth, losses and batches, and have an eighth of
the published filters. A network with an eighth of the filters has about 1/64 of the parameters, so
that the training data have about 1/64 of the published size. Trainings are shorter than in the
papers. The units of all
tests are twelve simulated heads that were not used for training.

Each part of a claim is the mean of paired differences, which is positive if it has the direction
of the claim, with 95 % interval and p value (Student's t). If the claim is that something does not
help, the part is the benefit, and has a margin, the smallest benefit that would matter. Margins
were written before the first training: a tenth of the gain of the network over interpolation.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from _papers_heads import (
    CONTRASTS,
    VOXEL,
    ScannedHead,
    noisy_scans,
    scanned_head,
)
from _papers_training import SEED, downsample, image_of, scores, upsample
from _table import RESULTS, keep
from scipy import stats

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.spatial.effective_resolution import effective_resolution
from bids_sr.sr.method import get_method
from bids_sr.sr.methods.attunet import remove_critic
from bids_sr.sr.models.model import LoadedModel, load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.contrast_channels import contrast_image
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.inference.apply_to_contrasts import super_resolve_contrasts
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.recipe import Recipe, network
from bids_sr.structural.image_quality import similarity_rows
from bids_sr.structural.multispectral import fit_classes, segment_multispectral

TRAINED, TESTED = range(2), range(2, 14)
TABLE = "papers_claims"
SHAPE = (48, 64, 48)  # voxels
SHARE_OF_GAIN = 0.1
"""Share of the gain of a network over interpolation that is the margin of a claim of no help."""
# Liang & Zhang 2023
WIDTH = 8  # of 64 filters
STEPS, TUNING_STEPS, STEPS_3D = 400, 100, 150
PATCHES = {"20,000": 312, "5,000": 78}
IN_PLANE: Factor = (2.0, 2.0, 1.0)
ALL_AXES: Factor = (2.0, 2.0, 2.0)
# Li et al. 2022
WIDTHS = (8, 16, 32, 64, 128)  # of 64 to 1,024 filters
EPOCHS = 40  # of 100
PROTOCOLS: tuple[Factor, Factor] = ((2.0, 2.0, 1.0), (1.0, 2.0, 2.0))
OTHER_PROTOCOL: Factor = (2.0, 2.0, 2.0)
FUSED = tuple(range(len(CONTRASTS)))
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
        f"Twelve simulated heads ({VOXEL:.0f} mm voxels, noise of 2 %) are the units of all tests,"
        " two other heads were used for training. Differences are positive in the direction of"
        " the claim; with a margin, they are the benefit that the claim denies. p values are from"
        " paired t tests."
    )
    keep(TABLE, "Claims of the papers on simulated heads", rows, remarks=[remark])


def train(
    work: Path,
    name: str,
    recipe: Recipe,
    images: Sequence[TrainingImage],
    factor: Factor,
    start: LoadedModel | None = None,
) -> LoadedModel:
    """Train a network with seed `SEED` on one thread, or load it if it was trained before.

    The method is the first word of the name. An interrupted training resumes.
    """
    method = name.partition("-")[0]
    file = work / f"{name}.safetensors"
    # models are loaded with the network of the recipe that their card names
    with mock.patch.dict(get_method(method).recipes, {"fast": recipe}):  # type: ignore[arg-type]
        if not file.exists():
            request = ModelRequest(
                method=method, factor=factor, random_seed=SEED, omp_nthreads=1, start_model=start
            )
            trained = train_network(request, tuple(images), work / f"{name}.training")
            save_model(work / name, trained.state, trained.card)
        return load_model(file)


# Liang & Zhang 2023: one contrast, downsampled by block averages


@lru_cache(maxsize=64)
def scan(number: int, contrast: str, times: int = 1) -> Array:
    """Return a scan of a head, averaged in blocks of `times` voxels along each axis."""
    image = noisy_scans(number, SHAPE)[contrast]
    x, y, z = (n // times for n in image.shape)
    blocks = image[: x * times, : y * times, : z * times]
    blocks = blocks.reshape(x, times, y, times, z, times)
    return np.asarray(blocks.mean((1, 3, 5)), dtype=np.float32)


def recipe_of_liang(method: str, patches: int, steps: int = STEPS, **changes: Any) -> Recipe:
    """Return recipe `paper` with a number of patches and steps, and smaller networks."""
    recipe: Recipe = get_method(method).recipes["paper"]  # type: ignore[assignment]
    generators = {
        "ccnn3d": network("volumetric.ConventionalNet3d", widths=(WIDTH, WIDTH // 2)),
        "resnet2d": network("residual.ResNet", ndim=2, width=WIDTH),
    }
    settings: dict[str, Any] = {
        "build_generator": generators.get(method, network("residual.ResNet", width=WIDTH)),
        "patches": patches,
        "epochs": None,
        "iterations": steps,
        "evaluate_every": steps // 4,
        "patience": None,
    }
    if recipe.build_critic is not None:
        settings["build_critic"] = network("volumetric.ResNetCritic3d", width=WIDTH)
    return replace(recipe, **settings, **changes)


def train_liang(
    work: Path,
    name: str,
    recipe: Recipe,
    contrast: str = "T1w",
    times: int = 1,
    numbers: Sequence[int] = TRAINED,
    start: LoadedModel | None = None,
) -> LoadedModel:
    """Train a network on scans of heads; the method is the first word of the name."""
    method = name.partition("-")[0]
    zooms = (VOXEL * times,) * 3
    images = [image_of(scan(n, contrast, times), zooms, contrast, f"head-{n}") for n in numbers]
    factor = IN_PLANE if method == "resnet2d" else ALL_AXES
    return train(work, name, recipe, images, factor, start)


def score_liang(
    model: str | LoadedModel,
    contrast: str = "T1w",
    times: int = 1,
    factor: Factor = IN_PLANE,
    *,
    resolution: bool = False,
) -> Scores:
    """Return scores of a network, or an interpolation given by name, in each test head."""
    heads = []
    for number in TESTED:
        low, covered = downsample(scan(number, contrast, times), "block", factor)
        image = upsample(model, low, factor)
        values = scores(covered, image)
        if resolution:
            values["resolution"] = effective_resolution(image, (VOXEL,) * 3) or np.nan
        heads.append(values)
    return {key: np.array([values[key] for values in heads]) for key in heads[0]}


def reduction(scores_of_network: Scores, cubic: Scores) -> Array:
    """Return the reductions of RMSE relative to cubic interpolation (%)."""
    return 100 * (1 - scores_of_network["rmse"] / cubic["rmse"])


def compare_liang(work: Path) -> None:
    """Figure 4A: ResNet, cCNN and GAN."""
    cubic = score_liang("bspline", factor=ALL_AXES)
    found = {
        name: score_liang(
            train_liang(work, name, recipe_of_liang(name, PATCHES["20,000"], STEPS_3D, batch=2)),
            factor=ALL_AXES,
        )
        for name in ("resnet3d", "ccnn3d", "gan3d")
    }
    scaled = f"{WIDTH} of 64 filters, {STEPS_3D} steps of two patches"
    gains = {name: reduction(values, cubic) for name, values in found.items()}
    keep_claim(
        "liang_ccnn",
        scaled,
        [
            Part("RMSE reduction (%), ResNet − cCNN", gains["resnet3d"] - gains["ccnn3d"]),
            Part("SSIM, ResNet − cCNN", found["resnet3d"]["ssim"] - found["ccnn3d"]["ssim"]),
        ],
    )
    keep_claim(
        "liang_gan",
        scaled,
        [Part("RMSE reduction (%), ResNet − GAN", gains["resnet3d"] - gains["gan3d"])],
    )


def compare_samples(work: Path) -> None:
    """Table 1 (in 2D) and figure 5: number of samples, and resolution of training and test."""
    models = {
        (times, name): train_liang(
            work,
            f"resnet2d-{times}-{patches}",
            recipe_of_liang("resnet2d", patches),
            times=times,
        )
        for times in (1, 2)
        for name, patches in PATCHES.items()
    }
    cubic = {times: score_liang("bspline", times=times) for times in (1, 2)}
    gains = {
        (tested, trained, name): reduction(score_liang(model, times=tested), cubic[tested])
        for (trained, name), model in models.items()
        for tested in (1, 2)
        if tested == trained or name == "20,000"
    }
    labels = {1: "6–3 mm", 2: "12–6 mm"}
    scaled = f"{WIDTH} of 64 filters, {STEPS} steps"
    keep_claim(
        "liang_samples",
        f"{scaled}; 78 and 312 patches",
        [
            Part(
                f"RMSE reduction (%) at {labels[t]}, 312 − 78 patches",
                gains[t, t, "20,000"] - gains[t, t, "5,000"],
            )
            for t in (1, 2)
        ],
    )
    parts = []
    for tested, trained in ((1, 2), (2, 1)):
        matched, other = gains[tested, tested, "20,000"], gains[tested, trained, "20,000"]
        label = f"RMSE reduction (%) at {labels[tested]}"
        parts += [
            Part(f"{label}, matched network", matched),
            Part(f"{label}, matched − other network", matched - other),
            Part(f"{label}, cubic − other network", -other),
        ]
    keep_claim("liang_resolutions", f"{scaled}, 2D", parts)


def compare_transfer(work: Path) -> None:
    """Figures 6 and 7: a network of T1w images on two other contrasts."""
    source = train_liang(work, "resnet2d-1-312", recipe_of_liang("resnet2d", PATCHES["20,000"]))
    scaled = f"{WIDTH} of 64 filters, {STEPS} steps, 2D; FLAIR as T2w of the paper, T2w as FA"
    cubic, found, tuned = {}, {}, {}
    for contrast in ("FLAIR", "T2w"):
        cubic[contrast] = score_liang("bspline", contrast, resolution=True)
        found[contrast] = score_liang(source, contrast, resolution=True)
        recipe = recipe_of_liang("resnet2d", PATCHES["20,000"], TUNING_STEPS, freeze_but_last=3)
        model = train_liang(
            work, f"resnet2d-{contrast}", recipe, contrast, numbers=[14], start=source
        )
        tuned[contrast] = score_liang(model, contrast)
    gains = {name: reduction(found[name], cubic[name]) for name in found}
    keep_claim(
        "liang_transfer",
        scaled,
        [
            Part("RMSE reduction (%), FLAIR", gains["FLAIR"]),
            Part("RMSE reduction (%), cubic − network, T2w", -gains["T2w"]),
            Part(
                "RMSE reduction (%), tuned − not tuned, T2w",
                reduction(tuned["T2w"], cubic["T2w"]) - gains["T2w"],
            ),
        ],
    )
    keep_claim(
        "liang_effective_resolution",
        scaled,
        [
            Part(
                "effective resolution (mm), cubic − network, FLAIR",
                cubic["FLAIR"]["resolution"] - found["FLAIR"]["resolution"],
            )
        ],
    )


# Li et al. 2022: three contrasts of whole slices


@lru_cache(maxsize=32)
def head(number: int) -> ScannedHead:
    """Return scans of a head; protocols alternate, and heads from 100 on are of another kind."""
    if number >= 100:
        return scanned_head(number, OTHER_PROTOCOL, SHAPE, lesions=20)
    return scanned_head(number, PROTOCOLS[number % 2], SHAPE)


def recipe_of_li(method: str, divisor: int = 1, *, critic: float = 0.0) -> Recipe:
    """Return recipe `paper` with an eighth of the filters, divided by `divisor`.

    `critic` is the weight of the critic in the loss; 0 omits the critic.
    """
    recipe: Recipe = get_method(method).recipes["paper"]  # type: ignore[assignment]
    widths = tuple(int(width / divisor) for width in WIDTHS)
    generator = {
        "attunet": network(
            "unet.attention_unet", widths=widths, convolutions=1, normalized_gates=True
        ),
        "unet": network("unet.UNet", widths=widths, head="sigmoid"),
        # about twice as many parameters as attunet
        "vit": network(
            "vision_transformer.VisionTransformer",
            patch=8,
            width=96,
            heads=4,
            depth=4,
            grid=16,
            head="sigmoid",
        ),
    }[method]
    recipe = replace(
        recipe,
        build_generator=generator,
        epochs=EPOCHS,
        decay_every=EPOCHS // 5,
        look_epochs=EPOCHS // 4,
    )
    if critic == 0:
        return remove_critic(recipe) if recipe.build_critic is not None else recipe
    losses = tuple(
        replace(term, weight=critic) if term.kind == "adversarial" else term
        for term in recipe.losses
    )
    return replace(
        recipe,
        losses=losses,
        build_critic=network("critics.guiding_critic", width=8, slope=0.01, activated=True),
    )


def train_li(
    work: Path,
    name: str,
    recipe: Recipe,
    channels: Sequence[int] = FUSED,
    numbers: Sequence[int] = TRAINED,
    start: LoadedModel | None = None,
) -> LoadedModel:
    """Train a network on whole slices of heads; the method is the first word of the name."""
    images: list[TrainingImage] = [
        contrast_image(
            head(n).fine[list(channels)],
            head(n).coarse[list(channels)],
            head(n).mask,
            AFFINE,
            [CONTRASTS[k] for k in channels],
            f"head-{n}",
        )
        for n in numbers
    ]
    return train(work, name, recipe, images, GRID, start)


def apply_li(model: LoadedModel, channels: Sequence[int] = FUSED) -> list[Array]:
    """Return the super-resolved contrasts of each test head."""
    return [
        super_resolve_contrasts(model, head(n).coarse[list(channels)], head(n).mask, AFFINE)
        for n in TESTED
    ]


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
    scaled = f"8 of 64 filters, slices of two heads, {EPOCHS} of 100 epochs"
    model = train_li(work, "attunet", recipe_of_li("attunet"))
    images = apply_li(model)
    base, spline = score_li(images), score_li([head(n).coarse for n in TESTED])
    keep_volumes(images, scaled)
    for name in ("unet", "vit"):
        other = score_li(apply_li(train_li(work, name, recipe_of_li(name))))
        keep_claim(f"li_{name}", scaled, pair(f"attunet − {name}", base, other))
    single = [
        apply_li(train_li(work, f"attunet-{CONTRASTS[k]}", recipe_of_li("attunet"), (k,)), (k,))
        for k in FUSED
    ]
    separate = score_li([np.concatenate(parts) for parts in zip(*single, strict=True)])
    keep_claim("li_fused", scaled, pair("three contrasts − one", base, separate))
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
        f"{scaled}; pre-training on two heads with lesions and another protocol",
        no_help("pre-trained − not", score_li(apply_li(tuned)), base, spline),
    )
    half = score_li(apply_li(train_li(work, "attunet-half", recipe_of_li("attunet", 2))))
    double = score_li(
        apply_li(train_li(work, "attunet-double", recipe_of_li("attunet", 0.5)))  # type: ignore[arg-type]
    )
    keep_claim(
        "li_filters",
        f"4, 8 and 16 filters for 32, 64 and 128, slices of two heads, {EPOCHS} of 100 epochs",
        pair("8 − 4 filters", base, half) + pair("8 − 16 filters", base, double),
    )


def keep_volumes(images: Sequence[Array], scaled: str) -> None:
    """Keep the claim of figure 10: volumes of super-resolved scans."""
    errors: dict[str, dict[str, list[float]]] = {"attunet": {}, "B-spline": {}}
    for number, image in zip(TESTED, images, strict=True):
        scans = head(number)
        measured = _volumes(scans.fine, scans.mask, scans.fine)
        for method, source in (("attunet", image), ("B-spline", scans.coarse)):
            for name, volume in _volumes(source, scans.mask, scans.fine).items():
                error = 200 * abs(volume - measured[name]) / (volume + measured[name])
                errors[method].setdefault(name, []).append(error)
    network_errors, spline = (
        {name: np.array(values) for name, values in errors[method].items()}
        for method in ("attunet", "B-spline")
    )
    parts = [
        Part(f"40 % − volume difference (%), {name}", 40 - network_errors[name])
        for name in ("csfSpaces", "veins", "pial")
    ]
    parts += [
        Part(
            f"volume difference (%), B-spline − attunet, {name}",
            spline[name] - network_errors[name],
        )
        for name in ("veins", "pial")
    ]
    keep_claim("li_volumes", scaled, parts)


def _volumes(images: Array, mask: Array, measured: Array) -> Mapping[str, float]:
    """Return the volume (voxels) of each class; intensities are fitted to `measured`."""
    model = fit_classes(dict(zip(CONTRASTS, measured, strict=True)), mask)
    masks = segment_multispectral(dict(zip(CONTRASTS, images, strict=True)), mask, model=model)
    return {name: float(masks[name].sum()) for name in ("csfSpaces", "veins", "pial")}


PARTS: dict[str, Callable[[Path], None]] = {
    "liang_samples": compare_samples,
    "liang_transfer": compare_transfer,
    "li": compare_li,
    "liang": compare_liang,
}
