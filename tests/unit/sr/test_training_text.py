"""Sentences on trainings are true however a training ended, and "published" is said of few."""

import json
from dataclasses import replace

import pytest
from engine_helpers import CONTENT, Tiny, TinyCritic, a_method, balls, recipe
from features import WEIGHTS, FewFeatures
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bids_sr.sr import training_text
from bids_sr.sr.losses.adversarial import AdversarialBCE
from bids_sr.sr.losses.image import MAE
from bids_sr.sr.method import all_methods, get_method, recipe_name
from bids_sr.sr.models import training_record
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe import LossTerm, loss
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.training.trainer import fit
from bids_sr.sr.training_text import data_text, planned_sentences, training_sentences

FEATURES = LossTerm(kind="perceptual", build=FewFeatures, weight=0.1)
STAND_IN = LossTerm(kind="content", build=MAE, weight=1.0, stands_in=True)
CRITIC = LossTerm(kind="adversarial", build=AdversarialBCE, weight=1e-3)
PAPER = recipe(hold_out=0)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Return a function that trains the tiny method and returns the card of its model.

    The method has the recipe that is given, under its name.
    """

    def card(how=PAPER, name="paper", *, changed=None, progress=None, folder="work", **asked):
        tiny = a_method(recipes={"paper": how, name: how}, **asked.pop("about", {}))
        monkeypatch.setattr(training_record, "get_method", lambda _: tiny)
        training = TrainingRequest(
            method=tiny, recipe=name, changed=changed, factor=(2.0, 2.0, 2.0), seed=3, **asked
        )
        made = fit(training, balls(1), tmp_path / folder, progress)
        values = dict(made.card) | ({"sloppy": True} if training.sloppy else {})
        return ModelCard.from_json(json.loads(json.dumps(values)))

    return card


def test_all_steps_of_the_unchanged_recipe_paper_are_the_published_ones(trained):
    text = training_sentences([trained()])
    assert text == (
        "Training of tiny followed the recipe paper (random seed 3), with the published settings,"
        " losses and number of steps, as far as these are reported in the publication. The loss"
        " function of tiny was squared error. Training of tiny was completed after all 12 steps;"
        " the weights of the last step were used."
    )


def test_a_training_that_the_clock_stopped_is_not_called_published(trained):
    text = training_sentences([trained(max_train_minutes=1e-9)])
    assert "Training of tiny was stopped by the time limit after 1 of 12 steps;" in text
    assert "cannot be reproduced exactly (the time limit stopped search)." in text
    assert "publish" not in text


def test_a_training_that_stopped_improving_says_after_how_many_validations(trained):
    how = recipe(iterations=400, learning_rate=0.0, patience=2)
    text = training_sentences([trained(how)])
    assert (
        "Training of tiny ended early, after 12 of at most 400 steps, because the score on"
        " the held-out slices had not improved for 2 validations; the weights of step 4, which had"
        " the best score on the held-out slices, were used." in text
    )
    assert "publish" not in text
    unheld = replace(how, hold_out=0, patience=0)
    assert "because the training loss had not improved" in training_sentences(
        [trained(unheld, folder="unheld")]
    )


def test_a_training_that_was_killed_and_continued_did_all_its_steps(trained):
    class KillError(Exception):
        pass

    def kill(_phase, step, _most):
        if step == 9:
            raise KillError

    with pytest.raises(KillError):
        trained(progress=kill)
    text = training_sentences([trained()])
    assert "completed after all 12 steps" in text
    assert "published" in text


def test_after_a_time_limit_the_same_training_is_described_by_its_steps(trained):
    """Whether it continues or not: what is said agrees with the steps in the card."""
    trained(max_train_minutes=1e-9)
    card = trained()
    done = card.json["phases"]["search"]["iterations"]
    words = (
        "completed after all 12 steps"
        if done == 12
        else f"by the time limit after {done} of 12 steps"
    )
    text = training_sentences([card])
    assert words in text
    assert ("published" in text) == (done == 12)


def test_a_card_of_a_continued_training_is_that_of_all_steps(trained):
    card = trained()
    phases = {"search": {"iterations": 12, "of": 12, "stopped_by": "iterations"}}
    again = ModelCard.from_json({**card.json, "phases": phases})
    assert training_sentences([again]) == training_sentences([card])
    phases["search"] |= {"iterations": 11, "stopped_by": "time"}
    stopped = ModelCard.from_json({**card.json, "phases": phases})
    assert "by the time limit after 11 of 12 steps" in training_sentences([stopped])


def test_features_that_were_off_are_named_with_what_stood_in(trained):
    how = recipe(hold_out=0, losses=(FEATURES, STAND_IN))
    without = training_sentences([trained(how)])
    assert "The loss function of tiny was absolute error." in without
    assert (
        "The VGG-19 feature loss of this recipe was not used for tiny, because no VGG-19 weights"
        " were provided; absolute error replaced these features." in without
    )
    assert "publish" not in without
    given_weights = training_sentences([trained(how, vgg_weights=WEIGHTS, folder="with")])
    assert "The loss function of tiny was 0.1 × the term perceptual:FewFeatures." in given_weights
    assert "published" in given_weights
    optional = replace(how, losses=(CONTENT, FEATURES))
    text = training_sentences([trained(optional, folder="optional")])
    assert "because no VGG-19 weights were provided." in text
    assert "publish" not in text


def test_an_adversarial_term_is_named_only_if_it_acted(trained):
    how = recipe(
        hold_out=0,
        losses=(CONTENT, CRITIC),
        adversarial_from=6,
        build_critic=lambda channels: TinyCritic(channels),
    )
    text = training_sentences([trained(how)])
    assert (
        "The loss function of tiny was squared error plus 0.001 × the adversarial loss of a"
        " discriminator. During the first 6 steps (pre-training), the loss function of tiny was"
        " squared error." in text
    )
    assert "published" in text
    stopped = training_sentences([trained(how, max_train_minutes=1e-9, folder="stopped")])
    assert "The loss function of tiny was squared error. The adversarial loss of tiny" in stopped
    assert "did not contribute to the final weights" in stopped
    inspected = replace(how, losses=(CONTENT, replace(CRITIC, weight=0.0)))
    text = training_sentences([trained(inspected, folder="seen")])
    assert "did not contribute to the loss function" in text


def test_a_second_training_on_all_slices_is_told_apart(trained):
    how = recipe(refit=True)
    card = trained(how)
    text = training_sentences([card])
    best = card.json["held_out"]["iteration"]
    assert "tiny was first trained without the held-out slices" in text
    assert f"To determine the number of training steps ({best})" in text
    assert "Training of tiny was completed after all 12 steps. " in text
    assert f"tiny was then retrained on all slices for {best} steps." in text
    phases = {**card.json["phases"], "refit": {"iterations": 1, "stopped_by": "time"}}
    cut = ModelCard.from_json({**card.json, "phases": phases})
    assert f"The time limit stopped this training after 1 of {best} steps." in training_sentences(
        [cut]
    )


def test_changed_settings_are_named_with_both_values(trained):
    changed = replace(PAPER, learning_rate=0.5, patience=3, losses=(replace(CONTENT, weight=2.0),))
    text = training_sentences([trained(changed=changed)])
    assert (
        "differed from this recipe: learning_rate (0.5 instead of 0.01), patience (3 instead of"
        " none), losses.content:MSE (2 instead of 1)." in text
    )
    assert "publish" not in text


def test_changes_of_the_network_that_the_card_lists_are_not_published_either(trained):
    card = trained()
    listed = ModelCard.from_json({**card.json, "changed_settings": {"width": 8}})
    text = training_sentences([listed])
    assert "settings of the network or the loss listed in the model card" in text
    assert "publish" not in text


def test_a_training_cut_down_for_a_test_says_so(trained):
    text = training_sentences([trained(replace(PAPER, iterations=500), sloppy=True)])
    assert "The training was limited to a few steps to test the program (--sloppy)." in text
    assert "completed after all 12 steps" in text
    assert "publish" not in text
    assert "differed" not in text
    other = replace(PAPER, iterations=500, learning_rate=0.5)
    text = training_sentences([trained(PAPER, sloppy=True, changed=other, folder="other")])
    assert "differed from this recipe: learning_rate (0.5 instead of 0.01)." in text


def test_a_fine_tuned_model_names_its_start(trained):
    first = ModelCard(
        method="tiny",
        recipe="paper",
        contrast="T2w",
        weights_sha256="ab" * 32,
        json={"method": "tiny", "contrast": "T2w", "weights_sha256": "ab" * 32},
    )
    how = replace(PAPER, freeze_but_last=1)
    start = LoadedModel(generator=Tiny(), recipe=how, card=first)
    text = training_sentences([trained(how, start=start)])
    assert (
        "Training was initialized with the weights of another tiny model (recipe paper, T2w,"
        " SHA-256 abababababab…). Only the last 1 layers with weights were trained." in text
    )
    assert "publish" not in text


def test_models_that_were_trained_alike_share_their_sentences(trained):
    card = trained(recipe(iterations=400, learning_rate=0.0, patience=2))
    later = {"search": {"iterations": 40, "stopped_by": "plateau"}}
    other = ModelCard.from_json({**card.json, "phases": later})
    text = training_sentences([card, other])
    assert "after 12 to 40 of at most 400 steps" in text
    assert "in each of 2 trainings" in text
    late = ModelCard.from_json(
        {**card.json, "phases": {"search": {"iterations": 9, "stopped_by": "time"}}}
    )
    text = training_sentences([card, other, late])
    assert "applies to 2 of 3 models. " in text
    assert "applies to 1 of 3 models. " in text
    assert "by the time limit after 9 of 400 steps" in text


def test_a_method_without_its_paper_has_no_published_recipe(trained):
    text = training_sentences([trained(about={"without_paper": True})])
    assert "settings chosen by the bids-sr developers" in text
    assert "published" not in text


def test_a_card_of_somebody_else_cannot_bring_markup_into_the_text(trained):
    bad = {"method": "<b>x</b>", "contrast": "[x](http://y)", "recipe": 3}
    card = ModelCard.from_json(
        {**trained().json, "started_from": bad, "not_reproducible_because": "![a](http://b)"}
    )
    text = training_sentences([card])
    assert not set("<>[]!/") & set(text)


def test_a_card_without_phases_says_nothing_of_steps():
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
    """Card of a whole training with all losses, changed in some way."""
    how = method.recipes[kind]
    features = any(term.kind == "perceptual" for term in how.losses)
    vgg = features and "features off" not in changes
    values = {
        "method": method.name,
        "recipe": kind,
        "settings": plain_recipe(how, vgg=vgg),
        "perceptual": {"active": vgg},
        "phases": {"search": {"iterations": how.steps, "stopped_by": "iterations"}},
        "held_out": {"iteration": how.steps},
    }
    for name in changes:
        values |= CHANGES[name]
    if "rate" in changes:
        values["settings"] |= {"learning_rate": 0.123}
    values["perceptual"] = {"active": vgg}
    return ModelCard.from_json(values)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([one for one in all_methods() if one.recipes]),
    st.sampled_from(["fast", "paper", "paper-mse"]),
    st.sets(st.sampled_from(sorted(CHANGES)), max_size=2),
)
def test_published_is_said_only_of_whole_unchanged_trainings_by_recipe_paper(
    method, kind, changes
):
    kind = recipe_name(method, kind)
    assume(kind in method.recipes)
    text = training_sentences([_card(method, kind, changes)])
    features = any(term.kind == "perceptual" for term in method.recipes[kind].losses)
    harmless = changes <= (set() if features else {"features off"})
    whole = kind == "paper" and not method.without_paper and harmless
    assert ("publi" in text) == whole, text
    assert ("publi" in method.described(kind)) is False
    assert text == " ".join(text.split())
    assert text.endswith(".")


def test_each_term_of_a_loss_has_a_name_in_words():
    for method in all_methods():
        for kind, how in method.recipes.items():
            for vgg in (True, False):
                names = plain_recipe(how, vgg=vgg)["losses"]
                unnamed = [one for one in names if "the term" in training_text.loss_in_words(one)]
                assert unnamed == [], (method.name, kind)


def test_before_a_training_only_what_is_sure_is_said():
    cpce = get_method("cpce")
    text = planned_sentences(cpce, "paper", features=False, minutes=2.5)
    assert text == (
        "The loss function of cpce will not include VGG-19 features: no VGG-19 weights were given,"
        " so squared error replaces the features. Training of cpce will be stopped after 2.5"
        " minutes if it has not ended before."
    )
    assert planned_sentences(cpce, "paper", features=True, minutes=None) == ""
    assert planned_sentences(get_method("tv"), "fast", features=False, minutes=None) == ""


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
def test_the_data_of_a_model_are_read_from_its_card(entries, words):
    card = ModelCard.from_json({"method": "srgan", "contrast": "T2starw", **entries})
    assert data_text([card]) == words


def test_a_loss_of_cards_before_0_2_that_lists_all_terms_is_no_change():
    cpce = get_method("cpce")
    listed = plain_recipe(cpce.recipes["fast"])
    card = ModelCard(method="cpce", recipe="fast", settings=listed)
    assert "differed" not in training_sentences([card])


@pytest.mark.parametrize(
    ("recipe", "variation"),
    [("fast", "total variation"), ("paper", "total variation per acquired voxel")],
)
def test_unsupervised_errors_are_named_as_such(recipe, variation):
    tv = get_method("tv")
    text = training_sentences([_card(tv, recipe, set())])
    assert (
        "The loss function of tv was squared error between the downsampled output and the acquired"
        f" volume plus 0.01 × {variation}." in text
    )
    assert loss("tv", "image.TotalVariation", 0.01).weight == 0.01
