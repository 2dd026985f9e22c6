"""Test the methods text on networks, before and after training or reuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from bids_sr.figures.training import training_figure
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import source_path, weights_path
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.steps.training_texts import describe_finished, describe_planned, describe_variance
from bids_sr.structural.steps.training import describe_networks_of_scans, describe_scan_network


def _planned_text(source, method, recipe, **settings):
    return describe_planned(TrainingSettings(method=method, recipe=recipe, **settings), source)


def _folder(parent, method, recipe="fast", *, steps=None, stopped_by="iterations", **entries):
    """Write the card of a complete training, or of `steps`, as a training step does; return the
    folder.
    """
    method_recipe = get_method(method).recipes[recipe]
    iterations = method_recipe.steps if steps is None else steps
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
        "objective": method_recipe.objective,
        "settings": plain_recipe(method_recipe, vgg=False),
        "perceptual": {"active": False},
        "held_out": {"iteration": iterations},
        "phases": {"search": {"iterations": iterations, "stopped_by": stopped_by}},
    }
    parent.mkdir(parents=True, exist_ok=True)
    path = weights_path(parent, method).with_suffix(".json")
    path.write_text(json.dumps(card | entries))
    return parent


def _text_after_training(source, folders, method, recipe="fast", *, unfinished=0, **settings):
    training = TrainingSettings(method=method, recipe=recipe, **settings)
    return describe_finished(training, source, folders, unfinished)


def test_before_training_the_text_is_in_the_future_tense():
    text = _planned_text("pair", "srgan", "fast", max_train_minutes=3.0)
    assert text.startswith(
        "The network srgan will be trained on the participant's own pair of T2*-weighted images"
        " with the recipe fast. This network is a small generative adversarial network"
    )
    assert "@stss_srfmri" in text
    assert text.endswith("will be stopped after 3 minutes if it has not ended before.")
    assert "published" not in text
    text = _planned_text("pair", "cpce", "paper")
    assert "The loss function of cpce will not include VGG-19 features" in text
    assert "VGG" not in _planned_text("pair", "cpce", "paper", vgg_weights=Path("vgg"))
    assert "up to 20 randomly drawn volumes" in _planned_text("volumes", "tv", "fast")


def test_a_training_stopped_by_the_time_limit_is_described_by_its_steps(tmp_path):
    folder = _folder(tmp_path, "srgan", "paper", steps=8, stopped_by="time")
    text = _text_after_training("pair", [folder], "srgan", "paper")
    assert text.startswith(
        "The network srgan was trained on the participant's own pair of T2*-weighted images."
        " This network is a generative adversarial network [@stss_srfmri; @srgan]."
    )
    assert "was stopped by the time limit after 8 of 100,000 steps" in text
    assert "published" not in text


def test_the_published_training_is_called_published_after_all_steps(tmp_path):
    method_recipe = get_method("srgan").recipes["paper"]
    complete = {"settings": plain_recipe(method_recipe, vgg=True), "perceptual": {"active": True}}
    text = _text_after_training(
        "pair",
        [_folder(tmp_path, "srgan", "paper", **complete)],
        "srgan",
        "paper",
    )
    assert "with the published settings, losses and number of steps" in text
    assert "Training of srgan was completed after all 100,000 steps" in text
    assert "squared error between VGG-19 features" in text


def test_training_volumes_are_counted_from_the_cards(tmp_path):
    folders = [
        _folder(tmp_path / str(n), "tv", images=[f"volume-{k}" for k in range(n)])
        for n in (12, 20)
    ]
    text = _text_after_training("volumes", folders, "tv")
    assert "was trained on 12 to 20 randomly drawn volumes of the acquired run" in text
    assert "Training of tv was completed after all 400 steps in each of 2 trainings" in text


def test_unfinished_trainings_are_counted(tmp_path):
    folder = _folder(tmp_path, "tv")
    assert _text_after_training("volumes", [folder], "tv", unfinished=2).endswith(
        " 2 more networks will be trained."
    )
    assert _text_after_training("volumes", [folder], "tv", unfinished=1).endswith(
        " 1 more network will be trained."
    )


def test_a_pretrained_model_is_named_by_its_file_and_described_by_its_card(tmp_path):
    settings = {"pretrained": tmp_path / "mine.safetensors"}
    planned = _planned_text("pair", "srgan", "fast", **settings)
    assert planned.startswith(
        "A previously trained network, srgan (file mine.safetensors), will be used. This network"
        " is an SRGAN"
    )
    folder = _folder(tmp_path / "step", "srgan", "paper", steps=8, stopped_by="time")
    source_path(folder).write_text("mine.safetensors\n")
    text = _text_after_training("pair", [folder], "srgan", "fast", **settings)
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
        source_path(folders[-1]).write_text(f"sub-0{k}_desc-tv_model.safetensors\n")
    text = _text_after_training("volumes", folders, "tv", model_source="reuse")
    assert (
        "A previously trained network, tv (files sub-01_desc-tv_model.safetensors and"
        " sub-02_desc-tv_model.safetensors), was used" in text
    )
    assert "the networks were trained on 1 acquired volume (T2starw)" in text
    assert "will be used" in _planned_text("volumes", "tv", "fast", model_source="reuse")


def test_the_text_on_structural_networks_names_the_training_participants(tmp_path):
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


def test_the_text_on_prior_sd_maps_describes_their_inputs():
    sbl = TrainingSettings(method="sbl")
    uncalibrated, calibrated = (
        describe_variance(sbl, calibrated=is_calibrated) for is_calibrated in (False, True)
    )
    for words in (
        "With sbl, the signal change outside the acquired band",
        "2 maps of standard deviations",
        "correlations of 3 and 1.5 high-resolution voxels",
        "noise variance of 0.001",
        "In each of 6 updates",
        "up to 40 temporal components",
        "96 samples",
        "at least 2 % lower",
    ):
        assert words in uncalibrated
    assert "components of the calibration" not in uncalibrated
    assert "components of the calibration" in calibrated
    assert "In each of 2 updates" in calibrated
    assert describe_variance(TrainingSettings(method="sdmod"), calibrated=False) == ""
    pretrained = TrainingSettings(method="sbl", pretrained=Path("models/of-run-2.safetensors"))
    text = describe_variance(pretrained, calibrated=False)
    assert "prior SD maps from another run (sbl, file of-run-2.safetensors)" in text
    assert "updates" not in text


def test_the_text_on_prior_sd_maps_states_the_result_of_the_self_test(tmp_path):
    sbl = TrainingSettings(method="sbl")
    good, better, bad = (
        _variance_folder(tmp_path / name, **entries)
        for name, entries in {
            "good": {"applied": True, "components": 38, "score": 0.11151},
            "better": {"applied": True, "components": 40, "score": 0.2},
            "bad": {"applied": False, "components": 40, "score": 0.01},
        }.items()
    )
    text = describe_variance(sbl, [good], calibrated=False)
    assert "ratio of 38 temporal components" in text
    assert "was 11.2 % lower than with zero filling (required: 2 %)." in text
    text = describe_variance(sbl, [good, better, bad], calibrated=False)
    assert "38 to 40 temporal components" in text
    assert "sbl was applied to 2 of 3 runs" in text
    assert "11.2 to 20.0 % lower" in text
    text = describe_variance(sbl, [bad], calibrated=False)
    assert "the run was zero filled" in text
    assert "sbl was applied" not in text


def _variance_folder(folder: Path, *, applied: bool, components: int, score: float) -> Path:
    """Write the card of a finished estimation of prior SD maps and return its folder."""
    card = {"card_version": 1, "method": "sbl", "recipe": "fast", "contrast": "bold"}
    card |= {"orientation": "I-S", "factor": [2, 2, 1], "resolution": {"lowres_mm": [6, 6, 4]}}
    card |= {"weights_sha256": 64 * "0", "applied": applied, "components": components}
    card |= {"held_out": {"explained_over_zerofill": score}}
    folder.mkdir()
    (folder / "sbl.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(
    ("psnr", "without_held_out"), [([np.nan, np.nan], True), ([np.nan, 25.0], False)]
)
def test_a_training_curve_without_held_out_slices_says_so(psnr, without_held_out):
    steps = np.array([1.0, 2.0])
    columns = {"iteration": steps, "psnr": np.array(psnr), "loss": steps}
    figure = training_figure(columns, {"method": "srgan", "held_out": {"iteration": 2}})
    assert (
        "no slices were held out" in [text.get_text() for text in figure.axes[0].texts]
    ) is without_held_out
