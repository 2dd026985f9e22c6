"""Test that training resumes exactly after a kill, for every objective, and stops with a clear
error if it cannot continue.
"""

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from data.tiny_training import CONTENT, Tiny, TinyCritic, balls, equal_states, fit, recipe

from bids_sr.io import atomic_files
from bids_sr.networks.data.examples import Examples
from bids_sr.networks.losses.adversarial import AdversarialBCE, AdversarialWasserstein
from bids_sr.networks.losses.image import MAE, JointSparsify, TotalVariation
from bids_sr.networks.training import phase as loop
from bids_sr.networks.training.phase import read_checkpoint, write_checkpoint
from bids_sr.networks.training.update_steps import Networks
from bids_sr.sr.models.training_log import log_tsv
from bids_sr.sr.recipe import LossTerm


class Killed(Exception):
    """Stands in for a kill signal."""


def term(kind, build, weight):
    return LossTerm(kind=kind, build=build, weight=weight)


def net_with_dropout(channels, _factor):
    """Return a network that depends on torch's random state."""
    return Tiny(channels, dropout=0.3)


OBJECTIVES = {
    "supervised": {"schedule": "plateau", "plateau_patience": 1},
    "bce": {
        "build_critic": TinyCritic,
        "losses": (CONTENT, term("adversarial", AdversarialBCE, 1e-2)),
        "adversarial_from": 3,
        "epochs": 3,
        "patches": 8,
    },
    "wasserstein": {
        "build_critic": TinyCritic,
        "losses": (CONTENT, term("adversarial", AdversarialWasserstein, 1e-2)),
        "critic_game": "wasserstein",
        "critic_steps": 2,
    },
    "cycle": {
        "build_critic": TinyCritic,
        "objective": "cycle",
        "critic_game": "wasserstein-gp",
        "critic_steps": 2,
        "schedule": "linear-decay",
        "decay_from": 4,
        "losses": (
            term("adversarial", AdversarialWasserstein, 1e-2),
            term("cycle", MAE, 1.0),
            term("identity", MAE, 0.5),
            term("sparsify", JointSparsify, 1e-3),
        ),
    },
    "self": {
        "objective": "self",
        "losses": (CONTENT, term("tv", TotalVariation, 0.01)),
        "hold_out": 0,
        "build_generator": net_with_dropout,
        "schedule": "plateau",
    },
    "factors": {"factors": (1.25, 1.5, 2.0), "build_generator": net_with_dropout},
}


def train_until_killed(images, changed_recipe, folder, last_step):
    """Train up to a step and raise there."""

    def stop(_phase, iteration, _total):
        if iteration == last_step:
            raise Killed

    with pytest.raises(Killed):
        fit(images, changed_recipe, folder, progress=stop)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_resumed_training_equals_an_uninterrupted_one(objective, tmp_path):
    changed_recipe, images = recipe(**OBJECTIVES[objective]), balls(1)
    uninterrupted = fit(images, changed_recipe, tmp_path / "whole")
    train_until_killed(images, changed_recipe, tmp_path / "cut", 6)
    steps = []
    resumed = fit(
        images,
        changed_recipe,
        tmp_path / "cut",
        progress=lambda _phase, iteration, _total: steps.append(iteration),
    )
    assert steps[0] == 5, "it began anew"
    assert equal_states(uninterrupted.state, resumed.state)
    assert log_tsv(uninterrupted.log) == log_tsv(resumed.log)
    assert uninterrupted.card == resumed.card


SCRIPT = """
import os, signal, sys
from pathlib import Path

from data.tiny_training import balls, fit, recipe
from test_phase_faults import OBJECTIVES

def kill(_phase, iteration, _total):
    if iteration == 10:
        os.kill(os.getpid(), signal.SIGKILL)

fit(balls(1), recipe(**OBJECTIVES["cycle"]), Path(sys.argv[1]), progress=kill)
"""


@pytest.mark.slow
def test_a_training_resumed_after_sigkill_equals_an_uninterrupted_one(tmp_path):
    folder = Path(__file__).parents[1]
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = {[str(folder), str(folder / 'training')]!r}\n{SCRIPT}",
            str(tmp_path / "cut"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == -9, result.stderr
    _, values = read_checkpoint(tmp_path / "cut" / "search.checkpoint.safetensors")
    assert values["progress"]["iteration"] == 8
    changed_recipe = recipe(**OBJECTIVES["cycle"])
    assert equal_states(
        fit(balls(1), changed_recipe, tmp_path / "cut").state,
        fit(balls(1), changed_recipe, tmp_path / "whole").state,
    )


def test_a_checkpoint_of_another_training_set_is_not_resumed(tmp_path):
    fit(balls(1), recipe(), tmp_path)
    assert equal_states(
        fit(balls(2), recipe(), tmp_path).state, fit(balls(2), recipe(), tmp_path / "fresh").state
    )


def break_step(monkeypatch, step, part):
    """Replace a loss by NaN in one step."""
    update_generators, calls = Networks.update_generators, []

    def step_with_nan(*arguments, **options):
        calls.append(1)
        parts = update_generators(*arguments, **options)
        return parts | ({part: float("nan"), "loss": float("nan")} if len(calls) == step else {})

    monkeypatch.setattr(Networks, "update_generators", step_with_nan)


@pytest.mark.parametrize(
    ("part", "cause"),
    [
        (
            "content",
            r"iteration 7\. The loss was .* at the last validation"
            r".*lower learning rate.*invalid loss terms: content\)",
        ),
        (
            "adversarial",
            r"iteration 7\. The critic diverged.*invalid loss terms: adversarial\)",
        ),
    ],
)
def test_an_invalid_loss_names_step_and_cause_and_keeps_the_last_valid_state(
    part, cause, tmp_path, monkeypatch
):
    changed_recipe = recipe(**OBJECTIVES["bce"])
    break_step(monkeypatch, 7, part)
    with pytest.raises(loop.TrainingDiverged, match=cause + r".*search\.checkpoint"):
        fit(balls(1), changed_recipe, tmp_path)
    tensors, values = read_checkpoint(tmp_path / "search.checkpoint.safetensors")
    assert values["progress"]["iteration"] == 4
    assert all(
        bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point()
    )
    monkeypatch.undo()
    assert equal_states(
        fit(balls(1), changed_recipe, tmp_path).state,
        fit(balls(1), changed_recipe, tmp_path / "clean").state,
    )


def test_divergence_in_the_first_steps_is_explained_by_their_size(tmp_path):
    with pytest.raises(
        loop.TrainingDiverged, match=r"first steps were too large.*No checkpoint was written"
    ):
        fit(balls(1), recipe(learning_rate=1e30), tmp_path)


def test_divergence_in_the_first_step_is_explained_by_the_data():
    cause = loop._describe_cause(
        {"content": float("nan"), "loss": float("nan")}, loop._Counters(iteration=1)
    )
    assert cause.startswith(
        "The loss was invalid in the first step, so the images or the initial weights"
    )


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


def test_a_batch_that_exceeds_the_memory_is_halved_once_with_a_warning(
    tmp_path, monkeypatch, caplog
):
    sizes = limit_memory(monkeypatch, 2)
    card = fit(balls(1), recipe(batch=4), tmp_path).card
    assert sizes == [4, *[2] * 12]
    assert (
        "insufficient for a batch size of 4. Training continues with a batch size of 2"
        in caplog.text
    )
    assert card["reproducible"] is False
    assert "halved" in card["not_reproducible_because"]


def test_a_halved_batch_is_kept_after_a_kill(tmp_path, monkeypatch):
    sizes = limit_memory(monkeypatch, 2)
    train_until_killed(balls(1), recipe(batch=4), tmp_path, 6)
    del sizes[:]
    fit(balls(1), recipe(batch=4), tmp_path)
    assert sizes == [2] * 8


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (4, r"batch size of 2, which is half of the original batch size, in iteration 1\."),
        (1, r"batch size of 1 in iteration 1\."),
    ],
)
def test_a_device_without_enough_memory_is_an_error(batch, message, tmp_path, monkeypatch):
    limit_memory(monkeypatch, batch // 4)
    with pytest.raises(loop.OutOfDeviceMemory, match=message + r".*--set resources.device=cpu"):
        fit(balls(1), recipe(batch=batch), tmp_path)


def test_a_device_without_memory_for_the_validation_is_an_error(tmp_path, monkeypatch):
    def raise_out_of_memory(*_arguments, **_options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake)")

    monkeypatch.setattr(loop, "_compute_score", raise_out_of_memory)
    with pytest.raises(
        loop.OutOfDeviceMemory,
        match=r"insufficient for the held-out data.*--set resources.device=cpu",
    ):
        fit(balls(1), recipe(), tmp_path)


def test_a_full_disk_keeps_the_old_checkpoint_and_the_training(tmp_path, monkeypatch, caplog):
    uninterrupted = fit(balls(1), recipe(), tmp_path / "whole")
    checkpoint = tmp_path / "cut" / "search.checkpoint.safetensors"
    write_bytes = Path.write_bytes

    def write_until_full(path, data):
        if path.parent.name == "cut" and "checkpoint" in path.name and checkpoint.exists():
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    assert equal_states(fit(balls(1), recipe(), tmp_path / "cut").state, uninterrupted.state)
    assert "the disk is full" in caplog.text
    assert "only resume from an earlier checkpoint" in caplog.text
    assert "rerun the same command" not in caplog.text, "nothing has stopped"
    assert read_checkpoint(checkpoint)[1]["progress"]["iteration"] == 4
    assert [path.name for path in checkpoint.parent.glob(".*")] == []
    with pytest.raises(atomic_files.DiskFullError):
        write_checkpoint(checkpoint, {"a": torch.zeros(3)}, {})


def test_the_log_can_be_read_during_training(tmp_path):
    rows = []

    def read_log(_phase, iteration, _total):
        table = tmp_path / "log_search.tsv"
        if table.exists():
            rows.append(
                (iteration, [line.split("\t")[1] for line in table.read_text().splitlines()[1:]])
            )

    fit(balls(1), recipe(), tmp_path, progress=read_log)
    assert rows[0] == (4, ["4"])
    assert rows[-1] == (12, ["4", "8", "12"])


def test_a_time_limit_stops_training_and_is_recorded_in_the_card(tmp_path):
    card = fit(balls(1), recipe(iterations=10**6), tmp_path, max_train_minutes=0.003).card
    assert card["phases"]["search"]["stopped_by"] == "time"
    assert card["reproducible"] is False


def test_early_stopping_after_validations_without_improvement(tmp_path):
    card = fit(balls(1), recipe(learning_rate=0.0, patience=2, iterations=100), tmp_path).card
    assert card["phases"]["search"] == {"iterations": 12, "of": 100, "stopped_by": "plateau"}


@pytest.mark.parametrize(("limit", "is_used"), [(10.0, True), (-1.0, False)])
def test_mixed_precision_is_dropped_if_it_lowers_the_score(limit, is_used, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_MAX_BF16_CHANGE_DB", limit)
    mixed = fit(balls(1), recipe(), tmp_path / "mixed", train_precision="mixed")
    assert mixed.card["mixed_precision"]["kept"] is is_used
    assert mixed.card["mixed_precision"]["score_change_db"] is not None
    full = fit(balls(1), recipe(), tmp_path / "full")
    assert full.card["mixed_precision"] == {
        "asked": False,
        "kept": False,
        "score_change_db": None,
    }
    assert not equal_states(mixed.state, full.state)


class TypedTiny(Tiny):
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
@pytest.mark.parametrize(("objective", "passes"), [("wasserstein", 1), ("cycle", 3)])
def test_images_for_critics_are_computed_in_bf16_and_critics_in_fp32(
    objective, passes, precision, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "_MAX_BF16_CHANGE_DB", 10.0)
    monkeypatch.setattr(TypedTiny, "types", [])
    monkeypatch.setattr(TypedCritic, "types", [])
    changed_recipe = recipe(
        **OBJECTIVES[objective]
        | {
            "build_generator": lambda channels, _: TypedTiny(channels),
            "build_critic": TypedCritic,
            "iterations": 2,
        }
    )
    fit(balls(1), changed_recipe, tmp_path, train_precision=precision)
    # The first of two critic steps per step reuses the images of the generator.
    expected = torch.bfloat16 if precision == "mixed" else torch.float32
    assert TypedTiny.types == [expected] * 2 * passes
    assert set(TypedCritic.types) == {(torch.float32, torch.float32)}


def test_tensorboard_receives_the_values_of_the_log(tmp_path, monkeypatch):
    class Board:
        def __init__(self):
            self.rows = []

        def add_scalar(self, name, value, step):
            self.rows.append((name, value, step))

        def flush(self):
            pass

        close = flush

    board = Board()
    installed = SimpleNamespace(SummaryWriter=lambda folder, purge_step: board)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", installed)
    log = fit(balls(1), recipe(), tmp_path).log
    expected = [
        (name, value, row["iteration"])
        for row in log
        for name, value in row.items()
        if isinstance(value, float)
    ]
    assert board.rows == expected
    assert {"psnr", "loss", "learning_rate"} <= {name for name, _, _ in expected}


def test_a_plateau_halves_the_learning_rate(tmp_path):
    changed_recipe = recipe(
        learning_rate=1e-12,
        iterations=20,
        schedule="plateau",
        plateau_patience=2,
        plateau_factor=0.5,
    )
    rates = [row["learning_rate"] for row in fit(balls(1), changed_recipe, tmp_path).log]
    # Only the first validation is an improvement. The rate drops after each two validations
    # without an improvement.
    assert rates == pytest.approx([1e-12, 1e-12, 1e-12, 5e-13, 5e-13])
    assert replace(changed_recipe, schedule="constant").rate(7, 0.1) == 0.1
