"""Test models saved under former method names: they are used under current names, with a
notice.
"""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import bids_sr.boilerplate
from bids_sr.sr.former_names import current_names, renaming_text
from bids_sr.sr.method import get_method
from bids_sr.sr.models import model_store
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.networks.srresnet import SubPixelNet

SHIPPED = Path(bids_sr.boilerplate.__file__).parent / "models" / "dcnet_phantom.safetensors"


@pytest.fixture
def old_model(tmp_path):
    """Save a model as an earlier version did: method srgan, recipe fast."""
    card = json.loads(SHIPPED.with_suffix(".json").read_text()) | {"method": "srgan"}
    return save_model(tmp_path / "models" / "old", load_file(SHIPPED), card)[0]


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "made").mkdir()


@pytest.mark.parametrize(
    ("method", "recipe", "settings", "current"),
    [
        ("srgan", "fast", {"upsampled_by": None}, ("dcnet", "fast")),
        ("srgan", "fast", {"upsampled_by": "lanczos"}, ("srgan", "fast")),
        ("srgan", "fast", {}, ("srgan", "fast")),
        ("srgan", "paper", {"upsampled_by": "lanczos"}, ("srgan", "paper")),
        ("srgan", "paper", {"losses": {"content:MSE": 1.0}}, ("srgan", "paper-mse")),
        ("unet", "fast", {"upsampled_by": None}, ("unet", "fast")),
    ],
)
def test_current_names_follow_from_the_network(method, recipe, settings, current):
    card = {"method": method, "recipe": recipe, "settings": settings}
    assert current_names(card) == current
    assert bool(renaming_text(card)) == (current[0] != method)


def test_an_old_model_is_loaded_as_dcnet(old_model):
    model = load_model(old_model)
    assert (model.card.method, model.card.recipe) == ("dcnet", "fast")
    assert isinstance(model.generator, SubPixelNet)
    assert model.card.json["method"] == "srgan"  # The card file is not modified.


def request(method, model_path, **fields):
    return TrainingRequest(
        method=get_method(method), factor=(2.0, 2.0, 1.0), model_dir=model_path.parent, **fields
    )


def test_dcnet_reuses_an_old_model_with_a_notice(old_model, tmp_path, caplog):
    request_dcnet = request("dcnet", old_model, source="reuse")
    weights = model_store.obtain_model(request_dcnet, None, tmp_path / "made")[0]
    assert weights.name == "dcnet.safetensors"
    assert read_card(weights).method == "dcnet"
    (notice,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert notice.startswith(
        f"{old_model}: the model was trained with srgan --recipe fast by an earlier version"
    )


def test_srgan_does_not_reuse_an_old_model_and_names_dcnet(old_model, tmp_path):
    with pytest.raises(
        ModelError, match=r"no model for srgan \(fast\).* available as the method dcnet"
    ):
        model_store.obtain_model(
            request("srgan", old_model, source="reuse"), None, tmp_path / "made"
        )
