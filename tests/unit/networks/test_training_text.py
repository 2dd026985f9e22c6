"""Test sentences on trainings: they are true however a training ended, and only few trainings are
called published.
"""

import json
from dataclasses import replace

import pytest
from data.features import WEIGHTS, FewFeatures
from data.tiny_training import CONTENT, Tiny, TinyCritic, a_method, balls, recipe
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from bids_sr.networks import training_text
from bids_sr.networks.losses.adversarial import AdversarialBCE
from bids_sr.networks.losses.image import MAE
from bids_sr.networks.training.trainer import train_network
from bids_sr.networks.training_text import data_text, training_sentences, write_planned_sentences
from bids_sr.sr.method import get_method, list_methods
from bids_sr.sr.models import training_record
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.recipe import LossTerm, loss
from bids_sr.sr.recipe_settings import plain_recipe

FEATURES = LossTerm(kind="perceptual", build=FewFeatures, weight=0.1)
STAND_IN = LossTerm(kind="content", build=MAE, weight=1.0, stands_in=True)
CRITIC = LossTerm(kind="adversarial", build=AdversarialBCE, weight=1e-3)
PAPER = recipe(hold_out=0)


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Return a function that trains the tiny method and returns the card of its model.

    The method has the given recipe under the given name.
    """

    def card(
        method_recipe=PAPER,
        name="paper",
        *,
        changed=None,
        progress=None,
        folder="work",
        **request_fields,
    ):
        tiny = a_method(
            recipes={"paper": method_recipe, name: method_recipe},
            **request_fields.pop("about", {}),
        )
        monkeypatch.setattr(training_record, "get_method", lambda _: tiny)
        training = ModelRequest(
            method="tiny",
            unregistered_method=tiny,
            recipe=name,
            replacement_recipe=changed,
            factor=(2.0, 2.0, 2.0),
            random_seed=3,
            **request_fields,
        )
        result = train_network(training, balls(1), tmp_path / folder, progress)
        values = dict(result.card) | ({"sloppy": True} if training.sloppy else {})
        return ModelCard.from_json(json.loads(json.dumps(values)))

    return card


def test_all_steps_of_the_unchanged_recipe_paper_are_called_published(train):
    text = training_sentences([train()])
    assert text == (
        "Training of tiny followed the recipe paper (random seed 3), with the published settings,"
        " losses and number of steps, as far as these are reported in the publication. The loss"
        " function of tiny was squared error. Training of tiny was completed after all 12 steps;"
        " the weights of the last step were used."
    )


def test_a_training_stopped_by_the_time_limit_is_not_called_published(train):
    text = training_sentences([train(max_train_minutes=1e-9)])
    assert "Training of tiny was stopped by the time limit after 1 of 12 steps;" in text
    assert "cannot be reproduced exactly (the time limit stopped the training)." in text
    assert "publish" not in text


def test_early_stopping_is_described_with_the_number_of_validations(train):
    early_stopping = recipe(iterations=400, learning_rate=0.0, patience=2)
    text = training_sentences([train(early_stopping)])
    assert (
        "Training of tiny ended early, after 12 of at most 400 steps, because the score on"
        " the held-out slices had not improved for 2 validations; the weights of step 4, which had"
        " the best score on the held-out slices, were used." in text
    )
    assert "publish" not in text
    without_validation = replace(early_stopping, hold_out=0, patience=0)
    assert "because the training loss had not improved" in training_sentences(
        [train(without_validation, folder="unheld")]
    )


def test_a_killed_and_continued_training_has_all_steps(train):
    class KillError(Exception):
        pass

    def raise_kill(_phase, step, _total):
        if step == 9:
            raise KillError

    with pytest.raises(KillError):
        train(progress=raise_kill)
    text = training_sentences([train()])
    assert "completed after all 12 steps" in text
    assert "published" in text


def test_a_training_after_a_time_limit_is_described_by_the_steps_in_its_card(train):
    """Check both cases: the training continues, or starts again."""
    train(max_train_minutes=1e-9)
    card = train()
    steps = card.json["phases"]["search"]["iterations"]
    words = (
        "completed after all 12 steps"
        if steps == 12
        else f"by the time limit after {steps} of 12 steps"
    )
    text = training_sentences([card])
    assert words in text
    assert ("published" in text) == (steps == 12)


def test_the_sentences_follow_from_the_phases_in_the_card(train):
    card = train()
    phases = {"search": {"iterations": 12, "of": 12, "stopped_by": "iterations"}}
    all_steps = ModelCard.from_json({**card.json, "phases": phases})
    assert training_sentences([all_steps]) == training_sentences([card])
    phases["search"] |= {"iterations": 11, "stopped_by": "time"}
    stopped = ModelCard.from_json({**card.json, "phases": phases})
    assert "by the time limit after 11 of 12 steps" in training_sentences([stopped])


def test_missing_vgg_features_are_named_with_their_replacement(train):
    with_features = recipe(hold_out=0, losses=(FEATURES, STAND_IN))
    without = training_sentences([train(with_features)])
    assert "The loss function of tiny was absolute error." in without
    assert (
        "The VGG-19 feature loss of this recipe was not used for tiny, because no VGG-19 weights"
        " were provided; absolute error replaced these features." in without
    )
    assert "publish" not in without
    text_with_weights = training_sentences(
        [train(with_features, vgg_weights=WEIGHTS, folder="with")]
    )
    assert (
        "The loss function of tiny was 0.1 × the term perceptual:FewFeatures." in text_with_weights
    )
    assert "published" in text_with_weights
    optional = replace(with_features, losses=(CONTENT, FEATURES))
    text = training_sentences([train(optional, folder="optional")])
    assert "because no VGG-19 weights were provided." in text
    assert "publish" not in text


def test_an_adversarial_loss_is_only_named_if_it_was_used(train):
    adversarial = recipe(
        hold_out=0,
        losses=(CONTENT, CRITIC),
        adversarial_from=6,
        build_critic=lambda channels: TinyCritic(channels),
    )
    text = training_sentences([train(adversarial)])
    assert (
        "The loss function of tiny was squared error plus 0.001 × the adversarial loss of a"
        " discriminator. During the first 6 steps (pre-training), the loss function of tiny was"
        " squared error." in text
    )
    assert "published" in text
    stopped = training_sentences([train(adversarial, max_train_minutes=1e-9, folder="stopped")])
    assert "The loss function of tiny was squared error. The adversarial loss of tiny" in stopped
    assert "did not contribute to the final weights" in stopped
    unweighted = replace(adversarial, losses=(CONTENT, replace(CRITIC, weight=0.0)))
    text = training_sentences([train(unweighted, folder="seen")])
    assert "did not contribute to the loss function" in text


def test_changed_settings_are_named_with_both_values(train):
    changed_recipe = replace(
        PAPER, learning_rate=0.5, patience=3, losses=(replace(CONTENT, weight=2.0),)
    )
    text = training_sentences([train(changed=changed_recipe)])
    assert (
        "differed from this recipe: learning_rate (0.5 instead of 0.01), patience (3 instead of"
        " none), losses.content:MSE (2 instead of 1)." in text
    )
    assert "publish" not in text


def test_network_changes_listed_in_the_card_prevent_the_word_published(train):
    card = train()
    changed_card = ModelCard.from_json({**card.json, "changed_settings": {"width": 8}})
    text = training_sentences([changed_card])
    assert "settings of the network or the loss listed in the model card" in text
    assert "publish" not in text


def test_a_sloppy_training_is_described_as_a_test(train):
    text = training_sentences([train(replace(PAPER, iterations=500), sloppy=True)])
    assert "The training was limited to a few steps to test the program (run.sloppy=true)." in text
    assert "completed after all 12 steps" in text
    assert "publish" not in text
    assert "differed" not in text
    changed_recipe = replace(PAPER, iterations=500, learning_rate=0.5)
    text = training_sentences([train(PAPER, sloppy=True, changed=changed_recipe, folder="other")])
    assert "differed from this recipe: learning_rate (0.5 instead of 0.01)." in text


def test_a_fine_tuned_model_names_its_starting_weights(train):
    first = ModelCard(
        method="tiny",
        recipe="paper",
        contrast="T2w",
        weights_sha256="ab" * 32,
        json={"method": "tiny", "contrast": "T2w", "weights_sha256": "ab" * 32},
    )
    fine_tuning = replace(PAPER, freeze_but_last=1)
    start = LoadedModel(generator=Tiny(), recipe=fine_tuning, card=first)
    text = training_sentences([train(fine_tuning, start_model=start)])
    assert (
        "Training was initialized with the weights of another tiny model (recipe paper, T2w,"
        " SHA-256 abababababab…). Only the last 1 layers with weights were trained." in text
    )
    assert "publish" not in text


def test_models_with_the_same_training_share_their_sentences(train):
    card = train(recipe(iterations=400, learning_rate=0.0, patience=2))
    phases = {"search": {"iterations": 40, "stopped_by": "plateau"}}
    second_card = ModelCard.from_json({**card.json, "phases": phases})
    text = training_sentences([card, second_card])
    assert "after 12 to 40 of at most 400 steps" in text
    assert "in each of 2 trainings" in text
    stopped_card = ModelCard.from_json(
        {**card.json, "phases": {"search": {"iterations": 9, "stopped_by": "time"}}}
    )
    text = training_sentences([card, second_card, stopped_card])
    assert "applies to 2 of 3 models. " in text
    assert "applies to 1 of 3 models. " in text
    assert "by the time limit after 9 of 400 steps" in text


def test_markup_in_a_foreign_card_does_not_reach_the_text(train):
    foreign_entries = {"method": "<b>x</b>", "contrast": "[x](http://y)", "recipe": 3}
    card = ModelCard.from_json(
        {
            **train().json,
            "started_from": foreign_entries,
            "not_reproducible_because": "![a](http://b)",
        }
    )
    text = training_sentences([card])
    assert not set("<>[]!/") & set(text)


def test_a_card_without_phases_has_no_sentence_about_steps():
    card = ModelCard(method="srgan", recipe="fast")
    text = training_sentences([card])
    assert "steps;" not in text
    assert "published" not in text


CHANGES = {
    "time": {"phases": {"search": {"iterations": 8, "stopped_by": "time"}}},
    "plateau": {"phases": {"search": {"iterations": 9, "stopped_by": "plateau"}}},
    "features off": {"perceptual": {"active": False}},
    "sloppy": {"sloppy": True},
    "start": {"started_from": {"method": "x", "weights_sha256": "0"}},
    "batch halved": {"not_reproducible_because": "the device had no room for the batch"},
    "changed": {"changed_settings": {"width": 1}},
    "rate": {},
}


def _card(method, kind, changes):
    """Return the card of a complete training with all losses, with some changes."""
    recipe_of_method = method.recipes[kind]
    features = any(term.kind == "perceptual" for term in recipe_of_method.losses)
    vgg = features and "features off" not in changes
    values = {
        "method": method.name,
        "recipe": kind,
        "settings": plain_recipe(recipe_of_method, vgg=vgg),
        "perceptual": {"active": vgg},
        "phases": {"search": {"iterations": recipe_of_method.steps, "stopped_by": "iterations"}},
        "held_out": {"iteration": recipe_of_method.steps},
    }
    for name in changes:
        values |= CHANGES[name]
    if "rate" in changes:
        values["settings"] |= {"learning_rate": 0.123}
    values["perceptual"] = {"active": vgg}
    return ModelCard.from_json(values)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([method for method in list_methods() if method.recipes]),
    st.sampled_from(["fast", "paper"]),
    st.sets(st.sampled_from(sorted(CHANGES)), max_size=2),
)
def test_only_complete_unchanged_trainings_by_recipe_paper_are_called_published(
    method, kind, changes
):
    assume(kind in method.recipes)
    text = training_sentences([_card(method, kind, changes)])
    features = any(term.kind == "perceptual" for term in method.recipes[kind].losses)
    harmless = changes <= (set() if features else {"features off"})
    complete = kind == "paper" and harmless
    assert ("publi" in text) == complete, text
    assert ("publi" in method.describe_network(kind)) is False
    assert text == " ".join(text.split())
    assert text.endswith(".")


def test_each_loss_has_a_description():
    for method in list_methods():
        for kind, recipe_of_method in method.recipes.items():
            for vgg in (True, False):
                names = plain_recipe(recipe_of_method, vgg=vgg)["losses"]
                unnamed = [
                    name for name in names if "the term" in training_text.loss_in_words(name)
                ]
                assert unnamed == [], (method.name, kind)


def test_sentences_before_a_training_only_state_known_facts():
    cpce = get_method("cpce")
    text = write_planned_sentences(cpce, "paper", features=False, minutes=2.5)
    assert text == (
        "The loss function of cpce will not include VGG-19 features: no VGG-19 weights were given,"
        " so squared error replaces the features. Training of cpce will be stopped after 2.5"
        " minutes if it has not ended before."
    )
    assert write_planned_sentences(cpce, "paper", features=True, minutes=None) == ""
    assert write_planned_sentences(get_method("tv"), "fast", features=False, minutes=None) == ""


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            {"images": ["pair"], "coarse_images": "measured"},
            "1 pair of high- and low-resolution images (T2starw)",
        ),
        (
            {"images": ["a", "b"], "coarse_images": "made by kspace from the fine ones"},
            "2 images (T2starw) and low-resolution images computed from them",
        ),
        (
            {"images": ["a"], "coarse_images": "made by kspace from the fine ones"},
            "1 image (T2starw) and a low-resolution image computed from it",
        ),
        ({}, "images (T2starw) that are not listed in the model card"),
        (
            {"images": ["v"] * 20, "objective": "self"},
            "20 acquired volumes (T2starw), without a high-resolution image",
        ),
    ],
)
def test_the_training_data_are_described_from_the_card(entries, words):
    card = ModelCard.from_json({"method": "srgan", "contrast": "T2starw", **entries})
    assert data_text([card]) == words


@pytest.mark.parametrize(
    ("recipe", "variation"),
    [("fast", "total variation"), ("paper", "total variation per acquired voxel")],
)
def test_losses_without_supervision_are_described(recipe, variation):
    tv = get_method("tv")
    text = training_sentences([_card(tv, recipe, set())])
    assert (
        "The loss function of tv was squared error between the downsampled output and the acquired"
        f" volume plus 0.01 × {variation}." in text
    )
    assert loss("tv", "image.TotalVariation", 0.01).weight == 0.01
