"""Training of kernels on the run itself, one level below the one where they are used.

The run stands there in its strongest temporal components. Each is brought down by the factor and zero filled; the
network looks at static guides and predicts the kernels that bring it closest to what was measured. The loss is the
squared error over that of zero filling, component by component, so that strong components do not drown weak ones.
Held-out slices say which weights are kept: trained for longer the network fits its own slices only.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .card import plain_recipe, run_entries
from .degrade import Factor, check_factor, fine_size
from .levels import level_above, level_below, to_slices
from .loop import Phase, Progress, split, torch_threads
from .method import Method, Recipe, SeriesRecipe
from .model import TrainedModel
from .networks.kernelnet import apply_kernels
from .patches import dihedral
from .temporal import SeriesError, TemporalStatistics, guide_channels

LOG = logging.getLogger(__name__)
Array = NDArray[Any]
GuideKind = Literal["highres", "t1w", "none"]
_PIXELS = 1600  # of a slice, for which the number of slices a step was chosen
_MARGIN = 6  # voxels around the mask that are kept: as far as five layers and the head see


@dataclass(frozen=True, kw_only=True)
class TrainingSeries:
    """A run to learn from, on its acquired grid.

    Parameters
    ----------
    statistics : of the run, motion corrected
    mask : (x, y, z), the brain
    affine : voxel -> RAS mm
    factor : acquired over wanted voxel size
    guide : (X, Y, Z) fine image of the anatomy on the fine grid, in the pose of the run; None with guide kind "none"
    guide_kind : what the guide is

    Raises
    ------
    SeriesError : grids that do not belong together, or a guide that is missing, constant or not finite
    """

    statistics: TemporalStatistics
    mask: Array
    affine: Array
    factor: Factor
    guide: Array | None
    guide_kind: GuideKind
    contrast: str = "bold"

    def __post_init__(self) -> None:
        check_factor(self.factor)
        shape = self.statistics.mean.shape
        if self.mask.shape != shape:
            raise SeriesError(f"the mask {self.mask.shape} is not on the grid of the series {shape}")
        if not (self.mask > 0).any():
            raise SeriesError("the mask of the series is empty")
        if (self.guide is None) != (self.guide_kind == "none"):
            raise SeriesError(
                f"a guide of kind {self.guide_kind!r} {'is missing' if self.guide is None else 'is there'}"
            )
        if self.guide is not None:
            wanted = tuple(fine_size(n, f) for n, f in zip(shape, self.factor, strict=True))
            if self.guide.shape != wanted:
                raise SeriesError(f"the guide {self.guide.shape} is not on the fine grid {wanted}")
            if not np.isfinite(self.guide).all() or np.ptp(self.guide) == 0:
                raise SeriesError("the guide is constant or not finite")

    def checksums(self) -> dict[str, str]:
        """SHA-256 of the series, the mask and the guide."""
        out = dict(self.statistics.checksums)
        if self.guide is not None:
            out["guide"] = hashlib.sha256(np.ascontiguousarray(self.guide, dtype="<f4").data).hexdigest()
        return out

    @cached_property
    def anatomy(self) -> Tensor:
        """The static image on the acquired grid, (z, x, y): what an acquisition sees of the guide, or the mean."""
        shape = self.statistics.mean.shape
        if self.guide is None:
            return to_slices(self.statistics.mean)
        return level_above((shape[0], shape[1], shape[2]), self.factor).down(to_slices(self.guide))

    @property
    def static_unit(self) -> float:
        """99th percentile of the anatomy in the mask: 1 for the network, whatever the contrast."""
        found = float(np.percentile(np.moveaxis(self.anatomy.numpy(), 0, 2)[self.mask > 0], 99))
        if found <= 0:
            raise SeriesError("the guide shows nothing inside the mask")
        return found

    def usable_slices(self, least: float = 0.01) -> tuple[int, ...]:
        """Slices of which at least this part is mask; at least two must be left."""
        part = (self.mask > 0).mean((0, 1))
        out = tuple(int(z) for z in np.flatnonzero(part >= least))
        if len(out) < 2:
            raise SeriesError(f"only {len(out)} slices of the run show enough of the brain to learn from")
        return out


@dataclass(kw_only=True)
class LowerLevel:
    """What training sees: a window of the acquired grid, slices first.

    Parameters
    ----------
    source, target : (K, Z, X, Y) components brought down and zero filled, and as measured
    guides : (5, Z, X, Y)
    mask : (Z, X, Y)
    first : number of the first slice on the acquired grid
    """

    source: Tensor
    target: Tensor
    guides: Tensor
    mask: Tensor
    first: int


def lower_level(data: TrainingSeries, components: int, device: str = "cpu") -> LowerLevel:
    """Bring a run down by its factor; windows that the factor does not divide are cropped, then air is cut off."""
    shape = data.statistics.mean.shape
    level, window = level_below((shape[0], shape[1], shape[2]), data.factor, device)
    unit = data.statistics.sd_unit(data.mask > 0)
    target = torch.stack([to_slices(c[window]) for c in data.statistics.components[:components]]).to(device) / unit
    source = torch.stack([level.up(level.down(image)) for image in target])
    static = data.anatomy[window[2], window[0], window[1]].to(device) / data.static_unit
    if data.guide is None:  # one level up the mean is all there is, without detail of its own
        static = level.up(level.down(static))
    guides = guide_channels(static, source.square().sum(0).sqrt(), level)
    mask = to_slices((data.mask > 0)[window]).to(device)
    box = _box(mask)
    return LowerLevel(
        source=source[(..., *box)].contiguous(), target=target[(..., *box)].contiguous(),
        guides=guides[(..., *box)].contiguous(), mask=mask[(..., *box)].contiguous(), first=window[2].start,
    )  # fmt: skip


def _box(mask: Tensor) -> tuple[slice, slice]:
    """In-plane window around the mask with a margin; square where the matrix is, so that axes can be exchanged."""
    rows, columns = mask.shape[-2:]
    ends = []
    for axis, n in ((-1, rows), (-2, columns)):
        hit = torch.nonzero(mask.amax(axis).amax(0))
        ends.append([max(0, int(hit.min()) - _MARGIN), min(n, int(hit.max()) + 1 + _MARGIN)])
    if rows == columns:
        side = max(end - start for start, end in ends)
        for pair in ends:
            pair[0] = min(pair[0], rows - side)
            pair[1] = pair[0] + side
    return slice(*ends[0]), slice(*ends[1])


def relative_error(output: Tensor, source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over components of the weighted squared error over that of zero filling; all (N, C, *grid)."""
    axes = (0, *range(2, output.dim()))
    wrong = ((output - target).square() * weight).sum(axes)
    plain = ((source - target).square() * weight).sum(axes)
    return (wrong / plain.clamp_min(1e-12)).mean()


@dataclass(kw_only=True)
class _SeriesPhase(Phase):
    """Training on one run; `held_out` and `slices` are counted from the window's first slice."""

    recipe: SeriesRecipe
    level: LowerLevel
    net: nn.Module
    optimizer: torch.optim.Optimizer
    ndim: int

    @property
    def trained(self) -> Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]:
        return {"generator": (self.net, self.optimizer)}

    def _weight(self, slices: tuple[int, ...]) -> Tensor:
        keep = torch.zeros(len(self.level.mask), 1, 1, device=self.level.mask.device)
        keep[list(slices)] = 1
        return self.level.mask * keep

    def _cut(self, stack: Tensor, at: tuple[int, ...]) -> Tensor:
        """(C, Z, X, Y) to slices (N, C, X, Y), or windows of slices (N, C, depth, X, Y)."""
        if self.ndim == 2:
            return stack[:, list(at)].transpose(0, 1)
        depth = min(self.recipe.depth, stack.shape[1])
        return torch.stack([stack[:, z : z + depth] for z in at])

    def _count(self) -> int:
        """Slices a step: `batch` of the usual size, fewer of larger ones, so that every step costs the same."""
        size = self.level.mask.shape[-1] * self.level.mask.shape[-2]
        return max(2, min(self.recipe.batch, round(self.recipe.batch * _PIXELS / size)))

    def step(self) -> dict[str, float]:
        recipe, level = self.recipe, self.level
        if self.ndim == 2:
            at = tuple(int(self.slices[i]) for i in self.rng.integers(0, len(self.slices), self._count()))
        else:
            room = max(1, len(level.mask) - recipe.depth + 1)
            at = tuple(int(z) for z in self.rng.integers(0, room, max(1, self._count() // recipe.depth)))
        chosen = self.rng.permutation(len(level.source))[: recipe.components_a_step].tolist()
        turns = 8 if level.mask.shape[-1] == level.mask.shape[-2] else 4
        code = int(self.rng.integers(turns)) if recipe.augmentation.dihedral else 0
        stacks = (level.source[chosen], level.target[chosen], level.guides, self._weight(self.slices)[None])
        source, target, guides, weight = (dihedral(self._cut(stack, at), code).contiguous() for stack in stacks)
        rate = recipe.rate(self.at.iteration, recipe.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = relative_error(source + apply_kernels(source, self.net(guides)), source, target, weight)
        found = float(loss.detach())
        if np.isfinite(found):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.gradient_limit is not None:
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), recipe.gradient_limit)
            self.optimizer.step()
        return {"loss": found, "content": found, "learning_rate": rate}

    def score(self) -> float:
        return -10 * float(np.log10(self.error(self.held_out)))

    def error(self, slices: tuple[int, ...]) -> float:
        """Squared error over that of zero filling, on some slices."""
        level = self.level
        with torch.no_grad():
            if self.ndim == 2:
                stacks = (level.source, level.target, level.guides, level.mask[None])
                source, target, guides, weight = (self._cut(stack, slices) for stack in stacks)
            else:
                stacks = (level.source, level.target, level.guides, self._weight(slices)[None])
                source, target, guides, weight = (stack[None] for stack in stacks)
            output = source + apply_kernels(source, self.net(guides))
            return float(relative_error(output, source, target, weight))


def _signature(method: Method, recipe: Recipe, data: TrainingSeries, seed: int) -> str:
    """Tells whether a checkpoint belongs to this training."""
    text = repr((method.name, plain_recipe(recipe), data.checksums(), data.factor, data.guide_kind, seed))
    return hashlib.sha256(text.encode()).hexdigest()


def fit_series(
    method: Method,
    recipe: Recipe,
    data: TrainingSeries,
    *,
    recipe_name: str,
    seed: int,
    work_dir: str | Path,
    threads: int = 1,
    device: str = "cpu",
    max_minutes: float | None = None,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train a method on one run; arguments as in `train.fit`.

    The log's `psnr` is the gain over zero filling on the held-out slices in dB, the mean over components.

    Raises
    ------
    TrainingDiverged : the loss is no longer a number
    SeriesError, ResolutionError : the run cannot be learned from
    """
    if not isinstance(recipe, SeriesRecipe):
        raise SeriesError(f"the recipe {recipe_name} of {method.name} is not one for a run")
    work = Path(work_dir)
    work.mkdir(parents=True, exist_ok=True)
    with torch_threads(threads):
        level = lower_level(data, recipe.components, device)
        inside = tuple(z - level.first for z in data.usable_slices() if 0 <= z - level.first < len(level.mask))
        train, held = split(inside, recipe.hold_out)
        torch.manual_seed(seed)
        net = recipe.build_generator(1, data.factor).to(device)
        phase = _SeriesPhase(
            name="search", recipe=recipe, slices=train, held_out=held, iterations=recipe.iterations,
            signature=_signature(method, recipe, data, seed), checkpoint=work / "search.checkpoint.safetensors",
            deadline=None if max_minutes is None else time.monotonic() + 60 * max_minutes, progress=progress,
            rng=np.random.default_rng([seed, len(train)]), level=level, net=net, ndim=getattr(net, "ndim", 2),
            optimizer=torch.optim.Adam(net.parameters(), lr=recipe.learning_rate, betas=recipe.betas),
        )  # fmt: skip
        # kernels of nothing score 0 dB: what never does better than zero filling on held-out slices is not kept
        phase.at.best_psnr = 0.0
        nothing = {key: value.detach().clone() for key, value in net.state_dict().items()}
        phase.best = dict(nothing)
        phase.run()
        net.load_state_dict(phase.best)
        reached = {name: phase.error(which) for name, which in (("held_out", held), ("training", train))}
    trusted = 1 - reached["held_out"] >= recipe.least_explained
    LOG.info(
        "trained %s in %.0f s: %.3f of the error of zero filling", method.name, phase.at.seconds, reached["held_out"]
    )
    card = run_entries(method, recipe, recipe_name, data) | _training_entries(phase, reached, level.first)
    card |= {"seed": seed, "threads": threads, "device": device}
    if not trusted:
        card["held_out"]["model"] = (
            f"zero filling: less than {recipe.least_explained:.0%} of its error was explained on held-out slices"
        )
        LOG.warning("%s: %s", method.name, card["held_out"]["model"])
    state = phase.best if trusted else nothing
    return TrainedModel(state={k: v.cpu() for k, v in state.items()}, card=card, log=tuple(phase.at.log))


def _training_entries(phase: _SeriesPhase, reached: Mapping[str, float], first: int) -> dict[str, Any]:
    """The part of the card that training found out."""
    timed = phase.at.done == "time"
    return {
        "held_out": {
            "slices": [z + first for z in phase.held_out],
            "iteration": phase.at.best_iteration,
            "model": "it is the one here; the slices chose the stopping point",
            "explained_over_zerofill": round(1 - reached["held_out"], 5),
            "explained_over_zerofill_in_training": round(1 - reached["training"], 5),
        },
        "phases": {phase.name: {"iterations": phase.at.iteration, "stopped_by": phase.at.done}},
        "refit_on_all_slices": False,
        "perceptual": {"active": False, "reason": "the recipe has no such term"},
        "reproducible": not timed,
        **({"not_reproducible_because": "search stopped on the clock"} if timed else {}),
        "parameters": sum(p.numel() for p in phase.net.parameters()),
    }
