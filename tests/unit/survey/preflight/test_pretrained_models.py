"""Models and methods that do not fit are refused before anything is written."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from data.calls import Cases, arguments, check_case, plan_for
from data.dataset import BidsMaker, snapshot

from bids_sr.cli.main import main
from bids_sr.config import SuperRes
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.survey.preflight import pretrained_models

CARD = {
    "method": "srgan",
    "recipe": "fast",
    "factor": [2.0, 2.0, 1.0],
    "contrast": "T2starw",
    "orientation": "I-S",
    "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
    "settings": {"edition": get_method("srgan").recipes["fast"].edition},
}
FORCED = ("--set", "superres.force=true")
CASES = Cases()


@cache
def weights() -> dict[str, torch.Tensor]:
    """Return untrained weights that fit the data set."""
    return get_method("srgan").recipes["fast"].build_generator(1, (2.0, 2.0, 1.0)).state_dict()


def save(maker: BidsMaker, state: dict[str, torch.Tensor] | None = None, **card: object) -> Path:
    """Save a model with its card."""
    path = maker.root.parent / "other"
    return save_model(path, weights() if state is None else state, {**CARD, **card})[0]


def use(path: Path, *options: str) -> list[str]:
    return ["--sr-method", "srgan", "--pretrained", str(path), *options]


def edit_card(path: Path, **changes: object) -> None:
    """Change the card of a saved model."""
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


# ---- methods


@CASES.refused("--sr-method srgan", "64 × 64", "--recipe fast", code="method")
def large_patches(maker: BidsMaker) -> list[str]:
    return ["--sr-method", "srgan", "--recipe", "paper"]


@CASES.refused("--sr-method resnet3d", "48 × 48", code="method")
def large_patches_in_3d(maker: BidsMaker) -> list[str]:
    return ["--sr-method", "resnet3d"]


@CASES.refused("sub-01_task-tap_bold.nii.gz", "tv", code="method")
def a_single_slice_in_3d(maker: BidsMaker) -> list[str]:
    maker.remove_pair()
    maker.bold(zooms=(6.0, 6.0, 24.0))
    return ["--sr-method", "tv", "--sr-factor", "2"]


@CASES.refused("sub-01_task-tap_bold.nii.gz", "srgan", "--pretrained MODEL", code="method")
def a_single_slice_without_held_out_slices(maker: BidsMaker) -> list[str]:
    maker.bold(zooms=(6.0, 6.0, 24.0))
    maker.star("sub-01_acq-lowres", (6.0, 6.0, 24.0))
    maker.star("sub-01_acq-highres", (3.0, 3.0, 24.0))
    return ["--sr-method", "srgan"]


# ---- models


@CASES.refused("other.safetensors", "other.json")
def weights_that_are_cut(maker: BidsMaker) -> list[str]:
    path = save(maker)
    path.write_bytes(path.read_bytes()[:-1])
    return use(path)


@CASES.refused("other.safetensors", "conv.weight", "1", "body.0.activation.weight")
def weights_of_another_network(maker: BidsMaker) -> list[str]:
    return use(save(maker, {"conv.weight": next(iter(weights().values()))}))


@CASES.refused("other.safetensors", "NaN")
def weights_that_are_not_finite(maker: BidsMaker) -> list[str]:
    return use(save(maker, {name: tensor * float("nan") for name, tensor in weights().items()}))


@CASES.refused("other.safetensors", "saved", "unmodified")
def an_edited_card(maker: BidsMaker) -> list[str]:
    path = save(maker)
    edit_card(path, orientation="R-L")
    return use(path, *FORCED)


@CASES.refused("other.safetensors", "method")
def a_card_with_a_path(maker: BidsMaker) -> list[str]:
    path = save(maker)
    edit_card(path, method="..os")
    return use(path)


@CASES.refused("other.safetensors", "3 x 3 x 4", "--set superres.force=true", code="method")
def a_model_of_another_resolution(maker: BidsMaker) -> list[str]:
    return use(save(maker, resolution={"lowres_mm": [3.0, 3.0, 4.0]}))


@CASES.refused("other.safetensors", "T1w", "bold", "--set superres.force=true", code="method")
def a_model_of_another_contrast(maker: BidsMaker) -> list[str]:
    return use(save(maker, contrast="T1w"))


@CASES.refused("other.safetensors", "R-L", "--set superres.force=true", code="method")
def a_model_of_another_orientation(maker: BidsMaker) -> list[str]:
    return use(save(maker, orientation="R-L"))


@CASES.refused("other.safetensors", "(2.0, 2.0, 1.0)", "(3.0, 3.0, 1.0)", code="method")
def a_model_of_another_factor(maker: BidsMaker) -> list[str]:
    """Force does not help: the factor of 2 x 2 is part of the weights."""
    maker.star("sub-01_acq-highres", (2.0, 2.0, 4.0))
    return use(save(maker), *FORCED)


@pytest.mark.parametrize("name", CASES)
def test_methods_and_models_that_do_not_fit_are_refused(name: str, maker: BidsMaker) -> None:
    check_case(CASES[name], maker)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"resolution": {"lowres_mm": [3.0, 3.0, 4.0]}}, FORCED),
        ({"contrast": "T1w"}, FORCED),
        ({}, ()),
    ],
)
def test_force_overrides_mismatches_of_the_image(
    change: dict[str, object], options: tuple[str, ...], maker: BidsMaker
) -> None:
    plan = plan_for(maker, *use(save(maker, **change), *options))
    assert plan.problems == ()
    assert "srgan" in plan.series


def test_model_files_are_not_unpickled(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    path, trace = save(maker), maker.root.parent / "run"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch %b'\ntR." % str(trace).encode())
    before = snapshot(maker.root.parent)
    assert main(arguments(maker, *use(path))) == 2
    assert snapshot(maker.root.parent) == before
    message = capsys.readouterr().err
    assert str(path) in message
    assert "Traceback" not in message


def test_an_unknown_method_is_refused_with_the_nearest_name(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(maker, "--sr-method", "resnet3")) == 2
    assert "'resnet3d'" in capsys.readouterr().err


def test_the_damaged_model_of_several_is_named(maker: BidsMaker) -> None:
    first = save(maker)
    first = first.rename(first.with_name("sound.safetensors"))
    first.with_name("other.json").rename(first.with_suffix(".json"))
    second = save(maker, method="vit")
    superres = SuperRes(method=("srgan", "vit"), pretrained=(first, second))
    (problem,) = pretrained_models.judge_pretrained(superres)
    assert problem.what == f"--pretrained {second}"
