"""Recipe `paper` of srgan is the published run; what it was at first is `paper-mse`, also where
cards say otherwise.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from features import WEIGHTS, with_features

from bids_sr.config import SuperRes
from bids_sr.report.held_out_text import held_out_text
from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.method import get_method, get_recipe, method_names, recipe_name
from bids_sr.sr.models import card as cards
from bids_sr.sr.models import model, model_store
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe import Augmentation
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.training import phase, trainer
from bids_sr.sr.training.card_entries import card_entries

FACTOR = (2.0, 2.0, 1.0)
SRGAN = get_method("srgan")
PAPER, MSE = SRGAN.recipes["paper"], SRGAN.recipes["paper-mse"]
SHORT = with_features(replace(PAPER, iterations=7, evaluate_every=3, patch=16))


def fit(pair, work_dir, recipe=SHORT, progress=None, **given):
    given = {"recipe": "paper", "seed": 3, "vgg_weights": WEIGHTS} | given
    return trainer.fit(
        TrainingRequest(method=SRGAN, changed=recipe, factor=FACTOR, **given),
        (pair,),
        work_dir,
        progress,
    )


def test_the_numbers_of_the_publication():
    assert (PAPER.iterations, PAPER.patch, PAPER.batch, PAPER.upsampled_by) == (
        100_000,
        64,
        2,
        "lanczos",
    )
    assert (PAPER.learning_rate, PAPER.betas[0], PAPER.schedule) == (1e-4, 0.9, "constant")
    assert PAPER.steps == 100_000
    assert (PAPER.hold_out, PAPER.refit, PAPER.patience) == (0, False, None)
    assert PAPER.augmentation == Augmentation()
    assert {t.kind: t.weight for t in PAPER.losses} == {"adversarial": 1e-3, "perceptual": 0.006}


def test_squared_error_stands_beside_it_under_a_name_of_its_own():
    assert {t.kind for t in MSE.losses} == {"content", "adversarial", "perceptual"}
    assert (MSE.hold_out, MSE.refit) == (5, True)
    assert not MSE.needs_vgg
    # its results were measured without slices that hardly show the head
    like_paper = {"losses": PAPER.losses, "hold_out": 0, "refit": False, "every_slice": True}
    assert replace(MSE, **like_paper) == PAPER


def test_the_command_line_knows_without_torch_which_recipes_need_features():
    needing = {
        (name, kind)
        for name in method_names()
        for kind, r in get_method(name).recipes.items()
        if r.needs_vgg
    }
    assert needing == {("srgan", "paper")}


def test_other_methods_have_paper_where_paper_mse_is_asked_for():
    names = {name: recipe_name(get_method(name), "paper-mse") for name in method_names()}
    assert {name for name, own in names.items() if own == "paper-mse"} == {"srgan"}
    assert set(names.values()) == {"paper", "paper-mse"}
    assert recipe_name(get_method("tv"), "fast") == "fast"
    for name in (name for name in method_names() if "paper" in get_method(name).recipes):
        get_recipe(get_method(name), names[name])
    assert get_method("cpce").recipes["paper"].flat_patch == (64, 64)
    assert SuperRes(methods=("tv",), recipe="paper-mse").dense


def test_a_training_asks_for_the_recipe_that_serves():
    asked = {
        name: TrainingRequest(method=get_method(name), recipe="paper-mse").recipe
        for name in ("srgan", "cpce")
    }
    assert asked == {"srgan": "paper-mse", "cpce": "paper"}


def test_without_features_nothing_is_trained(small_pair, tmp_path):
    with pytest.raises(
        cards.ModelError, match=r"srgan \(paper\).*--vgg-weights.*--recipe paper-mse"
    ):
        fit(small_pair, tmp_path, vgg_weights=None)
    assert not list(tmp_path.iterdir())


def test_all_slices_are_trained_on_and_the_last_weights_are_kept(
    small_pair, tmp_path, monkeypatch
):
    drawn, players = [], []
    real_draw, real_build = Examples.batch, phase.Networks
    monkeypatch.setattr(
        Examples,
        "batch",
        lambda *a, **k: drawn.append({r.slices for r in a[2]}) or real_draw(*a, **k),
    )
    monkeypatch.setattr(
        phase, "Networks", lambda *a, **k: players.append(real_build(*a, **k)) or players[-1]
    )
    made = fit(small_pair, tmp_path)
    assert drawn == [{(z, z + 1) for z in range(6)}] * 7
    assert len(players) == 1
    last = players[0].generator.state_dict()
    assert all(torch.equal(made.state[key], value) for key, value in last.items())
    assert made.card["phases"] == {
        "search": {"iterations": 7, "of": 7, "stopped_by": "iterations"}
    }
    assert not made.card["refit_on_all_slices"]
    assert {"content"}.isdisjoint(made.log[0])
    assert made.log[0]["perceptual"] > 0


def test_slices_that_hardly_show_the_head_are_trained_on_and_scored_too(small_pair):
    mask = small_pair.mask.copy()
    mask[..., 0] = False
    mask[..., 5] = False
    mask[12:14, 12:14, 5] = True  # less than 2 % of the slice
    image = replace(small_pair, mask=mask)
    every, some = (Examples((image,), how, FACTOR, 2) for how in (SHORT, replace(MSE, patch=16)))
    assert [part.slices[0] for part in every.train] == [0, 1, 2, 3, 4, 5]
    assert sorted(part.slices[0] for part in some.train + some.held) == [1, 2, 3, 4]
    scored = validation_windows(every, every.train)
    assert [window.box[2][0] for window in scored] == [1, 2, 3, 4, 5]
    # patches of the slice without any head lie anywhere in it
    alone = [part for part in every.train if part.slices[0] == 0]
    rng = np.random.default_rng(0)
    drawn = [every.windows(rng, alone, FACTOR, iteration=0, seed=0, size=1)[0] for _ in range(40)]
    assert {box[2] for _, box in drawn} == {(0, 1)}
    assert len({box[0] for _, box in drawn}) > 4


def test_all_slices_are_scored_however_many(small_pair):
    def deep(image):
        return np.concatenate([image, image], axis=2)

    image = replace(
        small_pair,
        fine=deep(small_pair.fine),
        coarse=deep(small_pair.coarse),
        mask=deep(small_pair.mask),
    )
    for how, count in ((SHORT, 12), (replace(MSE, patch=16, hold_out=0), 8)):
        examples = Examples((image,), how, FACTOR, 2)
        assert len(validation_windows(examples, examples.train)) == count


@pytest.mark.slow
def test_the_card_of_a_training_on_all_slices_claims_nothing_of_others(small_pair, tmp_path):
    card = fit(small_pair, tmp_path).card
    assert card["held_out"] == {
        "parts": [],
        "windows": [],
        "iteration": 7,
        "model": "no data were held out: the last weights are kept",
    }
    seen = card["on_trained_slices"]
    assert seen["parts"] == [{"image": "pair", "slices": [z, z + 1]} for z in range(6)]
    assert set(seen) == {"parts", "windows", "network", "bspline", "zerofill"}
    text = held_out_text(card)
    assert text.startswith(
        "No slices were held out: the final weights were trained on all 6 slices of the pair."
    )
    assert f"{seen['network']['psnr']:.2f} dB" in text


@pytest.mark.slow
def test_a_training_on_all_slices_goes_on_after_a_kill(small_pair, tmp_path):
    class Stopped(Exception):
        pass

    def stop(_phase, iteration, _total):
        if iteration == 5:
            raise Stopped

    whole = fit(small_pair, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(small_pair, tmp_path / "cut", progress=stop)
    again = fit(small_pair, tmp_path / "cut")
    assert all(torch.equal(whole.state[key], value) for key, value in again.state.items())
    assert again.card == whole.card


@pytest.fixture
def old(small_pair, tmp_path):
    """A model of `paper` as it was at first: its card as it was written then, and what it was
    trained on.
    """
    generator = MSE.build_generator(1, FACTOR)
    card = card_entries(
        TrainingRequest(method=SRGAN, recipe="paper", changed=MSE),
        Examples((small_pair,), MSE, FACTOR, 2).described(),
    )
    card |= {"seed": 0, "reproducible": True, "perceptual": {"active": False}}
    return model.save_model(tmp_path / "old" / "srgan", generator.state_dict(), card)[0]


def test_an_old_card_is_read_as_what_it_is(old):
    assert json.loads(cards.card_path(old).read_text())["recipe"] == "paper"
    assert cards.read_card(old).recipe == "paper-mse"
    loaded = model.load_model(old)
    assert loaded.card.recipe == "paper-mse"
    assert loaded.recipe == MSE


def test_an_old_card_that_was_edited_is_refused(old):
    path = cards.card_path(old)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": "paper-mse"}))
    with pytest.raises(cards.ModelError, match="was changed after the model was saved"):
        model.load_model(old)


@pytest.mark.parametrize("source", ["auto", "reuse"])
def test_an_old_model_serves_paper_mse_and_never_paper(old, small_pair, source):
    asked = TrainingRequest(
        method=SRGAN, recipe="paper-mse", factor=FACTOR, source=source, model_dir=old.parent
    )
    assert model_store._find_model(asked, (small_pair,)) == old
    for vgg in (None, WEIGHTS):
        wanted = replace(asked, recipe="paper", vgg_weights=vgg)
        if source == "auto":
            assert model_store._find_model(wanted, (small_pair,)) is None
        else:
            with pytest.raises(cards.ModelError, match=r"no model for srgan \(paper\)"):
                model_store._find_model(wanted, (small_pair,))


@pytest.mark.slow
def test_a_card_of_the_published_run_keeps_its_name(small_pair, tmp_path):
    made = fit(small_pair, tmp_path / "work")
    weights, _ = model.save_model(tmp_path / "new", made.state, made.card)
    assert cards.read_card(weights).recipe == "paper"
    assert "content:MSE" not in plain_recipe(PAPER, vgg=True)["losses"]
    other = {"method": "cpce", "recipe": "paper"} | {"settings": {"losses": {"content:MSE": 1}}}
    assert ModelCard.from_json(other).recipe == "paper"


def test_the_published_run_is_reused_for_itself_alone(small_pair, tmp_path):
    made = fit(small_pair, tmp_path / "work")
    weights, _ = model.save_model(tmp_path / "srgan", made.state, made.card)
    asked = TrainingRequest(
        method=SRGAN,
        recipe="paper",
        changed=SHORT,
        seed=3,
        vgg_weights=WEIGHTS,
        model_dir=weights.parent,
        factor=FACTOR,
    )
    assert model_store._find_model(asked, (small_pair,)) == weights
    assert model_store._find_model(replace(asked, vgg_weights=None), (small_pair,)) is None
    other = replace(asked, recipe="paper-mse", changed=None)
    assert model_store._find_model(other, (small_pair,)) is None
    with pytest.raises(cards.ModelError, match="no model for srgan"):
        model_store._find_model(replace(other, source="reuse"), (small_pair,))
