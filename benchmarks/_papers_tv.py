"""Tables of the TV paper: interpolations, networks, and functional networks of a run."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _papers_curves import Panel, keep_curves
from _papers_data import bold_of, series
from _papers_portions import Curve, Portion, Score
from _papers_training import (
    coarse_image_of,
    downsample,
    head_mask,
    image_of,
    scores,
    short_recipe,
    upsample,
)
from _table import keep
from scipy import ndimage

from bids_sr.cli.models.commands.main import main as models_main
from bids_sr.evaluation.mask_overlap import jaccard
from bids_sr.glm.seeds import seed_voxels
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.preproc.temporal_regressors import cosines_outside
from bids_sr.spatial.masks import brain_mask
from bids_sr.sr.models.model import LoadedModel

STEPS = 400
PATCH = (16, 16, 16)  # voxels
LOOKS = 8  # validation steps per training
FACTORS = (1.25, 1.5, 1.75, 2.0)
INTERPOLATIONS = {"trilinear": "linear", "nearest": "nearest", "cubic spline": "bspline"}
PAPER_1 = {
    "trilinear": ((78.16, 0.9446), (75.07, 0.9265), (73.54, 0.9169), (69.59, 0.8855)),
    "nearest": ((74.92, 0.9351), (70.68, 0.9077), (66.90, 0.8712), (68.47, 0.8874)),
    "cubic spline": ((81.01, 0.9571), (75.57, 0.9334), (71.60, 0.9073), (67.42, 0.8729)),
    "tv": ((83.93, 0.9673), (79.76, 0.9497), (76.50, 0.9365), (73.53, 0.9218)),
}
PAPER_2 = {
    "li-agnostic": ((84.09, 0.9707), (81.32, 0.9590), (77.43, 0.9426), (73.78, 0.9204)),
    "li": ((85.91, 0.9733), (80.46, 0.9572), (78.58, 0.9468), (76.32, 0.9375)),
    "mse3d": ((86.21, 0.9731), (82.46, 0.9607), (78.66, 0.9460), (76.27, 0.9332)),
    "dip": ((84.54, 0.9648), (79.85, 0.9503), (75.74, 0.9273), (73.17, 0.9104)),
    "tv": ((85.82, 0.9713), (80.04, 0.9546), (76.72, 0.9368), (73.45, 0.9192)),
}
DATA = (
    "three 3 mm volumes of the second half of a run (`examples/studyforrest`), cropped to"
    " 32 × 40 × 20 voxels, which were downsampled with a Gaussian kernel along all axes"
)


def cropped(data: Array) -> Array:
    """Return 32 × 40 × 20 voxels around the center of a volume or run."""
    x, y, z = (
        slice((n - side) // 2, (n - side) // 2 + side)
        for n, side in zip(data.shape, (32, 40, 20), strict=False)
    )
    return data[x, y, z]


def resampled(data: Array, zooms: Sequence[float], target: Sequence[float]) -> Array:
    """Return a volume with another voxel size by cubic interpolation; its center stays in place.

    `zooms` and `target` are the voxel sizes before and after (mm).
    """
    ratios = np.divide(zooms, target)
    positions = [
        (np.arange(m) - (m - 1) / 2) / ratio + (n - 1) / 2
        for n, ratio in zip(data.shape, ratios, strict=True)
        for m in (int(n * ratio),)
    ]
    grid = np.meshgrid(*positions, indexing="ij")
    return np.asarray(ndimage.map_coordinates(data, grid, order=3, mode="nearest"), np.float32)


def numbers_of_tested(data: Array) -> Array:
    """Return the numbers of three volumes of the second half of a run."""
    count = data.shape[3]
    return np.linspace(count // 2, count - 1, 3, dtype=int)


class Volumes:
    """Test and training volumes of the measured run, cropped around the center of the head."""

    def __init__(self, data_set: Path) -> None:
        data, self.zooms = series(bold_of(data_set))
        self.data = cropped(data)
        count = self.data.shape[3]
        self.tested = [self.data[..., t] for t in numbers_of_tested(self.data)]
        self.trained = [self.data[..., t] for t in range(0, count // 2, count // 8)]

    def coarse_images(self, volumes: Sequence[Array], size: Factor) -> list[Any]:
        """Return downsampled volumes for training."""
        zooms = [zoom * f for zoom, f in zip(self.zooms, size, strict=True)]
        lows = [downsample(volume, "gauss", size)[0] for volume in volumes]
        return [coarse_image_of(low, zooms, "bold", f"volume-{n}") for n, low in enumerate(lows)]

    def score_of(self, volumes: Sequence[Array], size: Factor) -> Score:
        """Return a function that scores a network by its mean PSNR in volumes."""
        return lambda network: float(
            np.mean([value["psnr"] for value in volume_scores(network, volumes, size)])
        )


def volume_scores(
    method: str | LoadedModel, volumes: Sequence[Array], size: Factor
) -> list[dict[str, float]]:
    """Return the scores of a method in each volume, downsampled and super-resolved."""
    values = []
    for volume in volumes:
        low, covered = downsample(volume, "gauss", size)
        values.append(scores(covered, upsample(method, low, size)))
    return values


def recipe_of(method: str, **settings: Any) -> Any:
    """Return recipe `fast` with the degradation and the input of the paper."""
    return short_recipe(
        method,
        STEPS,
        batch=1,
        patch=PATCH,
        degradation="gauss",
        upsampled_by="linear",
        evaluate_every=STEPS // LOOKS,
        patience=None,
        **settings,
    )


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean ± SD as text."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def row_of(
    number: int,
    method: str,
    values: Sequence[Mapping[str, float]],
    base: Sequence[Mapping[str, float]],
    spline: Sequence[Mapping[str, float]],
    paper: tuple[float, float],
) -> dict[str, Any]:
    """Return a row of table 1 or 2, with differences to interpolations in the same volumes."""

    def gain(other: Sequence[Mapping[str, float]], key: str, digits: int) -> str:
        pairs = zip(values, other, strict=True)
        return spread([value[key] - reference[key] for value, reference in pairs], digits)

    linear = PAPER_1["trilinear"][number]
    return {
        "factor": f"×{FACTORS[number]:g}",
        "method": method,
        "PSNR": spread([value["psnr"] for value in values], 2),
        "SSIM": spread([value["ssim"] for value in values], 4),
        "PSNR − trilinear": gain(base, "psnr", 2),
        "PSNR − cubic spline": gain(spline, "psnr", 2),
        "SSIM − trilinear": gain(base, "ssim", 4),
        "paper: PSNR − trilinear": round(paper[0] - linear[0], 2),
        "paper: PSNR − cubic spline": round(paper[0] - PAPER_1["cubic spline"][number][0], 2),
        "paper: SSIM − trilinear": round(paper[1] - linear[1], 4),
    }


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of curves with the same steps."""
    return {step: float(np.mean([curve[step] for curve in curves])) for step in curves[0]}


def interpolations(volumes: Sequence[Array], size: Factor) -> dict[str, list[dict[str, float]]]:
    """Return the scores of the interpolations of the paper, and of zero filling."""
    return {
        name: volume_scores(method, volumes, size)
        for name, method in {**INTERPOLATIONS, "zero filling": "zerofill"}.items()
    }


def lines_of(values: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Return the mean PSNR of each interpolation, as lines of a figure."""
    return {
        name: float(np.mean([value["psnr"] for value in rows]))
        for name, rows in values.items()
        if name != "nearest"
    }


COMMON = (
    f"The tables are based on {DATA}. The networks were trained for {STEPS} steps with recipe"
    f" fast, each step on one patch of {PATCH[0]} × {PATCH[1]} × {PATCH[2]} voxels, and take a"
    " trilinear interpolation as their input. Values are mean ± SD across the three volumes. Only"
    " differences in PSNR can be compared with the paper, because the paper does not state the"
    " peak value that was used to compute PSNR."
)


def table_1(data_set: Path, portion: Portion) -> None:
    """Table 1: interpolations, and `tv` trained on the tested volume itself."""
    volumes = Volumes(data_set)
    rows, panels = [], []
    for number, factor in enumerate(FACTORS):
        size = (factor, factor, factor)
        baselines = interpolations(volumes.tested, size)
        values, curves = [], []
        for k, volume in enumerate(volumes.tested):
            network, curve = portion.train(
                f"tv1-{factor:g}-{k}",
                "tv",
                recipe_of("tv"),
                volumes.coarse_images([volume], size),
                size,
                volumes.score_of([volume], size),
            )
            values += volume_scores(network, [volume], size)
            curves.append(curve)
        panels.append(Panel(f"×{factor:g}", {"tv": mean_curve(curves)}, lines_of(baselines)))
        for name in INTERPOLATIONS:
            rows.append(
                row_of(
                    number,
                    name,
                    baselines[name],
                    baselines["trilinear"],
                    baselines["cubic spline"],
                    PAPER_1[name][number],
                )
            )
        rows.append(
            row_of(
                number,
                "tv",
                values,
                baselines["trilinear"],
                baselines["cubic spline"],
                PAPER_1["tv"][number],
            )
        )
    remark = f"{COMMON} One network was trained per volume and factor, on the volume itself."
    keep("papers_tv_1", "TV paper, table 1: the tested image alone", rows, remarks=[remark])
    keep_curves("tv_1", "TV paper, table 1: PSNR by training step", panels, remark)


def other_volumes(
    volumes: Volumes, portion: Portion, method: str, factor: float
) -> tuple[LoadedModel, Curve]:
    """Train a network on the training volumes; `li-agnostic` is trained once for all factors."""
    single = method == "li-agnostic"
    # the curve of li-agnostic is measured at the largest factor
    size: Factor = (2.0, 2.0, 2.0) if single else (factor, factor, factor)
    if method in ("tv", "dip"):
        images = volumes.coarse_images(volumes.trained, size)
    else:
        images = [
            image_of(volume, volumes.zooms, "bold", f"volume-{n}")
            for n, volume in enumerate(volumes.trained)
        ]
    return portion.train(
        "tv2-li-agnostic" if single else f"tv2-{method}-{factor:g}",
        method,
        recipe_of(method),
        images,
        size,
        volumes.score_of(volumes.tested, size),
    )


def table_2(data_set: Path, portion: Portion) -> None:
    """Table 2: networks trained on other volumes of the run; stored after each factor."""
    volumes = Volumes(data_set)
    rows: dict[float, list[dict[str, Any]]] = {}
    panels: dict[float, Panel] = {}
    remark = (
        f"The networks were trained on {len(volumes.trained)} volumes from the first half of the"
        " same run. The training data are therefore from the same participant, and not from"
        " other participants as in the paper. One network was trained per factor, and a single"
        " network of `li-agnostic` for all factors."
    )
    for factor in (2.0, 1.25, 1.5, 1.75):  # the factors of table 3 first
        number = FACTORS.index(factor)
        size = (factor, factor, factor)
        baselines = interpolations(volumes.tested, size)
        curves: dict[str, Curve] = {}
        rows_of_factor = []
        for name, paper in PAPER_2.items():
            network, curve = other_volumes(volumes, portion, name, factor)
            if name != "li-agnostic" or factor == 2.0:
                curves[name] = curve
            rows_of_factor.append(
                row_of(
                    number,
                    name,
                    volume_scores(network, volumes.tested, size),
                    baselines["trilinear"],
                    baselines["cubic spline"],
                    paper[number],
                )
            )
        rows[factor] = rows_of_factor
        panels[factor] = Panel(f"×{factor:g}", curves, lines_of(baselines))
        keep(
            "papers_tv_2",
            "TV paper, table 2: networks trained on other images",
            [row for known in sorted(rows) for row in rows[known]],
            remarks=[
                COMMON,
                remark,
                describe_peaks({known: panels[known].curves["dip"] for known in sorted(panels)}),
            ],
        )
        keep_curves(
            "tv_2",
            "TV paper, table 2: PSNR by training step",
            [panels[known] for known in sorted(panels)],
            f"{COMMON} {remark}",
        )


def describe_peaks(curves: Mapping[float, Curve]) -> str:
    """Return a sentence on the highest PSNR in the curves of `dip` by factor."""
    peaks = []
    for factor, curve in curves.items():
        best, last = max(curve, key=lambda step: curve[step]), max(curve)
        loss = curve[best] - curve[last]
        peaks.append(f"×{factor:g}: step {best}, {loss:.2f} dB above step {last}")
    return (
        f"The PSNR of `dip` is highest at these steps ({'; '.join(peaks)}). The table contains"
        " the PSNR at the end, because a step selected on the test volumes would favor `dip`."
    )


def degradations(data_set: Path, portion: Portion) -> None:
    """Assumed and actual degradation: whether `tv` passes interpolation depends on both."""
    volumes = Volumes(data_set)
    size = (2.0, 2.0, 2.0)
    zooms = [2 * zoom for zoom in volumes.zooms]
    volume = volumes.tested[-1]
    rows = []
    for actual in ("gauss", "trilinear", "kspace"):
        low, covered = downsample(volume, actual, size)

        def psnr(
            method: str | LoadedModel, low: Array = low, covered: Array = covered
        ) -> dict[str, float]:
            return scores(covered, upsample(method, low, size))

        images = [coarse_image_of(low, zooms, "bold", "volume")]
        methods: dict[str, str | LoadedModel] = {
            "cubic spline": "bspline",
            "zero filling": "zerofill",
        }
        for assumed, start in (
            ("gauss", "linear"),
            ("trilinear", "linear"),
            ("kspace", "zerofill"),
        ):
            label = f"tv, B {assumed}, input {start}"
            recipe = replace(recipe_of("tv"), degradation=assumed, upsampled_by=start)
            if assumed == "kspace":  # the crop of k-space requires whole slices
                recipe = replace(recipe, patch=(*volume.shape[:2], PATCH[2]))
            methods[label], _ = portion.train(
                f"degradation-{actual}-{assumed}", "tv", recipe, images, size
            )
        spline = psnr("bspline")
        for name, method in methods.items():
            value = psnr(method)
            rows.append(
                {
                    "downsampled by": actual,
                    "method": name,
                    "PSNR": round(value["psnr"], 2),
                    "PSNR − cubic spline": round(value["psnr"] - spline["psnr"], 2),
                    "SSIM": round(value["ssim"], 4),
                }
            )
    remark = (
        "One 3 mm volume of `examples/studyforrest` (32 × 40 × 20 voxels) was downsampled by a"
        " factor of 2 along all axes: with a Gaussian kernel, by trilinear interpolation without a"
        " filter, as in the authors' code, or by cropping k-space. `tv` was trained on this volume"
        f" for {STEPS} steps with recipe fast, with one of these operators as the assumed"
        " degradation B."
    )
    keep("papers_tv_degradation", "tv: assumed and actual degradation", rows, remarks=[remark])


SEEDS = 3
SEED_RADIUS = 3.0  # mm
SEED_DISTANCE = 30.0  # mm, smallest distance between seeds
SMOOTHING = 3.0  # mm
THRESHOLD = 0.5  # correlation
BAND = (0.005, 0.2)  # Hz
PAPER_3 = {
    factor: {"paper: mean accuracy": accuracy, "paper: mean FDR (%)": fdr, "paper: Jaccard": masks}
    for factor, accuracy, fdr, masks in (
        (1.25, "0.9694", "0.0064", "0.9769"),
        (2.0, "0.9129", "0.0120", "0.9684"),
    )
}


def prepared_series(data: Array, zooms: Sequence[float], tr: float) -> Array:
    """Return smoothed and filtered time series of unit norm (voxels, T)."""
    sigma = [SMOOTHING / 2.3548 / zoom for zoom in zooms]
    smoothed = np.stack(
        [ndimage.gaussian_filter(data[..., t], sigma) for t in range(data.shape[3])], axis=-1
    ).reshape(-1, data.shape[3])
    time = np.linspace(-1, 1, data.shape[3])
    design = np.column_stack(
        [
            np.polynomial.legendre.legvander(time, 4),
            cosines_outside(len(time), tr, *BAND)[0],
        ]
    )
    basis = np.linalg.qr(design)[0]
    centered = smoothed - (smoothed @ basis) @ basis.T
    return np.asarray(centered / np.linalg.norm(centered, axis=1, keepdims=True))


def choose_seeds(unit: Array, mask: Array, zooms: Sequence[float]) -> list[Array]:
    """Return spheres around the voxels that correlate with most voxels of a run.

    `unit` contains time series of unit norm (voxels, T), and `mask` is the head (3D).
    """
    inside = np.flatnonzero(mask)
    series_inside = unit[inside]
    counts = np.concatenate(
        [
            (part @ series_inside.T >= THRESHOLD).sum(axis=1)
            for part in np.array_split(series_inside, 16)
        ]
    )
    positions = np.stack(np.unravel_index(inside, mask.shape), axis=1) * np.asarray(zooms)
    affine = np.diag([*zooms, 1.0])
    allowed = np.ones(len(inside), dtype=bool)
    seeds = []
    for _ in range(SEEDS):
        center = positions[np.argmax(np.where(allowed, counts, -1))]
        seeds.append(seed_voxels(mask, affine, center, SEED_RADIUS))
        allowed &= np.linalg.norm(positions - center, axis=1) >= SEED_DISTANCE
    return seeds


def network_of(unit: Array, seed: Array, mask: Array) -> Array:
    """Return the voxels of a mask that correlate with the mean time series of a seed."""
    time_series = unit[seed.ravel()].mean(axis=0)
    time_series /= np.linalg.norm(time_series)
    return np.asarray((unit @ time_series >= THRESHOLD)[mask.ravel()])


def mask_overlap(runs: Mapping[str, Array], zooms: Sequence[float]) -> dict[str, float]:
    """Return the Jaccard index of each run's brain mask with the mask of the measured run.

    `runs` are time series (4D) by name, and `zooms` their voxel size (mm).
    """
    affine = np.diag([*zooms, 1.0])
    masks = {name: brain_mask(run.mean(axis=-1), affine) for name, run in runs.items()}
    return {name: jaccard(mask, masks["measured"]) for name, mask in masks.items()}


def table_3(data_set: Path, portion: Portion) -> None:
    """Table 3: functional networks of the super-resolved run, against the measured run."""
    volumes = Volumes(data_set)
    tr = float(nib.load(bold_of(data_set)).header.get_zooms()[3])  # type: ignore[attr-defined]
    rows = []
    for factor in (1.25, 2.0):
        size = (factor, factor, factor)
        tv, _ = other_volumes(volumes, portion, "tv", factor)
        images: dict[str, list[Array]] = {"measured": [], "tv": [], "cubic spline": []}
        for t in range(volumes.data.shape[3]):
            low, covered = downsample(volumes.data[..., t], "gauss", size)
            images["measured"].append(covered)
            images["tv"].append(upsample(tv, low, size))
            images["cubic spline"].append(upsample("bspline", low, size))
        runs = {name: np.stack(values, axis=-1) for name, values in images.items()}
        mask = head_mask(runs["measured"].mean(axis=-1))
        units = {name: prepared_series(run, volumes.zooms, tr) for name, run in runs.items()}
        seeds = choose_seeds(units["measured"], mask, volumes.zooms)
        overlap = mask_overlap(runs, volumes.zooms)
        for number, seed in enumerate(seeds, 1):
            true = network_of(units["measured"], seed, mask)
            row: dict[str, Any] = {
                "factor": f"×{factor:g}",
                "network": f"seed {number}",
                "voxels, measured": f"{true.sum()} of {true.size}",
            }
            for name in ("tv", "cubic spline"):
                network = network_of(units[name], seed, mask)
                wrong = (network & ~true).sum() / max(network.sum(), 1)
                row[f"accuracy, {name}"] = round(float((network == true).mean()), 4)
                row[f"FDR, {name} (%)"] = round(100 * float(wrong), 1)
                row[f"Jaccard of the brain masks, {name}"] = round(overlap[name], 4)
            row |= PAPER_3[factor]
            rows.append(row)
    remark = (
        "The whole run of `examples/studyforrest` (3 mm, cropped to 32 × 40 × 20 voxels) was"
        " downsampled with a Gaussian kernel, and each volume was super-resolved with the `tv`"
        " network of table 2 or with a cubic spline. All series were smoothed with 3 mm FWHM, and"
        " Legendre polynomials up to order 4 and frequencies outside .005–.2 Hz were regressed"
        " out. A network consists of the voxels with r ≥ .5 with the seed's mean time series,"
        " which was computed from the same series. Networks of the measured run are the"
        " reference. Seeds have a radius of 3 mm. Their centers are the voxels that correlate"
        " with the largest number of voxels of the measured run, at least"
        f" {SEED_DISTANCE:g} mm apart, because the run is a"
        " localizer task of 20 slices that does not cover the networks of the paper. Accuracy is"
        " the fraction of voxels of the head that are in both networks or in neither. It is high"
        " for every method, because most voxels are in neither. FDR is the percentage of detected"
        " voxels that are not in the measured network. The Jaccard index compares the brain masks"
        " of the mean of a series and of the measured run."
    )
    keep("papers_tv_3", "TV paper, table 3: functional networks", rows, remarks=[remark])


WEIGHTS = (0.0, 0.01, 0.1)


def searched_weights(data_set: Path, work: Path, others: Sequence[Path]) -> None:
    """Grid search of the weight of total variation by ``bids-sr-models compare``.

    `others` are high-resolution runs of two other participants, for training and testing; the data
    set is used for validation.
    """
    folder = work / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    names = ("sub-trained", "sub-tested", "sub-validated")
    files = [folder / f"{name}_bold.nii.gz" for name in names]
    for source, file in zip((*others[:2], bold_of(data_set)), files, strict=True):
        if not file.exists():
            file.symlink_to(source.resolve())
    words = ["compare", "tv", str(folder / "out"), "--fine", *map(str, files)]
    words += ["--test-on", "tested", "--validate-on", "validated", "--volumes", "4"]
    words += ["--factor", "2", "2", "2", "--degradation", "gauss"]
    words += ["--set", "tv=" + ",".join(f"{weight:g}" for weight in WEIGHTS)]
    if models_main(words):
        raise SystemExit("the grid search failed")
    with (folder / "out.tsv").open() as lines:
        scores = list(csv.DictReader(lines, delimiter="\t"))
    names_of_methods = {f"tv tv={weight:g}": f"tv, α = {weight:g}" for weight in WEIGHTS}
    names_of_methods |= {"bspline": "cubic spline", "zerofill": "zero filling"}
    rows = [
        {
            "method": title,
            **{
                f"{score}, {kind}": round(
                    float(np.mean([float(row[key]) for row in matches])), digits
                )
                for kind in ("validation", "test")
                for score, key, digits in (("PSNR", "psnr", 2), ("SSIM", "ssim", 3))
                if (matches := [r for r in scores if (r["set"], r["name"]) == (kind, name)])
            },
        }
        for name, title in names_of_methods.items()
    ]
    keep(
        "papers_tv_weight",
        "TV paper: grid search of the weight α of total variation",
        rows,
        remarks=[
            "`tv` (recipe fast, 400 steps) was trained on four volumes of one participant with"
            " each weight. The weight with the highest PSNR on the volumes of a second participant"
            " (validation) was selected; the test volumes are from a third participant. The"
            " volumes were downsampled by 2 along all axes with a Gaussian kernel, which is also"
            " the assumed degradation B. The search is a call of `bids-sr-models compare tv OUT"
            " --fine FILES --test-on LABEL --validate-on LABEL --volumes 4 --factor 2 2 2"
            " --degradation gauss --set tv=0,0.01,0.1`. In the paper, α = .01 was selected by a"
            " search in 0 to .1."
        ],
    )


def tested_by_others(data_set: Path, portion: Portion, others: Sequence[Path]) -> None:
    """Table 2 with test volumes of other participants.

    `others` are high-resolution runs. Their volumes are cropped as those of the data set.
    """
    volumes = Volumes(data_set)
    runs = [series(file) for file in others]
    drawn = [(data[..., t], zooms) for data, zooms in runs for t in numbers_of_tested(data)]
    cases = {
        "other participants": [cropped(volume) for volume, _ in drawn],
        "the same, resampled": [
            cropped(resampled(volume, zooms, volumes.zooms)) for volume, zooms in drawn
        ],
        "same participant": volumes.tested,
    }
    rows = []
    for number, factor in enumerate(FACTORS):
        size = (factor, factor, factor)
        splines = {case: volume_scores("bspline", tested, size) for case, tested in cases.items()}
        for name, paper in PAPER_2.items():
            network, _ = other_volumes(volumes, portion, name, factor)
            row: dict[str, Any] = {"factor": f"×{factor:g}", "method": name}
            for case, tested in cases.items():
                values = zip(volume_scores(network, tested, size), splines[case], strict=True)
                gains = [value["psnr"] - spline["psnr"] for value, spline in values]
                row[f"PSNR − cubic spline, {case}"] = spread(gains, 2)
            gain = paper[number][0] - PAPER_1["cubic spline"][number][0]
            rows.append(row | {"paper: PSNR − cubic spline": round(gain, 2)})
    sizes = "; ".join("{:.2f} × {:.2f} × {:.2f} mm".format(*zooms) for _, zooms in runs)
    remark = (
        f"The networks of table 2 ({STEPS} steps on volumes of one participant) were applied to"
        f" {len(drawn) // len(runs)} volumes of each of {len(runs)} other runs, cropped and"
        f" downsampled in the same way. The voxels of these runs ({sizes}) differ from those of"
        " the training volumes ({:.2f} × {:.2f} × {:.2f} mm). Therefore, the volumes were".format(
            *volumes.zooms
        )
        + " additionally resampled to the voxel size of the training volumes with cubic"
        " interpolation, which also removes fine detail and noise. Values are mean ± SD across"
        " volumes. The last column but one repeats table 2. In the paper, 8 participants were used"
        " for training and others for testing."
    )
    keep(
        "papers_tv_others",
        "TV paper, table 2: test volumes of other participants",
        rows,
        remarks=[remark],
    )


PARTS: dict[str, Callable[[Path, Portion], None]] = {
    "tv_1": table_1,
    "tv_2": table_2,
    "tv_3": table_3,
    "tv_degradation": degradations,
}
