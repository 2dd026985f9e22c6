"""Test model files: unchanged after saving and loading, rejected if damaged or unsuitable for the
image.
"""

import json
import shutil

import numpy as np
import pytest
import torch

from bids_sr.io.notices import UsageError
from bids_sr.sr.method import get_method
from bids_sr.sr.models import card as cards, compatibility, model
from bids_sr.sr.networks.training.phase import read_checkpoint

DCNET = get_method("dcnet")


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Save an untrained network with a plausible card; return (weights, card)."""
    torch.manual_seed(0)
    generator = DCNET.recipes["fast"].build_generator(1, (2.0, 2.0, 1.0))
    card = {
        "method": "dcnet",
        "recipe": "fast",
        "factor": [2.0, 2.0, 1.0],
        "resolution": {"lowres_mm": [3.75, 3.75, 4.0]},
        "contrast": "T2starw",
        "orientation": "I-S",
    }
    return model.save_model(
        tmp_path_factory.mktemp("model") / "dcnet", generator.state_dict(), card
    )


@pytest.fixture
def copy(saved_model, tmp_path):
    """Return a copy of the weights, which the test may damage."""
    for path in saved_model:
        shutil.copy(path, tmp_path)
    return tmp_path / saved_model[0].name


def test_a_model_is_unchanged_after_saving_and_loading(saved_model):
    loaded = model.load_model(saved_model[0])
    torch.manual_seed(0)
    expected = DCNET.recipes["fast"].build_generator(1, (2.0, 2.0, 1.0)).state_dict()
    assert all(torch.equal(expected[k], v) for k, v in loaded.generator.state_dict().items())
    assert loaded.card.contrast == "T2starw"
    assert not loaded.generator.training
    assert [p.name for p in saved_model[0].parent.iterdir() if p.name.startswith(".")] == []


def test_damaged_files_are_rejected(copy):
    data = copy.read_bytes()
    for damaged in (data[:-100], data[:-1] + bytes([data[-1] ^ 1])):
        copy.write_bytes(damaged)
        with pytest.raises(cards.ModelError, match=r"dcnet\.safetensors"):
            model.load_model(copy)
    copy.write_bytes(data)
    cards.card_path(copy).unlink()
    with pytest.raises(cards.ModelError, match=r"dcnet\.json"):
        model.load_model(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "nonesuch"}, "nonesuch.*dcnet"),
        ({"recipe": "slow"}, "slow"),
        ({"card_version": 99}, "99"),
        ({"factor": [3.0, 3.0, 1.0]}, "dcnet"),
        ({"contrast": None}, "contrast"),
    ],
)
def test_a_card_that_does_not_fit_is_rejected(copy, change, words):
    path = cards.card_path(copy)
    card = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in card.items() if value is not None}))
    with pytest.raises(cards.ModelError, match=words):
        model.load_model(copy)


SIDEWAYS = np.diag([1.0, 0, 0, 1])
SIDEWAYS[0, 2], SIDEWAYS[1, 0], SIDEWAYS[2, 1], SIDEWAYS[0, 0] = 4.0, 3.75, 3.75, 0.0


def check_image(entries, *, force=False, **change):
    """Return the mismatches of an image that suits the saved model, with changes."""
    image = {
        "affine": np.diag([3.75, 3.75, 4.0, 1]),
        "contrast": "bold",
        "factor": (2.0, 2.0, 1.0),
    }
    return compatibility.check_model(entries, **image | change, force=force)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"affine": np.diag([3.0, 3.0, 4.0, 1])},
            r"3\.75 x 3\.75 x 4 mm.*3 x 3 x 4 mm",
        ),
        (
            {"contrast": "T1w"},
            "T2starw.*T1w",
        ),
        ({"affine": SIDEWAYS}, "I-S.*R-L"),
    ],
)
def test_a_mismatch_is_rejected_unless_forced(saved_model, change, message):
    card = cards.read_card(saved_model[0])
    with pytest.raises(UsageError, match=message):
        check_image(card, **change)
    assert len(check_image(card, **change, force=True)) == 1


@pytest.mark.parametrize(
    ("axes", "name"), [((0, 1, 2), "I-S"), ((1, 2, 0), "R-L"), ((0, 2, 1), "P-A")]
)
def test_the_orientation_is_the_axis_across_slices(axes, name):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * [-3, 3, 4]
    affine[:3, :3] += 0.1
    assert compatibility.slice_orientation(affine) == name


@pytest.mark.parametrize(
    ("method", "name", "factor", "images"),
    [
        ("tv", "paper", (2.0, 2.0, 2.0), "--coarse FILE"),
        ("srgan", "fast", (2.0, 2.0, 1.0), "--fine FILE --coarse FILE"),
    ],
)
def test_a_model_of_another_edition_of_its_recipe_is_refused(
    tmp_path, method, name, factor, images
):
    recipe = get_method(method).recipes[name]
    state = recipe.build_generator(1, factor).state_dict()
    card = {"method": method, "recipe": name, "factor": list(factor), "contrast": "T2starw"}
    card |= {"orientation": "I-S", "resolution": {"lowres_mm": [3.0, 3.0, 4.0]}}
    current, _ = model.save_model(tmp_path / "new", state, card | {"settings": {"edition": 2}})
    assert model.load_model(current).card.edition == recipe.edition == 2
    earlier, _ = model.save_model(tmp_path / "old", state, card)
    with pytest.raises(cards.ModelError, match=r"old\.safetensors") as error:
        model.load_model(earlier)
    assert f"bids-sr-models train {method} OUT --recipe {name} {images}" in str(error.value)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "search.checkpoint.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"search\.checkpoint\.safetensors"):
        read_checkpoint(path)
