"""Test that a training stopped by the time limit continues and ends like an uninterrupted one."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from data.tiny_training import CONTENT, a_method, balls, equal_states, recipe
from test_phase_faults import OBJECTIVES, net_with_dropout
from torch import nn

from bids_sr.networks.training import card_entries, phase as loop, trainer
from bids_sr.networks.training.phase import read_checkpoint
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import log_tsv
from bids_sr.sr.recipe import LossTerm

MINUTE = 60.0


class Clock:
    """Clock that only advances after a step.

    `stops`: (phase, step) after which it jumps one hour ahead, so that the next step is the last.
    `per_step`: seconds that every step takes.
    """

    def __init__(self, *stops, per_step=0.0):
        self.now, self.stops, self.per_step, self.seen = 0.0, stops, per_step, []

    def __call__(self):
        return self.now

    def progress(self, phase, iteration, _total):
        self.seen.append((phase, iteration))
        self.now += 3600 if (phase, iteration) in self.stops else self.per_step


def fit(images, changed_recipe, folder, clock=None, minutes=None, **fields):
    """Train the tiny method with a test clock; `minutes` limits the training time."""
    clock = clock or Clock()
    request = ModelRequest(
        method="tiny",
        unregistered_method=a_method(),
        replacement_recipe=changed_recipe,
        factor=(2.0, 2.0, 2.0),
        random_seed=3,
        max_train_minutes=minutes,
        **fields,
    )
    return trainer.train_network(request, images, folder, clock.progress, clock=clock)


def equal_results(first, second):
    return (
        equal_states(first.state, second.state)
        and first.card == second.card
        and log_tsv(first.log) == log_tsv(second.log)
    )


@pytest.mark.parametrize("stop", [4, 6], ids=["at a validation step", "between two"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_continued_after_the_time_limit_equals_an_uninterrupted_one(
    objective, stop, tmp_path
):
    changed_recipe, images = recipe(**OBJECTIVES[objective]), balls(1)
    uninterrupted = fit(images, changed_recipe, tmp_path / "whole")
    stopped = fit(
        images, changed_recipe, tmp_path / "cut", Clock(("search", stop - 1)), minutes=10
    )
    assert stopped.card["phases"]["search"] == {"iterations": stop, "of": 12, "stopped_by": "time"}
    assert stopped.card["reproducible"] is False
    assert stopped.log[-1]["iteration"] == stop
    assert card_entries.steps_at_stop(stopped.card) == f"search: {stop} of 12 steps"
    clock = Clock()
    continued = fit(images, changed_recipe, tmp_path / "cut", clock)
    assert clock.seen[0] == ("search", stop + 1), "it began anew"
    assert equal_results(continued, uninterrupted)
    assert continued.card["reproducible"] is True
    assert card_entries.steps_at_stop(continued.card) == ""


# Every fourth step is validated, and the last validations show no improvement: another validation
# at the deadline would end the search or halve its rate.
@pytest.mark.parametrize(
    "ending", [{"patience": 3}, {"schedule": "plateau", "plateau_patience": 2}]
)
def test_the_score_at_the_deadline_only_counts_for_the_model(ending, tmp_path):
    changed_recipe = recipe(learning_rate=1e-12, iterations=20, **ending)
    uninterrupted = fit(balls(1), changed_recipe, tmp_path / "whole")
    for stop in (10, 14):
        fit(balls(1), changed_recipe, tmp_path / "cut", Clock(("search", stop - 1)), minutes=10)
    assert equal_results(fit(balls(1), changed_recipe, tmp_path / "cut"), uninterrupted)


def test_a_training_can_be_continued_many_times(tmp_path):
    changed_recipe = recipe(**OBJECTIVES["self"])
    uninterrupted = fit(balls(1), changed_recipe, tmp_path / "whole")
    for k in (3, 5, 7, 9, 11):
        portion = fit(
            balls(1), changed_recipe, tmp_path / "cut", Clock(("search", k - 1)), minutes=10
        )
        assert portion.card["phases"]["search"]["iterations"] == k
    assert equal_results(fit(balls(1), changed_recipe, tmp_path / "cut"), uninterrupted)


@pytest.mark.parametrize("objective", ["self", "cycle", "factors"])
def test_checkpoints_are_written_in_time_and_complete(objective, tmp_path):
    # Only the last step is validated.
    changed_recipe = recipe(**OBJECTIVES[objective] | {"evaluate_every": 100})
    uninterrupted = fit(balls(1), changed_recipe, tmp_path / "whole")

    class Killed(Exception):
        """Stands in for a kill signal."""

    clock = Clock(per_step=0.4 * loop.CHECKPOINT_SECONDS)
    advance = clock.progress

    def kill(phase, iteration, total):
        advance(phase, iteration, total)
        if iteration == 8:
            raise Killed

    clock.progress = kill
    with pytest.raises(Killed):
        fit(balls(1), changed_recipe, tmp_path / "cut", clock)
    _, values = read_checkpoint(tmp_path / "cut" / "search.checkpoint.safetensors")
    assert values["progress"]["iteration"] == 7, "one every three steps: after 4 and 7"
    resumed_clock = Clock()
    assert equal_results(
        fit(balls(1), changed_recipe, tmp_path / "cut", resumed_clock), uninterrupted
    )
    assert resumed_clock.seen[0] == ("search", 8)


def test_a_finished_training_is_loaded_from_its_checkpoint(tmp_path):
    first = fit(balls(1), recipe(), tmp_path)
    clock = Clock()
    assert equal_results(fit(balls(1), recipe(), tmp_path, clock, minutes=1), first)
    assert clock.seen == []


def test_another_number_of_threads_is_recorded_as_not_reproducible(tmp_path):
    fit(balls(1), recipe(), tmp_path, Clock(("search", 5)), minutes=10)
    card = fit(balls(1), recipe(), tmp_path, omp_nthreads=2).card
    assert card["reproducible"] is False
    assert "number of threads" in card["not_reproducible_because"]


def test_checkpoints_of_changed_code_are_not_continued(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "compute_code_digest", lambda _: "another")
        fit(balls(1), recipe(), tmp_path)
    clock = Clock()
    fit(balls(1), recipe(), tmp_path, clock)
    assert clock.seen[0] == ("search", 1)


class Features(nn.Module):
    """Stands in for VGG-19; `content` is the content of its file."""

    content = "one"

    def __init__(self, _weights):
        super().__init__()
        self.checksum = Features.content

    def forward(self, output, target):
        return (output - target).abs().mean()


def test_other_vgg_weights_start_training_again(tmp_path, monkeypatch):
    """Weights have the same path with other content, so the checkpoint is not continued."""
    changed_recipe = recipe(
        losses=(CONTENT, LossTerm(kind="perceptual", build=Features, weight=0.1))
    )
    weights = tmp_path / "vgg.safetensors"
    fit(balls(1), changed_recipe, tmp_path, Clock(("search", 5)), minutes=10, vgg_weights=weights)
    clock = Clock(("search", 8))
    fit(balls(1), changed_recipe, tmp_path, clock, minutes=10, vgg_weights=weights)
    assert clock.seen[0] == ("search", 7)
    monkeypatch.setattr(Features, "content", "two")
    clock = Clock()
    fit(balls(1), changed_recipe, tmp_path, clock, vgg_weights=weights)
    assert clock.seen[0] == ("search", 1)


def test_gpu_checkpoints_contain_the_state_of_the_gpu_generator(monkeypatch):
    state = torch.arange(16, dtype=torch.uint8)
    devices = []
    monkeypatch.setattr(
        torch.cuda, "get_rng_state", lambda device: devices.append(device) or state
    )
    assert [name for name, _ in loop._iter_torch_rng_states("cpu")] == ["torch"]
    assert dict(loop._iter_torch_rng_states("cuda:1"))["cuda"] is state
    assert devices == ["cuda:1"]


# --- PSNR of training slices, which is only logged


def disable_logged_scores(monkeypatch):
    """Omit scores that only the log contains."""
    monkeypatch.setattr(loop.Phase, "_compute_logged_scores", lambda phase: {})


@pytest.mark.parametrize(
    "fields",
    [
        {"hold_out": 4, "build_generator": net_with_dropout},
        {"hold_out": 0, "build_generator": net_with_dropout, "schedule": "plateau"},
    ],
    ids=["held out", "nothing held out"],
)
def test_scores_of_training_slices_do_not_change_the_training(fields, tmp_path, monkeypatch):
    changed_recipe = recipe(**fields)
    with_scores = fit(balls(1), changed_recipe, tmp_path / "shown")
    assert all(isinstance(row["psnr_trained_slices"], float) for row in with_scores.log)
    with monkeypatch.context() as patch:
        disable_logged_scores(patch)
        without_scores = fit(balls(1), changed_recipe, tmp_path / "without")
    assert equal_states(with_scores.state, without_scores.state)
    assert with_scores.card == without_scores.card
    for row in with_scores.log:
        del row["psnr_trained_slices"]
    assert log_tsv(with_scores.log) == log_tsv(without_scores.log)


def test_the_last_score_of_training_slices_equals_the_card(tmp_path):
    result = fit(balls(1), recipe(**OBJECTIVES["bce"] | {"hold_out": 0}), tmp_path)
    on_card = result.card["on_trained_slices"]["network"]["psnr"]
    assert result.log[-1]["psnr_trained_slices"] == pytest.approx(on_card, abs=1e-4)


def test_methods_without_high_resolution_images_have_no_score_of_training_slices(tmp_path):
    log = fit(balls(1), recipe(**OBJECTIVES["self"]), tmp_path).log
    assert all("psnr_trained_slices" not in row for row in log)


def test_a_second_pair_is_scored_in_the_log_without_changing_the_training(tmp_path):
    changed_recipe = recipe(**OBJECTIVES["bce"])
    request = ModelRequest(
        method="tiny",
        unregistered_method=a_method(),
        replacement_recipe=changed_recipe,
        factor=(2.0, 2.0, 2.0),
        random_seed=3,
    )
    pair, second_pair = balls(2)
    unscored = trainer.train_network(request, (pair,), tmp_path / "plain")
    scored = trainer.train_network(
        request, (pair,), tmp_path / "shown", second_images=(second_pair,)
    )
    scored_on_itself = trainer.train_network(
        request, (pair,), tmp_path / "self", second_images=(replace(pair, name="again"),)
    )
    assert equal_states(unscored.state, scored.state)
    assert unscored.card == scored.card
    rows = [
        [row["psnr_second_pair"] for row in result.log] for result in (scored, scored_on_itself)
    ]
    assert all(isinstance(value, float) for row in rows for value in row)
    assert rows[0] != rows[1]


def test_too_little_device_memory_for_the_logged_score_does_not_stop_training(
    tmp_path, monkeypatch
):
    class Large:
        """Window that does not fit into the device memory."""

        @property
        def batch(self):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake)")

    post_init = loop.Phase.__post_init__

    def with_large_windows(phase):
        post_init(phase)
        phase.training_windows = (Large(),)

    changed_recipe = recipe(build_generator=net_with_dropout)
    uninterrupted = fit(balls(1), changed_recipe, tmp_path / "whole")
    monkeypatch.setattr(loop.Phase, "__post_init__", with_large_windows)
    result = fit(balls(1), changed_recipe, tmp_path / "full")
    assert equal_states(result.state, uninterrupted.state)
    assert all("psnr_trained_slices" not in row for row in result.log)


# --- mixed precision


@pytest.mark.parametrize("change", [{"hold_out": 4}, {"hold_out": 0}])
def test_mixed_precision_is_used_in_every_step_and_continued(change, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_MAX_BF16_CHANGE_DB", 10.0)
    changed_recipe = recipe(**OBJECTIVES["bce"] | change)
    enabled_flags = []
    autocast = torch.autocast

    def count_autocast(device, dtype, enabled):
        enabled_flags.append(enabled)
        return autocast(device, dtype, enabled=enabled)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "autocast", count_autocast)
        uninterrupted = fit(balls(1), changed_recipe, tmp_path / "whole", train_precision="mixed")
    assert enabled_flags.count(True) >= uninterrupted.card["phases"]["search"]["iterations"]
    entry = uninterrupted.card["mixed_precision"]
    assert (entry["asked"], entry["kept"]) == (True, True)
    assert not equal_states(
        uninterrupted.state,
        fit(balls(1), changed_recipe, tmp_path / "full", train_precision="fp32").state,
    )
    fit(
        balls(1),
        changed_recipe,
        tmp_path / "cut",
        Clock(("search", 5)),
        minutes=10,
        train_precision="mixed",
    )
    assert equal_results(
        fit(balls(1), changed_recipe, tmp_path / "cut", train_precision="mixed"), uninterrupted
    )


def test_without_held_out_slices_mixed_precision_is_checked_on_training_slices(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "_MAX_BF16_CHANGE_DB", -1.0)
    card = fit(balls(1), recipe(hold_out=0), tmp_path, train_precision="mixed").card
    assert card["mixed_precision"]["kept"] is False
    assert card["mixed_precision"]["score_change_db"] is not None


def test_a_checkpoint_of_another_precision_is_not_continued(tmp_path):
    fit(balls(1), recipe(), tmp_path, train_precision="mixed")
    clock = Clock()
    fit(balls(1), recipe(), tmp_path, clock, train_precision="fp32")
    assert clock.seen[0] == ("search", 1)


@pytest.mark.parametrize(
    ("precision", "device", "mixed"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("auto", "cuda:1", True),
        ("fp32", "cuda", False),
        ("mixed", "cpu", True),
    ],
)
def test_auto_precision_is_mixed_on_a_gpu(precision, device, mixed):
    request = ModelRequest(
        method="tiny",
        unregistered_method=a_method(),
        replacement_recipe=recipe(),
        device=device,
        train_precision=precision,
    )
    assert request.mixed is mixed


# --- the live log


def test_training_works_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    fit(balls(1), recipe(), tmp_path)
    assert (tmp_path / "log_search.tsv").exists()
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_drops_repeated_steps(tmp_path, monkeypatch):
    purge_steps, rows = [], []

    class Board:
        def __init__(self, _folder, purge_step):
            purge_steps.append(purge_step)

        def add_scalar(self, _name, _value, step):
            rows.append(step)

        def flush(self):
            pass

        close = flush

    installed = SimpleNamespace(SummaryWriter=Board)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", installed)
    fit(balls(1), recipe(), tmp_path, Clock(("search", 5)), minutes=10)
    assert sorted(set(rows)) == [4, 6], "the row at the stop is shown"
    fit(balls(1), recipe(), tmp_path)
    # No continued state includes the row at the stop, so all rows after step 4 are dropped.
    assert purge_steps == [1, 5]
    assert sorted(set(rows)) == [4, 6, 8, 12]
    log_lines = (tmp_path / "log_search.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in log_lines] == ["4", "8", "12"]
