"""Test that training with an invalid loss, too little memory or a full disk stops with an error,
or continues from a valid state; and that mixed precision is used only if scores do not change.
"""

import errno
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from data.tiny_training import CONTENT, Tiny, TinyCritic, balls, equal_states, fit, recipe

from bids_sr.io import atomic_files
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.losses.adversarial import AdversarialBCE, AdversarialWasserstein
from bids_sr.sr.networks.training.phase import (
    OutOfDeviceMemory,
    Phase,
    TrainingDiverged,
    read_checkpoint,
    write_checkpoint,
)
from bids_sr.sr.networks.training.update_steps import Networks
from bids_sr.sr.recipe import LossTerm

BCE = {
    "build_critic": TinyCritic,
    "losses": (CONTENT, LossTerm(kind="adversarial", build=AdversarialBCE, weight=1e-2)),
}
CHECKPOINT = "search.checkpoint.safetensors"


def break_step(monkeypatch, step, part):
    """Replace a loss by NaN in one step."""
    update_generators, calls = Networks.update_generators, []

    def step_with_nan(*arguments, **options):
        calls.append(1)
        parts = update_generators(*arguments, **options)
        return parts | ({part: float("nan"), "loss": float("nan")} if len(calls) == step else {})

    monkeypatch.setattr(Networks, "update_generators", step_with_nan)


@pytest.mark.parametrize(
    ("step", "part", "is_critic"), [(7, "content", False), (7, "adversarial", True)]
)
def test_an_invalid_loss_is_an_error_and_the_last_valid_state_is_kept(
    step, part, is_critic, tmp_path, monkeypatch
):
    break_step(monkeypatch, step, part)
    with pytest.raises(TrainingDiverged, match=rf"iteration {step}\..*{CHECKPOINT}") as error:
        fit(balls(1), recipe(**BCE), tmp_path)
    assert f"terms: {part})" in str(error.value)
    assert ("critic diverged" in str(error.value)) is is_critic
    tensors, values = read_checkpoint(tmp_path / CHECKPOINT)
    assert values["progress"]["iteration"] == 4
    assert all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point())
    monkeypatch.undo()
    assert equal_states(
        fit(balls(1), recipe(**BCE), tmp_path).state,
        fit(balls(1), recipe(**BCE), tmp_path / "clean").state,
    )


def test_causes_of_an_invalid_loss_before_the_first_checkpoint_differ(tmp_path, monkeypatch):
    with pytest.raises(TrainingDiverged, match="before the first validation"):
        fit(balls(1), recipe(learning_rate=1e30), tmp_path)
    break_step(monkeypatch, 1, "content")
    with pytest.raises(TrainingDiverged, match=r"iteration 1\..*in the first step"):
        fit(balls(1), recipe(), tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def limit_memory(monkeypatch, largest):
    """Simulate a device with memory for only `largest` images per step; return the batch sizes
    tried.
    """
    batch_of_examples, sizes = Examples.draw_batch, []

    def batch_within_memory(self, *arguments, **options):
        batch = batch_of_examples(self, *arguments, **options)
        sizes.append(len(batch.input))
        if len(batch.input) > largest:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake)")
        return batch

    monkeypatch.setattr(Examples, "draw_batch", batch_within_memory)
    return sizes


def test_a_batch_that_exceeds_the_memory_is_halved_once_and_after_a_kill(
    tmp_path, monkeypatch, caplog
):
    sizes = limit_memory(monkeypatch, 2)

    def stop(_phase, iteration, _total):
        if iteration == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(balls(1), recipe(batch=4), tmp_path, progress=stop)
    card = fit(balls(1), recipe(batch=4), tmp_path).card
    assert sizes == [4, *[2] * 6, *[2] * 8]
    assert "a batch size of 4. Training continues with a batch size of 2" in caplog.text
    assert card["reproducible"] is False
    assert "halved" in card["not_reproducible_because"]


@pytest.mark.parametrize(("batch", "tried"), [(4, 2), (1, 1)])
def test_a_device_without_enough_memory_is_an_error(batch, tried, tmp_path, monkeypatch):
    limit_memory(monkeypatch, batch // 4)
    with pytest.raises(OutOfDeviceMemory, match=rf"batch size of {tried}\b.*in iteration 1\."):
        fit(balls(1), recipe(batch=batch), tmp_path)


class TooLarge:
    """Window that does not fit into the memory of the device."""

    @property
    def batch(self):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake)")


@pytest.mark.parametrize(
    "fields", [{"hold_out": 4}, {"hold_out": 0, "schedule": "plateau"}], ids=str
)
def test_a_training_does_not_depend_on_scores_that_are_only_logged(fields, tmp_path, monkeypatch):
    """Dropout makes the training depend on random numbers."""
    changed_recipe = recipe(build_generator=lambda *_: Tiny(dropout=0.3), **fields)
    scored = fit(balls(1), changed_recipe, tmp_path / "scored")
    compute_logged_scores = Phase._compute_logged_scores

    def with_large_windows(phase):
        with monkeypatch.context() as patch:
            patch.setattr(phase, "training_windows", (TooLarge(),))
            return compute_logged_scores(phase)

    monkeypatch.setattr(Phase, "_compute_logged_scores", with_large_windows)
    unscored = fit(balls(1), changed_recipe, tmp_path / "unscored")
    assert equal_states(scored.state, unscored.state)
    assert scored.card == unscored.card
    logged = [row.pop("psnr_trained_slices") for row in scored.log]
    assert all(isinstance(value, float) for value in logged)
    for row in (*scored.log, *unscored.log):
        row.pop("added_detail", None)
    assert scored.log == unscored.log


def test_a_full_disk_keeps_the_old_checkpoint_and_the_training(tmp_path, monkeypatch, caplog):
    uninterrupted = fit(balls(1), recipe(), tmp_path / "whole")
    checkpoint = tmp_path / "cut" / CHECKPOINT
    write_bytes = Path.write_bytes

    def write_until_full(path, data):
        if path.parent.name == "cut" and "checkpoint" in path.name and checkpoint.exists():
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    assert equal_states(fit(balls(1), recipe(), tmp_path / "cut").state, uninterrupted.state)
    assert f"{checkpoint} could not be written because the disk is full" in caplog.text
    assert "rerun the same command" not in caplog.text, "nothing has stopped"
    assert read_checkpoint(checkpoint)[1]["progress"]["iteration"] == 4
    assert [path.name for path in checkpoint.parent.glob(".*")] == []
    with pytest.raises(atomic_files.DiskFullError):
        write_checkpoint(checkpoint, {"a": torch.zeros(3)}, {})


class Bf16Changes(Tiny):
    """Network whose output in validation is shifted if bf16 is used."""

    shift = 0.0

    def forward(self, x):
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and self.training):
            output = super().forward(x)
        uses_bf16 = torch.is_autocast_enabled("cpu") and not self.training
        return output + self.shift * uses_bf16


class Bf16Harms(Bf16Changes):
    shift = 0.1


@pytest.mark.parametrize("hold_out", [4, 0])
@pytest.mark.parametrize(("network", "is_kept"), [(Bf16Changes, True), (Bf16Harms, False)])
def test_mixed_precision_is_dropped_if_it_changes_the_score(network, is_kept, hold_out, tmp_path):
    """Scores are those of training slices if nothing is held out."""
    changed_recipe = recipe(build_generator=lambda *_: network(), hold_out=hold_out)
    mixed = fit(balls(1), changed_recipe, tmp_path / "mixed", train_precision="mixed")
    change = mixed.card["mixed_precision"]["score_change_db"]
    assert mixed.card["mixed_precision"]["kept"] is is_kept
    assert change == 0 if is_kept else abs(change) > 0.01
    full = fit(balls(1), changed_recipe, tmp_path / "full", train_precision="fp32")
    entry = {"asked": False, "kept": False, "score_change_db": None}
    assert full.card["mixed_precision"] == entry
    assert not equal_states(mixed.state, full.state)


class TypedTiny(Bf16Changes):
    """Record the dtype of the output of its first layer while gradients are off."""

    types: ClassVar = []

    def forward(self, x):
        if self.training and not torch.is_grad_enabled():
            self.types.append(self.first(x).dtype)
        return super().forward(x)


class TypedCritic(TinyCritic):
    """Record the dtypes of its images and of its first output."""

    types: ClassVar = []

    def forward(self, image):
        self.types.append((image.dtype, self.look(image).dtype))
        return super().forward(image)


@pytest.mark.parametrize("precision", ["mixed", "fp32"])
@pytest.mark.parametrize(("objective", "passes"), [("supervised", 1), ("cycle", 3)])
def test_images_for_critics_are_computed_in_bf16_and_critics_in_fp32(
    objective, passes, precision, tmp_path, monkeypatch
):
    monkeypatch.setattr(TypedTiny, "types", [])
    monkeypatch.setattr(TypedCritic, "types", [])
    adversarial = LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1e-2)
    changed_recipe = recipe(
        objective=objective,
        build_generator=lambda channels, _: TypedTiny(channels),
        build_critic=TypedCritic,
        losses=(adversarial,) if objective == "cycle" else (CONTENT, adversarial),
        critic_game="wasserstein",
        critic_steps=2,
        iterations=2,
    )
    fit(balls(1), changed_recipe, tmp_path, train_precision=precision)
    # The first of two critic steps per step reuses the images of the generator.
    expected = torch.bfloat16 if precision == "mixed" else torch.float32
    assert TypedTiny.types == [expected] * 2 * passes
    assert set(TypedCritic.types) == {(torch.float32, torch.float32)}
