"""Tables 1 and 2 of the TV paper: interpolations and networks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _papers_data import BOLD, series
from _papers_training import (
    coarse_image_of,
    downsample,
    image_of,
    scores,
    short_recipe,
    train,
    upsample,
)
from _table import keep

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
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


class Volumes:
    """Test and training volumes of the measured run, cropped around the center of the head."""

    def __init__(self) -> None:
        data, self.zooms = series(BOLD)
        run = cropped(data)
        count = run.shape[3]
        tested = np.linspace(count // 2, count - 1, 3, dtype=int)
        self.tested = [run[..., t] for t in tested]
        self.trained = [run[..., t] for t in range(0, count // 2, count // 8)]

    def coarse_images(self, volumes: Sequence[Array], size: Factor) -> list[Any]:
        """Return downsampled volumes for training."""
        zooms = [zoom * f for zoom, f in zip(self.zooms, size, strict=True)]
        lows = [downsample(volume, "gauss", size)[0] for volume in volumes]
        return [coarse_image_of(low, zooms, "bold", f"volume-{n}") for n, low in enumerate(lows)]


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


def interpolations(volumes: Sequence[Array], size: Factor) -> dict[str, list[dict[str, float]]]:
    """Return the scores of the interpolations of the paper."""
    return {name: volume_scores(method, volumes, size) for name, method in INTERPOLATIONS.items()}


COMMON = (
    f"The tables are based on {DATA}. The networks were trained for {STEPS} steps with recipe"
    f" fast, each step on one patch of {PATCH[0]} × {PATCH[1]} × {PATCH[2]} voxels, and take a"
    " trilinear interpolation as their input. Values are mean ± SD across the three volumes. Only"
    " differences in PSNR can be compared with the paper, because the paper does not state the"
    " peak value that was used to compute PSNR."
)


def table_1(work: Path) -> None:
    """Table 1: interpolations, and `tv` trained on the tested volume itself."""
    volumes = Volumes()
    rows = []
    for number, factor in enumerate(FACTORS):
        size = (factor, factor, factor)
        baselines = interpolations(volumes.tested, size)
        values = []
        for k, volume in enumerate(volumes.tested):
            network = train(
                work,
                "tv",
                f"tv1-{factor:g}-{k}",
                recipe_of("tv"),
                volumes.coarse_images([volume], size),
                size,
            )
            values += volume_scores(network, [volume], size)
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


def train_on_others(work: Path, volumes: Volumes, method: str, factor: float) -> LoadedModel:
    """Train a network on the training volumes; `li-agnostic` is trained once for all factors."""
    single = method == "li-agnostic"
    size: Factor = (2.0, 2.0, 2.0) if single else (factor, factor, factor)
    if method in ("tv", "dip"):
        images = volumes.coarse_images(volumes.trained, size)
    else:
        images = [
            image_of(volume, volumes.zooms, "bold", f"volume-{n}")
            for n, volume in enumerate(volumes.trained)
        ]
    name = f"tv2-{method}" if single else f"tv2-{method}-{factor:g}"
    return train(work, method, name, recipe_of(method), images, size)


def table_2(work: Path) -> None:
    """Table 2: networks trained on other volumes of the run."""
    volumes = Volumes()
    rows = []
    for number, factor in enumerate(FACTORS):
        size = (factor, factor, factor)
        baselines = interpolations(volumes.tested, size)
        for name, paper in PAPER_2.items():
            network = train_on_others(work, volumes, name, factor)
            rows.append(
                row_of(
                    number,
                    name,
                    volume_scores(network, volumes.tested, size),
                    baselines["trilinear"],
                    baselines["cubic spline"],
                    paper[number],
                )
            )
    remark = (
        f"The networks were trained on {len(volumes.trained)} volumes from the first half of the"
        " same run. The training data are therefore from the same participant, and not from"
        " other participants as in the paper. One network was trained per factor, and a single"
        " network of `li-agnostic` for all factors."
    )
    keep(
        "papers_tv_2",
        "TV paper, table 2: networks trained on other images",
        rows,
        remarks=[COMMON, remark],
    )


PARTS: dict[str, Callable[[Path], None]] = {"tv_1": table_1, "tv_2": table_2}
