"""What the methods text says of a network, before and after it is trained or taken."""

import json
from pathlib import Path

import numpy as np
import pytest

from bids_sr.figures.training import training_figure
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import source_in, weights_in
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.steps.structural.training import describe_networks_of_scans, describe_scan_network
from bids_sr.steps.training import (
    TrainingSettings,
    describe_networks_of_pairs,
    describe_networks_of_volumes,
    describe_pair_network,
    describe_variance,
    describe_volume_network,
)


def _before(describe, method, recipe, **given):
    return describe(TrainingSettings(method=method, recipe=recipe, **given))


def _folder(parent, method, recipe="fast", *, steps=None, ended_by="iterations", **entries):
    """A folder as a training step leaves it: the card of a whole training, or of `steps`."""
    how = get_method(method).recipes[recipe]
    done = how.steps if steps is None else steps
    card = {
        "card_version": 1,
        "method": method,
        "recipe": recipe,
        "factor": [2, 2, 1],
        "resolution": {"lowres_mm": [3, 3, 3]},
        "contrast": "T2starw",
        "orientation": "I-S",
        "weights_sha256": "0" * 64,
        "seed": 0,
        "images": ["pair"],
        "coarse_images": "measured",
        "objective": how.objective,
        "settings": plain_recipe(how, vgg=False),
        "perceptual": {"active": False},
        "held_out": {"iteration": done},
        "phases": {"search": {"iterations": done, "stopped_by": ended_by}},
    }
    parent.mkdir(parents=True, exist_ok=True)
    path = weights_in(parent, method).with_suffix(".json")
    path.write_text(json.dumps(card | entries))
    return parent


def _after(describe, folders, method, recipe="fast", *, unfinished=0, **given):
    return describe(TrainingSettings(method=method, recipe=recipe, **given), folders, unfinished)


def test_before_training_the_text_is_in_the_future_tense():
    text = _before(describe_pair_network, "srgan", "fast", max_train_minutes=3.0)
    assert text.startswith(
        "The network srgan will be trained on the participant's own pair of T2*-weighted images"
        " with the recipe fast. This network is a small generative adversarial network"
    )
    assert "@stss_srfmri" in text
    assert text.endswith("will be stopped after 3 minutes if it has not ended before.")
    assert "published" not in text
    text = _before(describe_pair_network, "cpce", "paper")
    assert "The loss function of cpce will not include VGG-19 features" in text
    assert "VGG" not in _before(describe_pair_network, "cpce", "paper", vgg_weights=Path("vgg"))
    assert "up to 20 randomly drawn volumes" in _before(describe_volume_network, "tv", "fast")


def test_a_training_that_the_clock_stopped_is_described_by_its_steps(tmp_path):
    folder = _folder(tmp_path, "srgan", "paper", steps=8, ended_by="time")
    text = _after(describe_networks_of_pairs, [folder], "srgan", "paper")
    assert text.startswith(
        "The network srgan was trained on the participant's own pair of T2*-weighted images."
        " This network is a generative adversarial network [@stss_srfmri; @srgan]."
    )
    assert "was stopped by the time limit after 8 of 100,000 steps" in text
    assert "published" not in text


def test_the_published_run_is_called_so_after_all_its_steps(tmp_path):
    how = get_method("srgan").recipes["paper"]
    whole = {"settings": plain_recipe(how, vgg=True), "perceptual": {"active": True}}
    text = _after(
        describe_networks_of_pairs,
        [_folder(tmp_path, "srgan", "paper", **whole)],
        "srgan",
        "paper",
    )
    assert "with the published settings, losses and number of steps" in text
    assert "Training of srgan was completed after all 100,000 steps" in text
    assert "squared error between VGG-19 features" in text


@pytest.mark.parametrize("name", ["li", "li-agnostic"])
@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_methods_without_their_paper_are_marked(name, recipe, tmp_path):
    text = _after(describe_networks_of_pairs, [_folder(tmp_path, name, recipe)], name, recipe)
    assert "implemented without access to the original paper" in text
    assert "was not available" in text
    assert "published" not in text


def test_volumes_are_counted_from_the_cards(tmp_path):
    folders = [
        _folder(tmp_path / str(n), "tv", images=[f"volume-{k}" for k in range(n)])
        for n in (12, 20)
    ]
    text = _after(describe_networks_of_volumes, folders, "tv")
    assert "was trained on 12 to 20 randomly drawn volumes of the acquired run" in text
    assert "Training of tv was completed after all 400 steps in each of 2 trainings" in text


def test_trainings_that_have_not_ended_are_counted(tmp_path):
    folder = _folder(tmp_path, "tv")
    assert _after(describe_networks_of_volumes, [folder], "tv", unfinished=2).endswith(
        " 2 more networks will be trained."
    )
    assert _after(describe_networks_of_volumes, [folder], "tv", unfinished=1).endswith(
        " 1 more network will be trained."
    )


def test_a_model_that_was_given_is_named_by_its_file_and_described_by_its_card(tmp_path):
    given = {"pretrained": tmp_path / "mine.safetensors"}
    before = _before(describe_pair_network, "srgan", "fast", **given)
    assert before.startswith(
        "A previously trained network, srgan (file mine.safetensors), will be used. This network"
        " is an SRGAN"
    )
    folder = _folder(tmp_path / "step", "srgan", "paper", steps=8, ended_by="time")
    source_in(folder).write_text("mine.safetensors\n")
    text = _after(describe_networks_of_pairs, [folder], "srgan", "fast", **given)
    assert text.startswith(
        "A previously trained network, srgan (file mine.safetensors), was used. This network is a"
        " generative"
    )
    assert (
        "According to its model card, the network was trained on 1 pair of high- and"
        " low-resolution images (T2starw). Training of srgan followed the recipe paper" in text
    )
    assert "after 8 of 100,000 steps" in text


def test_reused_models_are_named_by_their_files(tmp_path):
    folders = []
    for k in (1, 2):
        folders.append(_folder(tmp_path / str(k), "tv"))
        source_in(folders[-1]).write_text(f"sub-0{k}_desc-tv_model.safetensors\n")
    text = _after(describe_networks_of_volumes, folders, "tv", model_source="reuse")
    assert (
        "A previously trained network, tv (files sub-01_desc-tv_model.safetensors and"
        " sub-02_desc-tv_model.safetensors), was used" in text
    )
    assert "the networks were trained on 1 acquired volume (T2starw)" in text
    assert "will be used" in _before(describe_volume_network, "tv", "fast", model_source="reuse")


def test_networks_of_structural_scans_say_whose_heads_they_learned_from(tmp_path):
    attunet = TrainingSettings(method="attunet")
    text = describe_scan_network(attunet, of_others=False)
    assert (
        "will be trained on the participant's own pairs of high- and low-resolution scans" in text
    )
    assert text.endswith("together (as channels), slice by slice.")
    folder = _folder(tmp_path, "attunet", images=["sub-02", "sub-03"])
    text = describe_networks_of_scans(attunet, [folder], 0, of_others=True)
    assert "scans from 2 other participants" in text
    assert "A critic was trained together with attunet for inspection only" in text


def test_maps_of_the_run_say_what_entered_them_and_a_control_says_nothing():
    sbl = TrainingSettings(method="sbl")
    plain, calibrated = (describe_variance(sbl, calibrated=used) for used in (False, True))
    assert plain.startswith("With sbl, the signal change outside the acquired band")
    assert calibrated.startswith(plain)
    added = calibrated.removeprefix(plain)
    assert "components of the calibration" in added
    assert "held-out halves" in added
    assert describe_variance(TrainingSettings(method="sdmod"), calibrated=False) == ""
    given = TrainingSettings(method="sbl", pretrained=Path("models/of-run-2.safetensors"))
    assert describe_variance(given, calibrated=False) == (
        "Super-resolution was performed with variance maps from another run (sbl, file"
        " of-run-2.safetensors)."
    )


@pytest.mark.parametrize(("psnr", "said"), [([np.nan, np.nan], True), ([np.nan, 25.0], False)])
def test_a_curve_without_held_out_slices_says_so(psnr, said):
    steps = np.array([1.0, 2.0])
    columns = {"iteration": steps, "psnr": np.array(psnr), "loss": steps}
    figure = training_figure(columns, {"method": "srgan", "held_out": {"iteration": 2}})
    assert (
        "no slices were held out" in [text.get_text() for text in figure.axes[0].texts]
    ) is said
