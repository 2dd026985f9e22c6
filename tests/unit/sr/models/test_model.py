"""Test model files: unchanged after saving and loading, rejected if damaged or unsuitable for the
image.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_sr.networks.training import trainer
from bids_sr.networks.training.phase import read_checkpoint
from bids_sr.notices import UsageError
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.method import get_method
from bids_sr.sr.models import card as cards, compatibility, model, model_store
from bids_sr.sr.models.card import source_path
from bids_sr.sr.models.request import ModelRequest, _shorten_recipe

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


def test_a_truncated_file_is_rejected(copy):
    copy.write_bytes(copy.read_bytes()[:-100])
    with pytest.raises(
        cards.ModelError, match=r"dcnet\.safetensors: the model weights are truncated"
    ):
        model.load_model(copy)


def test_a_changed_byte_is_rejected(copy):
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(cards.ModelError, match="checksum"):
        model.load_model(copy)


def test_weights_without_a_card_are_rejected(copy):
    cards.card_path(copy).unlink()
    with pytest.raises(cards.ModelError, match=r"dcnet\.json: the model card does not exist"):
        model.load_model(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "nonesuch"}, "unknown method 'nonesuch'; expected one of .*dcnet"),
        ({"recipe": "slow"}, "no recipe 'slow'"),
        ({"card_version": 99}, "has version 99"),
        ({"factor": [3.0, 3.0, 1.0]}, "this version of bids-sr cannot use the model"),
        ({"contrast": None}, None),
    ],
)
def test_a_card_that_does_not_fit_is_rejected(copy, change, message):
    path = cards.card_path(copy)
    card = json.loads(path.read_text()) | change
    if message is None:
        del card["contrast"]
        message = "lacks the entries contrast"
    path.write_text(json.dumps(card))
    with pytest.raises(cards.ModelError, match=message):
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


def test_a_suitable_image_passes(saved_model):
    card = cards.read_card(saved_model[0])
    assert check_image(card) == []
    assert check_image(card, affine=np.diag([3.5, 3.5, 4.0, 1])) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"affine": np.diag([3.0, 3.0, 4.0, 1])},
            r"resolution: .* resolution of 3\.75 x 3\.75 x 4 mm.*3 x 3 x 4 mm(?s:.*)force=true",
        ),
        (
            {"contrast": "T1w"},
            "trained on T2starw images, but the image contrast is T1w(?s:.*)superres.force",
        ),
        ({"affine": SIDEWAYS}, "slice orientation: .* across I-S, .* across R-L"),
    ],
)
def test_a_mismatch_is_rejected_unless_forced(saved_model, change, message):
    card = cards.read_card(saved_model[0])
    with pytest.raises(UsageError, match=message):
        check_image(card, **change)
    assert len(check_image(card, **change, force=True)) == 1


def test_another_factor_cannot_be_forced(saved_model):
    with pytest.raises(UsageError, match="Train a model for this factor"):
        check_image(cards.read_card(saved_model[0]), factor=(3.0, 3.0, 1.0), force=True)


@pytest.mark.parametrize(
    ("axes", "name"), [((0, 1, 2), "I-S"), ((1, 2, 0), "R-L"), ((0, 2, 1), "P-A")]
)
def test_the_orientation_is_the_axis_across_slices(axes, name):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * [-3, 3, 4]
    affine[:3, :3] += 0.1
    assert compatibility.slice_orientation(affine) == name


FACTOR = (2.0, 2.0, 1.0)
REQUEST = ModelRequest(method=DCNET.name, sloppy=True, factor=FACTOR)


def test_a_model_of_another_edition_of_its_recipe_is_refused(tmp_path):
    recipe = get_method("tv").recipes["paper"]
    factor = (2.0, 2.0, 2.0)
    state = recipe.build_generator(1, factor).state_dict()
    card = {"method": "tv", "recipe": "paper", "factor": list(factor), "contrast": "T2starw"}
    card |= {"orientation": "I-S", "resolution": {"lowres_mm": [3.0, 3.0, 4.0]}}
    current, _ = model.save_model(tmp_path / "new", state, card | {"settings": {"edition": 2}})
    assert model.load_model(current).card.edition == recipe.edition == 2
    earlier, _ = model.save_model(tmp_path / "old", state, card)
    with pytest.raises(
        cards.ModelError, match=r"old\.safetensors: .*another edition.*Train the model again"
    ):
        model.load_model(earlier)


def test_auto_trains_once_and_then_reuses(small_pair, tmp_path, monkeypatch):
    first = model_store.make_or_reuse_model(REQUEST, (small_pair,), tmp_path / "kept")
    card = json.loads(first[1].read_text())
    assert card["sloppy"] is True
    card["versions"]["bids_sr"] = "0.0.1"  # A new version does not require another training.
    first[1].write_text(json.dumps(card))

    @wraps(model_store.train_network)  # counts as the same code
    def train_again(*arguments, **options):
        pytest.fail("trained again")

    monkeypatch.setattr(model_store, "train_network", train_again)
    request = replace(REQUEST, model_dir=tmp_path / "kept")
    reused = model_store.make_or_reuse_model(request, (small_pair,), make(tmp_path / "new"))
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, reused, strict=True))


def make(path):
    """Create a directory."""
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"random_seed": 1},
        {"model_source": "train"},
        {"vgg_weights": Path("other")},
        {"train_precision": "mixed"},
    ],
)
def test_auto_trains_if_anything_differs(small_pair, tmp_path, change, monkeypatch):
    model_store.make_or_reuse_model(REQUEST, (small_pair,), make(tmp_path / "kept"))
    monkeypatch.setattr(model_store, "checksum", str)  # The weights file does not exist.
    request = replace(REQUEST, model_dir=tmp_path / "kept", **change)
    assert model_store._find_model(request, (small_pair,)) is None


def test_auto_trains_if_the_vgg_weights_differ(small_pair, tmp_path):
    _, card_file, *_ = model_store.make_or_reuse_model(
        REQUEST, (small_pair,), make(tmp_path / "kept")
    )
    vgg = tmp_path / "vgg19.safetensors"
    vgg.write_bytes(b"first")
    perceptual_entry = {"active": True, "weights_sha256": hashlib.sha256(b"first").hexdigest()}
    request = replace(REQUEST, model_dir=tmp_path / "kept", vgg_weights=vgg)
    settings = model_store.make_settings_entry(request)
    card = json.loads(card_file.read_text()) | {
        "perceptual": perceptual_entry,
        "settings": settings,
    }
    card_file.write_text(json.dumps(card))
    assert model_store._find_model(request, (small_pair,)) is not None
    vgg.write_bytes(b"other")
    assert model_store._find_model(request, (small_pair,)) is None


@pytest.mark.parametrize(
    ("entry", "mixed"), [({"asked": True, "kept": False}, True), ({"asked": False}, False)]
)
def test_the_card_records_whether_training_began_in_mixed_precision(entry, mixed):
    card = cards.ModelCard.from_json({"mixed_precision": entry})
    assert model_store._has_begun_mixed(card) is mixed


def test_a_model_of_other_data_is_only_used_by_reuse(small_pair, tmp_path):
    model_store.make_or_reuse_model(REQUEST, (small_pair,), make(tmp_path / "kept"))
    other_data = (replace(small_pair, coarse=small_pair.coarse * 1.5),)
    request = replace(REQUEST, model_dir=tmp_path / "kept")
    assert model_store._find_model(request, other_data) is None
    model_path = model_store._find_model(replace(request, model_source="reuse"), other_data)
    assert model_path == tmp_path / "kept" / "dcnet.safetensors"


def test_reuse_prefers_the_model_of_the_same_pair_and_copies_its_log(small_pair, tmp_path):
    """Models have their names in the derivatives, and the first name belongs to another
    participant.
    """
    folder = make(tmp_path / "models")
    for label, pair in (
        ("01", replace(small_pair, coarse=small_pair.coarse * 1.5)),
        ("02", small_pair),
    ):
        stem = f"sub-{label}_desc-dcnet_"
        for source_file, name in zip(
            model_store.make_or_reuse_model(REQUEST, (pair,), make(tmp_path / label)),
            ("model", "model", "log"),
            strict=True,
        ):
            shutil.copy(source_file, folder / f"{stem}{name}{source_file.suffix}")
    request = replace(REQUEST, model_dir=folder, model_source="reuse", random_seed=7)
    weights, card, log = model_store.make_or_reuse_model(
        request, (small_pair,), make(tmp_path / "new")
    )
    assert card.read_bytes() == (folder / "sub-02_desc-dcnet_model.json").read_bytes()
    assert weights.exists()
    assert len(log.read_text().splitlines()) > 1
    source = source_path(tmp_path / "new")
    assert source.read_text() == "sub-02_desc-dcnet_model.safetensors\n"
    assert not source_path(tmp_path / "02").exists(), "it was trained there"


def test_reuse_without_a_model_names_the_remedy(small_pair, tmp_path):
    request = replace(REQUEST, model_dir=tmp_path, model_source="reuse")
    with pytest.raises(cards.ModelError, match=r"no model for dcnet .*--pretrained"):
        model_store.make_or_reuse_model(request, (small_pair,), tmp_path)


def test_a_pretrained_file_requires_no_pair(small_pair, tmp_path):
    weights, _, _ = model_store.make_or_reuse_model(
        REQUEST, (small_pair,), make(tmp_path / "kept")
    )
    target, _, log = model_store.make_or_reuse_model(
        replace(REQUEST, pretrained=weights), None, make(tmp_path / "new")
    )
    assert target.read_bytes() == weights.read_bytes()
    assert log.read_text().startswith("phase\titeration")
    with pytest.raises(cards.ModelError, match="no training data"):
        model_store.make_or_reuse_model(REQUEST, None, tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "search.checkpoint.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(
        ValueError, match=r"search\.checkpoint\.safetensors.*not a valid checkpoint"
    ):
        read_checkpoint(path)


def test_the_card_of_a_training_suffices_to_check_images(small_pair, tmp_path):
    recipe = _shorten_recipe(DCNET.recipes["fast"])
    request = ModelRequest(
        method=DCNET.name, recipe="fast", replacement_recipe=recipe, factor=FACTOR
    )
    result = trainer.train_network(request, (small_pair,), tmp_path / "work")
    weights, _ = model.save_model(tmp_path / "m", result.state, result.card)
    loaded = model.load_model(weights)
    affine = resize_affine(small_pair.affine, small_pair.fine.shape, small_pair.coarse.shape)
    assert compatibility.check_model(loaded.card, affine, "bold", FACTOR) == []
