"""Stored VGG-19 weights are used only by recipes published with them."""

from pathlib import Path

import pytest

from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.config.vgg19_weights import find_vgg19, installed_vgg19
from bids_sr.sr.method import get_method, method_names

RECIPES = {
    f"{name} {kind}": (get_method(name), kind)
    for name in method_names()
    for kind in get_method(name).recipes
}


@pytest.fixture
def stored_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty weights file at the configured location; nothing opens it."""
    file = tmp_path / "vgg19.safetensors"
    file.touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(file))
    return file


def test_stored_weights_are_used_by_recipes_published_with_them(stored_weights: Path) -> None:
    recipes_with_weights = {
        name for name, trained in RECIPES.items() if find_vgg19(*trained, None) == stored_weights
    }
    assert recipes_with_weights == {"srgan paper", "cpce paper"}
    stored_weights.unlink()
    assert not any(find_vgg19(*trained, None) for trained in RECIPES.values())


def test_weights_of_the_user_are_used_by_every_recipe_with_a_perceptual_term(
    stored_weights: Path,
) -> None:
    user_weights = Path("named.safetensors")
    recipes_with_weights = {
        name
        for name, trained in RECIPES.items()
        if find_vgg19(*trained, user_weights) == user_weights
    }
    assert {"srgan paper", "cpce paper", "cpce fast"} <= recipes_with_weights
    assert "unet paper" in RECIPES
    assert "unet paper" not in recipes_with_weights
    assert find_vgg19(get_method("sbl"), "fast", user_weights) is None


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"BIDS_SR_VGG19": "~/w.safetensors", "XDG_CACHE_HOME": "/c"}, "/home/me/w.safetensors"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/bids-sr/vgg19-dcbb9e9d.safetensors"),
        ({}, "/home/me/.cache/bids-sr/vgg19-dcbb9e9d.safetensors"),
    ],
)
def test_environment_variables_determine_the_location_of_weights(
    variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BIDS_SR_VGG19", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    assert installed_vgg19() == Path(place)


def test_results_with_and_without_weights_have_different_digests(stored_weights: Path) -> None:
    def digest(**options: object) -> str:
        superres = {"method": ["srgan"], **options}
        values = {"paths": {"bids_dir": "in", "output_dir": "out"}, "superres": superres}
        return analysis_digest(Settings.from_mapping(values))

    with_weights, fast = digest(recipe="paper"), digest(recipe="fast")
    assert digest(recipe="paper", vgg_weights=str(stored_weights)) == with_weights
    stored_weights.unlink()
    assert digest(recipe="paper") != with_weights
    assert digest(recipe="fast") == fast
