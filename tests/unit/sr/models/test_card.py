"""Model files that come from others: damaged, foreign or made to deceive, they are refused with
the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from bids_sr.boilerplate import HERE
from bids_sr.notices import UsageError
from bids_sr.sr.method import get_method
from bids_sr.sr.models import card as cards
from bids_sr.sr.models import compatibility, model
from bids_sr.sr.models.card import ModelCard

CARD: dict[str, Any] = {
    "method": "dcnet",
    "recipe": "fast",
    "factor": [2.0, 2.0, 1.0],
    "resolution": {"lowres_mm": [3.75, 3.75, 4.0]},
    "contrast": "T2starw",
    "orientation": "I-S",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = get_method("dcnet").recipes["fast"].build_generator(1, (2.0, 2.0, 1.0))
    return model.save_model(tmp_path_factory.mktemp("model") / "m", network.state_dict(), CARD)[0]


@pytest.fixture
def weights(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    for path in (saved, cards.card_path(saved)):
        shutil.copy(path, tmp_path)
    return tmp_path / saved.name


def edit(weights: Path, **change: Any) -> None:
    path = cards.card_path(weights)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def replace(weights: Path, data: bytes) -> None:
    """Other weights, with a card that names their checksum."""
    weights.write_bytes(data)
    edit(weights, weights_sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "../../evil"}, "method is not a valid name"),
        ({"method": ["dcnet"]}, "method is not a valid name"),
        ({"recipe": None}, "recipe is not a valid name"),
        ({"contrast": "T1w\x1b[2J"}, "contrast is not a valid name"),
        ({"orientation": "up"}, "orientation is not one of R-L, P-A, I-S"),
        ({"factor": [2, 2]}, "factor does not consist of three numbers"),
        ({"factor": "222"}, "factor does not consist of three numbers"),
        ({"factor": [1e9, 1e9, 1]}, "three numbers from 1 to 8"),
        ({"factor": [float("nan"), 2, 1]}, "factor does not consist of three numbers"),
        ({"factor": [True, 2, 1]}, "factor does not consist of three numbers"),
        ({"resolution": {"lowres_mm": [0, 0, 0]}}, "does not contain three voxel sizes"),
        ({"resolution": [1, 2, 3]}, "does not contain three voxel sizes"),
        ({"weights_sha256": "0"}, "weights_sha256 is not a SHA-256 checksum"),
        ({"channels": 1e6}, "channels is not a whole number"),
        ({"channels": True}, "channels is not a whole number"),
    ],
)
def test_a_card_of_wrong_values_is_refused(
    weights: Path, change: dict[str, Any], reason: str
) -> None:
    edit(weights, **change)
    with pytest.raises(
        cards.ModelError, match=rf"m\.json: the model card contains invalid values .*{reason}"
    ):
        cards.read_card(weights)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" * 100_000, "recursion"),
        (b"[]", "lacks"),
        (b"null", "lacks"),
        (b"\xff\xfe{}", "decode"),
        (b"{" + b" " * cards._LARGEST_CARD + b"}", "larger than 5 MB"),
        (b"{", "Expecting"),
    ],
)
def test_a_card_that_is_none_is_refused(weights: Path, text: bytes, reason: str) -> None:
    cards.card_path(weights).write_bytes(text)
    with pytest.raises(cards.ModelError, match=rf"model card.*{reason}"):
        cards.read_card(weights)


@pytest.mark.parametrize("key", cards._BOUND)
def test_a_card_edited_to_fit_another_image_is_refused(weights: Path, key: str) -> None:
    """Each change alone is a sound card; those of the network itself fail while it is built."""
    other: dict[str, Any] = {
        "method": "unet",
        "recipe": "paper",
        "factor": [3.0, 3.0, 1.0],
        "resolution": {"lowres_mm": [1.0, 1.0, 1.0]},
        "contrast": "T1w",
        "orientation": "R-L",
    }
    edit(weights, **{key: other[key]})
    assert cards.read_card(weights).json[key] == other[key]
    with pytest.raises(
        cards.ModelError,
        match=r"bids-sr cannot use the model|was changed after the model was saved",
    ):
        model.load_model(weights)


def test_other_entries_of_a_card_may_be_added(weights: Path) -> None:
    edit(weights, Sources=["bids:raw:x"], contrast="T2starw")
    assert model.load_model(weights).card.json["Sources"] == ["bids:raw:x"]


def test_models_of_older_versions_hold_no_such_checksum_and_load(
    saved: Path, weights: Path
) -> None:
    assert model._bound_digest(saved.read_bytes()) == cards.digest(CARD)
    old = save(load(weights.read_bytes()))
    assert model._bound_digest(old) is None
    replace(weights, old)
    model.load_model(weights)
    shipped = (HERE / "models" / "dcnet_phantom.safetensors").read_bytes()
    assert model._bound_digest(shipped) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 16,
        (2**62).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        b"PK\x03\x04" + b"\0" * 50,
        pickle.dumps({"weight": 1}),
        (60).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}'[:60],
    ],
)
def test_foreign_bytes_with_a_card_that_names_them_are_refused(weights: Path, data: bytes) -> None:
    replace(weights, data)
    assert model._bound_digest(data) is None
    with pytest.raises(
        cards.ModelError, match=r"m\.safetensors: the file is not a valid safetensors file"
    ):
        model.load_model(weights)


def test_weights_that_are_not_finite_or_not_those_of_the_network_are_refused(
    weights: Path,
) -> None:
    state = load(weights.read_bytes())
    name = next(iter(state))
    replace(weights, save({**state, name: torch.full_like(state[name], float("nan"))}))
    with pytest.raises(cards.ModelError, match="NaN or infinite"):
        model.load_model(weights)
    replace(weights, save({**state, "extra": torch.zeros(1)}))
    with pytest.raises(cards.ModelError, match="this version of bids-sr cannot use the model"):
        model.load_model(weights)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(weights: Path) -> None:
    card = cards.card_path(weights)
    text = card.read_text()
    card.unlink()
    os.mkfifo(card)
    with pytest.raises(cards.ModelError, match="not a regular file"):
        cards.read_card(weights)
    card.unlink()
    card.write_text(text)
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(cards.ModelError, match="not a regular file"):
        model.load_model(weights)


@pytest.mark.parametrize(
    ("factor", "serves"),
    [
        ((2.0, 2.0, 1.0), True),
        ((1.4, 1.4, 1.0), True),
        ((1.25, 2.0, 1.0), True),
        ((2.5, 2.5, 1.0), False),
        ((1.1, 1.1, 1.0), False),
        ((2.0, 2.0, 2.0), False),
        ((1.0, 1.0, 1.0), False),
    ],
)
def test_a_model_of_random_factors_serves_those_between_on_its_own_axes(
    factor: tuple[float, float, float], serves: bool
) -> None:
    image = (np.diag([3.75, 3.75, 4.0, 1]), "bold", factor, None, None)
    found = compatibility._mismatches(
        ModelCard.from_json({**CARD, "factors": [1.25, 1.5, 1.75, 2.0]}), *image
    )
    assert (found == []) is serves
    assert (compatibility._mismatches(ModelCard.from_json(CARD), *image) == []) is (
        factor == (2.0, 2.0, 1.0)
    )


def test_another_factor_is_forced_only_on_a_network_that_is_shown_an_interpolated_image() -> None:
    image = (np.diag([3.75, 3.75, 4.0, 1]), "bold", (3.0, 3.0, 1.0))
    shown = {**CARD, "settings": {"upsampled_by": "linear"}}
    for entries in (CARD, shown):
        with pytest.raises(UsageError, match="factor: the model was trained for"):
            compatibility.check_model(ModelCard.from_json(entries), *image)
    assert len(compatibility.check_model(ModelCard.from_json(shown), *image, force=True)) == 1
    with pytest.raises(UsageError, match="Train a model for this factor"):
        compatibility.check_model(ModelCard.from_json(CARD), *image, force=True)
