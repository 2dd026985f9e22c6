"""Training resumes exactly after a kill, whatever the game, and ends clearly when it cannot."""

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from engine_helpers import CONTENT, Tiny, TinyCritic, balls, fit, recipe, same

from bids_sr.io import atomic_files
from bids_sr.sr.data.examples import Examples
from bids_sr.sr.losses.adversarial import AdversarialBCE, AdversarialWasserstein
from bids_sr.sr.losses.image import MAE, JointSparsify, TotalVariation
from bids_sr.sr.recipe import LossTerm
from bids_sr.sr.training import phase as loop
from bids_sr.sr.training.checkpoints import read_checkpoint, write_checkpoint
from bids_sr.sr.training.journal import log_tsv
from bids_sr.sr.training.update_steps import Networks


class Stopped(Exception):
    """Stands for a kill."""


def term(kind, build, weight):
    return LossTerm(kind=kind, build=build, weight=weight)


def dropping(channels, _factor):
    """A network that uses torch's own chance."""
    return Tiny(channels, dropout=0.3)


GAMES = {
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
        "build_generator": dropping,
        "schedule": "plateau",
    },
    "factors": {"factors": (1.25, 1.5, 2.0), "build_generator": dropping, "refit": True},
}


def killed(images, how, folder, at):
    """Train until a step, then die there."""

    def stop(_phase, iteration, _total):
        if iteration == at:
            raise Stopped

    with pytest.raises(Stopped):
        fit(images, how, folder, progress=stop)


@pytest.mark.parametrize("game", GAMES)
def test_stopped_and_gone_on_equals_uninterrupted(game, tmp_path):
    how, images = recipe(**GAMES[game]), balls(1)
    whole = fit(images, how, tmp_path / "whole")
    killed(images, how, tmp_path / "cut", 6)
    seen = []
    resumed = fit(
        images,
        how,
        tmp_path / "cut",
        progress=lambda _phase, iteration, _total: seen.append(iteration),
    )
    assert seen[0] == 5, "it began anew"
    assert same(whole.state, resumed.state)
    assert log_tsv(whole.log) == log_tsv(resumed.log)
    assert whole.card == resumed.card


SCRIPT = """
import os, signal, sys
from pathlib import Path

from engine_helpers import balls, fit, recipe
from test_phase_faults import GAMES

def kill(_phase, iteration, _total):
    if iteration == 10:
        os.kill(os.getpid(), signal.SIGKILL)

fit(balls(1), recipe(**GAMES["cycle"]), Path(sys.argv[1]), progress=kill)
"""


@pytest.mark.slow
def test_after_sigkill_the_weights_are_those_of_an_uninterrupted_training(tmp_path):
    folder = Path(__file__).parents[1]
    done = subprocess.run(
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
    assert done.returncode == -9, done.stderr
    _, values = read_checkpoint(tmp_path / "cut" / "search.checkpoint.safetensors")
    assert values["progress"]["iteration"] == 8
    how = recipe(**GAMES["cycle"])
    assert same(
        fit(balls(1), how, tmp_path / "cut").state, fit(balls(1), how, tmp_path / "whole").state
    )


def test_a_checkpoint_of_another_start_or_another_set_is_not_gone_on_with(tmp_path):
    fit(balls(1), recipe(), tmp_path)
    assert same(
        fit(balls(2), recipe(), tmp_path).state, fit(balls(2), recipe(), tmp_path / "fresh").state
    )


def broken_at(monkeypatch, step, part):
    """Make one part of the loss not a number at a step."""
    real, calls = Networks.generators_step, []

    def broken(*given):
        calls.append(1)
        parts = real(*given)
        return parts | ({part: float("nan"), "loss": float("nan")} if len(calls) == step else {})

    monkeypatch.setattr(Networks, "generators_step", broken)


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
def test_a_loss_that_is_no_number_names_step_and_cause_and_keeps_the_last_good_state(
    part, cause, tmp_path, monkeypatch
):
    how = recipe(**GAMES["bce"])
    broken_at(monkeypatch, 7, part)
    with pytest.raises(loop.TrainingDiverged, match=cause + r".*search\.checkpoint"):
        fit(balls(1), how, tmp_path)
    tensors, values = read_checkpoint(tmp_path / "search.checkpoint.safetensors")
    assert values["progress"]["iteration"] == 4
    assert all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point())
    monkeypatch.undo()
    assert same(fit(balls(1), how, tmp_path).state, fit(balls(1), how, tmp_path / "clean").state)


def test_divergence_at_the_first_steps_says_that_they_were_too_large(tmp_path):
    with pytest.raises(
        loop.TrainingDiverged, match=r"first steps were too large.*No checkpoint was written"
    ):
        fit(balls(1), recipe(learning_rate=1e30), tmp_path)


def test_divergence_before_any_step_blames_none():
    told = loop._likely_cause(
        {"content": float("nan"), "loss": float("nan")}, loop._Counters(iteration=1)
    )
    assert told.startswith(
        "The loss was invalid in the first step, so the images or the initial weights"
    )


def out_of_memory(monkeypatch, largest):
    """A device with room for so many images a step."""
    real, sizes = Examples.batch, []

    def full(self, *given, **more):
        batch = real(self, *given, **more)
        sizes.append(len(batch.input))
        if len(batch.input) > largest:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake)")
        return batch

    monkeypatch.setattr(Examples, "batch", full)
    return sizes


def test_a_batch_that_does_not_fit_is_halved_once_and_said_so(tmp_path, monkeypatch, caplog):
    sizes = out_of_memory(monkeypatch, 2)
    card = fit(balls(1), recipe(batch=4), tmp_path).card
    assert sizes == [4, *[2] * 12]
    assert (
        "insufficient for a batch size of 4. Training continues with a batch size of 2"
        in caplog.text
    )
    assert card["reproducible"] is False
    assert "halved" in card["not_reproducible_because"]


def test_half_of_the_batch_stays_after_a_kill(tmp_path, monkeypatch):
    sizes = out_of_memory(monkeypatch, 2)
    killed(balls(1), recipe(batch=4), tmp_path, 6)
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
def test_a_device_that_has_no_room_at_all_stops_clearly(batch, message, tmp_path, monkeypatch):
    out_of_memory(monkeypatch, batch // 4)
    with pytest.raises(loop.OutOfDeviceMemory, match=message + r".*--device cpu"):
        fit(balls(1), recipe(batch=batch), tmp_path)


def test_a_device_without_room_for_a_look_stops_clearly_too(tmp_path, monkeypatch):
    def full(*_given, **_more):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake)")

    monkeypatch.setattr(loop, "_score", full)
    with pytest.raises(
        loop.OutOfDeviceMemory,
        match=r"insufficient for the held-out data.*--device cpu",
    ):
        fit(balls(1), recipe(), tmp_path)


def test_a_full_disk_leaves_the_old_checkpoint_and_the_training(tmp_path, monkeypatch, caplog):
    whole = fit(balls(1), recipe(), tmp_path / "whole")
    kept = tmp_path / "cut" / "search.checkpoint.safetensors"
    real = Path.write_bytes

    def full(path, data):
        if path.parent.name == "cut" and "checkpoint" in path.name and kept.exists():
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert same(fit(balls(1), recipe(), tmp_path / "cut").state, whole.state)
    assert "the disk is full" in caplog.text
    assert "only resume from an earlier checkpoint" in caplog.text
    assert "rerun the same command" not in caplog.text, "nothing has stopped"
    assert read_checkpoint(kept)[1]["progress"]["iteration"] == 4
    assert [path.name for path in kept.parent.glob(".*")] == []
    with pytest.raises(atomic_files.DiskFullError):
        write_checkpoint(kept, {"a": torch.zeros(3)}, {})


def test_the_log_can_be_read_while_training_goes_on(tmp_path):
    rows = []

    def look(_phase, iteration, _total):
        table = tmp_path / "log_search.tsv"
        if table.exists():
            rows.append(
                (iteration, [line.split("\t")[1] for line in table.read_text().splitlines()[1:]])
            )

    fit(balls(1), recipe(), tmp_path, progress=look)
    assert rows[0] == (4, ["4"])
    assert rows[-1] == (12, ["4", "8", "12"])


def test_the_clock_stops_and_marks_the_card(tmp_path):
    card = fit(balls(1), recipe(iterations=10**6), tmp_path, max_train_minutes=0.003).card
    assert card["phases"]["search"]["stopped_by"] == "time"
    assert card["reproducible"] is False


def test_early_stop_after_looks_without_a_gain(tmp_path):
    card = fit(balls(1), recipe(learning_rate=0.0, patience=2, iterations=100), tmp_path).card
    assert card["phases"]["search"] == {"iterations": 12, "of": 100, "stopped_by": "plateau"}


@pytest.mark.parametrize(("limit", "kept"), [(10.0, True), (-1.0, False)])
def test_mixed_precision_is_left_where_it_shows_in_the_score(limit, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_LOWER_DB", limit)
    mixed = fit(balls(1), recipe(), tmp_path / "mixed", precision="mixed")
    assert mixed.card["mixed_precision"]["kept"] is kept
    assert mixed.card["mixed_precision"]["score_change_db"] is not None
    full = fit(balls(1), recipe(), tmp_path / "full")
    assert full.card["mixed_precision"] == {
        "asked": False,
        "kept": False,
        "score_change_db": None,
    }
    assert not same(mixed.state, full.state)


class TypedTiny(Tiny):
    """A network that records the type of what its first layer computes while gradients are off."""

    types: ClassVar = []

    def forward(self, x):
        if self.training and not torch.is_grad_enabled():
            self.types.append(self.first(x).dtype)
        return super().forward(x)


class TypedCritic(TinyCritic):
    """A critic that records the type of its images and of what it computes."""

    types: ClassVar = []

    def forward(self, image):
        self.types.append((image.dtype, self.look(image).dtype))
        return super().forward(image)


@pytest.mark.parametrize("precision", ["mixed", "fp32"])
@pytest.mark.parametrize(("game", "passes"), [("wasserstein", 1), ("cycle", 3)])
def test_images_for_critics_are_made_in_bf16_and_critics_stay_in_fp32(
    game, passes, precision, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "_LOWER_DB", 10.0)
    monkeypatch.setattr(TypedTiny, "types", [])
    monkeypatch.setattr(TypedCritic, "types", [])
    how = recipe(
        **GAMES[game]
        | {
            "build_generator": lambda channels, _: TypedTiny(channels),
            "build_critic": TypedCritic,
            "iterations": 2,
        }
    )
    fit(balls(1), how, tmp_path, precision=precision)
    # two critic steps per step; in the first, the images of the generator are at hand
    expected = torch.bfloat16 if precision == "mixed" else torch.float32
    assert TypedTiny.types == [expected] * 2 * passes
    assert set(TypedCritic.types) == {(torch.float32, torch.float32)}


def test_tensorboard_gets_what_the_log_gets(tmp_path, monkeypatch):
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
    wanted = [
        (k, v, row["iteration"]) for row in log for k, v in row.items() if isinstance(v, float)
    ]
    assert board.rows == wanted
    assert {"psnr", "loss", "learning_rate"} <= {name for name, _, _ in wanted}


def test_a_plateau_halves_the_rate(tmp_path):
    how = recipe(
        learning_rate=1e-12,
        iterations=20,
        schedule="plateau",
        plateau_patience=2,
        plateau_factor=0.5,
    )
    rates = [row["learning_rate"] for row in fit(balls(1), how, tmp_path).log]
    # the first look is a gain over nothing; after two more without one the rate drops, and again
    # after two
    assert rates == pytest.approx([1e-12, 1e-12, 1e-12, 5e-13, 5e-13])
    assert replace(how, schedule="constant").rate(7, 0.1) == 0.1
