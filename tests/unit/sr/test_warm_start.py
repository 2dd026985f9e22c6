"""Training on a pair that begins with weights of the package: by a recipe of its own, never taken for a cold one."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bids_sr.boilerplate
from bids_sr.sr import method
from bids_sr.sr.data.patches import PairExamples
from bids_sr.sr.models import model, model_store
from bids_sr.sr.models.card import plain_recipe
from bids_sr.sr.models.card_checks import ModelCard
from bids_sr.sr.training import trainer
from bids_sr.sr.training.job import Training
from bids_sr.sr.training.phase import compare
from bids_sr.steps.training import train_on_pair

SRGAN = method.get_method("srgan")
WEIGHTS = Path(bids_sr.boilerplate.__file__).parent / "models" / "srgan_start.safetensors"
SHORT = replace(SRGAN.warm["fast"], iterations=8, evaluate_every=4, adversarial_from=2, batch=2, hold_out=3)
COLD = Training(method=SRGAN, sloppy=True)
WARM = replace(COLD, start=model.load_model(WEIGHTS))


@pytest.fixture(scope="module")
def start():
    return model.load_model(WEIGHTS)


def fit(pair, work_dir, changed=SHORT, **given):
    return trainer.fit(Training(method=SRGAN, changed=changed, **{"seed": 3} | given), pair, work_dir)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_package_says_where_its_weights_come_from(start):
    card = start.card.json
    assert (card["name"], card["method"], card["recipe"], card["factor"]) == ("srgan_start", "srgan", "fast", [2, 2, 1])
    assert "warm_start.py learn" in card["trained_with"]
    assert card["heads"]["seeds"] == list(range(1000, 1009))
    assert not set(card["heads"]["seeds"]) & set(card["heads"]["seeds_that_chose"])
    assert card["parameters"] == sum(p.numel() for p in start.generator.parameters())
    assert WEIGHTS.stat().st_size <= 2_000_000


def test_damaged_weights_are_no_start(tmp_path):
    for path in (WEIGHTS, WEIGHTS.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / WEIGHTS.name
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(model.ModelError, match="truncated or changed"):
        train_on_pair(None, None, None, here=tmp_path, method="srgan", factor=(2.0, 2.0, 1.0), start=damaged)


def test_it_is_the_recipe_of_the_race():
    # a quarter of `fast`, as benchmarks/warm_start.py runs it: looks every ten steps, no early end, one training
    fast, warm = SRGAN.recipes["fast"], SRGAN.warm["fast"]
    share = fast.steps // warm.steps
    assert (share, warm.adversarial_from * share) == (4, fast.adversarial_from)
    assert (warm.evaluate_every, warm.patience, warm.refit) == (10, None, False)
    changed = {k for k, v in plain_recipe(warm).items() if v != plain_recipe(fast)[k]}
    assert changed == {"iterations", "adversarial_from", "evaluate_every", "patience"}
    assert [Training(method=SRGAN, start=start).how for start in (WARM.start, None)] == [warm, fast]


def test_the_first_look_is_that_of_the_weights(small_pair, tmp_path, start):
    still = replace(SHORT, learning_rate=0.0, schedule="constant")
    examples = PairExamples(small_pair, still, "cpu")
    watched = examples.validation(examples.parts()[1])
    wanted = compare(start.generator, examples, watched, still)["network"]["psnr"]
    start.generator.eval()
    warm, cold = (fit(small_pair, tmp_path / str(s is None), still, start=s) for s in (start, None))
    assert warm.log[0]["psnr"] == pytest.approx(wanted, abs=1e-4)
    assert abs(cold.log[0]["psnr"] - wanted) > 0.01
    assert same(warm.state, start.generator.state_dict())
    assert warm.card["started_from"]["weights_sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert warm.card["started_from"]["name"] == "srgan_start"
    assert "started_from" not in cold.card


def test_same_seed_same_bits(small_pair, tmp_path, start):
    first, again = (fit(small_pair, tmp_path / name, start=start) for name in ("a", "b"))
    assert same(first.state, again.state)
    assert not same(first.state, start.generator.state_dict())


@pytest.mark.parametrize("warm_first", [True, False])
def test_a_checkpoint_of_the_other_kind_is_not_gone_on_with(small_pair, tmp_path, start, warm_first):
    one, other = (start, None) if warm_first else (None, start)
    fit(small_pair, tmp_path / "shared", start=one)
    mixed = fit(small_pair, tmp_path / "shared", start=other)
    assert same(mixed.state, fit(small_pair, tmp_path / "fresh", start=other).state)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"factor": [1.5, 1.5, 1.0]}, "fast"), ({"method": "vit"}, "fast"), ({"recipe": "paper"}, "fast"), ({}, "paper")],
)
def test_weights_of_another_network_are_refused(small_pair, tmp_path, start, change, name):
    other = replace(start, card=ModelCard.from_json({**start.card.json, **change}))
    with pytest.raises(model.ModelError, match="cannot begin with a model of"):
        fit(small_pair, tmp_path, recipe=name, start=other)


def test_a_recipe_without_a_warm_form_begins_with_nothing():
    with pytest.raises(model.ModelError, match=r"srgan \(paper\) has no recipe that begins with a model"):
        _ = replace(WARM, recipe="paper").how


def test_models_are_reused_by_what_they_began_with(small_pair, tmp_path):
    for name, request in (("warm", WARM), ("cold", COLD)):
        (tmp_path / name).mkdir()
        card = json.loads(model_store.obtain_model(request, small_pair, tmp_path / name)[1].read_text())
        assert ("started_from" in card) == (name == "warm")
    for request, own in ((WARM, "warm"), (COLD, "cold")):
        for place in ("warm", "cold"):
            found = model_store.find_model(replace(request, model_dir=tmp_path / place), small_pair)
            assert (found is not None) == (place == own)
    phantom = model.load_model(WEIGHTS.with_name("srgan_phantom.safetensors"))
    assert model_store.find_model(replace(WARM, start=phantom, model_dir=tmp_path), small_pair) is None
