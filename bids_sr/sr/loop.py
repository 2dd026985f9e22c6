"""One phase of any training: steps, looks at what was held out, checkpoints, and when to stop.

What a step is and how a look is scored is the business of the subclass; counting, stopping and going on after a kill is
the same for all.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint import CheckpointError, flatten_optimizer, read_checkpoint, restore_optimizer, write_checkpoint
from .method import Recipe

LOG = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
_GAIN_DB = 0.005


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the last good checkpoint is still there."""


@dataclass(kw_only=True)
class Counters:
    """Where a phase stands; goes into the checkpoint as it is."""

    iteration: int = 0
    best_psnr: float = -1e9
    best_iteration: int = 0
    looks_without_gain: int = 0
    seconds: float = 0.0
    done: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class Phase(ABC):
    """One phase of training with everything it needs; mutable, private to the trainings.

    Parameters
    ----------
    name, recipe, iterations : what, and how many steps at most
    slices, held_out : training and watched slices
    signature : tells whether a checkpoint belongs to this phase
    checkpoint : its file
    deadline : of `time.monotonic`, or None
    progress : called with (phase, iteration, iterations)
    rng : the only source of chance besides torch's own
    at, best : counters, and the best weights so far
    """

    name: str
    recipe: Recipe
    slices: tuple[int, ...]
    held_out: tuple[int, ...]
    iterations: int
    signature: str
    checkpoint: Path
    deadline: float | None
    progress: Progress | None
    rng: np.random.Generator
    at: Counters = field(default_factory=Counters)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    @abstractmethod
    def trained(self) -> Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]:
        """Network and optimizer of each name; `generator` is among them."""

    @abstractmethod
    def step(self) -> dict[str, float]:
        """One step; returns what it found, for the log."""

    @abstractmethod
    def score(self) -> float:
        """Score of the held-out slices in dB, higher is better."""

    def run(self) -> None:
        """Train to the end, from the checkpoint where there is one."""
        self._resume()
        started = time.monotonic() - self.at.seconds
        while not self.at.done:
            parts = self.step()
            self.at.iteration += 1
            if not all(np.isfinite(value) for value in parts.values()):
                raise TrainingDiverged(
                    f"{self.name}: the loss is no longer a number at iteration {self.at.iteration}; "
                    f"the last good checkpoint is {self.checkpoint}. A smaller learning rate may help"
                )
            self.at.seconds = time.monotonic() - started
            late = self.deadline is not None and time.monotonic() > self.deadline
            if self.at.iteration % self.recipe.evaluate_every == 0 or self.at.iteration == self.iterations or late:
                self._look(parts)
                self.at.done = self._finished(late)
                self._save()
            if self.progress is not None:
                self.progress(self.name, self.at.iteration, self.iterations)

    def _look(self, parts: dict[str, float]) -> None:
        """Score the held-out slices, remember the best weights, add a row to the log."""
        at = self.at
        row: dict[str, Any] = {"phase": self.name, "iteration": at.iteration, **parts}
        if self.held_out:
            row["psnr"] = psnr = self.score()
            gained = psnr > at.best_psnr + _GAIN_DB
            at.looks_without_gain = 0 if gained else at.looks_without_gain + 1
            if gained:
                at.best_psnr, at.best_iteration = psnr, at.iteration
        if not self.held_out or at.best_iteration == at.iteration:
            generator = self.trained["generator"][0]
            self.best = {key: value.detach().clone() for key, value in generator.state_dict().items()}
        at.log.append(row)

    def _finished(self, late: bool) -> str:
        patience = self.recipe.patience
        if self.at.iteration >= self.iterations:
            return "iterations"
        if self.held_out and patience is not None and self.at.looks_without_gain >= patience:
            return "plateau"
        return "time" if late else ""

    def _save(self) -> None:
        tensors = {f"best.{k}": v for k, v in self.best.items()} | {"torch_rng": torch.get_rng_state()}
        for name, (module, optimizer) in self.trained.items():
            tensors |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
            tensors |= flatten_optimizer(optimizer, f"{name}_optimizer")
        values = {"signature": self.signature, "rng": self.rng.bit_generator.state, "progress": asdict(self.at)}
        write_checkpoint(self.checkpoint, tensors, values)

    def _resume(self) -> None:
        try:
            found = read_checkpoint(self.checkpoint)
        except CheckpointError as error:
            LOG.warning("%s; %s is trained from the start", error, self.name)
            return
        if found is None or found[1].get("signature") != self.signature:
            return
        tensors, values = found
        for name, (module, optimizer) in self.trained.items():
            module.load_state_dict(_part(tensors, f"{name}."))
            restore_optimizer(optimizer, tensors, f"{name}_optimizer")
        self.best = _part(tensors, "best.")
        self.rng.bit_generator.state = values["rng"]
        torch.set_rng_state(tensors["torch_rng"])
        self.at = Counters(**values["progress"])
        LOG.info("%s goes on from iteration %d", self.name, self.at.iteration)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def split(slices: tuple[int, ...], hold_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(training, held-out) slices: every n-th is held out, beginning in the middle of the first n."""
    held = slices[min(hold_out // 2, len(slices) - 1) :: hold_out]
    return tuple(z for z in slices if z not in held), held


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch, and those from before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
