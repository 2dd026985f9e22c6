"""Phase of a training: steps, validation scores, checkpoints, and stopping criteria."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bids_sr.io import atomic_files
from bids_sr.io.series import VALIDATION_BASELINES
from bids_sr.spatial.image_similarity import ssim
from bids_sr.sr.models.model import remove_prefix
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import Journal, LogRow
from bids_sr.sr.networks.data.examples import Batch, Examples
from bids_sr.sr.networks.data.validation import (
    ScoredWindow,
    interpolate_windows,
    validation_windows,
)
from bids_sr.sr.networks.training.update_steps import Networks, get_memory_format
from bids_sr.sr.recipe import Recipe

_LOGGER = logging.getLogger(__name__)

TrainingProgress = Callable[[str, int, int], None]
Clock = Callable[[], float]
CHECKPOINT_SECONDS = 120.0
"""Time (s) after which a checkpoint is written, even between validation steps."""
_MIN_SSIM_SIDE = 11  # voxels, side of the SSIM window
_MIN_GAIN_DB = 0.005  # dB, smallest change of the score that counts as an improvement
_MAX_BF16_CHANGE_DB = 0.01  # dB, largest accepted change of the score; twice `_MIN_GAIN_DB`
_MIN_ERROR = 1e-12  # smallest mean squared error and sum of weights, to avoid division by zero


class TrainingDiverged(RuntimeError):
    """Error raised if the training loss is NaN or infinite."""


class OutOfDeviceMemory(RuntimeError):
    """Error raised if device memory is insufficient even for half of the batch."""


@dataclass(kw_only=True)
class _Counters:
    """Progress of a phase, stored in checkpoints (fields are keys of the file).

    `iteration` is the number of completed steps. `best_psnr` is the best score (dB), and
    `best_iteration` its step. `looks_without_gain` counts validation steps since the last
    improvement, and `looks_since_drop` since the last improvement or reduction of the learning
    rate. `rate_factor` is the factor of the learning rate, reduced on plateaus of the score.
    `halved` states whether device memory was insufficient for the recipe's batch size, and `moved`
    whether the training continued on another device, with another number of threads, or with
    another version of torch. `mixed` states whether bf16 is used, and `mixed_loss_db` is the loss
    of score by bf16 at the last check (dB). `seconds` is the duration of the training. `done` is
    the reason for the end of the training; "" if it continues. `log` has one row per validation
    step.
    """

    iteration: int = 0
    best_psnr: float = -1e9
    best_iteration: int = 0
    looks_without_gain: int = 0
    rate_factor: float = 1.0
    looks_since_drop: int = 0
    halved: bool = False
    moved: bool = False
    mixed: bool = False
    mixed_loss_db: float | None = None
    seconds: float = 0.0
    done: str = ""
    log: list[LogRow] = field(default_factory=list)


@dataclass(kw_only=True)
class Phase:
    """Training of a network with its mutable state.

    Batches come from `examples`; `windows` are held out. `signature` determines whether a
    checkpoint belongs to this training, and `folder` contains checkpoints and log.
    `second_windows` are windows of a second image pair, scored for the log. `deadline` is the
    value of `clock` (s) that stops the training; None if there is no limit. `progress` is called
    with phase, iteration and number of iterations. `clock` returns a monotonic time (s). `name` is
    the name of the training in files, logs and cards. `training_windows` are windows of training
    slabs, scored for the log, and `losses` the training losses since the last validation step.
    `rng` is not used by torch, which has its own random state.
    """

    name: ClassVar[str] = "search"
    training: ModelRequest
    examples: Examples
    windows: tuple[ScoredWindow, ...]
    signature: str
    folder: Path
    second_windows: tuple[ScoredWindow, ...]
    deadline: float | None
    progress: TrainingProgress | None
    clock: Clock
    training_windows: tuple[ScoredWindow, ...] = field(init=False)
    nets: Networks = field(init=False)
    rng: np.random.Generator = field(init=False)
    counters: _Counters = field(init=False, default_factory=_Counters)
    best_weights: dict[str, Tensor] = field(init=False, default_factory=dict)
    losses: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        training, examples = self.training, self.examples
        start = training.start_model
        self.nets = Networks(
            self.recipe,
            examples.factor,
            seed=training.random_seed,
            device=training.device,
            vgg_weights=training.vgg_weights,
            channels=examples.channels,
            ndim=examples.ndim,
            start=None if start is None else start.generator.state_dict(),
            companions=None if start is None else start.companions,
        )
        self.rng = np.random.default_rng([training.random_seed, len(examples.training_slabs)])
        # the loss is the only score if there are no high-resolution images
        self.training_windows = (
            ()
            if self.recipe.objective == "self"
            else validation_windows(examples, examples.training_slabs)
        )
        self.counters.mixed = training.mixed and bool(self.windows or self.training_windows)

    @property
    def recipe(self) -> Recipe:
        """Recipe of the training."""
        return self.examples.recipe

    @property
    def checkpoint(self) -> Path:
        """Checkpoint file for resuming the training after an interruption or the time limit."""
        return self.folder / f"{self.name}.checkpoint.safetensors"

    @property
    def is_scored_by_loss(self) -> bool:
        """Whether the score is the training loss, because nothing is held out.

        The loss is averaged since the last validation step.
        """
        return not (self.windows or self.recipe.has_adversarial_loss)

    @property
    def has_score(self) -> bool:
        """Whether validation steps have a score, from held-out windows or the training loss."""
        return bool(self.windows) or self.is_scored_by_loss

    @property
    def keeps_best(self) -> bool:
        """Whether the weights with the best score are kept, rather than the last weights."""
        return self.has_score and self.recipe.keep == "best"

    @property
    def kept_iteration(self) -> int:
        """Number of training steps of the kept weights."""
        return self.counters.best_iteration if self.keeps_best else self.counters.iteration

    @property
    def batch_size(self) -> int:
        """Number of examples per step, halved if device memory was insufficient."""
        return max(1, self.recipe.batch // 2) if self.counters.halved else self.recipe.batch

    def draw_batch(self) -> Batch:
        """Draw the next batch."""
        batch = self.examples.draw_batch(
            self.rng,
            iteration=self.counters.iteration,
            seed=self.training.random_seed,
            size=self.batch_size,
        )
        return replace(
            batch,
            input=batch.input.contiguous(memory_format=get_memory_format(self.examples.ndim)),
        )

    def run_step(self) -> dict[str, float]:
        """Run one training step, and return losses and learning rate for the log."""
        counters, recipe = self.counters, self.recipe
        batch = self.draw_batch()
        rate = self.nets.set_rate(counters.iteration, counters.rate_factor)
        with torch.autocast(batch.input.device.type, torch.bfloat16, enabled=counters.mixed):
            fake = self.nets.generator(batch.input)
        fake = fake.float()
        loss_values: dict[str, float] = {}
        is_adversarial = (
            "critic" in self.nets.modules and counters.iteration >= recipe.adversarial_from
        )
        if is_adversarial:
            loss_values |= self.nets.update_critics(batch, fake, in_bf16=counters.mixed)
            for _ in range(recipe.critic_steps - 1):
                loss_values |= self.nets.update_critics(self.draw_batch(), in_bf16=counters.mixed)
        loss_values |= self.nets.update_generators(batch, fake, adversarial=is_adversarial)
        if self.is_scored_by_loss:
            self.losses.append(loss_values["loss"])
        return loss_values | {"learning_rate": rate}

    def run(self) -> None:
        """Train to the end or the deadline, starting from a checkpoint if one exists.

        The deadline does not change the state that is resumed: the checkpoint is written before
        the last weights are scored, and without `done`.
        """
        self._resume()
        checkpoint_time = self.clock()
        start_time = checkpoint_time - self.counters.seconds
        log = self.counters.log
        journal = Journal(
            self.folder, self.name, last_iteration=int(log[-1]["iteration"]) if log else 0
        )
        while not self.counters.done:
            loss_values = self._try_step()
            self.counters.iteration += 1
            self._check_losses(loss_values)
            current_time = self.clock()
            self.counters.seconds = current_time - start_time
            is_late = self.deadline is not None and current_time > self.deadline
            is_validation = self._is_validation_step
            if is_validation:
                self._validate(loss_values)
                self.counters.done = self._find_end_reason()
            if is_validation or is_late or current_time - checkpoint_time >= CHECKPOINT_SECONDS:
                self._write_checkpoint(journal if is_validation else None)
                checkpoint_time = current_time
            if is_late and not self.counters.done:
                if not is_validation:
                    self._validate(loss_values)
                    # the checkpoint lacks the last row, so a resumed phase discards it
                    with suppress(atomic_files.DiskFullError):
                        journal.add(log)
                self.counters.done = "time"
            if self.progress is not None:
                self.progress(self.name, self.counters.iteration, self.recipe.steps)
        journal.close()

    def _resume(self) -> None:
        """Restore the state from the checkpoint if it belongs to this phase."""
        try:
            checkpoint = read_checkpoint(self.checkpoint)
        except ValueError as error:
            _LOGGER.warning("%s. Training of %s starts from the beginning.", error, self.name)
            return
        if checkpoint is None or checkpoint[1].get("signature") != self._full_signature:
            return
        tensors, values = checkpoint
        for name, optimizer in self.nets.optimizers.items():
            self.nets.modules[name].load_state_dict(remove_prefix(tensors, f"{name}."))
            restore_optimizer(optimizer, tensors, f"{name}_optimizer")
        self.best_weights = remove_prefix(tensors, "best.")
        state, progress, losses = values["rng"], values["progress"], values["losses"]
        assert isinstance(state, dict)
        assert isinstance(progress, dict)
        assert isinstance(losses, list)
        self.rng.bit_generator.state = state
        torch.set_rng_state(tensors["torch_rng"])
        if "cuda_rng" in tensors and self.training.device.startswith("cuda"):
            torch.cuda.set_rng_state(tensors["cuda_rng"], self.training.device)
        self.counters = _Counters(**progress)
        self.counters.moved |= values["computed_by"] != self._environment
        self.losses = losses
        _LOGGER.info("Training of %s resumes at iteration %d.", self.name, self.counters.iteration)

    def _try_step(self) -> dict[str, float]:
        """Run a training step, with half the batch size if device memory is insufficient."""
        try:
            return self.run_step()
        except torch.cuda.OutOfMemoryError as error:
            size = self.batch_size
            if self.counters.halved or size == 1:
                raise self._make_memory_error(
                    f"a batch size of {size}, which is half of the original batch size,"
                    if self.counters.halved
                    else f"a batch size of {size}"
                ) from error
        self.counters.halved = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _LOGGER.warning(
            "%s: device memory is insufficient for a batch size of %d. Training continues "
            "with a batch size of %d.",
            self.name,
            size,
            size // 2,
        )
        return self._try_step()

    def _check_losses(self, loss_values: Mapping[str, float]) -> None:
        """Raise TrainingDiverged if a term of the loss is NaN or infinite."""
        if all(map(np.isfinite, loss_values.values())):
            return
        raise TrainingDiverged(
            f"{self.name}: the training loss is NaN or infinite in iteration "
            f"{self.counters.iteration}. {_describe_cause(loss_values, self.counters)}."
            f" {self._checkpoint_sentence}."
        )

    @property
    def _is_validation_step(self) -> bool:
        """Whether a validation follows the completed step: at regular intervals and at the end."""
        iteration = self.counters.iteration
        return iteration % self.recipe.look_every == 0 or iteration == self.recipe.steps

    def _validate(self, loss_values: dict[str, float]) -> None:
        """Score held-out data or the training loss, keep the best weights, and log the scores.

        Windows of training slabs and of a second pair are scored for the log only, with one
        exception: if nothing is held out, mixed precision is tested on windows of training
        slabs.
        """
        counters = self.counters
        row: dict[str, str | float] = {
            "phase": self.name,
            "iteration": counters.iteration,
            **loss_values,
        }
        if self.has_score:
            score = row["psnr"] = self._compute_validation_score()
            self.losses = []
            self._count_improvement(score)
        row |= self._compute_logged_scores()
        fp32_column = "psnr" if self.windows else "psnr_trained_slices"
        if counters.mixed and fp32_column in row:
            self._check_precision(self.windows or self.training_windows, float(row[fp32_column]))
        if not self.keeps_best or counters.best_iteration == counters.iteration:
            self.best_weights = {
                key: value.detach().clone()
                for key, value in self.nets.generator.state_dict().items()
            }
        counters.log.append(row)

    def _compute_validation_score(self) -> float:
        """Return the score (dB) of held-out windows, or of the training loss without windows."""
        if not self.windows:
            return _convert_to_db(float(np.mean(self.losses)))
        try:
            return _compute_score(self.nets, self.windows)
        except torch.cuda.OutOfMemoryError as error:
            raise self._make_memory_error("the held-out data") from error

    def _make_memory_error(self, request: str) -> OutOfDeviceMemory:
        """Return the error for insufficient device memory."""
        return OutOfDeviceMemory(
            f"{self.name}: device memory is insufficient for {request} in iteration "
            f"{self.counters.iteration + 1}. {self._checkpoint_sentence}. Train on the CPU "
            "(--set resources.device=cpu; bids-sr-models: --device cpu), or free device memory."
        )

    @property
    def _checkpoint_sentence(self) -> str:
        """Sentence about the last valid checkpoint, for error messages."""
        if self.checkpoint.exists():
            return f"The last valid checkpoint is {self.checkpoint}"
        return "No checkpoint was written"

    def _count_improvement(self, score: float) -> None:
        """Update best score, patience and learning rate after a validation step."""
        counters, recipe = self.counters, self.recipe
        if score > counters.best_psnr + _MIN_GAIN_DB:
            counters.best_psnr, counters.best_iteration = score, counters.iteration
            counters.looks_without_gain = counters.looks_since_drop = 0
        else:
            counters.looks_without_gain += 1
            counters.looks_since_drop += 1
        if recipe.schedule == "plateau" and counters.looks_since_drop >= recipe.plateau_patience:
            counters.rate_factor = counters.rate_factor * recipe.plateau_factor
            counters.looks_since_drop = 0

    def _compute_logged_scores(self) -> dict[str, float]:
        """Return scores of whole slices that are only logged, by column."""
        scores: dict[str, float] = {}
        for column, logged_windows in (
            ("psnr_trained_slices", self.training_windows),
            ("psnr_second_pair", self.second_windows),
        ):
            if not logged_windows:
                continue
            # whole slices may not fit into device memory even if training on patches is possible
            with suppress(torch.cuda.OutOfMemoryError):
                outputs = _apply_generator(self.nets.generator, logged_windows)
                scores[column] = _convert_to_db(_compute_error(outputs, logged_windows))
        if windows := self.windows or self.training_windows:
            scores |= self._measure_detail(windows)
        return scores

    def _measure_detail(self, windows: Sequence[ScoredWindow]) -> dict[str, float]:
        """Return the size of the added detail, and of the critic's gradient, by column.

        The added detail is the change of the input by the generator, relative to the change that
        gives the target.
        """
        scores: dict[str, float] = {}
        with suppress(torch.cuda.OutOfMemoryError):
            batches = [window.batch for window in windows]
            if self.recipe.objective == "self" or any(
                batch.input.shape != batch.target.shape for batch in batches
            ):
                return scores
            added = missing = 0.0
            for batch, output in zip(
                batches, _apply_generator(self.nets.generator, windows), strict=True
            ):
                added += float((batch.weight * (output - batch.input).square()).sum())
                missing += float((batch.weight * (batch.target - batch.input).square()).sum())
            if missing > 0:
                scores["added_detail"] = float(np.sqrt(added / missing))
            ratios = [self.nets.compare_gradients(batch) for batch in batches]
            known = [ratio for ratio in ratios if ratio is not None]
            if known:
                scores["gradient_ratio"] = float(np.mean(known))
        return scores

    def _check_precision(self, windows: Sequence[ScoredWindow], fp32_score: float) -> None:
        """Permanently disable mixed precision if it affects the score of windows (dB)."""
        score_loss = fp32_score - _compute_score(self.nets, windows, in_bf16=True)
        self.counters.mixed_loss_db = round(score_loss, 4)
        if abs(score_loss) > _MAX_BF16_CHANGE_DB:
            self.counters.mixed = False
            _LOGGER.info(
                "%s: mixed precision (bf16) changes the score by %.3g dB, so training "
                "continues in single precision (fp32).",
                self.name,
                score_loss,
            )

    def _find_end_reason(self) -> str:
        """Return the reason for the end of the training, or "" if it continues."""
        patience = self.recipe.patience
        if self.counters.iteration >= self.recipe.steps:
            return "iterations"
        if (
            self.keeps_best
            and patience is not None
            and self.counters.looks_without_gain >= patience
        ):
            return "plateau"
        return ""

    def _write_checkpoint(self, journal: Journal | None) -> None:
        """Write the checkpoint and, at a validation step, the log.

        If the disk is full, training continues without a new checkpoint.
        """
        tensors = _add_prefix(self.best_weights, "best.")
        tensors["torch_rng"] = torch.get_rng_state()
        if self.training.device.startswith("cuda"):
            tensors["cuda_rng"] = torch.cuda.get_rng_state(self.training.device)
        for name, optimizer in self.nets.optimizers.items():
            tensors |= _add_prefix(self.nets.modules[name].state_dict(), f"{name}.")
            tensors |= flatten_optimizer(optimizer, f"{name}_optimizer")
        values = {
            "signature": self._full_signature,
            "rng": self.rng.bit_generator.state,
            "progress": asdict(self.counters),
            "losses": self.losses,
            "computed_by": self._environment,
        }
        try:
            write_checkpoint(self.checkpoint, tensors, values)
            if journal is not None:
                journal.add(self.counters.log)
        # this warning replaces the error message, which asks the user to repeat the command
        except atomic_files.DiskFullError:
            _LOGGER.warning(
                "%s: the checkpoint %s could not be written because the disk is full (%s). "
                "Training continues, but if it is interrupted, it can only resume from an "
                "earlier checkpoint.",
                self.name,
                self.checkpoint,
                atomic_files.free_text(self.checkpoint),
            )

    @property
    def _full_signature(self) -> str:
        """Signature, extended by the checksums of networks that compute features for the loss."""
        checksums = [
            getattr(term.module, "checksum", "")
            for term in self.nets.terms
            if term.kind == "perceptual"
        ]
        return "-".join([self.signature, *checksums])

    @property
    def _environment(self) -> str:
        """Device, number of threads and torch version, which affect the last digits of results."""
        device, threads = self.training.device, self.training.omp_nthreads
        return f"{device}, {threads} threads, torch {torch.__version__}"


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    """Return tensors (on the CPU) and values of a checkpoint, or None if there is none.

    ValueError is raised if the file is damaged or not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            values = json.loads((stream.metadata() or {})["values"])
            return {key: stream.get_tensor(key) for key in stream.keys()}, values  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: the file is not a valid checkpoint ({error})") from error


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Restore the moments returned by `flatten_optimizer`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in remove_prefix(tensors, f"{prefix}.").items():
        index, moment = name.split(".")
        state.setdefault(int(index), {})[moment] = value.clone()
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _describe_cause(loss_values: Mapping[str, float], counters: _Counters) -> str:
    """Return a sentence about the likely cause of an invalid loss."""
    invalid_terms = [
        name for name, value in loss_values.items() if not np.isfinite(value) and name != "loss"
    ]
    losses = [float(row["loss"]) for row in counters.log if "loss" in row]
    if not losses and counters.iteration <= 1:
        cause = (
            "The loss was invalid in the first step, so the images or the initial weights contain "
            "values that are too large"
        )
    elif not losses:
        cause = (
            "The loss became invalid before the first validation, so the first steps were too "
            "large. Try a lower learning rate"
        )
    elif invalid_terms and all(
        "critic" in name or name == "adversarial" for name in invalid_terms
    ):
        cause = (
            "The critic diverged. Try a lower learning rate for the critic, or a lower weight for "
            "the adversarial loss"
        )
    else:
        cause = (
            f"The loss was {losses[-1]:.3g} at the last validation (lowest loss: "
            f"{min(losses):.3g}), so the training steps are too large. Try a lower learning rate "
            "or gradient clipping"
        )
    return f"{cause} (invalid loss terms: {', '.join(invalid_terms)})" if invalid_terms else cause


def _compute_score(
    nets: Networks, windows: Sequence[ScoredWindow], *, in_bf16: bool = False
) -> float:
    """Return the score of windows in dB; higher is better.

    The score is the PSNR. For the objective "self", weighted total variation is added to the mean
    squared error before the conversion to dB.
    """
    outputs = _apply_generator(nets.generator, windows, in_bf16=in_bf16)
    error = _compute_error(outputs, windows)
    if nets.recipe.objective != "self":
        return _convert_to_db(error)
    for term in nets.terms:
        if term.kind == "tv":
            variations = [
                float(term.module(output, window.batch.target))
                for output, window in zip(outputs, windows, strict=True)
            ]
            error += term.weight * float(np.mean(variations))
    return _convert_to_db(error)


def _add_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return tensors with a prefix added to their names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def flatten_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return the moments of an optimizer by name, such as ``prefix.3.exp_avg``.

    The dictionary is empty before the first step.
    """
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{index}.{key}": torch.as_tensor(value)
        for index, moments in state.items()
        for key, value in moments.items()
    }


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, object]
) -> None:
    """Write tensors and JSON values to a file, completely or not at all.

    `values` contains counters, random state and log. DiskFullError is raised if the disk is full.
    """
    from safetensors.torch import save

    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    # safetensors' own writer does not report a full disk
    atomic_files.write_bytes(path, save(copies, metadata={"values": json.dumps(values)}))


def compare_with_interpolations(
    generator: nn.Module, examples: Examples, windows: Sequence[ScoredWindow]
) -> dict[str, dict[str, float]]:
    """Return held-out metrics of the network and of interpolations, for the model card.

    For the objective "self", only the consistency of the network with the acquired data is
    returned.
    """
    outputs = _apply_generator(generator, windows)
    if examples.recipe.objective == "self":
        return {"network": {"consistency_psnr": _compute_psnr(outputs, windows)}}
    # every interpolation equals the input at a factor of 1
    is_same_grid = all(f == 1 for f in examples.factor)
    baselines = (
        {"input": "bspline"} if is_same_grid else {name: name for name in VALIDATION_BASELINES}
    )
    images_by_method = {"network": outputs}
    images_by_method |= {
        name: interpolate_windows(examples, baseline, windows)
        for name, baseline in baselines.items()
    }
    return {name: _compute_metrics(images, windows) for name, images in images_by_method.items()}


def _apply_generator(
    generator: nn.Module, windows: Sequence[ScoredWindow], *, in_bf16: bool = False
) -> list[Tensor]:
    """Return the generator's output for each window."""
    generator.eval()
    try:
        with (
            torch.no_grad(),
            torch.autocast(windows[0].batch.input.device.type, torch.bfloat16, enabled=in_bf16),
        ):
            return [generator(window.batch.input).float() for window in windows]
    finally:  # dropout is enabled again for training, even after an out-of-memory error
        generator.train()


def _compute_metrics(
    images: Sequence[Tensor], windows: Sequence[ScoredWindow]
) -> dict[str, float]:
    """Return the PSNR (dB), and the SSIM if windows are large enough."""
    similarities, voxel_counts = [], []
    for image, window in zip(images, windows, strict=True):
        is_inside = window.batch.weight[0, 0].cpu().numpy() > 0
        if min(image.shape[2:4]) < _MIN_SSIM_SIDE or not is_inside.any():
            continue
        channels = zip(image[0].cpu().numpy(), window.batch.target[0].cpu().numpy(), strict=True)
        for output, target in channels:
            similarities.append(ssim(target, output, data_range=1.0, mask=is_inside))
            voxel_counts.append(float(is_inside.sum()))
    metrics = {"psnr": _compute_psnr(images, windows)}
    if similarities:
        mean_similarity = float(np.average(similarities, weights=voxel_counts))
        metrics["ssim"] = round(mean_similarity, 5)
    return metrics


def _compute_psnr(images: Sequence[Tensor], windows: Sequence[ScoredWindow]) -> float:
    """Return the PSNR (dB), rounded to the digits of the model card."""
    return round(_convert_to_db(_compute_error(images, windows)), 4)


def _convert_to_db(error: float) -> float:
    """Return a mean squared error as a score in dB; higher is better."""
    return float(-10 * np.log10(max(error, _MIN_ERROR)))


def _compute_error(outputs: Sequence[Tensor], windows: Sequence[ScoredWindow]) -> float:
    """Return the weighted mean squared error over all windows."""
    squared_error = total_weight = 0.0
    for output, window in zip(outputs, windows, strict=True):
        batch = window.batch
        image = batch.to_target_grid(output)
        weight = batch.weight.expand_as(image)
        squared_error += float((weight * (image - batch.target).square()).sum())
        total_weight += float(weight.sum())
    return squared_error / max(total_weight, _MIN_ERROR)
