"""A training that the clock stopped continues, and ends as if nothing had stopped it."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from engine_helpers import CONTENT, a_method, balls, recipe, same
from test_phase_faults import GAMES, dropping
from torch import nn

from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe import LossTerm
from bids_sr.sr.training import card_entries, trainer
from bids_sr.sr.training import phase as loop
from bids_sr.sr.training.checkpoints import read_checkpoint
from bids_sr.sr.training.journal import log_tsv

MINUTE = 60.0


class Clock:
    """A clock that stands still until a step is done.

    `stops`: (phase, step) after which it jumps an hour ahead, so that the next step is the last.
    `per_step`: seconds that every step takes.
    """

    def __init__(self, *stops, per_step=0.0):
        self.now, self.stops, self.per_step, self.seen = 0.0, stops, per_step, []

    def __call__(self):
        return self.now

    def progress(self, phase, iteration, _total):
        self.seen.append((phase, iteration))
        self.now += 3600 if (phase, iteration) in self.stops else self.per_step


def fit(images, how, folder, clock=None, minutes=None, **given):
    """Train the tiny method with a clock of the test; `minutes`: limit of training time."""
    clock = clock or Clock()
    asked = TrainingRequest(
        method=a_method(),
        changed=how,
        factor=(2.0, 2.0, 2.0),
        seed=3,
        max_train_minutes=minutes,
        **given,
    )
    return trainer.fit(asked, images, folder, clock.progress, clock=clock)


def equal(a, b):
    return same(a.state, b.state) and a.card == b.card and log_tsv(a.log) == log_tsv(b.log)


@pytest.mark.parametrize("stop", [4, 6], ids=["at a validation step", "between two"])
@pytest.mark.parametrize("game", GAMES)
def test_stopped_by_the_clock_and_continued_equals_all_steps_at_once(game, stop, tmp_path):
    how, images = recipe(**GAMES[game]), balls(1)
    whole = fit(images, how, tmp_path / "whole")
    cut = fit(images, how, tmp_path / "cut", Clock(("search", stop - 1)), minutes=10)
    assert cut.card["phases"]["search"] == {"iterations": stop, "of": 12, "stopped_by": "time"}
    assert cut.card["reproducible"] is False
    assert cut.log[-1]["iteration"] == stop or how.refit
    after = Clock()
    continued = fit(images, how, tmp_path / "cut", after)
    assert after.seen[0] == ("search", stop + 1), "it began anew"
    assert equal(continued, whole)
    assert continued.card["reproducible"] is True


# a validation step every four steps, the last of which gains nothing: one at the deadline would
# end the search, or halve its rate
@pytest.mark.parametrize("ends", [{"patience": 3}, {"schedule": "plateau", "plateau_patience": 2}])
def test_the_score_at_the_deadline_counts_for_the_model_alone(ends, tmp_path):
    how = recipe(learning_rate=1e-12, iterations=20, **ends)
    whole = fit(balls(1), how, tmp_path / "whole")
    for stop in (10, 14):
        fit(balls(1), how, tmp_path / "cut", Clock(("search", stop - 1)), minutes=10)
    assert equal(fit(balls(1), how, tmp_path / "cut"), whole)


def test_every_portion_of_a_training_continues_the_one_before(tmp_path):
    how = recipe(**GAMES["self"])
    whole = fit(balls(1), how, tmp_path / "whole")
    for k in (3, 5, 7, 9, 11):
        made = fit(balls(1), how, tmp_path / "cut", Clock(("search", k - 1)), minutes=10)
        assert made.card["phases"]["search"]["iterations"] == k
    assert equal(fit(balls(1), how, tmp_path / "cut"), whole)


def test_a_stopped_search_continues_before_its_refit(tmp_path):
    how = recipe(refit=True, learning_rate=1e-3)
    whole = fit(balls(1), how, tmp_path / "whole")
    steps = whole.card["phases"]["refit"]["iterations"]
    assert steps == 12
    first = fit(balls(1), how, tmp_path / "cut", Clock(("search", 5)), minutes=10)
    # the model at the stop is trained for as many steps as did best until then
    best = first.card["held_out"]["iteration"]
    assert first.card["phases"]["refit"] == {"iterations": 1, "of": best, "stopped_by": "time"}
    assert best < steps
    at_stop = f"search: 6 of 12 steps, refit: 1 of {best} steps"
    assert card_entries.steps_at_stop(first.card) == at_stop
    clock = Clock(("refit", 6))
    second = fit(balls(1), how, tmp_path / "cut", clock, minutes=10)
    assert clock.seen[0] == ("search", 7)
    assert ("refit", 1) in clock.seen, "the refit of a stopped search was continued"
    assert second.card["phases"]["search"]["stopped_by"] == "iterations"
    assert card_entries.steps_at_stop(second.card) == "refit: 7 of 12 steps"
    clock = Clock()
    third = fit(balls(1), how, tmp_path / "cut", clock, minutes=10)
    assert clock.seen[0] == ("refit", 8)
    assert equal(third, whole)
    assert card_entries.steps_at_stop(third.card) == ""


def test_search_gets_its_part_of_the_time_and_the_refit_the_rest(tmp_path):
    how = recipe(refit=True, iterations=100, learning_rate=1e-3)
    card = fit(balls(1), how, tmp_path, Clock(per_step=MINUTE), minutes=20).card
    assert card["phases"] == {
        "search": {"iterations": 13, "of": 100, "stopped_by": "time"},
        "refit": {"iterations": 9, "of": 13, "stopped_by": "time"},
    }


@pytest.mark.parametrize("game", ["self", "cycle", "factors"])
def test_checkpoints_follow_the_clock_and_hold_all_that_is_needed(game, tmp_path):
    # no validation step before the last one
    how = recipe(**GAMES[game] | {"evaluate_every": 100, "refit": False})
    whole = fit(balls(1), how, tmp_path / "whole")

    class Killed(Exception):
        """Stands for a kill."""

    clock = Clock(per_step=0.4 * loop.CHECKPOINT_SECONDS)
    go_on = clock.progress

    def kill(phase, iteration, total):
        go_on(phase, iteration, total)
        if iteration == 8:
            raise Killed

    clock.progress = kill
    with pytest.raises(Killed):
        fit(balls(1), how, tmp_path / "cut", clock)
    _, values = read_checkpoint(tmp_path / "cut" / "search.checkpoint.safetensors")
    assert values["progress"]["iteration"] == 7, "one every three steps: after 4 and 7"
    after = Clock()
    assert equal(fit(balls(1), how, tmp_path / "cut", after), whole)
    assert after.seen[0] == ("search", 8)


def test_a_finished_training_is_read_from_its_checkpoint(tmp_path):
    whole = fit(balls(1), recipe(), tmp_path)
    clock = Clock()
    assert equal(fit(balls(1), recipe(), tmp_path, clock, minutes=1), whole)
    assert clock.seen == []


def test_another_number_of_threads_is_recorded_as_not_reproducible(tmp_path):
    fit(balls(1), recipe(), tmp_path, Clock(("search", 5)), minutes=10)
    card = fit(balls(1), recipe(), tmp_path, threads=2).card
    assert card["reproducible"] is False
    assert "number of threads" in card["not_reproducible_because"]


def test_checkpoints_of_earlier_versions_are_not_continued(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(trainer, "_CHECKPOINT_VERSION", 1)
        fit(balls(1), recipe(), tmp_path)
    clock = Clock()
    fit(balls(1), recipe(), tmp_path, clock)
    assert clock.seen[0] == ("search", 1)


class Features(nn.Module):
    """Stands for VGG-19; the content of its file is `content`."""

    content = "one"

    def __init__(self, _weights):
        super().__init__()
        self.checksum = Features.content

    def forward(self, made, target):
        return (made - target).abs().mean()


def test_other_weights_of_vgg_begin_anew(tmp_path, monkeypatch):
    """The same path with other content: a checkpoint of the former is not continued."""
    how = recipe(losses=(CONTENT, LossTerm(kind="perceptual", build=Features, weight=0.1)))
    weights = tmp_path / "vgg.safetensors"
    fit(balls(1), how, tmp_path, Clock(("search", 5)), minutes=10, vgg_weights=weights)
    clock = Clock(("search", 8))
    fit(balls(1), how, tmp_path, clock, minutes=10, vgg_weights=weights)
    assert clock.seen[0] == ("search", 7)
    monkeypatch.setattr(Features, "content", "two")
    clock = Clock()
    fit(balls(1), how, tmp_path, clock, vgg_weights=weights)
    assert clock.seen[0] == ("search", 1)


def test_the_state_of_the_gpu_is_in_its_checkpoints(monkeypatch):
    state = torch.arange(16, dtype=torch.uint8)
    asked = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(device) or state)
    assert [name for name, _ in loop._torch_states("cpu")] == ["torch"]
    assert dict(loop._torch_states("cuda:1"))["cuda"] is state
    assert asked == ["cuda:1"]


# --- PSNR of slices that decide nothing


def silent(monkeypatch):
    """Score nothing that only the log shows."""
    monkeypatch.setattr(loop.Phase, "_shown_scores", lambda phase: {})


@pytest.mark.parametrize(
    "given",
    [
        {"hold_out": 4, "refit": True, "build_generator": dropping},
        {"hold_out": 0, "build_generator": dropping, "schedule": "plateau"},
    ],
    ids=["held out", "nothing held out"],
)
def test_scores_of_trained_slices_change_nothing(given, tmp_path, monkeypatch):
    how = recipe(**given)
    shown = fit(balls(1), how, tmp_path / "shown")
    assert all(isinstance(row["psnr_trained_slices"], float) for row in shown.log)
    with monkeypatch.context() as patch:
        silent(patch)
        without = fit(balls(1), how, tmp_path / "without")
    assert same(shown.state, without.state)
    assert shown.card == without.card
    for row in shown.log:
        del row["psnr_trained_slices"]
    assert log_tsv(shown.log) == log_tsv(without.log)


def test_the_last_score_of_trained_slices_is_that_of_the_card(tmp_path):
    made = fit(balls(1), recipe(**GAMES["bce"] | {"hold_out": 0}), tmp_path)
    on_card = made.card["on_trained_slices"]["network"]["psnr"]
    assert made.log[-1]["psnr_trained_slices"] == pytest.approx(on_card, abs=1e-4)


def test_methods_without_fine_images_have_no_such_score(tmp_path):
    log = fit(balls(1), recipe(**GAMES["self"]), tmp_path).log
    assert all("psnr_trained_slices" not in row for row in log)


def test_a_second_pair_is_scored_in_the_log_and_changes_nothing(tmp_path):
    how = recipe(**GAMES["bce"])
    asked = TrainingRequest(method=a_method(), changed=how, factor=(2.0, 2.0, 2.0), seed=3)
    one, other = balls(2)
    plain = trainer.fit(asked, (one,), tmp_path / "plain")
    shown = trainer.fit(asked, (one,), tmp_path / "shown", second=(other,))
    same_again = trainer.fit(
        asked, (one,), tmp_path / "self", second=(replace(one, name="again"),)
    )
    assert same(plain.state, shown.state)
    assert plain.card == shown.card
    rows = [[row["psnr_second_pair"] for row in made.log] for made in (shown, same_again)]
    assert all(isinstance(value, float) for row in rows for value in row)
    assert rows[0] != rows[1]


def test_a_device_without_room_for_whole_slices_trains_on(tmp_path, monkeypatch):
    class Large:
        """A window for which the device has no room."""

        @property
        def batch(self):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (a fake)")

    real = loop.Phase.__post_init__

    def with_large_windows(phase):
        real(phase)
        phase.trained = (Large(),)

    how = recipe(build_generator=dropping)
    whole = fit(balls(1), how, tmp_path / "whole")
    monkeypatch.setattr(loop.Phase, "__post_init__", with_large_windows)
    made = fit(balls(1), how, tmp_path / "full")
    assert same(made.state, whole.state)
    assert all("psnr_trained_slices" not in row for row in made.log)


# --- mixed precision


@pytest.mark.parametrize("change", [{"hold_out": 4, "refit": True}, {"hold_out": 0}])
def test_mixed_precision_serves_every_phase_and_continues(change, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_LOWER_DB", 10.0)
    how = recipe(**GAMES["bce"] | change)
    lower = []
    real = torch.autocast

    def counted(device, dtype, enabled):
        lower.append(enabled)
        return real(device, dtype, enabled=enabled)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "autocast", counted)
        whole = fit(balls(1), how, tmp_path / "whole", precision="mixed")
    phases = whole.card["phases"].values()
    assert lower.count(True) >= sum(phase["iterations"] for phase in phases)
    entry = whole.card["mixed_precision"]
    assert (entry["asked"], entry["kept"]) == (True, True)
    assert not same(whole.state, fit(balls(1), how, tmp_path / "full", precision="fp32").state)
    fit(
        balls(1),
        how,
        tmp_path / "cut",
        Clock(("search", 5)),
        minutes=10,
        precision="mixed",
    )
    assert equal(fit(balls(1), how, tmp_path / "cut", precision="mixed"), whole)


def test_without_held_out_slices_mixed_precision_is_checked_on_trained_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_LOWER_DB", -1.0)
    card = fit(balls(1), recipe(hold_out=0), tmp_path, precision="mixed").card
    assert card["mixed_precision"]["kept"] is False
    assert card["mixed_precision"]["score_change_db"] is not None


def test_a_checkpoint_of_another_precision_is_not_continued(tmp_path):
    fit(balls(1), recipe(), tmp_path, precision="mixed")
    clock = Clock()
    fit(balls(1), recipe(), tmp_path, clock, precision="fp32")
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
def test_auto_is_mixed_on_a_gpu(precision, device, mixed):
    asked = TrainingRequest(
        method=a_method(), changed=recipe(), device=device, precision=precision
    )
    assert asked.mixed is mixed


# --- the live log


def test_without_tensorboard_nothing_breaks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    fit(balls(1), recipe(), tmp_path)
    assert (tmp_path / "log_search.tsv").exists()
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_drops_what_is_trained_again(tmp_path, monkeypatch):
    purged, rows = [], []

    class Board:
        def __init__(self, _folder, purge_step):
            purged.append(purge_step)

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
    # the row at the stop belongs to no state that continues: all after the fourth step goes
    assert purged == [1, 5]
    assert sorted(set(rows)) == [4, 6, 8, 12]
    written = (tmp_path / "log_search.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in written] == ["4", "8", "12"]
