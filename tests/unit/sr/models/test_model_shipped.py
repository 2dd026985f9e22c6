"""Test the phantom models shipped with the package: small, complete and marked as phantom
models.
"""

from pathlib import Path

import pytest

import bids_sr.boilerplate
from bids_sr.sr.models.model import load_model

FOLDER = Path(bids_sr.boilerplate.__file__).parent / "models"


@pytest.mark.parametrize(
    ("name", "method", "limit"),
    [
        ("dcnet_phantom", "dcnet", 2_000_000),
        ("srgan_phantom", "srgan", 2_000_000),
    ],
)
def test_a_shipped_model_loads_and_is_marked_as_a_phantom_model(name, method, limit):
    file = FOLDER / f"{name}.safetensors"
    model = load_model(file)
    assert (model.card.json["method"], model.card.json["recipe"]) == (method, "fast")
    assert "phantom" in model.card.json["trained_with"]
    assert model.card.json["reproducible"]
    assert file.stat().st_size <= limit
