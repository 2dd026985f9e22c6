"""Models of methods that learn from images: trained from a pair or a set, found again, begun with
another.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from engine_helpers import balls

from bids_sr.sr.data.images import TrainingDataError, checksums
from bids_sr.sr.method import get_method
from bids_sr.sr.models import model_store
from bids_sr.sr.models.model import TrainingRequest, _sloppy_recipe, load_model

CUBE = (2.0, 2.0, 2.0)


def obtain(data, out, method="resnet3d", **given):
    """A sloppy model of `resnet3d`; returns (weights, card)."""
    out.mkdir(exist_ok=True)
    asked = TrainingRequest(method=get_method(method), sloppy=True, **given)
    weights, card, _ = model_store.obtain_model(asked, data, out)
    return weights, json.loads(card.read_text())


def test_a_pair_serves_as_a_set_of_one(small_pair, tmp_path):
    _, card = obtain((small_pair,), tmp_path / "a", factor=(2.0, 2.0, 1.0))
    assert (card["trained_on"], card["images"], card["coarse_images"]) == (
        "images",
        ["pair"],
        "measured",
    )
    assert card["factor"] == [2, 2, 1]
    assert card["data_sha256"] == checksums((small_pair,))


def test_a_set_needs_to_be_told_the_factor(tmp_path):
    with pytest.raises(TrainingDataError, match="not tell the factor"):
        obtain(balls(1), tmp_path / "a")


def test_a_model_of_the_same_set_is_found_and_one_begun_otherwise_is_not(tmp_path, caplog):
    caplog.set_level("INFO", logger="bids_sr")
    weights, first = obtain(balls(2), tmp_path / "a", factor=CUBE)
    _, again = obtain(balls(2), tmp_path / "b", factor=CUBE, model_dir=tmp_path / "a")
    assert "reused from" in caplog.text
    assert again == first
    caplog.clear()
    last = replace(_sloppy_recipe(get_method("resnet3d").recipes["fast"]), freeze_but_last=1)
    tuned_file, tuned = obtain(
        balls(2),
        tmp_path / "c",
        factor=CUBE,
        model_dir=tmp_path / "a",
        start=load_model(weights),
        changed=last,
    )
    assert "reused" not in caplog.text
    assert tuned["started_from"]["weights_sha256"] == first["weights_sha256"]
    assert tuned["parameters_trained"] < tuned["parameters"]
    before, after = (load_model(each).generator.state_dict() for each in (weights, tuned_file))
    changed = {
        key.rsplit(".", 1)[0] for key in before if not np.array_equal(before[key], after[key])
    }
    assert len(changed) == 1, "not the last layer alone"
    _, other = obtain(balls(1), tmp_path / "d", factor=CUBE, model_dir=tmp_path / "a")
    assert other["data_sha256"] != first["data_sha256"]
