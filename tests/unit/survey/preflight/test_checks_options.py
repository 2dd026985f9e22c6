"""Options for methods, guides, models and second pairs, and what a call plans for a data set."""

from __future__ import annotations

import configparser
import json
import shutil
import sys
from pathlib import Path

import pytest
from data.calls import about, arguments, only_run, plan_for, problem_of, settings_for
from data.dataset import EVENTS
from data.records import make_run, make_settings, make_table
from graphmaker import stage_minutes
from pages import ROOT

from bids_sr.cli.main import main
from bids_sr.config import SuperRes
from bids_sr.io.notices import UsageError
from bids_sr.survey.bids.inputs import HighresReference, Pair, Subject
from bids_sr.survey.bids.method_options import (
    find_vgg_weights,
    judge_options,
    series_of_run,
    uses_guide,
)
from bids_sr.survey.bids.pretrained_models import find_pretrained
from bids_sr.survey.notices import judge
from bids_sr.survey.preflight.method_checks import judge_methods
from bids_sr.survey.preflight.option_checks import OPTION_RULES, note_missing_features
from bids_sr.survey.preflight.run_model import choose_split
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.series_requests import Analysis

BOLD = "sub-01_task-tap_bold.nii.gz"
PAIR = Pair(highres=Path("high"), lowres=None, factor=(2.0, 2.0, 1.0))
NO_PAIR = ("acquired", "bspline", "zerofill", "sbl")


def model(folder, method, **card):
    """Save an untrained model with a card that fits the data set."""
    from bids_sr.sr.method import get_method
    from bids_sr.sr.models.model import save_model

    facts = get_method(method)
    default_card = {
        "method": method,
        "recipe": "fast",
        "factor": [2.0, 2.0, 1.0],
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
        "trained_on": facts.trained_on,
        "settings": {"edition": facts.recipes["fast"].edition},
    }
    state = facts.recipes["fast"].build_generator(1, (2.0, 2.0, 1.0)).state_dict()
    return save_model(folder / method, state, {**default_card, **card})[0]


# ---- methods of a run


@pytest.mark.parametrize(
    ("pair", "options", "series"),
    [
        (PAIR, [], ("acquired", "bspline", "zerofill", "srgan", "sbl")),
        (None, [], NO_PAIR),
        (None, ["--sr-method", "sbl", "--sr-factor", "2"], NO_PAIR),
        (None, ["--sr-method", "srgan", "sbl"], (*NO_PAIR[:3], "srgan", "sbl")),
    ],
)
def test_methods_that_need_a_pair_are_planned_if_there_is_one(pair, options, series):
    assert series_of_run(make_run(pair=pair), make_settings(*options).superres) == series


@pytest.mark.parametrize(
    ("pair", "truth", "methods", "baselines"),
    [
        (PAIR, None, ("auto",), set()),
        (PAIR, HighresReference(), ("auto",), {"inject", "ratio"}),
        (PAIR, None, ("auto", "inject"), {"inject"}),
        (PAIR, None, ("auto", "all"), {"inject", "ratio"}),
        (None, HighresReference(), ("auto",), set()),
    ],
)
def test_baselines_of_the_pair_need_a_reference_or_a_request(pair, truth, methods, baselines):
    series = series_of_run(make_run(pair=pair, truth=truth), SuperRes(method=methods))
    assert {"inject", "ratio"} & {*series} == baselines


def test_a_single_slice_can_be_super_resolved_in_plane():
    subject = Subject(label="01", t1w=(), runs=(make_run(zooms=(6.0, 6.0, 24.0)),))
    assert list(judge_methods(make_settings("--sr-method", "sbl"), [subject])) == []
    problem_of(list(judge_methods(make_settings("--sr-method", "tv"), [subject])), BOLD, "tv")


@pytest.mark.parametrize(
    ("guide", "pair", "is_used"),
    [("auto", PAIR, True), ("auto", None, False), ("none", PAIR, False)],
)
def test_the_guide_depends_on_the_pair_and_can_be_switched_off(guide, pair, is_used):
    assert uses_guide(make_settings("--set", f"sbl.guide={guide}"), make_run(pair=pair)) is is_used


# ---- models that are given


def test_a_given_model_is_used_by_its_method(tmp_path):
    superres = SuperRes(pretrained=(model(tmp_path, "srgan"), model(tmp_path, "vit")))
    assert [find_pretrained(superres, name) for name in ("srgan", "vit")] == list(
        superres.pretrained
    )
    assert find_pretrained(superres, "sbl") is None
    assert find_pretrained(SuperRes(), "srgan") is None
    assert find_pretrained(SuperRes(pretrained=(Path("nowhere.safetensors"),)), "srgan") is None


def test_a_model_of_no_selected_method_is_refused(tmp_path):
    file = model(tmp_path, "srgan")
    settings = make_settings("--sr-method", "sbl", "--pretrained", str(file))
    problem_of(list(judge_options(settings)), str(file), "srgan", code="option")
    second = file.with_name("second.safetensors")
    for suffix in (".safetensors", ".json"):
        shutil.copy(file.with_suffix(suffix), second.with_suffix(suffix))
    settings = make_settings("--sr-method", "srgan", "--pretrained", str(file), str(second))
    problem_of(list(judge_options(settings)), str(second), code="option")
    card = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | {"method": "guided"}))
    settings = make_settings("--pretrained", str(file))
    assert list(judge_options(settings)) == []
    problem_of(list(judge(OPTION_RULES, settings)), str(file), "guided")


def test_changes_of_the_recipe_do_not_apply_to_a_pretrained_model(tmp_path):
    options = ("--sr-method", "dcnet", "--pretrained", str(model(tmp_path, "dcnet")))
    change = "dcnet.batch=3"
    faults = list(judge(OPTION_RULES, make_settings(*options, "--set", change)))
    problem_of(faults, change, code="option")
    assert list(judge(OPTION_RULES, make_settings(*options))) == []


# ---- time


def test_time_depends_on_methods_recipes_and_models(maker):
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()

    def minutes(method, *options):
        return stage_minutes(settings_for(maker, "--sr-method", method, *options))["training"]

    assert minutes("circle") > 2 * minutes("ccnn3d")
    assert minutes("resnet3d", "--recipe", "paper") > 100 * minutes("resnet3d") > 0
    paper = minutes("srgan", "--recipe", "paper", "--vgg-weights", str(weights))
    trained = minutes("srgan")
    assert paper > 100 * trained
    assert trained > minutes("srgan", "--pretrained", str(model(maker.root.parent, "srgan"))) > 0


# ---- VGG-19 features


def test_a_loss_that_only_compares_vgg19_features_requires_weights():
    options = ["--sr-method", "srgan", "--recipe", "paper", "--set", "srgan.mse=0"]
    with pytest.raises(UsageError) as error:
        make_settings(*options)
    assert about([error.value.notice], "srgan.mse=0", "--vgg-weights")


@pytest.mark.parametrize(
    ("name", "recipe", "level"),
    [
        ("cpce", "paper", "warning"),
        ("srgan", "paper", "warning"),
        ("cpce", "fast", "note"),
        ("srgan", "fast", None),  # runs by default, with an optional term
        ("tv", "paper", None),  # has no such term
    ],
)
def test_missing_vgg19_features_are_reported_before_training(name, recipe, level, tmp_path):
    def reported(*options):
        settings = make_settings("--sr-method", name, "--recipe", recipe, *options)
        notices = note_missing_features(settings)
        return about(notices, f"--sr-method {name} --recipe {recipe}", "--vgg-weights")

    assert [notice.level for notice in reported()] == ([level] if level else [])
    weights = tmp_path / "vgg19.safetensors"
    weights.touch()
    assert reported("--vgg-weights", str(weights)) == []
    assert reported("--set", "superres.model_source=reuse", "superres.model_dir=models") == []
    if level == "warning":
        assert reported("--pretrained", str(model(tmp_path, name))) == []


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_vgg19_weights_are_used_by_recipes_with_features(maker, suffix):
    """The file is not opened before training."""
    file = maker.root.parent / f"vgg19.{suffix}"
    file.touch()
    methods = ("srgan", "cpce", "sbl", "unet")

    def weights(*options):
        """Return the weights of methods, which the plan and the training must agree on."""
        settings = settings_for(maker, "--sr-method", *methods, *options)
        plan = check(settings)
        used = {name: find_vgg_weights(settings.superres, name) for name in methods}
        analysis = Analysis(settings=settings, plan=plan, version="0")
        for name in ("srgan", "unet"):
            assert analysis.make_training(name).vgg_weights == used[name]
        return used

    assert weights() == dict.fromkeys(methods)
    expected = {"srgan": file, "cpce": file, "sbl": None, "unet": None}
    assert weights("--recipe", "paper", "--vgg-weights", str(file)) == expected


# ---- blocks


NAMES = ("thumb", "little", "ring", "thumb", "ring")


@pytest.mark.parametrize(
    ("rows", "is_split", "values"),
    [
        (EVENTS, True, None),
        (((2.0, 4.0, "thumb"), (8.0, 4.0, "little"), (14.0, 4.0, "thumb")), True, ["little"]),
        (
            tuple((2.0 + 5 * k, 2.0, name) for k, name in enumerate(NAMES)),
            True,
            ["little", "allWithoutLittle"],
        ),
        (((2.0, 4.0, "thumb"), (8.0, 4.0, "little")), False, []),
        (  # blocks outside the run do not count
            ((-20, 1, "thumb"), (2, 4, "thumb"), (8, 4, "little"), (28, 1, "little")),
            False,
            [],
        ),
    ],
)
def test_conditions_with_one_block_are_left_out_of_the_split(rows, is_split, values):
    choice = choose_split(make_run(), make_table(rows).make_events(), make_settings())
    assert choice.value is is_split
    assert [notice.level for notice in choice.notices] == ["note"] * (values is not None)
    assert about(choice.notices, "sub-01_task-tap", *(values or ())) == [*choice.notices]


# ---- echoes


def make_echoes(maker):
    for name in (BOLD, "sub-01_task-tap_bold.json"):
        maker.path(name, "func").unlink()
    for number, time in enumerate((0.012, 0.028, 0.044), 1):
        maker.bold(f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": time})


def test_echoes_are_combined_or_one_of_them_is_selected(maker):
    make_echoes(maker)
    plan = plan_for(maker)
    assert plan.problems == ()
    run = only_run(plan)
    assert run.stem == "sub-01_task-tap"
    assert "echo" not in run.entities
    assert [time for _, time in run.echoes] == [12.0, 28.0, 44.0]
    assert set(plan.subjects[0].images) >= {path for path, _ in run.echoes}
    assert len(about(plan.warnings, "sub-01_task-tap", "3", "12, 28, 44")) == 1
    assert next(iter(plan.contrasts.values()))["thumb"] == {"thumb": 1.0}
    run = only_run(plan_for(maker, "--echo-idx", "2"))
    assert (run.bold.name, run.echoes) == ("sub-01_task-tap_echo-2_bold.nii.gz", ())
    assert run.entities["echo"] == "2"


def test_echoes_are_only_combined_if_tedana_is_installed(maker, monkeypatch, capsys):
    """Refuse the call rather than skip runs; a single echo does not require tedana."""
    monkeypatch.setitem(sys.modules, "tedana", None)
    assert plan_for(maker).problems == ()
    make_echoes(maker)
    assert plan_for(maker, "--echo-idx", "2").problems == ()
    maker.subject("02")
    assert main(arguments(maker)) == 2
    message = capsys.readouterr().err
    assert "sub-01_task-tap_echo-1_bold.nii.gz" in message
    assert 'pip install "tedana>=26.0" six' in message
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extra = setup["options.extras_require"]["multi-echo"]
    assert "tedana >=26.0" in extra
    assert "six >=" in extra
    assert not (maker.root.parent / "out").exists()


# ---- other options


def test_a_dry_run_creates_no_database(maker):
    database = maker.root.parent / "database"
    plan_for(maker, "--bids-database-dir", str(database), "--dry-run")
    assert not database.exists()
    plan_for(maker, "--bids-database-dir", str(database))
    assert database.exists()


def test_options_without_effect_are_reported(maker):
    """Echo of a single-echo run, filter without matches."""
    filters = maker.root.parent / "filters.json"
    filters.write_text('{"t1w": {"acquisition": "none"}}')
    options = ["--echo-idx", "2", "--bids-filter-file", str(filters)]
    warnings = plan_for(maker, *options).warnings
    assert about(warnings, BOLD, "--echo-idx 2")
    assert about(warnings, "sub-01", "--bids-filter-file")
    assert plan_for(maker).warnings == ()
