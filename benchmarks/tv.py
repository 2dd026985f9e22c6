"""Self-supervised super-resolution of volumes against interpolation and supervised networks,
factors 1.25 to 2 in 3D.

benchmarks/tv.py images BIDS_DIR --work DIR [--seconds S] [--seeds N] [--factors F …] [--methods
NAME …] [--alone N]

`images`: volumes of one run are brought down by tv's own B (Gaussian and decimation) and by a
k-space crop, brought up again and compared with what they were. Training volumes come from the
first two thirds of the run, the four that are scored from the last. "tv alone" trains a network on
each scored volume by itself, as the paper's table 1 does; others are amortised over the training
volumes. dip is tv with alpha = 0. Every network gets the same processor time and runs through its
whole schedule; the fast recipes are used. PSNR has the 99th percentile of the mean volume in the
brain as peak, and the paper's peak is not known: compare the differences to trilinear only.

Writes benchmarks/results/tv_images.{json,md}.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _files import one
from _kept import checksum, kept_rows
from _methods_run import Pace, brain, pace_of, shortened
from _table import keep
from numpy.typing import NDArray

from bids_sr.io.nifti import SeriesReader
from bids_sr.metrics.image_similarity import psnr, ssim
from bids_sr.sr.data.images import TrainingImage, TrainingImages
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel, TrainedModel
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.operators import Degradation, get_operator
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit

Array = NDArray[Any]
Row = dict[str, Any]
INTERPOLATIONS = ("linear", "nearest", "bspline", "zerofill")
SELF = ("tv", "tv kspace", "dip")
# what is assumed to have brought the volume down
ASSUMED = {"tv": "gauss", "tv kspace": "kspace", "dip": "gauss"}
# tv-self-sr: table 1 for interpolation and "alone", table 2 for the others: PSNR (dB) and SSIM
PAPER: Mapping[str, Mapping[float, tuple[float, float]]] = {
    "linear": {
        1.25: (78.16, 0.9446),
        1.5: (75.07, 0.9265),
        1.75: (73.54, 0.9169),
        2: (69.59, 0.8855),
    },
    "nearest": {
        1.25: (74.92, 0.9351),
        1.5: (70.68, 0.9077),
        1.75: (66.90, 0.8712),
        2: (68.47, 0.8874),
    },
    "bspline": {
        1.25: (81.01, 0.9571),
        1.5: (75.57, 0.9334),
        1.75: (71.60, 0.9073),
        2: (67.42, 0.8729),
    },
    "tv alone": {
        1.25: (83.93, 0.9673),
        1.5: (79.76, 0.9497),
        1.75: (76.50, 0.9365),
        2: (73.53, 0.9218),
    },
    "tv": {1.25: (85.82, 0.9713), 1.5: (80.04, 0.9546), 1.75: (76.72, 0.9368), 2: (73.45, 0.9192)},
    "dip": {
        1.25: (84.54, 0.9648),
        1.5: (79.85, 0.9503),
        1.75: (75.74, 0.9273),
        2: (73.17, 0.9104),
    },
    "mse3d": {
        1.25: (86.21, 0.9731),
        1.5: (82.46, 0.9607),
        1.75: (78.66, 0.9460),
        2: (76.27, 0.9332),
    },
    "li": {1.25: (85.91, 0.9733), 1.5: (80.46, 0.9572), 1.75: (78.58, 0.9468), 2: (76.32, 0.9375)},
    "li-agnostic": {
        1.25: (84.09, 0.9707),
        1.5: (81.32, 0.9590),
        1.75: (77.43, 0.9426),
        2: (73.78, 0.9204),
    },
}


def split(volumes: list[Array], train: int, score: int) -> tuple[list[Array], list[Array]]:
    """Volumes to train on, from the first two thirds, and to score, from the last third."""
    border = 2 * len(volumes) // 3
    where = (np.linspace(0, border - 1, train), np.linspace(border, len(volumes) - 1, score))
    first, last = ([volumes[t] for t in part.round().astype(int)] for part in where)
    return first, last


class Level:
    """One factor and one way down: volumes cropped to what the factor divides, and their coarse
    copies.
    """

    def __init__(
        self, shape: tuple[int, ...], affine: Array, factor: float, degradation: str
    ) -> None:
        self.factor = (factor, factor, factor)
        self.operator: Degradation = get_operator(degradation, tuple(shape), self.factor)
        self.window = tuple(slice(*w) for w in self.operator.window)
        self.affine = np.array(affine, dtype=float)
        self.affine[:3, 3] += self.affine[:3, :3] @ [start for start, _ in self.operator.window]
        self.coarse_affine = self.operator.lowres_affine(affine)

    def down(self, volume: Array) -> Array:
        """The coarse copy of a whole volume."""
        return self.operator.forward(
            torch.from_numpy(np.ascontiguousarray(volume, np.float32))
        ).numpy()

    def pairs(self, volumes: list[Array]) -> TrainingImages:
        """Fine volumes with their coarse copies."""
        return tuple(
            TrainingImage(
                fine=np.ascontiguousarray(volume[self.window], np.float32),
                coarse=self.down(volume),
                mask=brain(volume)[self.window],
                affine=self.affine,
                contrast="bold",
                name=f"volume-{t}",
            )
            for t, volume in enumerate(volumes)
        )

    def coarse_only(self, volumes: list[Array]) -> TrainingImages:
        """Coarse copies alone."""
        made = [self.down(volume) for volume in volumes]
        mask = brain(np.mean(made, axis=0))
        return tuple(
            TrainingImage(
                coarse=one,
                mask=mask,
                affine=self.coarse_affine,
                contrast="bold",
                name=f"volume-{t}",
            )
            for t, one in enumerate(made)
        )


def learn(
    name: str,
    images: TrainingImages,
    factor: tuple[float, float, float],
    seconds: float,
    seed: int,
    threads: int,
    paces: dict[str, Pace],
) -> tuple[LoadedModel, float, int]:
    """(model, seconds of processor, steps): the fast recipe, as many steps as fit into that time.

    What a step costs is measured once a method: it sees parts of fine volumes, which are alike at
    all factors.
    """
    method = get_method(name.split()[0])

    def fitted(recipe: Recipe) -> tuple[TrainedModel, float]:
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as work:
            made = fit(
                TrainingRequest(
                    method=method,
                    recipe="fast",
                    changed=recipe,
                    factor=factor,
                    seed=seed,
                    threads=threads,
                ),
                images,
                Path(work),
            )
        return made, time.process_time() - begun

    full = method.recipes["fast"]
    full = replace(full, degradation=ASSUMED.get(name, full.degradation))
    if name == "dip":
        full = replace(full, upsampled_by=get_method("tv").recipes["fast"].upsampled_by)
    if name not in paces:
        paces[name] = pace_of(full, lambda recipe: fitted(recipe)[1])
    steps = paces[name].steps(seconds)
    recipe = shortened(full, steps)
    made, busy = fitted(recipe)
    generator = recipe.build_generator(1, factor)
    generator.load_state_dict(dict(made.state))
    return (
        LoadedModel(
            generator=generator.eval(), recipe=recipe, card=ModelCard.from_json(made.card)
        ),
        busy,
        steps,
    )


def brought_up(
    name: str, model: LoadedModel | None, level: Level, coarse: Array, scale: float, threads: int
) -> Array:
    """A coarse volume on the fine grid."""
    up = make_upsampler(
        name,
        UpsamplerInputs(
            factor=level.factor,
            affine=level.coarse_affine,
            scale=scale,
            threads=threads,
            mask=np.ones(coarse.shape, dtype=bool),
        ),
        model,
    )
    return up(coarse, np.eye(4))


def scored(
    name: str, models: list[LoadedModel | None], level: Level, volumes: list[Array], threads: int
) -> list[float]:
    """Mean PSNR and SSIM of the volumes; models: one for all, or one each."""
    fine = [volume[level.window] for volume in volumes]
    coarse = [level.down(volume) for volume in volumes]
    mask = brain(np.mean(volumes, axis=0))[level.window]
    span = float(np.percentile(np.mean(fine, axis=0)[mask], 99))
    reference = np.mean(coarse, axis=0)
    scale = float(np.percentile(reference[brain(reference)], 99))
    found = []
    for k, (true, small) in enumerate(zip(fine, coarse, strict=True)):
        image = brought_up(name, models[k % len(models)], level, small, scale, threads)
        found.append(
            [
                psnr(true, image, data_range=span, mask=mask),
                ssim(true, image, data_range=span, mask=mask),
            ]
        )
    return [float(v) for v in np.mean(found, axis=0)]


def images(given: argparse.Namespace) -> None:
    """PSNR and SSIM at each factor, way down, method and seed."""
    run = one(given.bids_dir, "sub-*/func/*_bold.nii.gz")
    with SeriesReader(run) as reader:
        volumes, affine = list(reader.volumes()), reader.affine
    training, judged = split(volumes, given.train, 4)
    made_from = {
        "run": checksum(run),
        "seconds": given.seconds,
        "train": given.train,
        "threads": given.threads,
    }
    paces: dict[str, Pace] = {}
    rows: list[Row] = []
    for factor, way in product(given.factors, ("gauss", "kspace")):
        level = Level(volumes[0].shape, affine, factor, way)
        begin = {"factor": factor, "brought down by": way}

        def networks(
            name: str,
            seed: int,
            sets: list[TrainingImages],
            some: list[Array],
            level: Level = level,
        ) -> list[Row]:
            each = [
                learn(name, s, level.factor, given.seconds, seed, given.threads, paces)
                for s in sets
            ]
            value = scored(name, [model for model, _, _ in each], level, some, given.threads)
            base = scored("linear", [None], level, some, 1)  # of the same volumes
            return [{"value": value, "linear": base, "s": each[0][1], "steps": each[0][2]}]

        tasks: list[tuple[str, int, Callable[[], list[Row]]]] = [
            (name, 0, partial(_untrained, name, level, judged)) for name in INTERPOLATIONS
        ]
        pairs, small = level.pairs(training), level.coarse_only(training)
        for name, seed in product(given.methods, range(given.seeds)):
            tasks.append(
                (
                    name,
                    seed,
                    partial(networks, name, seed, [small if name in SELF else pairs], judged),
                )
            )
        some = judged[: given.alone]
        if "tv" in given.methods and some:
            tasks.append(
                (
                    "tv alone",
                    0,
                    partial(networks, "tv", 0, [level.coarse_only([v]) for v in some], some),
                )
            )
        for name, seed, make in tasks:
            own = (
                made_from
                | begin
                | {
                    "method": name,
                    "seed": seed,
                    "volumes": given.alone if "alone" in name else 4,
                }
            )
            (found,) = kept_rows(
                given.work / f"{factor:g}_{way}_{name.replace(' ', '-')}_{seed}.json", own, make
            )
            rows.append(begin | {"method": name, "seed": seed} | found)
            sys.stderr.write(f"{rows[-1]}\n")
    keep_images(rows, given)


def _untrained(name: str, level: Level, volumes: list[Array]) -> list[Row]:
    return [{"value": scored(name, [None], level, volumes, 1)}]


def keep_images(rows: list[Row], given: argparse.Namespace) -> None:
    """Means over seeds as differences to trilinear, beside the paper's."""
    table = []
    for factor, way in sorted({(row["factor"], row["brought down by"]) for row in rows}):
        here = [row for row in rows if (row["factor"], row["brought down by"]) == (factor, way)]
        base = next(row["value"] for row in here if row["method"] == "linear")
        for name in dict.fromkeys(row["method"] for row in here):
            values = np.array([row["value"] for row in here if row["method"] == name])
            over = [
                np.subtract(row["value"], row.get("linear", base))
                for row in here
                if row["method"] == name
            ]
            more = np.mean(over, axis=0)
            printed = PAPER.get(name, {}).get(factor)
            table.append(
                {
                    "factor": factor,
                    "brought down by": way,
                    "method": name,
                    "PSNR (dB)": round(values[:, 0].mean(), 2),
                    "over trilinear (dB)": round(more[0], 2),
                    "SD over seeds": (
                        round(float(values[:, 0].std(ddof=1)), 3) if len(values) > 1 else ""
                    ),
                    "paper, over trilinear": (
                        round(printed[0] - PAPER["linear"][factor][0], 2) if printed else ""
                    ),
                    "SSIM": round(values[:, 1].mean(), 4),
                    "SSIM over trilinear": round(more[1], 4),
                    "paper, SSIM over": (
                        round(printed[1] - PAPER["linear"][factor][1], 4) if printed else ""
                    ),
                    **{
                        what: (
                            round(float(np.mean(spent)), 1)
                            if (
                                spent := [
                                    r[what] for r in here if r["method"] == name and what in r
                                ]
                            )
                            else ""
                        )
                        for what in ("steps", "s")
                    },
                }
            )
    found = {
        (row["brought down by"], row["method"]): row["over trilinear (dB)"]
        for row in table
        if row["factor"] == 2
    }
    remarks = [
        f"{given.seconds:g} s of processor a training, fast recipes, {given.train} training"
        " volumes; steps that fit were told from a trial of each method beside other work, so"
        " that what was taken (s) differs from that."
    ]
    remarks += [
        f"{name} at factor 2, brought down by {way}: {gain:+.2f} dB over trilinear,"
        f" {gain - plain:+.2f} dB over zero filling."
        for way in ("gauss", "kspace")
        for name in SELF
        if (gain := found.get((way, name))) is not None
        and (plain := found.get((way, "zerofill"))) is not None
    ]
    keep(
        "tv_images",
        "Volumes brought down and up: self-supervised, supervised, interpolated",
        table,
        remarks=remarks,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("images",))
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="of processor time a training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--factors", type=float, nargs="+", default=[1.25, 1.5, 1.75, 2])
    parser.add_argument("--methods", nargs="+", default=[*SELF, "mse3d", "li", "li-agnostic"])
    parser.add_argument("--train", type=int, default=8, help="training volumes")
    parser.add_argument(
        "--alone", type=int, default=2, help="volumes that get a network (tv) of their own"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, help="what is scored is kept here")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    images(given)


if __name__ == "__main__":
    main()
