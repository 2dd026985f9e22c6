"""What the methods text says of a network, for every way in which it may have come about."""

from dataclasses import replace

import numpy as np
import pytest
from planmaker import TRAINING

from bids_sr.reports.figures.superres_figures import training_figure
from bids_sr.reports.text.training_text import TrainingRecord
from bids_sr.sr.method import get_method
from bids_sr.workflows.bold.train_models import PAIR, training_text


def _training_text(method, recipe, about="", text=""):
    how = replace(TRAINING, recipe=recipe, about={method: about}, text={method: text} if text else {})
    return training_text(method, PAIR, how)


@pytest.mark.parametrize("warm", [False, True])
def test_srgan_of_recipe_fast_is_called_what_it_is(warm):
    own = get_method("srgan").own_text("fast", warm=warm)
    text = _training_text(method="srgan", recipe="fast", text=own)
    assert text.startswith("A data-consistent network (srgan) was trained on the participant's own pair")
    assert "generative adversarial network" not in text
    assert ("simulated heads" in text) is warm
    assert "@stss_srfmri" in text


def test_the_published_run_and_its_variant_are_told_apart():
    own = get_method("srgan").own_text
    texts = {kind: _training_text(method="srgan", recipe=kind, text=own(kind)) for kind in ("paper", "paper-mse")}
    assert all(text.startswith("A generative adversarial network (srgan)") for text in texts.values())
    assert "features of VGG-19" in texts["paper"]
    assert "on all slices for the published number of steps" in texts["paper"]
    assert "with squared error added to the loss" in texts["paper-mse"]
    assert "held-out" not in texts["paper"]


@pytest.mark.parametrize("name", ["li", "li-agnostic"])
@pytest.mark.parametrize("recipe", ["fast", "paper", "paper-mse"])
def test_methods_without_their_paper_are_marked(name, recipe):
    text = _training_text(method=name, recipe=recipe, about=get_method(name).about)
    assert "written without its paper" in text
    assert ("with the published settings" in text) is False


def test_methods_with_their_paper_say_which_settings():
    about = get_method("unet").about
    for recipe, words in (("fast", "a smaller network"), ("paper", "published settings"), ("paper-mse", "published")):
        assert words in _training_text(method="unet", recipe=recipe, about=about)


@pytest.mark.parametrize(("psnr", "said"), [([np.nan, np.nan], True), ([np.nan, 25.0], False)])
def test_a_curve_without_held_out_slices_says_so(psnr, said):
    steps = np.array([1.0, 2.0])
    curves = {"srgan": np.array(psnr)}
    figure = training_figure(
        TrainingRecord(steps=steps, curves=curves, levels={}, losses={"loss": steps}, chosen_step=2.0)
    )
    assert ("no slice was held out" in [text.get_text() for text in figure.axes[0].texts]) is said
