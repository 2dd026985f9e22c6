"""Test the methods text on networks, before and after training or reuse."""

import json

from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import weights_path
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.steps.training_texts import describe_finished


def _folder(parent, method, recipe="fast", *, steps=None, stopped_by="iterations", **entries):
    """Write the card of a complete training, or of `steps`, as a training step does; return the
    folder.
    """
    method_recipe = get_method(method).recipes[recipe]
    iterations = method_recipe.steps if steps is None else steps
    card = {
        "card_version": 1,
        "method": method,
        "recipe": recipe,
        "factor": [2, 2, 1],
        "resolution": {"lowres_mm": [3, 3, 3]},
        "contrast": "T2starw",
        "orientation": "I-S",
        "weights_sha256": "0" * 64,
        "seed": 0,
        "images": ["pair"],
        "coarse_images": "measured",
        "objective": method_recipe.objective,
        "settings": plain_recipe(method_recipe, vgg=False),
        "perceptual": {"active": False},
        "held_out": {"iteration": iterations},
        "phases": {"search": {"iterations": iterations, "stopped_by": stopped_by}},
    }
    parent.mkdir(parents=True, exist_ok=True)
    path = weights_path(parent, method).with_suffix(".json")
    path.write_text(json.dumps(card | entries))
    return parent


def _text_after_training(source, folders, method, recipe="fast", *, unfinished=0, **settings):
    training = TrainingSettings(method=method, recipe=recipe, **settings)
    return describe_finished(training, source, folders, unfinished)


def assert_contains(text, *parts):
    assert [part for part in parts if part not in text] == []


def test_a_training_is_described_by_its_steps(tmp_path):
    """Only a training with all steps and losses is called published."""
    stopped = _folder(tmp_path / "a", "srgan", "paper", steps=8, stopped_by="time")
    text = _text_after_training("pair", [stopped], "srgan", "paper")
    assert_contains(text, "srgan was trained", "@srgan", "8 of 100,000 steps")
    assert "published" not in text
    settings = plain_recipe(get_method("srgan").recipes["paper"], vgg=True)
    complete = {"settings": settings, "perceptual": {"active": True}}
    folder = _folder(tmp_path / "b", "srgan", "paper", **complete)
    text = _text_after_training("pair", [folder], "srgan", "paper")
    assert_contains(text, "published", "all 100,000 steps", "VGG-19")
