"""What the methods text says of a network, for every way in which it may have come about."""

import numpy as np
import pytest

from bids_sr.figures.anat_figures import training_figure
from bids_sr.sr.method import get_method
from bids_sr.steps.training import estimate_variance, train_on_pair, train_on_volumes


def _text(step, method, recipe, **given):
    known = {
        "pretrained": None,
        "model_source": "auto",
        "calibrated": False,
        "recipe_changes": (),
    }
    return step.text((known | {"method": method, "recipe": recipe} | given).__getitem__)


def test_dcnet_is_called_what_it_is():
    text = _text(train_on_pair, "dcnet", "fast")
    assert text.startswith(
        "A data-consistent network (dcnet) was trained on the participant's own pair"
    )
    assert "generative adversarial network" not in text
    assert "@stss_srfmri" in text


def test_srgan_of_recipe_fast_says_that_it_is_small_and_pre_trained():
    text = _text(train_on_pair, "srgan", "fast")
    assert text.startswith("A generative adversarial network (srgan) was trained")
    assert "smaller generator and critic" in text
    steps = get_method("srgan").recipes["fast"].adversarial_from
    assert f"pre-trained by squared error for {steps} steps" in text
    assert "held-out" not in text


def test_the_published_run_and_its_variant_are_told_apart():
    texts = {kind: _text(train_on_pair, "srgan", kind) for kind in ("paper", "paper-mse")}
    assert all(
        text.startswith("A generative adversarial network (srgan)") for text in texts.values()
    )
    assert "features of VGG-19" in texts["paper"]
    assert "on all slices for the published number of steps" in texts["paper"]
    assert "with squared error added to the loss" in texts["paper-mse"]
    assert "held-out" not in texts["paper"]


@pytest.mark.parametrize("name", ["li", "li-agnostic"])
@pytest.mark.parametrize("recipe", ["fast", "paper", "paper-mse"])
def test_methods_without_their_paper_are_marked(name, recipe):
    text = _text(train_on_pair, name, recipe)
    assert "written without its paper" in text
    assert ("with the published settings" in text) is False


def test_methods_with_their_paper_say_which_settings():
    for recipe, words in (
        ("fast", "a smaller network"),
        ("paper", "published settings"),
        ("paper-mse", "published"),
    ):
        assert words in _text(train_on_pair, "unet", recipe)


def test_a_model_that_was_given_is_not_called_trained():
    for step, name in ((train_on_pair, "srgan"), (train_on_volumes, "resnet3d")):
        for given in ({"pretrained": "weights"}, {"model_source": "reuse"}):
            assert _text(step, name, "fast", **given).startswith(
                f"A network trained beforehand ({name}) was used"
            )
    assert _text(train_on_volumes, "resnet3d", "fast", pretrained="weights").endswith("].")


def test_maps_of_the_run_say_what_entered_them_and_a_control_says_nothing():
    plain, calibrated = (
        _text(estimate_variance, "sbl", "fast", calibrated=each) for each in (False, True)
    )
    assert plain.startswith(
        "sbl estimated the signal change over time beyond the acquired band of k-space under a"
    )
    assert (
        calibrated
        == plain
        + " The components of the calibration entered the prior as local covariance with the"
        " weight that they earned by predicting the outermost fifth of the acquired k-space of"
        " held-out halves from the rest, by which their registration was refined, or were left"
        " out where they did not help."
    )
    assert _text(estimate_variance, "sdmod", "fast") == ""


@pytest.mark.parametrize(("psnr", "said"), [([np.nan, np.nan], True), ([np.nan, 25.0], False)])
def test_a_curve_without_held_out_slices_says_so(psnr, said):
    steps = np.array([1.0, 2.0])
    columns = {"iteration": steps, "psnr": np.array(psnr), "loss": steps}
    figure = training_figure(columns, {"method": "srgan", "held_out": {"iteration": 2}})
    assert ("no slice was held out" in [text.get_text() for text in figure.axes[0].texts]) is said
