"""Training on a set of images: supervised, self-supervised, adversarial or in a cycle, in two or three dimensions.

Phases, checkpoints and stopping are those of `train.fit`. What is held out are whole images where there are at least
three, otherwise every n-th slice (2D) or the last n-th part of the brain in each image (3D); `hold_out` 0 holds nothing
out, and the training loss decides instead; where a critic is part of that, the last weights are kept. A look scores
fixed windows, so that it costs the same however large the images are.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from bids_sr.sr.data.images import ImageSet, ImageSetError
from bids_sr.sr.data.patch_sampling import Symmetry
from bids_sr.sr.data.patches import Batch
from bids_sr.sr.data.windows import Box, Windows
from bids_sr.sr.method import Method
from bids_sr.sr.models.card import image_entries, perceptual_entry, plain_recipe, started_from
from bids_sr.sr.models.model import LoadedModel, ModelError, TrainedModel
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.degradation import Factor, check_factor
from bids_sr.sr.training import update_steps
from bids_sr.sr.training.loop import Phase, Progress, split, torch_threads
from bids_sr.sr.training.pair_trainer import check_perceptual
from bids_sr.sr.training.update_steps import Networks
from bids_sr.sr.training.validation import Look, compare, looks, score

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """Slices (first, last + 1) of one image that training draws from or that are held out."""

    image: int
    slices: tuple[int, int]


def regions(windows: Windows, hold_out: int) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """What is trained on and what is held out.

    Parameters
    ----------
    windows : of the set
    hold_out : every n-th image or slice, or the last n-th part; 0: nothing
    """
    count = len(windows.images.images)
    depth = [windows.at(i).shape[2] for i in range(count)]
    if hold_out and count >= 3:
        train, held = split(tuple(range(count)), hold_out)
        whole = tuple(tuple(Region(image=i, slices=(0, depth[i])) for i in which) for which in (train, held))
        return whole[0], whole[1]
    if not hold_out:
        return tuple(Region(image=i, slices=(0, depth[i])) for i in range(count)), ()
    if windows.ndim == 2:
        usable = [(i, z) for i in range(count) for z in _usable(windows, i)]
        if len(usable) < 2:
            raise ImageSetError("only one slice of the images shows enough of the head: nothing could be held out")
        order = tuple(range(len(usable)))
        return tuple(  # type: ignore[return-value]
            tuple(Region(image=usable[k][0], slices=(usable[k][1], usable[k][1] + 1)) for k in which)
            for which in split(order, hold_out)
        )
    cuts = []
    for i in range(count):
        p, brain = windows.at(i).steps[2][0], _usable(windows, i) or [0, depth[i] - 1]
        part = max(1, (brain[-1] + 1 - brain[0]) // hold_out)
        kept = max(p, (brain[-1] + 1 - part) // p * p)
        if kept >= depth[i]:
            raise ImageSetError(f"{windows.images.images[i].name}: {depth[i]} slices are too few to hold some out")
        cuts.append((Region(image=i, slices=(0, kept)), Region(image=i, slices=(kept, depth[i]))))
    return tuple(a for a, _ in cuts), tuple(b for _, b in cuts)


def _usable(windows: Windows, index: int, least: float = 0.02) -> list[int]:
    """Slices of an image of which at least this part is mask."""
    part = windows.at(index).inside[0].float().mean((0, 1))
    return [int(z) for z in torch.nonzero(part >= least).flatten()]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> Any:
    """The order in which places are seen in an epoch."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


@dataclass(kw_only=True)
class ImagePhase(Phase):
    """One phase of training on a set of images."""

    windows: Windows
    nets: Networks
    regions: tuple[Region, ...]
    watched: tuple[Look, ...]
    by_loss: bool
    seed: int
    losses: list[float] = field(default_factory=list)

    @property
    def trained(self) -> Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]:
        return self.nets.trained

    @property
    def scored(self) -> bool:
        return bool(self.watched) or self.by_loss

    def step(self) -> dict[str, float]:
        recipe = self.recipe
        batch = self._batch()
        rate = self.set_rate()
        parts: dict[str, float] = {}
        adversarial = self.nets.critic is not None and self.at.iteration >= recipe.adversarial_from
        if adversarial:
            for k in range(recipe.critic_steps):
                parts |= update_steps.critics_step(self.nets, batch if k == 0 else self._batch(), recipe)
        with torch.autocast(batch.input.device.type, torch.bfloat16, enabled=self.at.mixed):
            fake = self.nets.generator(batch.input)
        fake = fake.float()
        parts |= update_steps.generators_step(self.nets, batch, fake, recipe, adversarial)
        if self.by_loss:
            self.losses.append(parts["loss"])
        return parts | {"learning_rate": rate}

    def score(self) -> float:
        if self.watched:
            return score(self.nets, self.watched, self.recipe)
        recent, self.losses = float(np.mean(self.losses)), []
        return float(-10 * np.log10(max(recent, 1e-12)))

    def lower_score(self) -> float | None:
        return score(self.nets, self.watched, self.recipe, lower=True) if self.watched else None

    def _batch(self) -> Batch:
        """Windows of the next step."""
        vary, factor = self.recipe.augmentation, self.windows.factor
        if self.recipe.factors:
            factor = self.windows.factor_of(float(self.rng.choice(np.array(self.recipe.factors))))
        sides, chosen = self._chosen(factor)
        turns: list[Symmetry] = []
        if vary.dihedral:
            every = self.windows.turns(factor, sides)
            turns = [every[int(k)] for k in self.rng.integers(len(every), size=len(chosen))]
        batch = self.windows.cut(chosen, factor, self.recipe.background, turns)
        gain = float(np.exp(self.rng.normal(0, vary.gain)))
        source = (batch.input * gain).contiguous(memory_format=update_steps.channels_last(self.windows.ndim))
        return replace(batch, input=source, target=batch.target * gain)

    def _chosen(self, factor: Factor) -> tuple[tuple[int, ...], list[tuple[int, Box]]]:
        """(sides, (image, window) of each member of the batch)."""
        size, windows = self.drawn.batch, self.windows
        sources = [self.rng] * size
        if self.recipe.patches is not None:  # that many places, each seen once an epoch in an order of the epoch's own
            seen = range(self.at.iteration * size, (self.at.iteration + 1) * size)
            numbers = [_order(self.seed, k // self.recipe.patches, self.recipe.patches) for k in seen]
            sources = [
                np.random.default_rng([self.seed, 1, int(order[k % self.recipe.patches])])
                for k, order in zip(seen, numbers, strict=True)
            ]
        where = [self.regions[int(source.integers(len(self.regions)))] for source in sources]
        if self.recipe.patch is None and len({windows.at(r.image, factor).shape for r in where}) > 1:
            where = [where[0]] * size  # whole images of different sizes do not fit into one batch
        rooms = [(r.image, self._room(r, factor)) for r in where]
        sides = windows.sides(rooms, factor)
        out = []
        for (index, slices), source in zip(rooms, sources, strict=True):
            x, y, z = windows.places(index, factor, slices, sides).draw(source, 1)[0]
            corner = (x, y, z + slices[0])
            out.append((index, tuple((start, start + side) for start, side in zip(corner, sides, strict=True))))
        return sides, out

    def _room(self, region: Region, factor: Factor) -> tuple[int, int]:
        """The slices of a region on the grid of another factor, beginning where voxels of both grids do if need be."""
        depth = self.windows.at(region.image).shape[2]
        now = self.windows.at(region.image, factor)
        low, high = (min(now.shape[2], z * now.shape[2] // depth) for z in region.slices)
        step = now.steps[2][0] if self.windows.aligned else 1
        return low // step * step, high


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What `fit_images` was asked for; its parameters are explained there."""

    method: Method
    recipe: Recipe
    images: ImageSet
    factor: Factor
    seed: int
    work: Path
    device: str
    deadline: float | None
    started: float
    progress: Progress | None
    start: LoadedModel | None
    vgg: Path | None
    mixed: bool

    @property
    def signature(self) -> str:
        """Tells whether a checkpoint belongs to this training."""
        begun = None if self.start is None else self.start.card.get("weights_sha256")
        text = repr((
            self.method.name, plain_recipe(self.recipe), self.images.checksums(), self.factor, self.seed,
            self.vgg is not None, begun, self.mixed,
        ))  # fmt: skip
        return hashlib.sha256(text.encode()).hexdigest()

    def phase(
        self,
        name: str,
        windows: Windows,
        which: tuple[Region, ...],
        watched: tuple[Look, ...],
        count: int,
        share: float,
    ) -> ImagePhase:  # fmt: skip
        """Train one phase to its end."""
        whole = None if self.deadline is None else self.started + share * (self.deadline - self.started)
        nets = update_steps.build_networks(
            self.recipe, self.factor, self.seed, self.device, self.vgg, channels=self.images.channels,
            ndim=self.method.ndim, start=None if self.start is None else self.start.generator.state_dict(),
        )  # fmt: skip
        out = ImagePhase(
            name=name, recipe=self.recipe, slices=(), held_out=(), iterations=count, nets=nets, windows=windows,
            regions=which, watched=watched, seed=self.seed,
            by_loss=not (watched or self.recipe.contested) and name == "search",
            signature=f"{self.signature}-{count}", checkpoint=self.work / f"{name}.checkpoint.safetensors",
            deadline=whole, progress=self.progress, rng=np.random.default_rng([self.seed, len(which)]),
        )  # fmt: skip
        out.at.mixed = self.mixed and bool(watched)
        out.run()
        return out


def fit_images(
    method: Method,
    recipe: Recipe,
    images: ImageSet,
    *,
    factor: Factor,
    recipe_name: str,
    seed: int,
    work_dir: str | Path,
    threads: int = 1,
    device: str = "cpu",
    max_minutes: float | None = None,
    progress: Progress | None = None,
    start: LoadedModel | None = None,
    vgg_weights: str | Path | None = None,
    precision: Literal["auto", "fp32", "mixed"] = "auto",
) -> TrainedModel:
    """Train a method on a set of images.

    Parameters
    ----------
    method, recipe, recipe_name : what, and how long
    images : the set; for a method trained on "self" only its coarse images are looked at
    factor : coarse over fine voxel size of each axis
    seed : of weights, batches and augmentation; with the same number of threads the result is the same bit for bit
    work_dir : where checkpoints and the log lie; a killed run started again with the same arguments goes on from there
    threads : of torch on the CPU
    device : "cpu" or "cuda"
    max_minutes : stop on the clock; the card then says that the model cannot be reproduced
    progress : called with (phase, iteration, iterations)
    start : a model to begin with; all but its last layers stay as they are where the recipe says `freeze_but_last`
    vgg_weights : file for the perceptual term; without it the term is off and the card says so
    precision : "mixed" computes the generator in bf16 for as long as that does not change the held-out score by more
        than .01 dB at any look, and in fp32 from then on (without held-out windows always); "auto" is "mixed" on a GPU

    Raises
    ------
    TrainingDiverged : the loss is no longer a number
    OutOfDeviceMemory : half of the batch does not fit on the device either
    ImageSetError, ResolutionError : the images cannot be trained on
    ModelError : `start` is another network, or a recipe that is nothing without weights of VGG-19 has none
    """
    factor = check_factor(factor)
    check_perceptual(method, recipe, recipe_name, vgg_weights)
    _check(method, recipe, images, factor, start)
    work, now = Path(work_dir), time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    job = _Job(
        method=method, recipe=recipe, images=images, factor=factor, seed=seed, work=work, device=device,
        deadline=None if max_minutes is None else now + 60 * max_minutes, started=now, progress=progress, start=start,
        vgg=None if vgg_weights is None else Path(vgg_weights),
        mixed=precision == "mixed" or (precision == "auto" and device.startswith("cuda")),
    )  # fmt: skip
    with torch_threads(threads):
        windows = Windows(images, recipe, factor, method.ndim, device)
        train, held = regions(windows, recipe.hold_out)
        watched = looks(windows, [(region.image, region.slices) for region in held])
        refit = recipe.refit and bool(watched)
        first = job.phase("search", windows, train, watched, recipe.steps, 0.55 if refit else 1.0)
        first.nets.generator.load_state_dict(first.best)
        reached = compare(first.nets.generator, windows, watched) if watched else {}
        last = first
        if refit:
            last = job.phase("refit", windows, train + held, (), max(1, first.at.best_iteration), 1.0)
    phases = (first, last) if last is not first else (first,)
    LOG.info("trained %s in %.0f s: held out %s", method.name, sum(p.at.seconds for p in phases), reached)
    card = image_entries(method, recipe, recipe_name, images, windows, job.vgg is not None)
    card |= _training_entries(job, phases, held, reached)
    card |= {"seed": seed, "threads": threads, "device": device}
    state = {key: value.cpu() for key, value in last.best.items()}
    if recipe.keep_critic and last.nets.critic is not None:
        state |= {f"critic.{key}": value.cpu() for key, value in last.nets.critic.state_dict().items()}
    return TrainedModel(state=state, card=card, log=tuple(row for p in phases for row in p.at.log))


def _check(method: Method, recipe: Recipe, images: ImageSet, factor: Factor, start: LoadedModel | None) -> None:
    """Refuse what can be told before any work is done."""
    images.check(factor, method.ndim)
    if method.ndim == 2 and factor[2] != 1:
        raise ImageSetError(f"{method.name} works slice by slice; the factor {factor} asks for thinner slices")
    vary = recipe.augmentation
    if (vary.shift, vary.gamma, vary.noise) != (0.0, 0.0, 0.0):
        raise ValueError("sets of images are varied by flips and gain only: their coarse images are made beforehand")
    if start is None:
        return
    count, layers = recipe.freeze_but_last, len(update_steps.weighted_layers(start.generator))
    if count is not None and not 1 <= count <= layers:
        raise ModelError(f"the model to start from has {layers} layers with weights: {count} of them cannot be trained")
    wanted = recipe.build_generator(images.channels, factor).state_dict()
    found = start.generator.state_dict()
    wrong = [k for k in {*wanted, *found} if k not in wanted or k not in found or wanted[k].shape != found[k].shape]
    if wrong:
        raise ModelError(
            f"the model to start from ({start.card['method']}, {start.card['recipe']}) is another network than that of "
            f"{method.name}: {', '.join(sorted(wrong)[:3])} differ"
        )


def _training_entries(
    job: _Job, phases: Sequence[ImagePhase], held: Sequence[Region], reached: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """The part of the card that training found out."""
    first, recipe = phases[0], job.recipe
    checksum = next((str(module.checksum) for kind, module, _ in first.nets.terms if kind == "perceptual"), None)
    timed = [p.name for p in phases if p.at.done == "time"]
    why = [f"{' and '.join(timed)} stopped on the clock"] * bool(timed)
    why += ["the device had no room for the batch, which was halved"] * any(p.at.halved for p in phases)
    names = [image.name for image in job.images.images]
    kept = "the one here was trained again on all" if len(phases) > 1 else "it is the one here"
    text = f"figures of a model trained without these parts; {kept}; they chose the stopping point"
    other = "the last weights are kept" if recipe.contested else "the training loss chose the stopping point"
    generator = first.nets.generator
    return {
        "held_out": {
            "parts": [{"image": names[r.image], "slices": list(r.slices)} for r in held],
            "windows": [{"image": names[x.image], "box": [list(side) for side in x.box]} for x in first.watched],
            "iteration": first.at.best_iteration if first.scored else first.at.iteration,
            "model": text if held else f"nothing was held out: {other}",
            **reached,
        },
        "phases": {p.name: {"iterations": p.at.iteration, "stopped_by": p.at.done} for p in phases},
        "refit_on_all_slices": len(phases) > 1,
        "perceptual": perceptual_entry(recipe, checksum, job.vgg),
        "mixed_precision": {"kept": first.at.mixed, "score_change_db": first.at.mixed_loss_db},
        "reproducible": not why,
        **({"not_reproducible_because": "; ".join(why)} if why else {}),
        "parameters": sum(p.numel() for p in generator.parameters()),
        "parameters_trained": sum(p.numel() for p in generator.parameters() if p.requires_grad),
        **({} if job.start is None else {"started_from": started_from(job.start)}),
    }
