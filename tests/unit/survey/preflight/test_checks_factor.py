"""Consistency of --sr-factor with pairs, references and models, and rejected combinations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data.calls import about, only_run, plan_for, problem_of, settings_for
from data.dataset import BidsMaker
from data.records import make_settings

from bids_sr.config import SuperRes
from bids_sr.io.notices import UsageError
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.survey.bids.method_options import judge_options
from bids_sr.survey.bids.pretrained_models import factor_of_models
from bids_sr.survey.preflight.plan_text import dry_run_text
from bids_sr.workflows.call_checks import check

THIN = ("--sr-factor", "2", "2", "2")
FORCED = ("--set", "superres.force=true")
MSE3D = ("--sr-method", "mse3d", "--recipe", "paper")
HIGH = "sub-01_acq-highres_T2starw.nii.gz"
ALL_3D = ("ccnn3d", "dip", "gan3d", "li", "li-agnostic", "mse3d", "resnet3d", "tv")


def factors(maker, *options):
    """Return the factors of the pair and of the run, None without pair."""
    plan = plan_for(maker, *options)
    assert plan.problems == ()
    run = only_run(plan)
    return None if run.pair is None else run.pair.factor, run.factor


def model(folder, factor, method="mse3d"):
    """Save an untrained model of a 3D method with a card that fits the run; return its path."""
    recipe = get_method(method).recipes["fast"]
    card = {
        "method": method,
        "recipe": "fast",
        "factor": list(factor),
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
        "settings": {"upsampled_by": recipe.upsampled_by, "edition": recipe.edition},
    }
    state = recipe.build_generator(1, factor).state_dict()
    name = f"{method}-{'-'.join(f'{f:g}' for f in factor)}"
    return str(save_model(folder / name, state, card)[0])


def test_thinner_slices_make_tv_the_default_method(maker):
    settings = settings_for(maker, *THIN, "--sr-method", "auto", "all")
    plan = check(settings)
    assert plan.problems == ()
    run = only_run(plan)
    assert run.factor == (2.0, 2.0, 2.0)
    assert plan.list_series(run) == (
        *("acquired", "bspline", "zerofill", "nearest", "linear", "lanczos", "tv"),
    )
    assert plan.estimate.sizes.high == pytest.approx(8 * 8 * 8 * 6 / 1e6)
    (line,) = [
        text for text in dry_run_text(plan, settings).splitlines() if "super-resolution:" in text
    ]
    for part in ("tv", "srgan", "sbl", "sdmod", "--sr-factor"):
        assert part in line


@pytest.mark.parametrize("method", ["sbl", "srgan", "sdmod", "unet"])
def test_a_slice_wise_method_is_refused_for_thinner_slices(tmp_path, method):
    option = f"--sr-method {method}"
    faults = judge_options(make_settings(*THIN, "--sr-method", method, "tv"))
    assert about(faults, option, "2 2 2", ", ".join(ALL_3D), "--sr-factor 2")
    file = model(tmp_path, (2.0, 2.0, 2.0))
    settings = make_settings("--sr-method", "mse3d", method, "--pretrained", file)
    (fault,) = about(judge_options(settings), option)
    assert about([fault], "", "--pretrained", "2 2 2")
    assert "--sr-factor" not in fault.remedy


@pytest.mark.parametrize("numbers", ["2 2", "0.5", "2 2 0.5", "1", "1 1 1", "2 2 2 2", "nan"])
def test_invalid_factors_are_refused(numbers):
    with pytest.raises(UsageError) as error:
        make_settings("--sr-factor", *numbers.split())
    assert error.value.notice.what.startswith("--sr-factor")
    assert error.value.notice.remedy


def test_a_factor_that_contradicts_the_reference_is_refused_unless_forced(maker):
    maker.remove_pair()
    reference = BidsMaker(maker.root / "derivatives" / "highres-reference")
    path = reference.bold(zooms=(3.0, 3.0, 4.0))
    assert only_run(plan_for(maker)).truth is not None
    problems = plan_for(maker, "--sr-factor", "1.5").problems
    problem_of(problems, str(path), "1.5×1.5×1", "--truth none", "--set superres.force=true")
    for options in (["1.5", *FORCED], ["1.5", "--truth", "none"], ["2", "2", "2"]):
        plan = plan_for(maker, "--sr-factor", *options)
        assert (plan.problems, only_run(plan).truth) == ((), None)


def test_the_factor_of_a_given_model_is_the_default_and_others_are_refused(maker):
    maker.remove_pair()
    file = model(maker.root.parent, (2.0, 2.0, 2.0))
    options = ("--sr-method", "mse3d", "--pretrained", file)
    for extra in ((), THIN):
        assert factors(maker, *options, *extra) == (None, (2.0, 2.0, 2.0))
    problems = plan_for(maker, *options, "--sr-factor", "2").problems
    assert about(problems, file, "(2.0, 2.0, 2.0)", "(2.0, 2.0, 1.0)", "--sr-factor 2 2 2")


def test_models_with_different_factors_have_no_common_factor(tmp_path):
    factor_2 = model(tmp_path, (2.0, 2.0, 2.0))
    factor_3 = model(tmp_path, (3.0, 3.0, 3.0), "resnet3d")

    def common_factor(*files, methods):
        return factor_of_models(SuperRes(method=methods, pretrained=tuple(map(Path, files))))

    assert common_factor(factor_2, factor_3, methods=("mse3d", "resnet3d")) is None
    assert common_factor(factor_2, factor_3, methods=("mse3d",)) == (2.0, 2.0, 2.0)
    assert common_factor(factor_2, methods=("tv",)) is None
    card = Path(factor_2).with_suffix(".json")
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "factors": [1.5, 2.0]}))
    assert common_factor(factor_2, methods=("mse3d",)) is None
    card.write_text("{")
    assert common_factor(factor_2, methods=("mse3d",)) is None


def test_a_reference_with_thinner_slices_is_used(maker):
    truth = BidsMaker(maker.root.parent / "truth")
    coarse = np.random.default_rng(0).integers(50, 1000, (8, 8, 6, 30)).astype("int16")
    maker.bold(data=coarse)
    path = truth.bold(zooms=(3.0, 3.0, 2.0), data=coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    plan = plan_for(maker, *THIN, "--truth", str(truth.root))
    assert plan.problems == ()
    assert only_run(plan).truth is not None
    problems = plan_for(maker, "--truth", str(truth.root)).problems
    problem_of(problems, str(path), "16×16×12", "16×16×6")
