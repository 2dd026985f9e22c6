"""Test that a training that was killed or stopped by its time limit resumes exactly, for every
objective, that another training does not resume it, and that its log shows every step once.
"""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from data.tiny_training import CONTENT, Tiny, TinyCritic, a_method, balls, equal_states, recipe
from torch import nn

from bids_sr.sr.models.card import ModelCard, steps_at_stop
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import log_tsv
from bids_sr.sr.networks.losses.adversarial import AdversarialBCE, AdversarialWasserstein
from bids_sr.sr.networks.losses.image import MAE, JointSparsify, TotalVariation
from bids_sr.sr.networks.training import trainer
from bids_sr.sr.networks.training.phase import CHECKPOINT_SECONDS, read_checkpoint
from bids_sr.sr.recipe import LossTerm


class Killed(BaseException):
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


class Clock:
    """Clock that only advances after a step.

    After the step `stop` it jumps one hour ahead, so that the next step is the last; after
    the step `kill` it raises. Every step takes `per_step` seconds.
    """

    def __init__(self, stop=None, kill=None, per_step=0.0):
        self.now, self.seen = 0.0, []
        self.stop, self.kill, self.per_step = stop, kill, per_step

    def __call__(self):
        return self.now

    def progress(self, _phase, iteration, _total):
        self.seen.append(iteration)
        self.now += 3600 if iteration == self.stop else self.per_step
        if iteration == self.kill:
            raise Killed


def fit(changed_recipe, folder, clock=None, images=None, **fields):
    """Train the tiny method with a test clock, for at most ten minutes if the clock stops it."""
    clock = clock or Clock()
    request = ModelRequest(
        method="tiny",
        unregistered_method=a_method(),
        replacement_recipe=changed_recipe,
        factor=(2.0, 2.0, 2.0),
        max_train_minutes=10 if clock.stop else None,
        **{"random_seed": 3} | fields,
    )
    return trainer.train_network(request, images or balls(1), folder, clock.progress, clock=clock)


def fit_until_killed(changed_recipe, folder, clock):
    with pytest.raises(Killed):
        fit(changed_recipe, folder, clock)


def equal_results(first, second):
    return (
        equal_states(first.state, second.state)
        and first.card == second.card
        and log_tsv(first.log) == log_tsv(second.log)
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_killed_or_stopped_training_continues_as_if_uninterrupted(objective, tmp_path):
    changed_recipe = recipe(**OBJECTIVES[objective])
    uninterrupted = fit(changed_recipe, tmp_path / "whole")
    fit_until_killed(changed_recipe, tmp_path / "killed", Clock(kill=6))
    clock = Clock()
    assert equal_results(fit(changed_recipe, tmp_path / "killed", clock), uninterrupted)
    assert clock.seen[0] == 5, "from the validation after step 4"
    for stop in (4, 6, 9):  # at a validation, and between two, again and again
        clock = Clock(stop=stop - 1)
        stopped = fit(changed_recipe, tmp_path / "cut", clock)
        search = {"iterations": stop, "of": 12, "stopped_by": "time"}
        assert stopped.card["phases"]["search"] == search
        assert stopped.card["reproducible"] is False
        assert "time limit" in stopped.card["not_reproducible_because"]
        assert stopped.log[-1]["iteration"] == stop
        assert steps_at_stop(stopped.card) == f"search: {stop} of 12 steps"
    clock = Clock()
    continued = fit(changed_recipe, tmp_path / "cut", clock)
    assert clock.seen[0] == 10
    assert equal_results(continued, uninterrupted)
    assert continued.card["reproducible"] is True
    assert steps_at_stop(continued.card) == ""
    finished = Clock(stop=1)
    assert equal_results(fit(changed_recipe, tmp_path / "cut", finished), uninterrupted)
    assert finished.seen == [], "a finished training is loaded"


# Every fourth step is validated, and the last validations show no improvement: another validation
# at the deadline would end the search or halve its rate.
@pytest.mark.parametrize(
    "ending", [{"patience": 3}, {"schedule": "plateau", "plateau_patience": 2}]
)
def test_the_score_at_the_deadline_only_counts_for_the_model(ending, tmp_path):
    changed_recipe = recipe(learning_rate=1e-12, iterations=20, **ending)
    uninterrupted = fit(changed_recipe, tmp_path / "whole")
    for stop in (10, 14):
        fit(changed_recipe, tmp_path / "cut", Clock(stop=stop - 1))
    assert equal_results(fit(changed_recipe, tmp_path / "cut"), uninterrupted)


def test_training_ends_early_and_a_plateau_halves_the_rate(tmp_path):
    patient = fit(recipe(learning_rate=0.0, patience=2, iterations=100), tmp_path / "patient").card
    assert patient["phases"]["search"] == {"iterations": 12, "of": 100, "stopped_by": "plateau"}
    assert patient["held_out"]["iteration"] == 4
    plateau = {"schedule": "plateau", "plateau_patience": 2, "plateau_factor": 0.5}
    log = fit(recipe(learning_rate=1e-12, iterations=20, **plateau), tmp_path / "plateau").log
    # Only the first validation is an improvement. The rate drops after each two validations
    # without one.
    rates = [row["learning_rate"] for row in log]
    assert rates == pytest.approx([1e-12, 1e-12, 1e-12, 5e-13, 5e-13], abs=1e-15)


@pytest.mark.parametrize("objective", ["self", "cycle"])
def test_checkpoints_are_written_in_time_and_complete(objective, tmp_path):
    # Only the last step is validated.
    changed_recipe = recipe(**OBJECTIVES[objective] | {"evaluate_every": 100})
    clock = Clock(per_step=0.4 * CHECKPOINT_SECONDS, kill=8)
    fit_until_killed(changed_recipe, tmp_path / "cut", clock)
    _, values = read_checkpoint(tmp_path / "cut" / "search.checkpoint.safetensors")
    assert values["progress"]["iteration"] == 7, "one every three steps: after 4 and 7"
    resumed = fit(changed_recipe, tmp_path / "cut", clock := Clock())
    assert equal_results(resumed, fit(changed_recipe, tmp_path / "whole"))
    assert clock.seen[0] == 8


def test_a_truncated_checkpoint_is_named_and_ignored(tmp_path, caplog):
    fit_until_killed(recipe(), tmp_path, Clock(kill=6))
    (damaged,) = tmp_path.glob("search*")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    fit(recipe(), tmp_path, clock := Clock())
    assert clock.seen[0] == 1
    assert str(damaged) in caplog.text


class Features(nn.Module):
    """Stands in for VGG-19; `content` is the content of its file."""

    content = "one"

    def __init__(self, _weights):
        super().__init__()
        self.checksum = Features.content

    def forward(self, output, target):
        return (output - target).abs().mean()


WITH_FEATURES = recipe(losses=(CONTENT, term("perceptual", Features, 0.1)))
START = LoadedModel(
    generator=Tiny(),
    recipe=WITH_FEATURES,
    card=ModelCard.from_json({"method": "tiny", "weights_sha256": "0"}),
)


@pytest.mark.parametrize(
    ("changes", "first_step"),
    [
        ({}, 7),
        ({"omp_nthreads": 2}, 7),
        ({"images": (replace(balls(1)[0], fine=balls(1)[0].fine * 2),)}, 1),
        ({"random_seed": 4}, 1),
        ({"start_model": START}, 1),
        ({"train_precision": "mixed"}, 1),
        ({"content": "two"}, 1),
        ({"code": "another"}, 1),
    ],
    ids=["same", "threads", "images", "seed", "start", "precision", "VGG-19 weights", "code"],
)
def test_only_the_same_training_continues(changes, first_step, tmp_path, monkeypatch):
    """Weights of VGG-19 have the same path with other content."""
    weights = {"vgg_weights": tmp_path / "vgg.safetensors"}
    fit(WITH_FEATURES, tmp_path, Clock(stop=5), **weights)
    fields = dict(changes)
    if "content" in changes:
        monkeypatch.setattr(Features, "content", fields.pop("content"))
    if "code" in changes:
        digest = fields.pop("code")
        monkeypatch.setattr(ModelRequest, "code_sha256", digest)
    clock = Clock()
    card = fit(WITH_FEATURES, tmp_path, clock, **weights | fields).card
    assert clock.seen[0] == first_step
    if "omp_nthreads" in changes:
        assert card["reproducible"] is False
        assert "number of threads" in card["not_reproducible_because"]


def test_a_second_pair_is_scored_in_the_log_without_changing_the_training(tmp_path):
    request = ModelRequest(
        method="tiny",
        unregistered_method=a_method(),
        replacement_recipe=recipe(**OBJECTIVES["bce"]),
        factor=(2.0, 2.0, 2.0),
        random_seed=3,
    )
    pair, second_pair = balls(2)
    results = {
        name: trainer.train_network(request, (pair,), tmp_path / name, second_images=images)
        for name, images in (
            ("none", ()),
            ("other", (second_pair,)),
            ("same", (replace(pair, name="again"),)),
        )
    }
    assert equal_states(results["none"].state, results["other"].state)
    assert results["none"].card == results["other"].card
    scores = [[row["psnr_second_pair"] for row in results[name].log] for name in ("other", "same")]
    assert all(isinstance(value, float) for row in scores for value in row)
    assert scores[0] != scores[1]


# --- the live log


def test_the_log_can_be_read_during_training_and_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    tables = []

    class Reader(Clock):
        def progress(self, _phase, iteration, _total):
            table = tmp_path / "log_search.tsv"
            if table.exists():
                lines = table.read_text().splitlines()[1:]
                tables.append((iteration, [line.split("\t")[1] for line in lines]))

    fit(recipe(), tmp_path, Reader())
    assert tables[0] == (4, ["4"])
    assert tables[-1] == (12, ["4", "8", "12"])
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_receives_the_values_of_the_log_and_drops_repeated_steps(
    tmp_path, monkeypatch
):
    purge_steps, values = [], []

    class Board:
        def __init__(self, _folder, purge_step):
            purge_steps.append(purge_step)

        def add_scalar(self, name, value, step):
            values.append((name, value, step))

        def flush(self):
            pass

        close = flush

    installed = SimpleNamespace(SummaryWriter=Board)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", installed)
    fit(recipe(), tmp_path, Clock(stop=5))
    assert {step for _, _, step in values} == {4, 6}, "the row at the stop is shown"
    values.clear()
    log = fit(recipe(), tmp_path).log
    # No continued state includes the row at the stop, so all rows after step 4 are dropped.
    assert purge_steps == [1, 5]
    assert values == [
        (name, value, row["iteration"])
        for row in log
        if row["iteration"] > 4
        for name, value in row.items()
        if isinstance(value, float)
    ]
    assert {"psnr", "loss", "learning_rate"} <= {name for name, _, _ in values}
    lines = (tmp_path / "log_search.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in lines] == ["4", "8", "12"]
