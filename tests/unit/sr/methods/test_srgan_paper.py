"""Test recipe `paper` of srgan, the published training, with and without VGG-19 weights.

Trainings here have the small networks of recipe `fast`, and the losses and slices of `paper`.
"""

from dataclasses import replace

import numpy as np
import pytest
from data.features import WEIGHTS, with_features

from bids_sr.report.held_out_text import describe_held_out
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard, ModelError
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_record import read_training
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.data.validation import validation_windows
from bids_sr.sr.networks.training import trainer
from bids_sr.sr.networks.training_text import training_sentences
from bids_sr.sr.recipe import Augmentation, network

FACTOR = (2.0, 2.0, 1.0)
SRGAN = get_method("srgan")
PAPER, FAST = SRGAN.recipes["paper"], SRGAN.recipes["fast"]
MOST_SLICES = replace(PAPER, every_slice=False, hold_out=5, patch=16)
SHORT = with_features(
    replace(
        PAPER,
        iterations=7,
        evaluate_every=3,
        patch=16,
        build_generator=FAST.build_generator,
        build_critic=network("critics.srgan_critic", widths=(8, 16, 32, 64, 64), dense=64),
    )
)


def test_srresnet_is_the_published_generator_without_a_critic():
    recipe = get_method("srresnet").recipes["fast"]
    assert recipe.build_generator == PAPER.build_generator
    assert recipe.build_critic is None
    assert [term.kind for term in recipe.losses] == ["content"]
    for setting in ("patch", "batch", "learning_rate", "upsampled_by", "augmentation"):
        assert getattr(recipe, setting) == getattr(PAPER, setting)


def fit(pair, work_dir, recipe=SHORT, vgg_weights=WEIGHTS):
    request = ModelRequest(
        method=SRGAN.name,
        recipe="paper",
        replacement_recipe=recipe,
        factor=FACTOR,
        random_seed=3,
        vgg_weights=vgg_weights,
    )
    return trainer.train_network(request, (pair,), work_dir)


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
    weights = {term.kind: term.weight for term in PAPER.losses}
    assert weights == {"adversarial": 1e-3, "perceptual": 0.006, "content": 4.0}


def test_a_loss_without_any_comparison_of_images_is_rejected(small_pair, tmp_path):
    blind = replace(SHORT, losses=tuple(term for term in SHORT.losses if not term.stands_in))
    with pytest.raises(ModelError, match=r"srgan \(paper\).*--vgg-weights"):
        fit(small_pair, tmp_path, blind, vgg_weights=None)
    assert not list(tmp_path.iterdir())


def test_all_slices_are_trained_on_and_the_last_weights_are_kept(
    small_pair, tmp_path, monkeypatch
):
    slices_drawn, draw_batch = [], Examples.draw_batch

    def record_slices(self, rng, **options):
        slices_drawn.append({slab.slices for slab in self.training_slabs})
        return draw_batch(self, rng, **options)

    monkeypatch.setattr(Examples, "draw_batch", record_slices)
    result = fit(small_pair, tmp_path)
    assert slices_drawn == [{(z, z + 1) for z in range(6)}] * 7
    assert "content" not in result.log[0]
    assert "pretraining" not in result.card
    assert result.log[0]["perceptual"] > 0
    held_out, scores = result.card["held_out"], result.card["on_trained_slices"]
    assert (held_out["parts"], held_out["windows"], held_out["iteration"]) == ([], [], 7)
    assert scores["parts"] == [{"image": "pair", "slices": [z, z + 1]} for z in range(6)]
    assert {"network", "bspline", "zerofill"} <= set(scores)
    assert f"{scores['network']['psnr']:.2f} dB" in describe_held_out(result.card)


def test_slices_with_little_head_are_also_trained_on_and_scored(small_pair):
    mask = small_pair.mask.copy()
    mask[..., 0] = False
    mask[..., 5] = False
    mask[12:14, 12:14, 5] = True  # less than 2 % of the slice
    image = replace(small_pair, mask=mask)
    all_slices, most_slices = (
        Examples((image,), examples_recipe, FACTOR, 2) for examples_recipe in (SHORT, MOST_SLICES)
    )
    assert [part.slices[0] for part in all_slices.training_slabs] == [0, 1, 2, 3, 4, 5]
    assert sorted(
        part.slices[0] for part in most_slices.training_slabs + most_slices.held_out_slabs
    ) == [1, 2, 3, 4]
    scored = validation_windows(all_slices, all_slices.training_slabs)
    assert [window.box[2][0] for window in scored] == [1, 2, 3, 4, 5]
    # Patches of the slice without a head are anywhere in the slice.
    all_slices.training_slabs = all_slices.training_slabs[:1]
    rng = np.random.default_rng(0)
    windows = [
        all_slices.draw_windows(rng, FACTOR, iteration=0, seed=0, size=1)[0] for _ in range(40)
    ]
    assert {box[2] for _, box in windows} == {(0, 1)}
    assert len({box[0] for _, box in windows}) > 4


def test_the_log_compares_the_critic_with_the_other_loss_and_has_the_size_of_the_detail(
    small_pair, tmp_path
):
    louder = replace(
        SHORT,
        losses=tuple(
            replace(term, weight=10 * term.weight) if term.kind == "adversarial" else term
            for term in SHORT.losses
        ),
    )
    first, tenfold = (
        fit(small_pair, tmp_path / name, replace(recipe, iterations=1), vgg_weights=None).log[-1]
        for name, recipe in (("once", SHORT), ("tenfold", louder))
    )
    assert first["gradient_ratio"] > 0
    assert tenfold["gradient_ratio"] == pytest.approx(10 * first["gradient_ratio"], rel=0.2)
    assert first["added_detail"] > 0
    without = replace(SHORT, build_critic=None, losses=SHORT.losses[1:])
    assert "gradient_ratio" not in fit(small_pair, tmp_path / "none", without, None).log[-1]


def test_a_training_whose_patches_are_as_large_as_the_slices_is_told(small_pair, tmp_path, caplog):
    whole = replace(SHORT, patch=64, iterations=1)
    fit(small_pair, tmp_path / "whole", whole, vgg_weights=None)
    assert "is only 1, because" in caplog.text
    caplog.clear()
    small = replace(whole, patch=8, build_critic=None, losses=SHORT.losses[1:])
    fit(small_pair, tmp_path / "small", small, vgg_weights=None)
    assert "is only" not in caplog.text


def test_the_methods_text_names_the_weight_of_models_that_were_trained_with_another(
    small_pair, tmp_path
):
    model = fit(small_pair, tmp_path, replace(PAPER, iterations=1, patch=16), vgg_weights=None)
    current = ModelCard.from_json(model.card)
    older = {
        **model.card,
        "settings": {
            **model.card["settings"],
            "losses": {**model.card["settings"]["losses"], "content:MSE": 1.0},
        },
    }
    assert "content" not in str(read_training(current).changed)
    text = training_sentences([ModelCard.from_json(older)])
    assert "1 instead of 4" in text
