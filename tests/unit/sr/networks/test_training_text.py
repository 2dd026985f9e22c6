"""Test sentences on trainings: they are true however a training ended, and only few trainings are
called published.
"""

import json
from dataclasses import replace

import pytest
from data.features import WEIGHTS, FewFeatures
from data.tiny_training import CONTENT, Tiny, TinyCritic, a_method, balls, recipe
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from bids_sr.sr.method import list_methods
from bids_sr.sr.models import training_record
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.losses.adversarial import AdversarialBCE
from bids_sr.sr.networks.losses.image import MAE
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.networks.training_text import (
    training_sentences,
)
from bids_sr.sr.recipe import LossTerm
from bids_sr.sr.recipe_settings import plain_recipe

FEATURES = LossTerm(kind="perceptual", build=FewFeatures, weight=0.1)
STAND_IN = LossTerm(kind="content", build=MAE, weight=1.0, stands_in=True)
CRITIC = LossTerm(kind="adversarial", build=AdversarialBCE, weight=1e-3)
PAPER = recipe(hold_out=0)
PATIENT = recipe(iterations=400, learning_rate=0.0, patience=2)
WITH_FEATURES = recipe(hold_out=0, losses=(FEATURES, STAND_IN))
WITH_CRITIC = recipe(
    hold_out=0, losses=(CONTENT, CRITIC), adversarial_from=6, build_critic=TinyCritic
)
SEEN_BY_CRITIC = replace(WITH_CRITIC, losses=(CONTENT, replace(CRITIC, weight=0.0)))
CHANGED = replace(PAPER, learning_rate=0.5, patience=3, losses=(replace(CONTENT, weight=2.0),))
LAST_LAYER = replace(PAPER, freeze_but_last=1)
START = LoadedModel(
    generator=Tiny(),
    recipe=LAST_LAYER,
    card=ModelCard.from_json({"method": "tiny", "contrast": "T2w", "weights_sha256": "ab" * 32}),
)
STOP = {"max_train_minutes": 1e-9}


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Return a function that trains the tiny method, whose recipe paper is given, and returns the
    card of its model.
    """

    def card(paper=PAPER, changed=None, paper_precision="fp32", **request_fields):
        tiny = a_method(recipes={"paper": paper}, paper_precision=paper_precision)
        monkeypatch.setattr(training_record, "get_method", lambda _: tiny)
        training = ModelRequest(
            method="tiny",
            unregistered_method=tiny,
            recipe="paper",
            replacement_recipe=changed,
            factor=(2.0, 2.0, 2.0),
            random_seed=3,
            **request_fields,
        )
        result = train_network(training, balls(1), tmp_path)
        values = dict(result.card) | ({"sloppy": True} if training.sloppy else {})
        return ModelCard.from_json(json.loads(json.dumps(values)))

    return card


@pytest.mark.parametrize(
    ("paper", "fields", "facts", "published"),
    [
        (PAPER, {}, ["random seed 3", "all 12 steps", "squared error"], True),
        (PAPER, STOP, ["1 of 12 steps"], False),
        (PAPER, {"train_precision": "mixed"}, ["bfloat16"], False),
        (
            PAPER,
            {"train_precision": "mixed", "paper_precision": "mixed"},
            ["bfloat16", "float16 in the original paper"],
            True,
        ),
        (PAPER, {"train_precision": "fp32", "paper_precision": "mixed"}, [], True),
        (PATIENT, {}, ["12 of at most 400 steps", "for 2 validations", "of step 4"], False),
        (WITH_FEATURES, {}, ["absolute error", "no VGG-19 weights"], False),
        (WITH_FEATURES, {"vgg_weights": WEIGHTS}, ["0.1 × the term perceptual:Few"], True),
        (replace(WITH_FEATURES, losses=(CONTENT, FEATURES)), {}, ["no VGG-19 weights"], False),
        (WITH_CRITIC, {}, ["plus 0.001 × the adversarial loss", "first 6 steps"], True),
        (WITH_CRITIC, STOP, ["squared error. The adversarial loss", "did not contribute"], False),
        (SEEN_BY_CRITIC, {}, ["did not contribute"], True),
        (
            PAPER,
            {"changed": CHANGED},
            ["learning_rate (0.5 instead of 0.01)", "patience (3 ", "losses.content:MSE (2 inst"],
            False,
        ),
        (replace(PAPER, iterations=500), {"sloppy": True}, ["sloppy", "all 12 steps"], False),
        (PAPER, {"sloppy": True, "changed": CHANGED}, ["learning_rate (0.5"], False),
        (
            LAST_LAYER,
            {"start_model": START},
            ["another tiny model", "T2w", "abababababab…", "last 1 layers"],
            False,
        ),
    ],
    ids=[
        "as published",
        "stopped by time",
        "bf16",
        "bf16 as in the paper",
        "fp32 instead of half precision",
        "stopped early",
        "features replaced",
        "features",
        "features omitted",
        "critic",
        "stopped before the critic",
        "critic without weight",
        "changed settings",
        "sloppy",
        "sloppy and changed",
        "started from a model",
    ],
)
def test_a_training_is_described_with_its_steps_losses_and_changes(
    train, paper, fields, facts, published
):
    text = training_sentences([train(paper, **fields)])
    assert [fact for fact in facts if fact not in text] == []
    assert ("publish" in text) is published
    assert ("differed" in text) is ("changed" in fields)


@pytest.mark.parametrize(
    ("entry", "published"),
    [
        ({"asked": True, "kept": True, "score_change_db": 0.001}, False),
        ({"asked": True, "kept": False, "score_change_db": 0.4}, False),
        ({"asked": True, "kept": False, "score_change_db": None}, True),
        ({}, True),
    ],
    ids=["kept", "ended", "never begun", "early card"],
)
def test_a_training_with_steps_in_mixed_precision_is_not_called_published(train, entry, published):
    card = ModelCard.from_json({**train().json, "mixed_precision": entry})
    text = training_sentences([card])
    assert ("publish" in text) is published
    assert ("bfloat16" in text) is not published


def test_markup_in_a_foreign_card_does_not_reach_the_text(train):
    start = {"method": "<b>x</b>", "contrast": "[x](http://y)", "recipe": 3}
    foreign = {"started_from": start, "not_reproducible_because": "![a](http://b)"}
    text = training_sentences([ModelCard.from_json({**train().json, **foreign})])
    assert not set("<>[]!/") & set(text)
    without_phases = training_sentences([ModelCard(method="srgan", recipe="fast")])
    assert "steps;" not in without_phases
    assert "published" not in without_phases


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


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
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
