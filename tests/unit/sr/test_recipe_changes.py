"""Test settings of recipes that users may change: which settings exist, and that each one has an
effect.
"""

from dataclasses import replace

import pytest
import torch

from bids_sr.io.notices import InvalidInput
from bids_sr.sr.method import get_method, list_methods
from bids_sr.sr.recipe import Augmentation
from bids_sr.sr.recipe_changes import (
    RecipeChange,
    apply_changes,
    change_of_method,
    change_recipe,
    changed_values,
    changes_from,
    check_changes,
    variable_field,
    variable_fields,
    work_ratio,
)

FACTOR = (2.0, 2.0, 1.0)
ALL_RECIPES = [
    pytest.param(method, name, id=f"{method.name}-{name}")
    for method in list_methods()
    for name in method.recipes
]


def change(text):
    return RecipeChange.from_text(text)


def recipe_with(text, recipe="fast"):
    """Return the recipe of a method with changes given as text."""
    changes = tuple(map(change, text.split()))
    return change_recipe(get_method(changes[0].method), recipe, changes)


def weights(recipe):
    return {f"{term.kind}:{term.build.__name__}": term.weight for term in recipe.losses}


@pytest.mark.parametrize(("method", "name"), ALL_RECIPES)
def test_every_setting_changes_its_recipe_and_its_default_does_not(method, name):
    recipe = method.recipes[name]
    for field in variable_fields(recipe):
        if isinstance(field.default, int | float):
            assert field.limits.minimum <= field.default <= field.limits.maximum, field.name
            unchanged = RecipeChange(method=method.name, field=field.name, value=field.default)
            assert apply_changes(recipe, (unchanged,)) == recipe, field.name
            assert changed_values(recipe, (unchanged,)) == {}
        limits = field.limits
        value = limits.maximum if field.default != limits.maximum else limits.minimum
        single_change = RecipeChange(method=method.name, field=field.name, value=value)
        new_recipe = apply_changes(recipe, (single_change,))
        assert new_recipe != recipe, field.name
        # Applying the change again has no further effect.
        assert apply_changes(new_recipe, (single_change,)) == new_recipe, field.name
        assert variable_field(new_recipe, field.name, "").default == value
        assert changed_values(recipe, (single_change,)) == {field.name: value}


def test_available_settings_follow_from_the_recipe():
    names = {
        name: {field.name for field in variable_fields(get_method(name).recipes["fast"])}
        for name in ("tv", "dip", "attunet", "unet", "circle")
    }
    assert "tv" in names["tv"] - names["dip"]
    assert "adversarial" in names["attunet"] - names["unet"]
    assert {"cycle", "identity", "sparsify"} <= names["circle"]
    # recipe with degradations of full volumes
    assert "patch" not in names["tv"]
    paper = {field.name for field in variable_fields(get_method("attunet").recipes["paper"])}
    assert {"bce", "convolutions", "decay_every"} <= paper - names["attunet"]
    # recipe with augmented full slices
    full_slices = replace(
        get_method("unet").recipes["fast"], augmentation=Augmentation(dihedral=True, shift=1.0)
    )
    assert not {"patch", "patches"} & {field.name for field in variable_fields(full_slices)}


def test_ranges_include_the_values_of_the_papers():
    for text, recipe in (
        *((f"tv.tv={alpha}", "paper") for alpha in (0, 0.001, 0.01, 0.1)),
        *((f"attunet.patch={side}", "paper") for side in (8, 16, 32, 48, 64)),
        *((f"attunet.patches={40 * count}", "paper") for count in (100, 500, 1000, 5000)),
        *((f"attunet.filters={count}", "paper") for count in (16, 32, 64, 128)),
        *((f"attunet.adversarial={weight}", "paper") for weight in (0, 0.5, 1)),
        *((f"resnet3d.patches={count}", "paper") for count in (5000, 20000)),
    ):
        setting, value = text.partition(".")[2].split("=")
        assert variable_field(recipe_with(text, recipe), setting, "").default == float(value)


def test_weights_of_losses_are_set_added_and_kept_at_zero():
    assert weights(recipe_with("tv.tv=0.02")) == {"content:MSE": 1, "tv:TotalVariation": 0.02}
    new_recipe = recipe_with("attunet.mse=2 attunet.bce=.5 attunet.mae=0", "paper")
    assert weights(new_recipe) == {
        "content:MAE": 0,
        "ssim:SSIMLoss": 1,
        "psnr:PSNRLoss": 0.002,
        "adversarial:CriticScore": 0,
        "content:MSE": 2,
        "content:BCE": 0.5,
    }
    # Squared error, which replaces VGG-19 features, is always used once it has a weight.
    paper = get_method("cpce").recipes["paper"]
    assert not [term for term in paper.select_terms(True) if term.kind == "content"]
    new_recipe = recipe_with("cpce.mse=1", "paper")
    assert [term.weight for term in new_recipe.select_terms(True) if term.kind == "content"] == [1]
    assert changed_values(paper, [change("cpce.mse=1")]) == {"mse": 1}


@pytest.mark.parametrize("name", ["attunet", "resnet3d", "tv", "cpce"])
@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_filters_are_the_channels_of_the_first_layer_and_scale_the_others(name, recipe):
    def layer_sizes(layer_recipe):
        with torch.device("meta"):
            net = layer_recipe.build_generator(
                1, FACTOR if get_method(name).ndim == 2 else (2.0,) * 3
            )
        layers = [
            module
            for module in net.modules()
            if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)
        ]
        return layers[0].out_channels, sum(parameter.numel() for parameter in net.parameters())

    method = get_method(name)
    default = variable_field(method.recipes[recipe], "filters", "").default
    first, count = layer_sizes(method.recipes[recipe])
    assert first == default
    doubled, doubled_count = layer_sizes(recipe_with(f"{name}.filters={2 * default}", recipe))
    assert doubled == 2 * default
    assert 3 < doubled_count / count < 4.1


@pytest.mark.parametrize(
    ("text", "recipe", "named"),
    [
        ("tv.tvv=1", "fast", "tv"),
        ("tv.tv=-1", "fast", "from 0 to 100"),
        ("tv.filters=8.5", "fast", "from 4 to 256"),
        ("attunet.adversarial=1.5", "fast", "from 0 to 1"),
        ("attunet.bce=1", "fast", "--recipe paper"),
        ("attunet.patch=4", "fast", "from 8 to 256"),
        ("circle.patch=16", "fast", "from 32 to 256"),
        ("gan3d.iterations=100", "fast", "from 151 to"),
        ("attunet.mae=0 attunet.ssim=0", "fast", "mae, mse, ssim, psnr"),
        ("mse3d.mse=0", "fast", "mae"),
    ],
)
def test_invalid_changes_of_a_recipe_are_rejected(text, recipe, named):
    with pytest.raises(InvalidInput) as error:
        recipe_with(text, recipe)
    assert named in f"{error.value.reason} {error.value.remedy}"
    assert text.split()[0].partition("=")[0] in error.value.argument


@pytest.mark.parametrize(
    ("text", "methods", "named"),
    [
        ("tvx.tv=1", ("tv",), "tvx"),
        ("li.mae=2", ("tv",), "--sr-method li"),
        ("sbl.tv=1", ("sbl",), "sbl"),
        ("cpce.perceptual=1", ("cpce",), "--vgg-weights"),
        ("tv.tv=1 tv.tv=2", ("tv",), "once"),
    ],
)
def test_changes_without_effect_are_rejected(text, methods, named):
    with pytest.raises(InvalidInput) as error:
        check_changes(tuple(map(change, text.split())), methods, "fast", vgg=False)
    assert named in f"{error.value.reason} {error.value.remedy}"


def test_malformed_changes_are_rejected():
    for text in ("tv.tv", "tv=1", ".tv=1", "tv.=1", "tv.tv=", "tv.tv=x", "tv.tv=nan"):
        with pytest.raises(InvalidInput):
            change(text)
    for text in ("li.tv=1", "batch", "=1"):
        with pytest.raises(InvalidInput):
            change_of_method(text, "tv")
    for value in ("0.02", True, None, float("nan")):  # in a card
        with pytest.raises(InvalidInput):
            changes_from("tv", {"tv": value})


def test_vgg_features_are_required_if_all_other_weights_are_zero():
    assert not get_method("srgan").recipes["paper"].needs_vgg
    assert recipe_with("srgan.mse=0", "paper").needs_vgg
    changes = (change("srgan.mse=0"),)
    check_changes(changes, ("srgan",), "paper", vgg=True)
    check_changes((change("cpce.perceptual=1"),), ("cpce",), "fast", vgg=True)
    with pytest.raises(InvalidInput, match="VGG-19") as refusal:
        check_changes(changes, ("srgan",), "paper", vgg=False)
    assert refusal.value.argument == "srgan.mse=0"


def test_training_work_grows_with_steps_batch_patch_and_squared_filters():
    base = get_method("resnet3d").recipes["paper"]
    for text, ratio in (
        ("resnet3d.epochs=500", 0.5),
        ("resnet3d.patches=5000", 0.25),
        ("resnet3d.filters=32", 0.25),
        ("resnet3d.patch=42", 8),
    ):
        new_recipe = apply_changes(base, [change(text)])
        assert work_ratio(base, new_recipe, 3) == pytest.approx(ratio, rel=0.01), text
    assert work_ratio(base, replace(base), 3) == 1
