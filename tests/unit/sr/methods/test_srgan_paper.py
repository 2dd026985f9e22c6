"""Test recipe `paper` of srgan, the published training, with and without VGG-19 weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.features import WEIGHTS, with_features

from bids_sr.networks.data.examples import Examples
from bids_sr.networks.data.validation import validation_windows
from bids_sr.networks.training import phase, trainer
from bids_sr.networks.training_text import training_sentences
from bids_sr.report.held_out_text import describe_held_out
from bids_sr.sr.method import get_method, method_names
from bids_sr.sr.models import card as cards, model, model_store
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.recipe import Augmentation
from bids_sr.sr.recipe_settings import plain_recipe

FACTOR = (2.0, 2.0, 1.0)
SRGAN = get_method("srgan")
PAPER = SRGAN.recipes["paper"]
MOST_SLICES = replace(PAPER, every_slice=False, hold_out=5, patch=16)
SHORT = with_features(replace(PAPER, iterations=7, evaluate_every=3, patch=16))


def fit(pair, work_dir, recipe=SHORT, progress=None, **fields):
    fields = {"recipe": "paper", "random_seed": 3, "vgg_weights": WEIGHTS} | fields
    return trainer.train_network(
        ModelRequest(method=SRGAN.name, replacement_recipe=recipe, factor=FACTOR, **fields),
        (pair,),
        work_dir,
        progress,
    )


def test_recipe_paper_has_the_published_settings():
    assert (PAPER.iterations, PAPER.patch, PAPER.batch, PAPER.upsampled_by) == (
        100_000,
        64,
        2,
        "lanczos",
    )
    assert (PAPER.learning_rate, PAPER.betas[0], PAPER.schedule) == (1e-4, 0.9, "constant")
    assert PAPER.steps == 100_000
    assert (PAPER.hold_out, PAPER.patience) == (0, None)
    assert PAPER.augmentation == Augmentation()
    assert {term.kind: term.weight for term in PAPER.losses} == {
        "adversarial": 1e-3,
        "perceptual": 0.006,
        "content": 1.0,
    }


def test_squared_error_replaces_the_features_without_weights():
    losses = {vgg: {term.kind for term in PAPER.select_terms(vgg)} for vgg in (True, False)}
    assert losses == {
        True: {"adversarial", "perceptual"},
        False: {"adversarial", "content"},
    }


def test_every_recipe_can_be_trained_without_weights():
    assert not any(
        recipe.needs_vgg for name in method_names() for recipe in get_method(name).recipes.values()
    )


def test_a_loss_without_any_comparison_of_images_is_rejected(small_pair, tmp_path):
    blind = replace(SHORT, losses=tuple(term for term in SHORT.losses if not term.stands_in))
    with pytest.raises(cards.ModelError, match=r"srgan \(paper\).*--vgg-weights"):
        fit(small_pair, tmp_path, blind, vgg_weights=None)
    assert not list(tmp_path.iterdir())


def test_training_without_weights_names_the_loss_that_replaces_the_features(small_pair, tmp_path):
    card = fit(small_pair, tmp_path, vgg_weights=None).card
    assert card["recipe"] == "paper"
    assert set(card["settings"]["losses"]) == {"adversarial:AdversarialBCE", "content:MSE"}
    assert not card["perceptual"]["active"]
    assert "squared error replaces the features" in card["perceptual"]["reason"]
    text = training_sentences([ModelCard.from_json(card)])
    assert "squared error replaced these features" in text
    assert "published" not in text


def test_all_slices_are_trained_on_and_the_last_weights_are_kept(
    small_pair, tmp_path, monkeypatch
):
    slices_drawn, players = [], []
    real_draw, real_build = Examples.draw_batch, phase.Networks
    monkeypatch.setattr(
        Examples,
        "draw_batch",
        lambda *a, **k: slices_drawn.append({r.slices for r in a[2]}) or real_draw(*a, **k),
    )
    monkeypatch.setattr(
        phase, "Networks", lambda *a, **k: players.append(real_build(*a, **k)) or players[-1]
    )
    result = fit(small_pair, tmp_path)
    assert slices_drawn == [{(z, z + 1) for z in range(6)}] * 7
    assert len(players) == 1
    last = players[0].generator.state_dict()
    assert all(torch.equal(result.state[key], value) for key, value in last.items())
    assert result.card["phases"] == {
        "search": {"iterations": 7, "of": 7, "stopped_by": "iterations"}
    }
    assert {"content"}.isdisjoint(result.log[0])
    assert result.log[0]["perceptual"] > 0


def test_slices_with_little_head_are_also_trained_on_and_scored(small_pair):
    mask = small_pair.mask.copy()
    mask[..., 0] = False
    mask[..., 5] = False
    mask[12:14, 12:14, 5] = True  # less than 2 % of the slice
    image = replace(small_pair, mask=mask)
    all_slices, most_slices = (
        Examples((image,), examples_recipe, FACTOR, 2) for examples_recipe in (SHORT, MOST_SLICES)
    )
    assert [part.slices[0] for part in all_slices.training_regions] == [0, 1, 2, 3, 4, 5]
    assert sorted(
        part.slices[0] for part in most_slices.training_regions + most_slices.held_out_regions
    ) == [1, 2, 3, 4]
    scored = validation_windows(all_slices, all_slices.training_regions)
    assert [window.box[2][0] for window in scored] == [1, 2, 3, 4, 5]
    # Patches of the slice without a head are anywhere in the slice.
    empty_slice = [part for part in all_slices.training_regions if part.slices[0] == 0]
    rng = np.random.default_rng(0)
    windows = [
        all_slices.draw_windows(rng, empty_slice, FACTOR, iteration=0, seed=0, size=1)[0]
        for _ in range(40)
    ]
    assert {box[2] for _, box in windows} == {(0, 1)}
    assert len({box[0] for _, box in windows}) > 4


def test_all_slices_are_scored(small_pair):
    def deep(image):
        return np.concatenate([image, image], axis=2)

    image = replace(
        small_pair,
        fine=deep(small_pair.fine),
        coarse=deep(small_pair.coarse),
        mask=deep(small_pair.mask),
    )
    for examples_recipe, count in ((SHORT, 12), (replace(MOST_SLICES, hold_out=0), 8)):
        examples = Examples((image,), examples_recipe, FACTOR, 2)
        assert len(validation_windows(examples, examples.training_regions)) == count


@pytest.mark.slow
def test_a_model_trained_on_all_slices_reports_no_held_out_score(small_pair, tmp_path):
    card = fit(small_pair, tmp_path).card
    assert card["held_out"] == {
        "parts": [],
        "windows": [],
        "iteration": 7,
        "model": "No data were held out. The weights of the last step are kept.",
    }
    scores = card["on_trained_slices"]
    assert scores["parts"] == [{"image": "pair", "slices": [z, z + 1]} for z in range(6)]
    assert set(scores) == {"parts", "windows", "network", "bspline", "zerofill"}
    text = describe_held_out(card)
    assert text.startswith(
        "No slices were held out: the final weights were trained on all 6 slices of the pair."
    )
    assert f"{scores['network']['psnr']:.2f} dB" in text


@pytest.mark.slow
def test_an_interrupted_training_on_all_slices_resumes(small_pair, tmp_path):
    class Interrupt(Exception):
        pass

    def stop(_phase, iteration, _total):
        if iteration == 5:
            raise Interrupt

    uninterrupted = fit(small_pair, tmp_path / "whole")
    with pytest.raises(Interrupt):
        fit(small_pair, tmp_path / "cut", progress=stop)
    resumed = fit(small_pair, tmp_path / "cut")
    assert all(
        torch.equal(uninterrupted.state[key], value) for key, value in resumed.state.items()
    )
    assert resumed.card == uninterrupted.card


@pytest.mark.slow
def test_a_card_of_the_published_training_keeps_its_recipe(small_pair, tmp_path):
    result = fit(small_pair, tmp_path / "work")
    weights, _ = model.save_model(tmp_path / "new", result.state, result.card)
    assert cards.read_card(weights).recipe == "paper"
    assert "content:MSE" not in plain_recipe(PAPER, vgg=True)["losses"]
    other_card = {"method": "cpce", "recipe": "paper"} | {
        "settings": {"losses": {"content:MSE": 1}}
    }
    assert ModelCard.from_json(other_card).recipe == "paper"


@pytest.mark.parametrize("has_features", [True, False])
def test_a_model_is_only_reused_for_a_training_with_the_same_loss(
    small_pair, tmp_path, has_features
):
    weights_file = WEIGHTS if has_features else None
    result = fit(small_pair, tmp_path / "work", vgg_weights=weights_file)
    weights, _ = model.save_model(tmp_path / "srgan", result.state, result.card)
    request = ModelRequest(
        method=SRGAN.name,
        recipe="paper",
        replacement_recipe=SHORT,
        random_seed=3,
        vgg_weights=weights_file,
        model_dir=weights.parent,
        factor=FACTOR,
    )
    assert model_store._find_model(request, (small_pair,)) == weights
    other_request = replace(request, vgg_weights=None if has_features else WEIGHTS)
    assert model_store._find_model(other_request, (small_pair,)) is None
    reuse = replace(other_request, model_source="reuse")
    if has_features:  # applying the model does not require the weights
        assert model_store._find_model(reuse, (small_pair,)) == weights
    else:
        with pytest.raises(cards.ModelError, match=r"no model for srgan .* with VGG-19 features"):
            model_store._find_model(reuse, (small_pair,))
