"""Test the methods text on networks, before and after training or reuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from bids_sr.report.figures.training import training_figure
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import source_path, weights_path
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.steps.training_texts import describe_finished, describe_planned, describe_variance
from bids_sr.structural.steps.network_training import (
    describe_networks_of_scans,
    describe_scan_network,
)


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


def assert_contains(text, *parts):
    assert [part for part in parts if part not in text] == []


def test_before_training_the_text_is_in_the_future_tense():
    text = _planned_text("pair", "srgan", "fast", max_train_minutes=3.0)
    assert_contains(text, "srgan will be", "fast", "@stss_srfmri", "3 minutes")
    assert "published" not in text
    assert "VGG-19" in _planned_text("pair", "cpce", "paper")
    assert "VGG" not in _planned_text("pair", "cpce", "paper", vgg_weights=Path("vgg"))
    assert "up to 20 " in _planned_text("volumes", "tv", "fast")


def test_a_training_is_described_by_its_steps(tmp_path):
    """Only a training with all steps and losses is called published."""
    stopped = _folder(tmp_path / "a", "srgan", "paper", steps=8, stopped_by="time")
    text = _text_after_training("pair", [stopped], "srgan", "paper")
    assert_contains(text, "srgan was trained", "@srgan", "8 of 100,000 steps")
    assert "published" not in text
    settings = plain_recipe(get_method("srgan").recipes["paper"], vgg=True)
    complete = {"settings": settings, "perceptual": {"active": True}}
    folder = _folder(tmp_path / "b", "srgan", "paper", **complete)
    text = _text_after_training("pair", [folder], "srgan", "paper")
    assert_contains(text, "published", "all 100,000 steps", "VGG-19")


def test_networks_that_were_not_applied_are_counted(tmp_path):
    stopped = {"steps": 8, "stopped_by": "time", "applied": False, "stopped_training": "stopped"}
    folders = [_folder(tmp_path / "a", "srgan"), _folder(tmp_path / "b", "srgan", **stopped)]
    assert "zero filled" not in _text_after_training("pair", folders[:1], "srgan")
    assert "The series was zero filled" in _text_after_training("pair", folders[1:], "srgan")
    text = _text_after_training("pair", folders, "srgan")
    assert "1 of 2 networks were zero filled" in text


def test_trainings_and_their_volumes_are_counted(tmp_path):
    folders = [
        _folder(tmp_path / str(n), "tv", images=[f"volume-{k}" for k in range(n)])
        for n in (12, 20)
    ]
    text = _text_after_training("volumes", folders, "tv")
    assert_contains(text, "12 to 20 ", "all 400 steps in each of 2 trainings")
    for n, words in ((1, " 1 more network "), (2, " 2 more networks ")):
        assert words in _text_after_training("volumes", folders[:1], "tv", unfinished=n)


def test_pretrained_and_reused_models_are_named_by_files_and_described_by_their_card(tmp_path):
    settings = {"pretrained": tmp_path / "mine.safetensors"}
    assert_contains(_planned_text("pair", "srgan", "fast", **settings), "mine.safetensors", "will")
    folder = _folder(tmp_path / "step", "srgan", "paper", steps=8, stopped_by="time")
    source_path(folder).write_text("mine.safetensors\n")
    text = _text_after_training("pair", [folder], "srgan", "fast", **settings)
    assert_contains(text, "mine.safetensors", "1 pair", "T2starw", "recipe paper", "8 of 100,000")
    folders, names = [], [f"sub-0{k}_desc-tv_model.safetensors" for k in (1, 2)]
    for k, name in enumerate(names):
        folders.append(_folder(tmp_path / str(k), "tv"))
        source_path(folders[-1]).write_text(f"{name}\n")
    text = _text_after_training("volumes", folders, "tv", model_source="reuse")
    assert_contains(text, " and ".join(names), "the networks were trained on 1 ")
    assert "will be used" in _planned_text("volumes", "tv", "fast", model_source="reuse")


def test_the_text_on_structural_networks_names_the_training_participants(tmp_path):
    attunet = TrainingSettings(method="attunet")
    assert "own pairs" in describe_scan_network(attunet, {})
    folder = _folder(tmp_path, "attunet", images=["sub-02", "sub-03"])
    split = {"training": ("02", "03"), "validation": ("01",), "test": ("04", "05", "06")}
    text = describe_networks_of_scans(attunet, split, [folder], 0)
    numbers = ("from 2 participants", "1 other participant for validation", "3 for testing")
    assert_contains(text, *numbers, "critic")


def test_the_text_on_prior_sd_maps_describes_their_inputs():
    sbl = TrainingSettings(method="sbl")
    uncalibrated, calibrated = (
        describe_variance(sbl, calibrated=is_calibrated) for is_calibrated in (False, True)
    )
    numbers = ("2 maps", "3 and 1.5 ", "0.001", "each of 6 ", "40 ", "96 samples", "2 %")
    assert_contains(uncalibrated, *numbers)
    assert "each of 2 " in calibrated
    assert ("calibration" in uncalibrated, "calibration" in calibrated) == (False, True)
    assert describe_variance(TrainingSettings(method="sdmod"), calibrated=False) == ""
    pretrained = TrainingSettings(method="sbl", pretrained=Path("models/of-run-2.safetensors"))
    text = describe_variance(pretrained, calibrated=False)
    assert "of-run-2.safetensors" in text
    assert "updates" not in text


def test_the_text_on_prior_sd_maps_states_the_result_of_the_self_test(tmp_path):
    sbl = TrainingSettings(method="sbl")
    good, better, bad = (
        _variance_folder(tmp_path / str(score), applied=applied, components=n, score=score)
        for applied, n, score in ((True, 38, 0.11151), (True, 40, 0.2), (False, 40, 0.01))
    )
    for folders, parts in (
        ([good], ("38 temporal components", "11.2 % lower", "2 %)")),
        ([good, better, bad], ("38 to 40", "2 of 3 runs", "11.2 to 20.0 %")),
        ([bad], ("zero filled",)),
    ):
        assert_contains(describe_variance(sbl, folders, calibrated=False), *parts)


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
