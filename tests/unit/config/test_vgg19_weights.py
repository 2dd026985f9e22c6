"""VGG-19 weights are used by the recipes whose loss compares features."""

from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.config.vgg19_weights import find_vgg19
from bids_sr.sr.method import get_method, method_names

WEIGHTS = Path("named.safetensors")


def test_weights_are_used_by_every_recipe_with_a_perceptual_term() -> None:
    recipes_with_weights = {
        f"{name} {recipe}"
        for name in method_names()
        for recipe in get_method(name).recipes
        if find_vgg19(get_method(name), recipe, WEIGHTS) == WEIGHTS
    }
    assert {"srgan paper", "cpce paper", "cpce fast"} <= recipes_with_weights
    assert "unet paper" not in recipes_with_weights
    assert find_vgg19(get_method("sbl"), "fast", WEIGHTS) is None
    assert find_vgg19(get_method("srgan"), "paper", None) is None


def test_results_with_and_without_weights_have_different_digests() -> None:
    def digest(**options: object) -> str:
        superres = {"method": ["srgan"], "recipe": "paper", **options}
        values = {"paths": {"bids_dir": "in", "output_dir": "out"}, "superres": superres}
        return analysis_digest(Settings.from_mapping(values))

    assert digest(vgg_weights=str(WEIGHTS)) != digest()
