"""Test model files from others: damaged or forged files are rejected with the reason."""

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

from bids_sr.io.notices import UsageError
from bids_sr.sr.method import get_method
from bids_sr.sr.models import card as cards, compatibility, model
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
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = get_method("dcnet").recipes["fast"].build_generator(1, (2.0, 2.0, 1.0))
    return model.save_model(tmp_path_factory.mktemp("model") / "m", network.state_dict(), CARD)[0]


@pytest.fixture
def weights(saved_model: Path, tmp_path: Path) -> Path:
    """Return a copy of the weights, which the test may damage."""
    for path in (saved_model, cards.card_path(saved_model)):
        shutil.copy(path, tmp_path)
    return tmp_path / saved_model.name


def edit(weights: Path, **change: Any) -> None:
    path = cards.card_path(weights)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def replace(weights: Path, data: bytes) -> None:
    """Write other weights, with a card that has their checksum."""
    weights.write_bytes(data)
    edit(weights, weights_sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    "change",
    [
        {"method": "../../evil"},
        {"method": ["dcnet"]},
        {"recipe": None},
        {"contrast": "T1w\x1b[2J"},
        {"orientation": "up"},
        {"factor": [2, 2]},
        {"factor": "222"},
        {"factor": [1e9, 1e9, 1]},
        {"factor": [float("nan"), 2, 1]},
        {"factor": [True, 2, 1]},
        {"resolution": {"lowres_mm": [0, 0, 0]}},
        {"resolution": [1, 2, 3]},
        {"weights_sha256": "0"},
        {"channels": 1e6},
        {"channels": True},
    ],
)
def test_a_card_with_invalid_values_is_rejected(weights: Path, change: dict[str, Any]) -> None:
    edit(weights, **change)
    (key,) = change
    with pytest.raises(cards.ModelError, match=rf"m\.json: .*(?:{key}|lowres_mm|voxel sizes)"):
        cards.read_card(weights)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"[]", b"null", b"\xff\xfe{}", b"{" + b" " * 5_000_001 + b"}", b"{"]
)
def test_a_file_that_is_not_a_card_is_rejected(weights: Path, text: bytes) -> None:
    cards.card_path(weights).write_bytes(text)
    with pytest.raises(cards.ModelError, match=r"m\.json"):
        cards.read_card(weights)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "unet"},
        {"recipe": "paper"},
        {"factor": [3.0, 3.0, 1.0]},
        {"resolution": {"lowres_mm": [1.0, 1.0, 1.0]}},
        {"contrast": "T1w"},
        {"orientation": "R-L"},
    ],
)
def test_a_card_edited_to_fit_another_image_is_rejected(
    weights: Path, change: dict[str, Any]
) -> None:
    """Each changed card is valid; changes of the network fail when the network is built."""
    edit(weights, **change)
    assert change.items() <= cards.read_card(weights).json.items()
    with pytest.raises(cards.ModelError):
        model.load_model(weights)


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
def test_files_that_are_not_safetensors_are_rejected(weights: Path, data: bytes) -> None:
    replace(weights, data)
    with pytest.raises(cards.ModelError, match=r"m\.safetensors"):
        model.load_model(weights)


def test_infinite_weights_and_weights_of_another_network_are_rejected(
    weights: Path,
) -> None:
    state = load(weights.read_bytes())
    name = next(iter(state))
    replace(weights, save({**state, name: torch.full_like(state[name], float("nan"))}))
    with pytest.raises(cards.ModelError, match=r"m\.safetensors"):
        model.load_model(weights)
    replace(weights, save({**state, "extra": torch.zeros(1)}))
    with pytest.raises(cards.ModelError, match=r"m\.safetensors"):
        model.load_model(weights)


def test_a_pipe_in_place_of_a_file_is_rejected(weights: Path) -> None:
    card = cards.card_path(weights)
    text = card.read_text()
    card.unlink()
    os.mkfifo(card)
    with pytest.raises(cards.ModelError, match=r"m\."):
        cards.read_card(weights)
    card.unlink()
    card.write_text(text)
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(cards.ModelError, match=r"m\."):
        model.load_model(weights)


@pytest.mark.parametrize(
    ("factor", "suitable"),
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
def test_a_model_of_random_factors_is_suitable_between_them_along_its_axes(
    factor: tuple[float, float, float], suitable: bool
) -> None:
    image = (np.diag([3.75, 3.75, 4.0, 1]), "bold", factor)
    for entries, expected in (
        ({**CARD, "factors": [1.25, 1.5, 1.75, 2.0]}, suitable),
        (CARD, factor == (2.0, 2.0, 1.0)),
    ):
        card = ModelCard.from_json(entries)
        if expected:
            assert compatibility.check_model(card, *image) == []
        else:
            with pytest.raises(UsageError):
                compatibility.check_model(card, *image)


def test_another_factor_can_only_be_forced_on_networks_of_interpolated_images() -> None:
    image = (np.diag([3.75, 3.75, 4.0, 1]), "bold", (3.0, 3.0, 1.0))
    interpolated = ModelCard.from_json({**CARD, "settings": {"upsampled_by": "linear"}})
    assert len(compatibility.check_model(interpolated, *image, force=True)) == 1
    for card, force in ((interpolated, False), (ModelCard.from_json(CARD), True)):
        with pytest.raises(UsageError, match="factor"):
            compatibility.check_model(card, *image, force=force)
