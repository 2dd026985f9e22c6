"""Published trainings run to their end on a GPU: steps, time and accuracy.

python benchmarks/gpu.py WORK [--minutes 10] [--results DIR] [--vgg-weights FILE]

Trains on the T2*w pair of examples/studyforrest, one after the other,

    srgan --recipe paper        100,000 steps; squared error without --vgg-weights
    attunet --recipe paper       18,500 steps
    cpce --recipe paper         800,000 steps
    tv --recipe paper             6,400 steps; only sees the low-resolution image

A call works for at most --minutes. Checkpoints, models and the resources of each training are in
WORK: the same command continues, also on another machine if WORK is copied there. Each call writes
gpu.{json,md} to the folder of --results, with a row per training: steps done and requested,
seconds of training, and PSNR and SSIM of the network, B-spline and zero filling in the same
slices. `scored on` describes these slices: held-out slices, or, if the paper holds nothing out,
training slices, whose scores are not an accuracy on new slices. Scores of `tv` use all slices of
the high-resolution image, which its training has not seen.

The machine needs torch, numpy, scipy, scikit-image, nibabel, safetensors and the source tree,
which need not be installed. The images are used as they are: both images of this pair have the
same frame. The mask is computed from the low-resolution image.

It has not been run to its end: no GPU was available when it was written. It was tested on a CPU
with --steps, which shortens each training and marks the table.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _source_tree import ROOT
from _table import RESULTS, commit, markdown

from bids_sr.io.atomic_files import write_text
from bids_sr.io.nifti import load_image
from bids_sr.spatial.image_similarity import psnr, ssim
from bids_sr.spatial.masks import brain_mask
from bids_sr.sr.device import choose_device
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import get_method, get_recipe
from bids_sr.sr.models.card import steps_at_stop
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import log_tsv
from bids_sr.sr.networks.data.images import TrainingImage, TrainingImages, pair_image
from bids_sr.sr.networks.training.phase import Clock
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.recipe import Recipe
from bids_sr.version import __version__

FACTOR = (2.0, 2.0, 1.0)
PAIR = ROOT / "examples" / "studyforrest" / "sub-01" / "anat"
PLAIN = ("bspline", "zerofill")
TRAININGS = (
    ("srgan", "paper"),
    ("attunet", "paper"),
    ("cpce", "paper"),
    ("tv", "paper"),
)
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The example's pair: one image to train on, and how its members were read.

    `lowres`: (x, y, z). `mask`: brain on that grid. `affine`: its voxels -> RAS mm.
    """

    image: TrainingImage
    lowres: np.ndarray[Any, Any]
    mask: np.ndarray[Any, Any]
    affine: np.ndarray[Any, Any]

    @classmethod
    def read(cls, folder: Path = PAIR) -> "Pair":
        """Read the pair of a folder ``anat``; its members have to lie in one frame."""
        low, high = (
            next(folder.glob(f"*_acq-{name}_T2starw.nii.gz")) for name in ("lowres", "highres")
        )
        lowres, affine = load_image(low)
        highres, _ = load_image(high)
        mask = brain_mask(lowres, affine)
        image = pair_image(lowres, highres, mask, affine, FACTOR)
        return cls(image=image, lowres=lowres, mask=mask, affine=affine)

    @property
    def coarse(self) -> TrainingImage:
        """The low-resolution image only, for methods that are trained without a pair."""
        return TrainingImage(
            coarse=self.lowres,
            mask=self.mask,
            affine=self.affine,
            contrast=self.image.contrast,
            name=self.image.name,
        )


def shortened(recipe: Recipe, steps: int | None) -> Recipe:
    """Return a recipe with a limited number of steps and two validation steps; unchanged
    for None.
    """
    if steps is None or steps >= recipe.steps:
        return recipe
    return replace(
        recipe,
        iterations=steps,
        epochs=None,
        patches=None,
        decay_from=0,
        evaluate_every=max(1, steps // 2),
    )


def scores_of_all_slices(pair: Pair, weights: Path, device: str) -> dict[str, dict[str, float]]:
    """Return PSNR and SSIM of network and interpolations in the mask of the whole pair."""
    model = load_model(weights)
    scale = float(np.percentile(pair.lowres[pair.mask > 0], 99))
    inputs = UpsamplerInputs(factor=FACTOR, affine=pair.affine, scale=scale, device=device)
    assert pair.image.fine is not None
    assert pair.image.gain is not None
    truth = pair.image.gain * pair.image.fine
    scores = {}
    for name in ("network", *PLAIN):
        network = model if name == "network" else None
        upsample = make_upsampler(model.card.method if network else name, inputs, network)
        upsampled = upsample(pair.lowres, np.eye(4))
        scores[name] = {
            metric.__name__: metric(truth, upsampled, data_range=scale, mask=pair.image.mask)
            for metric in (psnr, ssim)
        }
    return scores


def row_of(card: Mapping[str, Any], seconds: float, scored: str, scores: Mapping[str, Any]) -> Row:
    """Return one line of the table: a finished training, or its progress."""
    phases = card["phases"]
    steps = sum(phase["iterations"] for phase in phases.values())
    row: Row = {
        "method": card["method"],
        "recipe": card["recipe"],
        "state": steps_at_stop(card) or "finished",
        "steps": steps,
        "seconds": round(seconds, 1),
        "s per 1000 steps": round(1000 * seconds / max(1, steps), 2),
        "device": card["device"],
        "mixed precision": card["mixed_precision"]["kept"],
        "VGG-19": card["perceptual"]["active"],
        "scored on": scored,
    }
    for name in ("network", *PLAIN):
        for metric in ("psnr", "ssim"):
            row[f"{metric} {name}"] = scores.get(name, {}).get(metric, "n/a")
    return row


@dataclass(kw_only=True)
class Work:
    """Folder of trainings that continue between calls."""

    folder: Path
    options: argparse.Namespace
    device: str
    clock: Clock

    @property
    def trainings(self) -> list[tuple[str, str]]:
        """Return (method, recipe) of the trainings of this call, in order."""
        options = self.options
        return [
            (method, recipe)
            for method, recipe in TRAININGS
            if method in (options.methods or (method,))
        ]

    def train(self, method: str, recipe: str, pair: Pair, minutes: float) -> Row:
        """Train for a limited time, or load a finished training, and return its row.

        The row is empty for a training that has not begun when the time is over.
        """
        stem = self.folder / f"{method}_{recipe}"
        notes = stem.with_suffix(".row.json")
        finished: Row = json.loads(notes.read_text()) if notes.exists() else {}
        if finished.pop("asked", None) != self._request(method, recipe):
            finished = {}
        if minutes <= 0 or finished.get("state") == "finished":
            return finished
        before = finished.get("seconds", 0.0)
        request = ModelRequest(
            method=method,
            recipe=recipe,
            replacement_recipe=shortened(
                get_recipe(get_method(method), recipe), self.options.steps
            ),
            factor=FACTOR,
            omp_nthreads=self.options.threads,
            device=self.device,
            max_train_minutes=minutes,
            vgg_weights=self.options.vgg_weights,
            train_precision=self.options.train_precision,
        )
        is_self_trained = request.effective_recipe.objective == "self"
        images: TrainingImages = (pair.coarse if is_self_trained else pair.image,)
        start_s = self.clock()
        trained = train_network(
            request,
            images,
            self.folder / f"{stem.name}_checkpoints",
            clock=self.clock,
        )
        seconds = before + self.clock() - start_s
        weights, _ = save_model(stem, trained.state, trained.card)
        write_text(stem.with_suffix(".tsv"), log_tsv(trained.log))
        if is_self_trained:
            scored = "all slices, whose fine image was not seen"
            scores = scores_of_all_slices(pair, weights, self.device)
        else:
            is_held_out = "on_trained_slices" not in trained.card
            scored = "held-out slices" if is_held_out else "slices trained on"
            scores = trained.card["held_out" if is_held_out else "on_trained_slices"]  # type: ignore[assignment]
        row = row_of(trained.card, seconds, scored, scores)
        write_text(
            notes, json.dumps(row | {"asked": self._request(method, recipe)}, indent=1) + "\n"
        )
        return row

    def _request(self, method: str, recipe: str) -> list[object]:
        """Return the request of a training, to compare with the request of a finished training."""
        vgg = self.options.vgg_weights is not None
        return [method, recipe, self.options.steps, vgg, self.options.train_precision]

    def rows(self, pair: Pair) -> Iterator[Row]:
        """Yield a row per training, until the time of this call is over."""
        end = self.clock() + 60 * self.options.minutes
        for method, recipe in self.trainings:
            if row := self.train(method, recipe, pair, (end - self.clock()) / 60):
                yield row


def commit_or_version() -> str:
    """Return the commit of the program, or its version outside a repository."""
    try:
        return commit()
    except (OSError, subprocess.CalledProcessError):
        return __version__.partition("+g")[2] or __version__


def keep(options: argparse.Namespace, rows: list[Row]) -> None:
    """Print the table and write it to the folder of results."""
    command = " ".join(["python", *(Path(arg).name if "/" in arg else arg for arg in sys.argv)])
    provenance = {
        "command": command,
        "commit": commit_or_version(),
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "torch": torch.__version__,
    }
    title = "Published trainings on a GPU"
    if options.steps is not None:
        title = f"Published trainings, cut short at {options.steps} steps: a try, not a result"
    stamp = "`{command}` at {commit}, {date}\n\n{device}, torch {torch}".format_map(provenance)
    text = f"# {title}\n\n{stamp}\n\n{markdown(rows) if rows else 'no step yet'}\n"
    options.results.mkdir(parents=True, exist_ok=True)
    write_text(options.results / "gpu.md", text)
    table = {"title": title, **provenance, "rows": rows}
    write_text(options.results / "gpu.json", json.dumps(table, indent=1) + "\n")
    sys.stdout.write(text)


def main(argv: list[str] | None = None, clock: Clock = time.monotonic) -> int:
    """Train for the time of one call; return 0 if all is finished, 3 if the same command
    continues.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of checkpoints and models")
    parser.add_argument("--minutes", type=float, default=10.0, help="limit of this call")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of gpu.{json,md}")
    parser.add_argument("--vgg-weights", type=Path, help="VGG-19 (.safetensors)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--train-precision", choices=("auto", "fp32", "mixed"), default="auto")
    parser.add_argument("--methods", nargs="+", choices=sorted({m for m, _ in TRAININGS}))
    parser.add_argument("--steps", type=int, help="steps at most, for a try")
    options = parser.parse_args(argv)
    if options.minutes <= 0 or (options.steps is not None and options.steps < 1):
        parser.error("--minutes and --steps are above 0")
    options.work.mkdir(parents=True, exist_ok=True)
    work = Work(
        folder=options.work, options=options, device=choose_device(options.device), clock=clock
    )
    rows = list(work.rows(Pair.read()))
    keep(options, rows)
    if [row["state"] for row in rows] == ["finished"] * len(work.trainings):
        return 0
    sys.stdout.write("\nnot finished: the same command continues\n")
    return 3


if __name__ == "__main__":
    sys.exit(main())
