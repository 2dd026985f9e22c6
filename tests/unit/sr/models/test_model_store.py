"""Test which models are made, reused, or copied from a file of the user."""

import json
import shutil
from dataclasses import replace

import pytest
from data.tiny_training import balls

from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.method import get_method
from bids_sr.sr.models import compatibility
from bids_sr.sr.models.card import ModelError, source_path
from bids_sr.sr.models.model import load_model
from bids_sr.sr.models.model_store import make_or_reuse_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.images import checksums
from bids_sr.sr.recipe_changes import RecipeChange

FACTOR = (2.0, 2.0, 1.0)
DEFAULT_RATE = get_method("dcnet").recipes["fast"].learning_rate
REQUEST = ModelRequest(method="dcnet", sloppy=True, factor=FACTOR)


def make(pair, out, **changes):
    """Return the files of a model."""
    out.mkdir(exist_ok=True)
    return make_or_reuse_model(replace(REQUEST, **changes), (pair,), out)


def is_reused(pair, out, **changes):
    make(pair, out, **changes)
    return source_path(out).exists()


def read(files):
    return json.loads(files.card.read_text())


def edit(files, **entries):
    files.card.write_text(json.dumps(read(files) | entries))


def other(pair):
    """Return the pair of another participant."""
    return replace(pair, coarse=pair.coarse * 1.5)


def setting(name, value, method="dcnet"):
    return (RecipeChange(method=method, field=name, value=value),)


@pytest.fixture(scope="module")
def kept(small_pair, tmp_path_factory):
    """Train a model, and return its files."""
    return make(small_pair, tmp_path_factory.mktemp("models") / "kept")


@pytest.fixture
def copied(kept, tmp_path):
    """Return copies of the files of a model."""
    shutil.copytree(kept.card.parent, tmp_path / "copied")
    return kept._make(tmp_path / "copied" / path.name for path in kept)


def test_the_card_describes_training_and_suitable_images(kept, small_pair):
    card = read(kept)
    assert card["sloppy"] is True
    assert (card["trained_on"], card["images"], card["coarse_images"]) == (
        "pair",
        ["pair"],
        "measured",
    )
    assert (card["factor"], card["data_sha256"]) == ([2, 2, 1], checksums((small_pair,)))
    affine = resize_affine(small_pair.affine, small_pair.fine.shape, small_pair.coarse.shape)
    assert compatibility.check_model(load_model(kept.weights).card, affine, "bold", FACTOR) == []


def test_a_model_of_an_equal_request_and_an_earlier_version_is_reused(
    copied, small_pair, tmp_path
):
    edit(copied, versions={**read(copied)["versions"], "bids_sr": "0.0.1"})
    reused = make(small_pair, tmp_path / "new", model_dir=copied.card.parent)
    assert source_path(tmp_path / "new").exists()
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(copied, reused, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe_changes": setting("learning_rate", DEFAULT_RATE)},
        {"recipe_changes": setting("tv", 0.02, "tv")},
        {"train_precision": "fp32"},
    ],
    ids=["default", "other method", "precision"],
)
def test_settings_without_effect_are_not_recorded_and_the_model_is_reused(
    kept, small_pair, tmp_path, changes
):
    files = make(small_pair, tmp_path / "new", model_dir=kept.card.parent, **changes)
    assert source_path(tmp_path / "new").exists()
    assert "changed_settings" not in read(files)


@pytest.mark.parametrize(
    "changes",
    [
        {"random_seed": 1},
        {"train_precision": "mixed"},
        {"recipe_changes": setting("mse", 2.0)},
    ],
    ids=["seed", "precision", "setting"],
)
def test_a_model_is_trained_if_a_setting_differs(kept, small_pair, tmp_path, changes):
    files = make(small_pair, tmp_path / "new", model_dir=kept.card.parent, **changes)
    assert not source_path(tmp_path / "new").exists()
    if "recipe_changes" in changes:
        assert read(files)["changed_settings"] == {"mse": 2}
    new_folder = {"model_dir": tmp_path / "new"}
    assert is_reused(small_pair, tmp_path / "same", **new_folder, **changes)
    assert not is_reused(small_pair, tmp_path / "without", train_precision="fp32", **new_folder)


def test_a_model_is_trained_if_data_or_code_differ_or_if_requested(copied, small_pair, tmp_path):
    folder = {"model_dir": copied.card.parent}
    assert not is_reused(other(small_pair), tmp_path / "data", **folder)
    assert not is_reused(small_pair, tmp_path / "train", model_source="train", **folder)
    edit(copied, code_sha256="another")
    assert not is_reused(small_pair, tmp_path / "code", **folder)


def test_reuse_prefers_the_model_of_the_same_pair_and_copies_its_log(kept, small_pair, tmp_path):
    """Models have their names in the derivatives, and the first name belongs to another
    participant.
    """
    folder = tmp_path / "models"
    folder.mkdir()
    of_other = make(other(small_pair), tmp_path / "other")
    for label, files in (("01", of_other), ("02", kept)):
        for path, name in zip(files, ("model", "model", "log"), strict=True):
            shutil.copy(path, folder / f"sub-{label}_desc-dcnet_{name}{path.suffix}")
    reuse = {"model_dir": folder, "model_source": "reuse", "random_seed": 7}
    files = make(small_pair, tmp_path / "new", **reuse)
    assert read(files) == read(kept)
    assert files.weights.exists()
    assert files.log.read_text() == kept.log.read_text()
    name = source_path(tmp_path / "new").read_text()
    assert name == "sub-02_desc-dcnet_model.safetensors\n"
    third = replace(small_pair, coarse=small_pair.coarse * 2)
    assert read(make(third, tmp_path / "third", **reuse)) == read(of_other)


def test_without_a_suitable_model_reuse_is_an_error(kept, small_pair, tmp_path):
    reuse = {"model_dir": kept.card.parent, "model_source": "reuse"}
    with pytest.raises(ModelError, match=r"dcnet.*fast.*mse=2.*--pretrained"):
        make(small_pair, tmp_path / "new", **reuse, recipe_changes=setting("mse", 2.0))


def test_a_pretrained_file_requires_no_data_and_no_log(copied, tmp_path):
    out = tmp_path / "new"
    out.mkdir()
    copied.log.unlink()
    files = make_or_reuse_model(replace(REQUEST, pretrained=copied.weights), None, out)
    assert files.weights.read_bytes() == copied.weights.read_bytes()
    assert files.log.read_text().startswith("phase\titeration")
    with pytest.raises(ModelError, match="--pretrained"):
        make_or_reuse_model(REQUEST, None, out)


def test_images_without_a_low_resolution_image_require_a_factor(tmp_path):
    request = ModelRequest(method="resnet3d", sloppy=True)
    with pytest.raises(InvalidInput, match="factor"):
        make_or_reuse_model(request, balls(1), tmp_path)
