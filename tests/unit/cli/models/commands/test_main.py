"""``bids-sr-models train``, ``apply`` and ``list``: outputs equal the results of the library."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch
from data.scans import AFFINE, FACTOR, save_untrained, scan
from safetensors.torch import load_file

from bids_sr.cli.models.commands import train as models_train
from bids_sr.cli.models.commands.image_files import (
    find_brain_and_scale,
    parse_contrast,
    parse_factor,
)
from bids_sr.cli.models.commands.main import main
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.spatial.matrices import upsample
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.networks.training.trainer import train_network


def run(*words: object) -> None:
    """Run a command that must succeed."""
    assert main([str(word) for word in words]) == 0


def read_json(file: Path) -> dict[str, object]:
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", ["zerofill", "linear"])
def test_a_series_is_interpolated_volume_by_volume(name: str, files, tmp_path: Path) -> None:
    out = tmp_path / "new" / "fine_bold.nii.gz"
    run("apply", name, files.bold, out, "--factor", 1.5, 2, 2)
    low, affine = load_image(files.bold)
    series, grid = load_image(out)
    np.testing.assert_allclose(series, upsample(name, low, (1.5, 2.0, 2.0)), atol=1e-2)
    shape, expected_affine = hr_grid(low.shape[:3], affine, (1.5, 2.0, 2.0))
    assert series.shape == (*shape, 3)
    np.testing.assert_allclose(grid, expected_affine, atol=1e-5)
    assert nb.load(out).header["pixdim"][4] == 1.5
    metadata = read_json(out.with_name("fine_bold.json"))
    assert (metadata["Method"], metadata["Factor"]) == (name, [1.5, 2.0, 2.0])


def test_a_model_applied_to_an_image_equals_the_result_of_the_library(
    files, tmp_path: Path
) -> None:
    out, mask = tmp_path / "fine.nii.gz", tmp_path / "mask.nii.gz"
    image, affine = load_image(files.low)
    inside = image > 100
    save_image(inside.astype(np.uint8), affine, mask)
    run("apply", files.untrained, files.low, out, "--mask", mask)
    scale = float(np.percentile(image[inside], 99))
    model = load_model(files.untrained)
    upsampler = make_upsampler("srgan", UpsamplerInputs(factor=FACTOR, scale=scale), model)
    resolved, _ = load_image(out)
    assert resolved.ndim == 3
    np.testing.assert_allclose(resolved, upsampler(image, np.eye(4)), rtol=1e-5, atol=1e-3)
    assert "Model" in read_json(tmp_path / "fine.json")


def test_a_network_is_applied_in_patches_of_the_requested_size(files, tmp_path: Path) -> None:
    """Overlapping patches are closer to the result of whole slices."""
    images = {}
    for options, patch in (
        ("", (None, None)),
        ("--patch 12", (12, 0)),
        ("--patch 12 --overlap 4", (12, 4)),
        ("--patch 0", (None, None)),
    ):
        run("apply", files.untrained, files.low, tmp_path / "fine.nii.gz", *options.split())
        images[options] = load_image(tmp_path / "fine.nii.gz")[0]
        metadata = read_json(tmp_path / "fine.json")
        assert (metadata.get("Patch"), metadata.get("PatchOverlap")) == patch
    np.testing.assert_array_equal(images[""], images["--patch 0"])
    differences = [np.abs(image - images[""]).max() for image in images.values()]
    assert differences[1] > differences[2] > 0


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ("--contrast T1w --allow contrast", "contrast"),
        ("--allow resolution contrast", "resolution"),
        ("--allow resolution", "resolution"),
    ],
)
def test_another_contrast_or_resolution_can_be_allowed_with_a_note(
    options: str, allowed: str, files, tmp_path: Path
) -> None:
    image = files.low if allowed == "contrast" else files.high
    command = ["apply", str(files.untrained), str(image), str(tmp_path / "o.nii")]
    other_options = options.replace(f" {allowed}", " orientation")
    assert main([*command, *other_options.split()]) == 2
    run(*command, *options.split())
    (note,) = read_json(tmp_path / "o.json")["Notes"]
    assert allowed in note


def test_changed_settings_are_stored_in_the_card_and_used_on_loading(
    files, tmp_path: Path
) -> None:
    card = read_card(files.trained)
    assert card.json["changed_settings"] == {"batch": 1, "filters": 4, "iterations": 3}
    assert (card.settings["batch"], card.settings["iterations"]) == (1, 3)
    assert (card.json["contrast"], card.json["factor"]) == ("T2starw", list(FACTOR))
    assert load_model(files.trained).generator.first[0].out_channels == 4
    run("apply", files.trained, files.low, tmp_path / "made.nii.gz")
    edited = tmp_path / "model.safetensors"
    shutil.copy(files.trained, edited)
    for changes, value in (
        ({"batch": 2, "filters": 4, "iterations": 3}, "after the model was saved"),
        ({"batch": 1, "filters": 8, "iterations": 3}, "unet"),
        ({"filters": "4"}, "filters"),
        ({"filters": 1e9}, "256"),
    ):
        edited_card = card.json | {"changed_settings": changes}
        edited.with_suffix(".json").write_text(json.dumps(edited_card))
        with pytest.raises(ModelError, match=value):
            load_model(edited)


def test_the_last_layers_of_a_model_can_be_tuned(
    files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, pair = tmp_path / "tuned", ["--fine", files.high, "--coarse", files.low]
    options = ["--set", "filters=4", "iterations=2", "batch=1", "--train-last", "1"]
    run("train", "unet", out, *pair, "--from", files.trained, *options)
    shown = capsys.readouterr().out
    assert "PSNR" in shown
    assert "--sr-factor 2\n" in shown
    tuned = out.with_suffix(".safetensors")
    before, after = load_file(files.trained), load_file(tuned)
    changed = {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert len(changed) == 1
    assert read_card(tuned).start_sha256 == read_card(files.trained).weights_sha256
    run("list", tuned)
    assert read_card(files.trained).weights_sha256 in capsys.readouterr().out


def test_tuning_starts_from_the_stored_critic(
    files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--fine", files.high, "--coarse", files.low, "--set", "filters=4", "batch=1"]
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    run("train", "attunet", first, *argv, "iterations=2")
    before = load_file(f"{first}.safetensors")
    # this step changes the weights little; another seed would give other weights
    options = ["iterations=1", "learning_rate=1e-7", "--seed", "9", "--from"]
    run("train", "attunet", second, *argv, *options, f"{first}.safetensors")
    assert "note" not in capsys.readouterr().out
    after = load_file(f"{second}.safetensors")
    critic = [name for name in before if name.startswith("critic.")]
    assert critic
    # the critic is trained at the learning rate of the recipe
    limit = 10 * get_method("attunet").recipes["fast"].critic_learning_rate
    assert all((after[name] - before[name]).abs().max() < limit for name in critic)
    assert read_json(tmp_path / "second.json")["started_from"]["with"] == ["critic"]
    bare = {name: value for name, value in before.items() if name not in critic}
    save_model(tmp_path / "bare", bare, read_json(tmp_path / "first.json"))
    run("train", "attunet", third, *argv, *options, tmp_path / "bare.safetensors")
    assert "--keep-critic" in capsys.readouterr().out
    retrained = load_file(f"{third}.safetensors")
    name = max(critic, key=lambda key: retrained[key].numel())
    assert (retrained[name] - before[name]).abs().max() > limit


def test_the_four_networks_of_a_cycle_are_stored(tmp_path: Path) -> None:
    recipe = get_method("circle").recipes["fast"]
    parts = {
        "": recipe.build_generator(1, FACTOR),
        "backward": recipe.build_generator(1, FACTOR),
        "critic": recipe.build_critic(1),
        "backward_critic": recipe.build_critic(1),
    }
    state = {
        f"{name}.{key}".removeprefix("."): value
        for name, network in parts.items()
        for key, value in network.state_dict().items()
    }
    card = read_json(save_untrained(tmp_path / "circle", "circle").with_suffix(".json"))
    weights, _ = save_model(tmp_path / "circle", state, card)
    loaded = load_model(weights)
    assert set(loaded.companions) == {"critic", "backward", "backward_critic"}
    for name, network in parts.items():
        stored = loaded.companions[name] if name else loaded.generator.state_dict()
        assert all(torch.equal(value, stored[key]) for key, value in network.state_dict().items())
    state["backward.more"] = torch.zeros(1)
    weights, _ = save_model(tmp_path / "circle", state, card)
    with pytest.raises(ModelError, match="backward of circle"):
        load_model(weights)


@pytest.mark.parametrize(("recipe", "level"), [("paper", "Warning"), ("fast", "Note")])
def test_missing_vgg19_features_are_reported(
    recipe: str, level: str, files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "cpce", str(tmp_path / "none"), "--fine", str(files.high)]
    assert main([*line, "--recipe", recipe]) == 2  # patches do not fit, which is checked later
    shown = capsys.readouterr().out
    assert f"{level}: cpce --recipe {recipe}" in shown
    assert "VGG-19" in shown


def test_training_on_low_resolution_volumes_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes = np.stack([scan(seed, (26, 26, 8)) for seed in range(4)], -1)
    save_image(volumes, AFFINE, file := tmp_path / "s_bold.nii.gz", tr=2.0)
    options = ["--factor", 2, 3, 1, "--volumes", 2, "--max-minutes", 0.001]
    run("train", "dip", tmp_path / "m", "--coarse", file, *options)
    assert "--sr-factor 2 3 1\n" in capsys.readouterr().out
    card = read_json(tmp_path / "m.json")
    assert card["trained_on"] == "self"
    assert len(card["images"]) == 2
    assert card["resolution"]["lowres_mm"] == [3.0, 3.0, 4.0]
    assert (tmp_path / "m.tsv").read_text().startswith("phase\titeration")


def test_list_shows_methods_settings_and_models_without_control_characters(
    files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = save_untrained(tmp_path / "noted")
    card = read_json(noted.with_suffix(".json"))
    noted.with_suffix(".json").write_text(json.dumps(card | {"note": "é × µ a\x1b[2Jb\nc\u202e"}))
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    run("list", tmp_path)
    shown = capsys.readouterr().out
    assert "6 x 6 x 4 mm, factor 2 x 2 x 1" in shown
    assert "bad.safetensors" in shown
    run("list", noted)
    assert "note: é × µ a?[2Jb?c?" in capsys.readouterr().out
    run("list")
    shown = capsys.readouterr().out
    # srgan; METHODS, "Facts measured", has 1.23 M parameters for the paper's recipe
    assert "14,257 / 1,230,145" in shown
    assert all(f"  {name} " in shown for name in ("tv", "li-agnostic", "attunet", "lanczos"))
    run("list", "tv", "sbl")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  tv ")]
    assert len(rows) == 2  # one row per recipe
    assert all("0.01" in row for row in rows)


def test_the_scale_of_a_series_is_a_percentile_of_its_mean_in_the_brain(files) -> None:
    with SeriesReader(files.bold) as reader:
        mask, scale, _ = find_brain_and_scale(reader, None)
    mean = load_image(files.bold)[0].mean(-1)
    assert scale == pytest.approx(np.percentile(mean[mask], 99), rel=1e-5)
    assert mask[12 // 2, 14 // 2].all()


def test_contrast_and_factor_are_read_from_names_and_options() -> None:
    for file, option, contrast in (
        ("a_T1w.nii.gz", None, "T1w"),
        ("a_sbref.nii", None, "bold"),
        ("T2w.nii", None, "T2w"),
        ("x.nii", "PDw", "PDw"),
        ("x.nii", "FA", "FA"),  # not a BIDS suffix
    ):
        assert parse_contrast(Path(file), option) == contrast
    assert parse_factor([1.5], FACTOR) == (1.5, 1.5, 1.0)
    assert parse_factor([1, 2, 3], FACTOR) == (1.0, 2.0, 3.0)
    assert parse_factor((), FACTOR) == FACTOR


SHORT = replace(
    get_method("srgan").recipes["fast"],
    iterations=12,
    evaluate_every=5,
    adversarial_from=4,
    batch=2,
    hold_out=3,
)


def train_stopped_at(
    step: int | None, monkeypatch: pytest.MonkeyPatch, files, out: Path, *more: str
) -> list[tuple[str, int]]:
    """Train with a clock that exceeds the limit from a step on; return the completed steps.

    `step`: number of steps before the limit; None: never stop.
    """
    steps: list[tuple[str, int]] = []

    def fit_on_clock(training, images, work, progress):  # type: ignore[no-untyped-def]
        del progress
        return train_network(
            training,
            images,
            work,
            lambda phase, done, _: steps.append((phase, done)),
            clock=lambda: 3600.0 * (step is not None and len(steps) >= step - 1),
        )

    monkeypatch.setattr(models_train, "train_network", fit_on_clock)
    monkeypatch.setattr(models_train, "get_recipe", lambda method, name: SHORT)
    run("train", "srgan", out, "--fine", files.high, "--coarse", files.low, *more)
    return steps


def test_training_stopped_by_the_time_limit_resumes_with_the_same_command(
    files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints are kept until the end, and then if they have a folder of their own."""
    whole, cut, work = tmp_path / "whole", tmp_path / "cut", tmp_path / "checkpoints"
    train_stopped_at(None, monkeypatch, files, whole)
    assert not (tmp_path / "whole.work").exists()
    limit = ["--max-minutes", "10", "-w", str(work)]
    capsys.readouterr()
    assert train_stopped_at(7, monkeypatch, files, cut, *limit)[:7][-1] == ("search", 7)
    shown = capsys.readouterr().out
    assert "7 of 12" in shown
    assert str(work) in shown
    assert read_json(tmp_path / "cut.json")["reproducible"] is False
    # the next portion ends in its first step, the ninth in total
    steps = train_stopped_at(2, monkeypatch, files, cut, *limit)
    assert steps[:2] == [("search", 8), ("search", 9)]
    capsys.readouterr()
    assert train_stopped_at(None, monkeypatch, files, cut, *limit)[0] == ("search", 10)
    assert str(work) not in capsys.readouterr().out
    assert work.is_dir()
    first, second = (load_file(f"{model}.safetensors") for model in (whole, cut))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for suffix in (".tsv", ".json"):
        assert whole.with_suffix(suffix).read_text() == cut.with_suffix(suffix).read_text()
