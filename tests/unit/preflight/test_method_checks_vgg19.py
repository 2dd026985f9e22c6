"""VGG-19 weights in a plan: the file used per method, and messages that name it."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.dataset import BidsMaker

from bids_sr.bids import find_vgg_weights
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.preflight import check
from bids_sr.workflows.series_requests import Analysis


@pytest.fixture
def installed_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create the file of installed weights; it is not opened before training."""
    file = tmp_path / "vgg19.safetensors"
    file.touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(file))
    return file


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    arguments = [str(maker.root), str(maker.root.parent / "out"), "participant"]
    return parse_settings([*arguments, "--skip-bids-validation", *extra]).resolve(run_uuid="x")


def notes(maker: BidsMaker, *extra: str) -> str:
    plan = check(settings_for(maker, *extra))
    # images of this dataset are smaller than a published patch, which is a separate problem
    assert not any("VGG-19" in problem.why for problem in plan.problems)
    return "\n".join(f"{note.what}: {note.why}" for note in plan.warnings)


def test_the_published_recipe_uses_installed_weights_and_reports_it(
    maker: BidsMaker, installed_weights: Path
) -> None:
    text = notes(maker, "--sr-method", "srgan", "cpce", "--recipe", "paper")
    for method in ("srgan", "cpce"):
        line = (
            f"--sr-method {method} --recipe paper: "
            f"VGG-19 weights are loaded from {installed_weights}"
        )
        assert f"{line} (installed by --vgg-weights)" in text


def test_the_default_recipe_never_uses_installed_weights(
    maker: BidsMaker, installed_weights: Path
) -> None:
    assert "weights are loaded from" not in notes(maker, "--sr-method", "srgan", "cpce")
    superres = settings_for(maker, "--sr-method", "srgan", "cpce").superres
    assert find_vgg_weights(superres, "srgan") is None
    assert find_vgg_weights(superres, "cpce") is None


def test_only_methods_with_a_perceptual_loss_use_weights(
    maker: BidsMaker, installed_weights: Path
) -> None:
    options = ("--sr-method", "srgan", "cpce", "sbl", "unet", "--recipe", "paper")
    superres = settings_for(maker, *options).superres
    weights = {name: find_vgg_weights(superres, name) for name in ("srgan", "cpce", "sbl", "unet")}
    used = {"srgan": installed_weights, "cpce": installed_weights}
    assert weights == {**used, "sbl": None, "unet": None}


def test_the_weights_option_takes_precedence(
    maker: BidsMaker, installed_weights: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "named.safetensors"
    weights.touch()
    options = ("--sr-method", "srgan", "--recipe", "paper", "--vgg-weights", str(weights))
    text = notes(maker, *options)
    assert f"weights are loaded from {weights}." in text
    assert str(installed_weights) not in text


def test_training_settings_contain_the_weights_file(
    maker: BidsMaker, installed_weights: Path
) -> None:
    settings = settings_for(maker, "--sr-method", "srgan", "unet", "--recipe", "paper")
    planned_call = Analysis(settings=settings, plan=check(settings), version="0")
    files = {name: planned_call.make_training(name).vgg_weights for name in ("srgan", "unet")}
    assert files == {"srgan": installed_weights, "unet": None}
