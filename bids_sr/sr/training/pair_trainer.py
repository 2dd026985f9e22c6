"""One training loop for all methods: supervised or adversarial, from a `Recipe`.

Training has two phases. `search` fits on all slices but the held-out ones and looks at those every few iterations:
what it scores there is what the card reports. `refit` (where the recipe wants it) starts anew with the same seed on
*all* slices for as many iterations as did best, as the paper uses all slices of the pair. Without a refit the weights
that did best on the held-out slices are the model. A recipe that holds nothing out trains on all slices to the end of
its schedule and keeps the last weights.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bids_sr.series import VALIDATION_BASELINES
from bids_sr.sr.data.patches import Batch, SliceSet, cut, draw, upsample_slices
from bids_sr.sr.data.training_pair import TrainingPair
from bids_sr.sr.method import Method
from bids_sr.sr.models import scores
from bids_sr.sr.models.card import data_entries, perceptual_entry, plain_recipe, started_from
from bids_sr.sr.models.model import LoadedModel, ModelError, TrainedModel
from bids_sr.sr.networks.network_blocks import Planes
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.degradation import Factor
from bids_sr.sr.training import update_steps
from bids_sr.sr.training.loop import Phase, Progress, split, torch_threads
from bids_sr.sr.training.update_steps import Networks

LOG = logging.getLogger(__name__)


def build_networks(
    recipe: Recipe, pair: TrainingPair, seed: int, device: str, vgg_weights: Path | None,
    start: LoadedModel | None = None,
) -> Networks:  # fmt: skip
    """Networks with weights that depend on seed and start alone, their optimizers and the loss terms that are on."""
    state = None if start is None else start.generator.state_dict()
    return update_steps.build_networks(recipe, pair.factor, seed, device, vgg_weights, start=state)


def generator_step(nets: Networks, batch: Batch, fake: Tensor, recipe: Recipe, adversarial: bool) -> dict[str, float]:
    """One step of the generator on images it has just made; the critic is read, not taught."""
    return update_steps.generators_step(nets, batch, fake, recipe, adversarial)


@dataclass(kw_only=True)
class _PairPhase(Phase):
    """One phase of training on a pair."""

    images: SliceSet
    nets: Networks
    planes: Planes

    @property
    def trained(self) -> Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]:
        return self.nets.trained

    def step(self) -> dict[str, float]:
        recipe, at = self.recipe, self.at
        shape = (self.images.highres.shape[-2], self.images.highres.shape[-1])
        batch = cut(self.images, draw(self.rng, self.slices, shape, self.drawn), recipe, self.planes)
        rate = self.set_rate()
        batch = replace(batch, input=batch.input.contiguous(memory_format=torch.channels_last))
        fake = self.nets.generator(batch.input)
        adversarial = self.nets.critic is not None and at.iteration >= recipe.adversarial_from
        parts: dict[str, float] = {}
        if adversarial:
            for _ in range(recipe.critic_steps):
                parts |= update_steps.critics_step(self.nets, batch, recipe, fake)
        parts |= generator_step(self.nets, batch, fake, recipe, adversarial)
        return parts | {"learning_rate": rate}

    def score(self) -> float:
        output = predict(self.nets.generator, self.images, self.held_out, self.recipe)
        return _psnr(output, self.images, self.held_out)


def predict(generator: nn.Module, images: SliceSet, which: tuple[int, ...], recipe: Recipe) -> Tensor:
    """The generator's images of some slices, (len(which), 1, X, Y)."""
    generator.eval()
    with torch.no_grad():
        out = [generator(images.to_input(images.lowres[z : z + 1], recipe.upsampled_by)) for z in which]
    generator.train()
    return torch.cat(out)


def _arrays(output: Tensor, images: SliceSet, which: tuple[int, ...]) -> tuple[Any, Any, Any]:
    index = list(which)
    return tuple(t[:, 0].cpu().numpy() for t in (output, images.highres[index], images.mask[index]))  # type: ignore[return-value]


def _psnr(output: Tensor, images: SliceSet, which: tuple[int, ...]) -> float:
    return scores.psnr(*_arrays(output, images, which), 1.0)


def held_out_scores(output: Tensor, images: SliceSet, which: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """PSNR (dB) and SSIM in the mask of the network's slices, beside B-spline and zero filling of the same."""
    rows = {"network": output}
    for name in VALIDATION_BASELINES:
        rows[name] = upsample_slices(images.lowres[list(which)], images.factor, name)
    return {
        name: {
            "psnr": round(scores.psnr(*_arrays(image, images, which), 1.0), 4),
            "ssim": round(scores.ssim(*_arrays(image, images, which), 1.0), 5),
        }
        for name, image in rows.items()
    }


def _signature(
    method: Method, recipe: Recipe, pair: TrainingPair, seed: int, vgg: Path | None, start: LoadedModel | None
) -> str:
    """Tells whether a checkpoint belongs to this training; without a start it is what it was before there was one."""
    said = (method.name, plain_recipe(recipe), pair.checksums(), pair.factor, seed, vgg is not None)
    begun = () if start is None else (start.card["weights_sha256"],)
    return hashlib.sha256(repr(said + begun).encode()).hexdigest()


def check_start(start: LoadedModel, method: Method, recipe_name: str, factor: Factor) -> None:
    """Refuse to begin with the weights of another network.

    Raises
    ------
    ModelError : another method, another recipe or another factor
    """
    own = (start.card["method"], start.card["recipe"], tuple(float(f) for f in start.card["factor"]))
    wanted = (method.name, recipe_name, tuple(float(f) for f in factor))
    if own != wanted:
        told = ["{} ({}) by {}".format(*each) for each in (wanted, own)]
        raise ModelError(f"training of {told[0]} cannot begin with a model of {told[1]}")


def check_perceptual(method: Method, recipe: Recipe, recipe_name: str, vgg_weights: str | Path | None) -> None:
    """Refuse a training that nothing but a critic would tie to the fine image.

    Raises
    ------
    ModelError : the recipe needs weights of VGG-19, and there are none
    """
    if recipe.needs_vgg and vgg_weights is None:
        raise ModelError(
            f"{method.name} ({recipe_name}) is taught by features of VGG-19: give its weights with --vgg-weights, "
            "or take --recipe paper-mse"
        )


def fit(
    method: Method,
    recipe: Recipe,
    pair: TrainingPair,
    *,
    recipe_name: str,
    seed: int,
    work_dir: str | Path,
    threads: int = 1,
    device: str = "cpu",
    max_minutes: float | None = None,
    vgg_weights: str | Path | None = None,
    start: LoadedModel | None = None,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train a method on one subject's pair.

    Parameters
    ----------
    method, recipe, recipe_name : what, and how long
    pair : the images
    seed : of weights, batches and augmentation; with the same number of threads the result is the same bit for bit
    work_dir : where checkpoints lie; a killed run started again with the same arguments goes on from there
    threads : of torch on the CPU
    device : "cpu" or "cuda"
    max_minutes : stop on the clock; the card then says that the model cannot be reproduced
    vgg_weights : file for the perceptual term; without it the term is off and the card says so
    start : a model of the same network, with whose weights training begins; the seed then is that of all else
    progress : called with (phase, iteration, iterations)

    Raises
    ------
    TrainingDiverged : the loss is no longer a number
    PairError, ResolutionError : the pair cannot be trained on
    ModelError : `start` is another network, or a recipe that is nothing without weights of VGG-19 has none
    """
    check_perceptual(method, recipe, recipe_name, vgg_weights)
    if start is not None:
        check_start(start, method, recipe_name, pair.factor)
    work = Path(work_dir)
    work.mkdir(parents=True, exist_ok=True)
    vgg = None if vgg_weights is None else Path(vgg_weights)
    train, held = split(pair.usable_slices(), recipe.hold_out)
    now = time.monotonic()
    search_share = 0.55 if recipe.refit else 1.0

    def phase(name: str, which: tuple[int, ...], watched: tuple[int, ...], count: int, share: float) -> _PairPhase:
        out = _PairPhase(
            name=name, recipe=recipe, images=images, slices=which, held_out=watched, iterations=count,
            nets=build_networks(recipe, pair, seed, device, vgg, start), planes=Planes(images.factor),
            signature=_signature(method, recipe, pair, seed, vgg, start) + f"-{count}",
            checkpoint=work / f"{name}.checkpoint.safetensors",
            deadline=None if max_minutes is None else now + 60 * share * max_minutes,
            progress=progress, rng=np.random.default_rng([seed, len(which)]),
        )  # fmt: skip
        out.run()
        return out

    with torch_threads(threads):
        images = pair.slices(device)
        first = phase("search", train, held, recipe.iterations, search_share)
        steps = first.at.best_iteration
        first.nets.generator.load_state_dict(first.best)
        shown = held or train
        reached = held_out_scores(predict(first.nets.generator, images, shown, recipe), images, shown)
        last = first
        if recipe.refit and held:
            last = phase("refit", train + held, (), steps, 1.0)
    phases = (first, last) if last is not first else (first,)
    seen = "held out" if held else "on the slices trained on"
    LOG.info("trained %s in %.0f s: %s %s", method.name, sum(p.at.seconds for p in phases), seen, reached["network"])
    card = data_entries(method, recipe, recipe_name, pair, vgg is not None)
    card |= _training_entries(first, phases, reached, vgg)
    card |= {"seed": seed, "threads": threads, "device": device}
    card |= {} if start is None else {"started_from": started_from(start)}
    return TrainedModel(
        state={key: value.cpu() for key, value in last.best.items()},
        card=card,
        log=tuple(row for p in phases for row in p.at.log),
    )


def _training_entries(
    first: _PairPhase, phases: tuple[_PairPhase, ...], reached: dict[str, dict[str, float]], vgg: Path | None
) -> dict[str, Any]:
    """The part of the card that training found out."""
    checksum = next((str(module.checksum) for kind, module, _ in first.nets.terms if kind == "perceptual"), None)
    timed = [p.name for p in phases if p.at.done == "time"]
    return {
        **_scored_entries(first, len(phases) > 1, reached),
        "phases": {p.name: {"iterations": p.at.iteration, "stopped_by": p.at.done} for p in phases},
        "refit_on_all_slices": len(phases) > 1,
        "perceptual": perceptual_entry(first.recipe, checksum, vgg),
        "reproducible": not timed,
        **({"not_reproducible_because": f"{' and '.join(timed)} stopped on the clock"} if timed else {}),
        "parameters": sum(p.numel() for p in first.nets.generator.parameters()),
    }


def _scored_entries(first: _PairPhase, again: bool, reached: Mapping[str, Any]) -> dict[str, Any]:
    """What the slices say of the model: those held out, or, where there are none, those that it was trained on."""
    if not first.held_out:
        model = "nothing was held out: trained on all slices to the end of the schedule, the last weights are kept"
        held_out = {"slices": [], "iteration": first.at.iteration, "model": model}
        return {"held_out": held_out, "on_trained_slices": {"slices": list(first.slices), **reached}}
    model = (
        "figures of a model trained without these slices; "
        + ("the one here was trained again on all" if again else "it is the one here")
        + "; the slices chose the stopping point"
    )
    held_out = {"slices": list(first.held_out), "iteration": first.at.best_iteration, "model": model, **reached}
    return {"held_out": held_out}
