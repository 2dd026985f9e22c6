"""The loop: it learns, resumes bit for bit, detaches the critic, stops when told, and never keeps
a broken state.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_sr.sr import method
from bids_sr.sr.data.examples import Examples, Region, split
from bids_sr.sr.data.images import TrainingDataError, pair_image
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.matrices import kspace_crop
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.training import phase, trainer
from bids_sr.sr.training.journal import log_tsv
from bids_sr.sr.training.update_steps import Networks

FACTOR = (2.0, 2.0, 1.0)
DCNET = method.get_method("dcnet")
SHORT = replace(
    DCNET.recipes["fast"],
    iterations=20,
    evaluate_every=5,
    adversarial_from=4,
    batch=2,
    hold_out=3,
    refit=True,
)


class Stopped(Exception):
    """Stands for a kill."""


def fit(pair, work_dir, recipe=SHORT, progress=None, **given):
    """Short training with the defaults of these tests."""
    asked = TrainingRequest(method=DCNET, changed=recipe, factor=FACTOR, **{"seed": 3} | given)
    return trainer.fit(asked, (pair,), work_dir, progress)


def same(a, b):
    """Whether two sets of tensors are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(small_pair, tmp_path_factory):
    """A training that nothing has stopped."""
    return fit(small_pair, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kill_at", [("search", 10), ("search", 13), ("refit", 5)])
def test_ten_stop_ten_equals_twenty(small_pair, whole, tmp_path, kill_at):
    def stop(phase, iteration, _total):
        if (phase, iteration) == kill_at:
            raise Stopped

    with pytest.raises(Stopped):
        fit(small_pair, tmp_path / "cut", progress=stop)
    seen = []
    resumed = fit(
        small_pair,
        tmp_path / "cut",
        progress=lambda phase, iteration, _: seen.append((phase, iteration)),
    )
    assert seen[0] == (kill_at[0], kill_at[1] // 5 * 5 + 1), "it began anew"
    assert same(whole.state, resumed.state)
    assert log_tsv(whole.log) == log_tsv(resumed.log)
    assert whole.card == resumed.card


@pytest.mark.parametrize("phase", ["search", "refit"])
def test_a_checkpoint_cut_short_is_made_anew(small_pair, whole, tmp_path, phase, caplog):
    def stop(name, iteration, _total):
        if (name, iteration) == ("refit", 6):
            raise Stopped

    with pytest.raises(Stopped):
        fit(small_pair, tmp_path / "cut", progress=stop)
    damaged = next((tmp_path / "cut").glob(f"{phase}*"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert same(whole.state, fit(small_pair, tmp_path / "cut").state)
    assert f"{damaged}: the file is not a valid checkpoint" in caplog.text


def test_same_seed_same_bits_other_seed_others(small_pair, whole, tmp_path):
    assert same(whole.state, fit(small_pair, tmp_path / "again").state)
    assert not same(whole.state, fit(small_pair, tmp_path / "other", seed=4).state)


def test_a_checkpoint_of_other_data_is_not_gone_on_with(small_pair, tmp_path):
    fit(small_pair, tmp_path)
    other = replace(small_pair, coarse=small_pair.coarse * 2)
    assert same(fit(other, tmp_path).state, fit(other, tmp_path / "fresh").state)


def test_training_gains_on_slices_it_has_not_seen(small_pair, tmp_path):
    # the same rule in every slice: a sharp edge that ends where the smooth one says
    x, y, z = np.indices((24, 24, 6)) / 11.5 - 1
    highres = (1000.0 * (x**2 + y**2 < 0.3 + 0.2 * (z + 1))).astype(np.float32)
    lowres, _ = kspace_crop(highres, np.eye(4), factor=(2, 2, 1))
    disks = pair_image(lowres, highres, np.ones_like(lowres), np.diag([6.0, 6, 4, 1]), FACTOR)
    recipe = replace(SHORT, iterations=150, evaluate_every=50, batch=3, learning_rate=5e-3)
    card = fit(disks, tmp_path, recipe).card
    assert card["held_out"]["network"]["psnr"] > card["held_out"]["zerofill"]["psnr"] + 0.5


def test_a_critic_step_leaves_the_generator_alone(small_pair):
    nets = Networks(SHORT, FACTOR)
    examples = Examples((small_pair,), SHORT, FACTOR, 2)
    batch = examples.batch(np.random.default_rng(0), examples.train, iteration=0, seed=0, size=2)
    fake = nets.generator(batch.input)
    before = {k: v.clone() for k, v in nets.nets["critic"].state_dict().items()}
    nets.critics_step(batch, fake)
    assert all(p.grad is None for p in nets.generator.parameters())
    assert not same(before, nets.nets["critic"].state_dict())
    taught = {k: v.clone() for k, v in nets.nets["critic"].state_dict().items()}
    nets.generators_step(batch, fake, adversarial=True)
    assert same(taught, nets.nets["critic"].state_dict())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in nets.generator.parameters())


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
    small_pair, whole, tmp_path, monkeypatch
):
    real_step = Networks.generators_step

    def broken(nets, batch, fake, adversarial):
        parts = real_step(nets, batch, fake, adversarial)
        calls.append(1)
        return parts | ({"loss": float("nan")} if len(calls) == 8 else {})

    calls: list[int] = []
    monkeypatch.setattr(Networks, "generators_step", broken)
    with pytest.raises(phase.TrainingDiverged, match=r"iteration 8.*search\.checkpoint"):
        fit(small_pair, tmp_path)
    monkeypatch.undo()
    assert same(fit(small_pair, tmp_path).state, whole.state)


def test_a_huge_learning_rate_is_reported_not_saved(small_pair, tmp_path):
    wild = replace(SHORT, learning_rate=1e30, gradient_limit=None, schedule="constant")
    with pytest.raises(phase.TrainingDiverged, match="NaN or infinite"):
        fit(small_pair, tmp_path, wild)


def test_a_plateau_stops_the_search_and_the_refit_takes_its_best_step(small_pair, tmp_path):
    frozen = replace(SHORT, learning_rate=0.0, patience=2, iterations=100)
    card = fit(small_pair, tmp_path, frozen).card
    assert card["phases"]["search"] == {"iterations": 15, "of": 100, "stopped_by": "plateau"}
    assert card["phases"]["refit"]["iterations"] == card["held_out"]["iteration"] == 5


def test_without_a_refit_the_model_is_the_one_that_was_scored(small_pair, tmp_path):
    recipe = replace(SHORT, refit=False)
    made = fit(small_pair, tmp_path, recipe)
    generator = recipe.build_generator(1, FACTOR)
    generator.load_state_dict(made.state)
    held = [part["slices"] for part in made.card["held_out"]["parts"]]
    examples = Examples((small_pair,), recipe, FACTOR, 2)
    kept = [part for part in examples.held if list(part.slices) in held]
    assert len(kept) == len(held) == 2
    found = phase.compare(generator, examples, validation_windows(examples, kept))["network"]
    assert found == made.card["held_out"]["network"]
    assert "The scored model is also the final model" in made.card["held_out"]["model"]
    assert list(made.card["phases"]) == ["search"]


def test_the_clock_marks_the_card(small_pair, whole, tmp_path):
    card = fit(small_pair, tmp_path, replace(SHORT, iterations=10**6), max_train_minutes=0.01).card
    assert card["reproducible"] is False
    assert "time limit" in card["not_reproducible_because"]
    assert whole.card["reproducible"] is True


def test_held_out_slices_are_not_trained_on():
    slices = tuple(Region(slices=(z, z + 1)) for z in range(12))
    training, held = split(slices, 5)
    assert held == (slices[2], slices[7])
    assert sorted((*training, *held), key=slices.index) == list(slices)
    assert split(slices, 0) == (slices, ())


def test_the_card_says_why_no_perceptual_term(whole):
    card = whole.card
    assert card["perceptual"]["active"] is False
    assert "--vgg-weights" in card["perceptual"]["reason"]
    assert card["intensity"]["highres_gain"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((12, 12, 6))}, "pair: the mask is empty"),
        ({"highres": np.zeros((20, 24, 6), np.float32)}, r"\(20, 24, 6\); expected \(24, 24, 6\)"),
        ({"highres": np.zeros((24, 24, 6), np.float32)}, "high-resolution image is constant"),
        ({"lowres": np.ones((12, 12, 6), np.float32)}, "low-resolution image is constant"),
        ({"mask": np.ones((12, 12, 5))}, "but the low-resolution image has the shape"),
    ],
)
def test_a_pair_that_cannot_be_trained_on_is_refused(small_pair, change, message):
    given = {
        "lowres": small_pair.coarse,
        "highres": small_pair.fine,
        "mask": np.ones((12, 12, 6)),
    } | change
    with pytest.raises(TrainingDataError, match=message):
        pair_image(**given, lowres_affine=np.eye(4), factor=FACTOR)


def test_the_gain_of_the_fine_image_is_found(small_pair):
    inside = small_pair.mask[::2, ::2]
    twice = pair_image(
        small_pair.coarse, 2 * small_pair.fine, inside, np.diag([6.0, 6, 4, 1]), FACTOR
    )
    assert twice.gain == pytest.approx(0.5, rel=1e-4)
    once, again = (
        Examples((each,), SHORT, FACTOR, 2).at(0).target for each in (small_pair, twice)
    )
    np.testing.assert_allclose(again, once, rtol=1e-4, atol=1e-7)
