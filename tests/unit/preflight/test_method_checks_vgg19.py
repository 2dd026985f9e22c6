"""Weights of VGG-19 in a plan: which file each training gets, and that the plan tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bidsmaker import BidsMaker

from bids_sr.bids import vgg_weights_for
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.preflight import check
from bids_sr.sr.method import get_method
from bids_sr.workflows.wanted import Planned, Wanted


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file where weights are kept; nothing opens it before training."""
    file = tmp_path / "vgg19.safetensors"
    file.touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(file))
    return file


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    places = [str(maker.root), str(maker.root.parent / "out"), "participant"]
    return parse_settings([*places, "--skip-bids-validation", *extra]).resolved(run_uuid="x")


def notes(maker: BidsMaker, *extra: str) -> str:
    plan = check(settings_for(maker, *extra))
    # images of this data set are smaller than a published patch, which is another matter
    assert not any("VGG-19" in problem.why for problem in plan.problems)
    return "\n".join(f"{note.what}: {note.why}" for note in plan.warnings)


def test_the_published_recipe_takes_what_is_kept_and_says_so(maker: BidsMaker, kept: Path) -> None:
    told = notes(maker, "--sr-method", "srgan", "cpce", "--recipe", "paper")
    for method in ("srgan", "cpce"):
        line = f"--sr-method {method} --recipe paper: VGG-19 weights are loaded from {kept}"
        assert f"{line} (stored by bids-sr-models vgg19)" in told


def test_the_default_recipe_never_takes_what_is_kept(maker: BidsMaker, kept: Path) -> None:
    assert "weights are loaded from" not in notes(maker, "--sr-method", "srgan", "cpce")
    superres = settings_for(maker, "--sr-method", "srgan", "cpce").superres
    assert vgg_weights_for(superres, "srgan") is None
    assert vgg_weights_for(superres, "cpce") is None


def test_of_two_methods_each_gets_the_weights_of_its_recipe(maker: BidsMaker, kept: Path) -> None:
    asked = ("--sr-method", "srgan", "cpce", "sbl", "unet", "--recipe", "paper-mse")
    superres = settings_for(maker, *asked).superres
    found = {name: vgg_weights_for(superres, name) for name in ("srgan", "cpce", "sbl", "unet")}
    # paper-mse is a recipe of srgan alone; the others take paper
    assert found == {"srgan": None, "cpce": kept, "sbl": None, "unet": None}


def test_a_named_file_wins(maker: BidsMaker, kept: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.safetensors"
    named.touch()
    asked = ("--sr-method", "srgan", "--recipe", "paper", "--vgg-weights", str(named))
    told = notes(maker, *asked)
    assert f"weights are loaded from {named}." in told
    assert str(kept) not in told


def test_a_file_of_torch_is_refused_with_the_command_that_converts_it(
    maker: BidsMaker, tmp_path: Path
) -> None:
    file = tmp_path / "vgg19-dcbb9e9d.pth"
    file.touch()
    asked = ("--sr-method", "srgan", "--recipe", "paper", "--vgg-weights", str(file))
    problems = check(settings_for(maker, *asked)).problems
    (remedy,) = (problem.remedy for problem in problems if problem.what == str(file))
    assert remedy == (
        f"Convert the torchvision weights with this command: bids-sr-models vgg19 {file}"
    )


def test_the_settings_of_a_models_training_name_its_file(maker: BidsMaker, kept: Path) -> None:
    settings = settings_for(maker, "--sr-method", "srgan", "cpce", "--recipe", "paper-mse")
    planned = Planned(settings=settings, plan=check(settings), version="0")
    files = {
        name: planned.training(Wanted(name=name, method=get_method(name))).vgg_weights
        for name in ("srgan", "cpce")
    }
    assert files == {"srgan": None, "cpce": kept}
