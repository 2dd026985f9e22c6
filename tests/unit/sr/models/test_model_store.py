"""Test models of methods that learn from images: training on a pair or a set, reuse, and transfer
learning.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from data.tiny_training import balls

from bids_sr.networks.data.images import TrainingDataError, checksums
from bids_sr.sr.method import get_method
from bids_sr.sr.models import model_store
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import load_model
from bids_sr.sr.models.request import ModelRequest, _shorten_recipe
from bids_sr.sr.recipe_changes import RecipeChange

CUBE = (2.0, 2.0, 2.0)


def obtain(data, out, method="resnet3d", **fields):
    """Obtain a sloppy model; return (weights, card)."""
    out.mkdir(exist_ok=True)
    request = ModelRequest(method=method, sloppy=True, **fields)
    weights, card, _ = model_store.make_or_reuse_model(request, data, out)
    return weights, json.loads(card.read_text())


def test_a_pair_can_be_used_as_a_set_of_one_image(small_pair, tmp_path):
    _, card = obtain((small_pair,), tmp_path / "a", factor=(2.0, 2.0, 1.0))
    assert (card["trained_on"], card["images"], card["coarse_images"]) == (
        "images",
        ["pair"],
        "measured",
    )
    assert card["factor"] == [2, 2, 1]
    assert card["data_sha256"] == checksums((small_pair,))


def test_a_set_requires_a_factor(tmp_path):
    with pytest.raises(TrainingDataError, match="factor was not specified"):
        obtain(balls(1), tmp_path / "a")


def test_a_model_of_the_same_set_is_reused_unless_it_started_from_other_weights(tmp_path, caplog):
    caplog.set_level("INFO", logger="bids_sr")
    weights, first = obtain(balls(2), tmp_path / "a", factor=CUBE)
    _, reused_card = obtain(balls(2), tmp_path / "b", factor=CUBE, model_dir=tmp_path / "a")
    assert "is reused" in caplog.text
    assert reused_card == first
    caplog.clear()
    last = replace(_shorten_recipe(get_method("resnet3d").recipes["fast"]), freeze_but_last=1)
    tuned_file, tuned = obtain(
        balls(2),
        tmp_path / "c",
        factor=CUBE,
        model_dir=tmp_path / "a",
        start_model=load_model(weights),
        replacement_recipe=last,
    )
    assert "reused" not in caplog.text
    assert tuned["started_from"]["weights_sha256"] == first["weights_sha256"]
    assert tuned["parameters_trained"] < tuned["parameters"]
    before, after = (load_model(path).generator.state_dict() for path in (weights, tuned_file))
    changed_layers = {
        key.rsplit(".", 1)[0] for key in before if not np.array_equal(before[key], after[key])
    }
    assert len(changed_layers) == 1, "not the last layer alone"
    _, other_card = obtain(balls(1), tmp_path / "d", factor=CUBE, model_dir=tmp_path / "a")
    assert other_card["data_sha256"] != first["data_sha256"]


def test_a_model_that_other_code_trained_is_not_reused(tmp_path, caplog):
    caplog.set_level("INFO", logger="bids_sr")
    weights, card = obtain(balls(1), tmp_path / "a", factor=CUBE)
    earlier_card = {**card, "code_sha256": "another"}
    weights.with_suffix(".json").write_text(json.dumps(earlier_card))
    _, trained_card = obtain(balls(1), tmp_path / "b", factor=CUBE, model_dir=tmp_path / "a")
    assert "reused" not in caplog.text
    assert trained_card == card
    _, reused_card = obtain(balls(1), tmp_path / "c", factor=CUBE, model_dir=tmp_path / "b")
    assert "is reused" in caplog.text
    assert reused_card == card


def test_a_model_with_other_recipe_settings_is_not_reused(tmp_path, caplog):
    caplog.set_level("INFO", logger="bids_sr")
    # Sloppy trainings have the same steps, so only the number of filters differs.
    four, eight = (
        (RecipeChange(method="resnet3d", field="filters", value=count),) for count in (4, 8)
    )
    _, first = obtain(balls(1), tmp_path / "a", factor=CUBE, recipe_changes=four)
    assert first["changed_settings"] == {"filters": 4}
    _, other_card = obtain(
        balls(1), tmp_path / "b", factor=CUBE, recipe_changes=eight, model_dir=tmp_path / "a"
    )
    assert "reused" not in caplog.text
    assert other_card["parameters"] > first["parameters"]
    _, reused_card = obtain(
        balls(1), tmp_path / "c", factor=CUBE, recipe_changes=four, model_dir=tmp_path / "a"
    )
    assert "is reused" in caplog.text
    assert reused_card == first
    with pytest.raises(ModelError, match="no model for resnet3d \\(fast, filters=8\\)"):
        obtain(
            balls(2),
            tmp_path / "d",
            factor=CUBE,
            recipe_changes=eight,
            model_dir=tmp_path / "a",
            model_source="reuse",
        )


def test_a_change_to_the_default_of_a_recipe_is_not_recorded(tmp_path):
    value = get_method("resnet3d").recipes["fast"].learning_rate
    unchanged = (RecipeChange(method="resnet3d", field="learning_rate", value=value),)
    _, card = obtain(balls(1), tmp_path / "a", factor=CUBE, recipe_changes=unchanged)
    assert "changed_settings" not in card
    other_method = (RecipeChange(method="tv", field="tv", value=0.02),)
    _, card = obtain(balls(1), tmp_path / "b", factor=CUBE, recipe_changes=other_method)
    assert "changed_settings" not in card
