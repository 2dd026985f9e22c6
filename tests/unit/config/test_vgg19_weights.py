"""Weights of VGG-19 that are kept on the machine serve only recipes published with them."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_sr.config.vgg19_weights import kept_vgg19, vgg19_for
from bids_sr.sr.method import get_method, method_names

RECIPES = {
    f"{name} {kind}": (get_method(name), kind)
    for name in method_names()
    for kind in get_method(name).recipes
}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file where weights are kept; nothing opens it."""
    file = tmp_path / "vgg19.safetensors"
    file.touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(file))
    return file


def test_kept_weights_serve_the_recipes_that_are_published_with_them(kept: Path) -> None:
    served = {name for name, trained in RECIPES.items() if vgg19_for(*trained, None) == kept}
    assert served == {"srgan paper", "cpce paper"}
    kept.unlink()
    assert not any(vgg19_for(*trained, None) for trained in RECIPES.values())


def test_a_recipe_of_ours_never_takes_kept_weights_whatever_its_loss(kept: Path) -> None:
    srgan = get_method("srgan")
    ours = replace(srgan, recipes={"fast": srgan.recipes["paper"]})
    assert vgg19_for(srgan, "paper", None) == kept
    assert vgg19_for(ours, "fast", None) is None
    assert vgg19_for(ours, "fast", Path("named.safetensors")) == Path("named.safetensors")


def test_named_weights_serve_every_recipe_with_such_a_term_and_win(kept: Path) -> None:
    given = Path("named.safetensors")
    served = {name for name, trained in RECIPES.items() if vgg19_for(*trained, given) == given}
    assert {"srgan paper", "srgan paper-mse", "cpce paper", "cpce fast"} <= served
    assert "unet paper" in RECIPES
    assert "unet paper" not in served
    assert vgg19_for(get_method("sbl"), "fast", given) is None


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"BIDS_SR_VGG19": "~/w.safetensors", "XDG_CACHE_HOME": "/c"}, "/home/me/w.safetensors"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/bids-sr/vgg19-dcbb9e9d.safetensors"),
        ({}, "/home/me/.cache/bids-sr/vgg19-dcbb9e9d.safetensors"),
    ],
)
def test_where_weights_are_kept(
    variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BIDS_SR_VGG19", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    assert kept_vgg19() == Path(place)
