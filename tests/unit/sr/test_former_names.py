"""Test models of earlier versions: they are used under current names and with the network of
their training, with a notice.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import bids_sr.boilerplate
from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.former_names import current_names, former_text, renaming_text
from bids_sr.sr.method import get_method, list_methods
from bids_sr.sr.models import model_store
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.networks.srresnet import SubPixelNet
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.training.trainer import check_start

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


FORMER = [(method.name, name) for method in list_methods() for name in method.former]


@pytest.fixture(params=FORMER, ids=lambda pair: " ".join(pair))
def former_model(request, tmp_path):
    """Save an untrained model of a former recipe, with its factor, weights and card."""
    name, kind = request.param
    method = get_method(name)
    recipe = method.former[kind]
    factor = (2.0, 2.0, 2.0 if method.ndim == 3 else 1.0)
    torch.manual_seed(0)
    network = recipe.build_generator(1, factor)
    with torch.no_grad():  # some networks return their input before training
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    card = {
        "method": name,
        "recipe": kind,
        "factor": list(factor),
        "contrast": "bold",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [3.0, 3.0, 3.0]},
        "settings": plain_recipe(recipe),
    }
    return save_model(tmp_path / "models" / "old", network.state_dict(), card)[0], network.eval()


def test_a_model_of_an_earlier_edition_keeps_its_network(former_model):
    path, network = former_model
    model = load_model(path)
    assert "edition" not in model.card.settings  # cards of earlier versions have no edition
    assert model.recipe.edition == 1
    assert model.recipe.intensity == model.card.settings.get("intensity", "percentile")
    image = torch.rand(1, 1, *(32, 32, 4)[: 3 if model.card.factor[2] == 2 else 2])
    with torch.no_grad():
        output = network(image)
        torch.testing.assert_close(model.generator(image), output)
        current = get_method(model.card.method).recipes[model.card.recipe]
        current_network = current.build_generator(1, model.card.factor).eval()
        shapes = {key: value.shape for key, value in current_network.state_dict().items()}
        if shapes == {key: value.shape for key, value in network.state_dict().items()}:
            # the same weights give another result in the current network
            current_network.load_state_dict(network.state_dict())
            assert not torch.allclose(current_network(image), output)


def test_a_model_of_an_earlier_edition_is_reused_with_a_notice(former_model, tmp_path, caplog):
    path, _ = former_model
    card = read_card(path)
    request_former = TrainingRequest(
        method=get_method(card.method),
        recipe=card.recipe,
        factor=card.factor,
        model_dir=path.parent,
        source="reuse",
    )
    model_store.obtain_model(request_former, None, tmp_path / "made")
    (notice,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{card.method} --recipe {card.recipe} by an earlier version" in notice


def test_models_of_current_recipes_have_no_notice():
    for method in list_methods():
        for name, recipe in method.recipes.items():
            card = {"method": method.name, "recipe": name, "settings": plain_recipe(recipe)}
            assert former_text(card) == "", (method.name, name)


def test_training_does_not_continue_a_model_of_an_earlier_edition(former_model):
    path, _ = former_model
    model = load_model(path)
    ndim = get_method(model.card.method).ndim
    grid = (32, 32, 8)
    image = TrainingImage(
        fine=np.random.default_rng(0).random(grid).astype(np.float32),
        mask=np.ones(grid, bool),
        affine=np.diag([3.0, 3.0, 3.0, 1.0]),
        contrast="bold",
        name="one",
    )
    recipe = get_method(model.card.method).recipes["paper"]
    training = TrainingRequest(
        method=get_method(model.card.method), recipe="paper", factor=model.card.factor, start=model
    )
    examples = Examples((image,), recipe, model.card.factor, ndim)
    with pytest.raises(ModelError, match="by an earlier version"):
        check_start(training, recipe, examples)
