"""Models and methods that do not fit are refused before anything is written."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from data.calls import arguments, plan_for, problem_of
from data.dataset import BidsMaker, snapshot
from data.records import make_run, make_settings

from bids_sr.cli.main import main
from bids_sr.config import SuperRes
from bids_sr.io.notices import Notice
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.survey.bids.inputs import BoldRun, Pair, Subject
from bids_sr.survey.preflight.method_checks import judge_methods
from bids_sr.survey.preflight.pretrained_models import judge_pretrained

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
PAIR = Pair(highres=Path("high"), lowres=None, factor=(2.0, 2.0, 1.0))
FINE_PAIR = Pair(highres=Path("high"), lowres=None, factor=(3.0, 3.0, 1.0))
SLICE = (6.0, 6.0, 24.0)


@cache
def weights() -> dict[str, torch.Tensor]:
    """Return untrained weights that fit the run."""
    return get_method("srgan").recipes["fast"].build_generator(1, (2.0, 2.0, 1.0)).state_dict()


def save(folder: Path, state: dict[str, torch.Tensor] | None = None, **card: object) -> Path:
    """Save a model with its card."""
    state = weights() if state is None else state
    return save_model(folder / "other", state, {**CARD, **card})[0]


def use(path: Path, *options: str) -> list[str]:
    return ["--sr-method", "srgan", "--pretrained", str(path), *options]


def judge_run(run: BoldRun, *options: str) -> list[Notice]:
    """Return notices about the methods and models of a run."""
    subject = Subject(label="01", t1w=(), runs=(run,))
    return [*judge_methods(make_settings(*options), [subject])]


@pytest.mark.parametrize(
    ("run", "options", "values"),
    [
        (make_run(pair=PAIR), "srgan --recipe paper", ["64 × 64", "--recipe fast"]),
        (make_run(pair=PAIR), "resnet3d", ["48 × 48"]),
        (make_run(zooms=SLICE), "tv", ["tv"]),
        (make_run(zooms=SLICE, pair=PAIR), "srgan", ["srgan", "--pretrained MODEL"]),
    ],
)
def test_methods_that_do_not_fit_a_run_are_refused(
    run: BoldRun, options: str, values: list[str]
) -> None:
    faults = judge_run(run, "--sr-method", *options.split())
    problem_of(faults, "sub-01_task-tap_bold.nii.gz", *values)


# ---- models


@pytest.mark.parametrize(
    ("card", "run", "values", "is_forced"),
    [
        ({}, make_run(pair=PAIR), None, True),
        (
            {"resolution": {"lowres_mm": [3.0, 3.0, 4.0]}},
            make_run(pair=PAIR),
            ["3 x 3 x 4", "--set superres.force=true"],
            True,
        ),
        (
            {"contrast": "T1w"},
            make_run(pair=PAIR),
            ["T1w", "bold", "--set superres.force=true"],
            True,
        ),
        ({"orientation": "R-L"}, make_run(pair=PAIR), ["R-L", "--set superres.force=true"], True),
        # the factor of 2 x 2 is part of the weights
        (
            {},
            make_run(pair=FINE_PAIR, factor=FINE_PAIR.factor),
            ["(2.0, 2.0, 1.0)", "(3.0, 3.0, 1.0)"],
            False,
        ),
    ],
)
def test_models_of_other_images_are_refused_unless_forced(
    tmp_path: Path,
    card: dict[str, object],
    run: BoldRun,
    values: list[str] | None,
    *,
    is_forced: bool,
) -> None:
    options = use(save(tmp_path, **card))
    faults = judge_run(run, *options)
    assert len(faults) == (values is not None)
    if values:
        problem_of(faults, "other.safetensors", *values)
    assert (judge_run(run, *options, *FORCED) == []) is is_forced


def judge_model(path: Path) -> list[Notice]:
    return [*judge_pretrained(SuperRes(method=("srgan",), pretrained=(path,)))]


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (lambda: weights(), None),
        (
            lambda: {"conv.weight": next(iter(weights().values()))},
            ["conv.weight", "1", "body.0.activation.weight"],
        ),
        (lambda: {name: tensor * float("nan") for name, tensor in weights().items()}, ["NaN"]),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, state, values) -> None:
    faults = judge_model(save(tmp_path, state()))
    assert len(faults) == (values is not None)
    if values:
        problem_of(faults, "other.safetensors", *values)


@pytest.mark.parametrize(
    ("card", "values"),
    [({"orientation": "R-L"}, ["saved", "unmodified"]), ({"method": "..os"}, ["method"])],
)
def test_an_edited_card_is_refused(
    tmp_path: Path, card: dict[str, object], values: list[str]
) -> None:
    path = save(tmp_path)
    file = path.with_suffix(".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | card))
    problem_of(judge_model(path), "other.safetensors", *values)


def test_weights_that_are_cut_or_without_a_card_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    problem_of(judge_model(path), "other.safetensors", "other.json")
    path.with_suffix(".json").unlink()
    problem_of(judge_model(path), "other.safetensors")


def test_a_model_is_used_by_a_call_or_refused(maker: BidsMaker) -> None:
    folder = maker.root.parent
    plan = plan_for(maker, *use(save(folder)))
    assert plan.problems == ()
    assert "srgan" in plan.series
    problems = plan_for(maker, *use(save(folder, contrast="T1w"))).problems
    problem_of(problems, "other.safetensors", "T1w", code="method")


def test_model_files_are_not_unpickled(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    path, trace = save(maker.root.parent), maker.root.parent / "run"
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


def test_the_damaged_model_of_several_is_named(tmp_path: Path) -> None:
    first = save(tmp_path)
    first = first.rename(first.with_name("sound.safetensors"))
    first.with_name("other.json").rename(first.with_suffix(".json"))
    second = save(tmp_path, method="vit")
    superres = SuperRes(method=("srgan", "vit"), pretrained=(first, second))
    (problem,) = judge_pretrained(superres)
    assert problem.what == f"--pretrained {second}"
