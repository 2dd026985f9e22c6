"""Options for methods, guides, models and second pairs, checked against the dataset."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import stage_minutes

from bids_sr.bids import find_pretrained, uses_guide
from bids_sr.cli.console import make_start_lines
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, SuperRes
from bids_sr.notices import Notice
from bids_sr.preflight import Plan, check, dry_run_text
from bids_sr.preflight.plan_text import _describe_method, choice_lines

PAIR = [f"sub-01_acq-{kind}_T2starw.nii.gz" for kind in ("highres", "lowres")]


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    line = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *extra,
    ]
    return parse_settings(line).resolve(run_uuid="x")


def plan_call(maker: BidsMaker, *extra: str) -> Plan:
    return check(settings_for(maker, *extra))


def remove_pair(maker: BidsMaker) -> None:
    for name in PAIR:
        maker.path(name, "anat").unlink()


def add_second_pair(maker: BidsMaker) -> None:
    """Rename the existing pair to run-1 and add another pair."""
    for name in PAIR:
        path = maker.path(name, "anat")
        path.rename(path.with_name(name.replace("_T2starw", "_run-1_T2starw")))
    maker.star("sub-01_acq-highres_run-2", (3.0, 3.0, 4.0))
    maker.star("sub-01_acq-lowres_run-2", (6.0, 6.0, 4.0))


def select_images(maker: BidsMaker, query: dict[str, object]) -> list[str]:
    """Return the options that select T2*-weighted images by a filter file."""
    file = maker.root.parent / "filter.json"
    file.write_text(json.dumps({"t2starw": query}))
    return ["--bids-filter-file", str(file)]


def model(maker: BidsMaker, method: str, **card: object) -> str:
    """Save an untrained model with a card that fits the dataset; return its path."""
    from bids_sr.sr.method import get_method
    from bids_sr.sr.models.model import save_model
    from bids_sr.sr.prior_maps.prior import PriorMaps

    facts = get_method(method)
    if facts.variance is not None:
        state = PriorMaps(None).state_dict()
    else:
        state = facts.recipes["fast"].build_generator(1, (2.0, 2.0, 1.0)).state_dict()
    default_card = {
        "method": method,
        "recipe": "fast",
        "factor": [2.0, 2.0, 1.0],
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
        "trained_on": facts.trained_on,
    }
    return str(save_model(maker.root.parent / method, state, {**default_card, **card})[0])


def test_sbl_does_not_require_a_pair(maker: BidsMaker) -> None:
    remove_pair(maker)
    plan = plan_call(maker, "--sr-method", "sbl", "--sr-factor", "2")
    assert plan.problems == ()
    assert plan.series == ("acquired", "bspline", "zerofill", "sbl")


def test_auto_without_a_pair_chooses_methods_that_require_only_the_run(maker: BidsMaker) -> None:
    remove_pair(maker)
    settings = settings_for(maker)
    plan = check(settings)
    assert plan.problems == ()
    assert plan.series == ("acquired", "bspline", "zerofill", "sbl")
    text = _describe_method(plan.subjects[0].runs[0], settings)
    assert text == (
        "sbl by 2×2×1 (srgan requires a T2*w pair, but no pair was found; default in-plane"
        " factor 2 because no pair or calibration run was found, slice thickness 4 mm; use"
        " --sr-factor to choose another factor)"
    )


def test_contrasts_of_many_conditions_are_printed_before_processing(maker: BidsMaker) -> None:
    maker.events(rows=[(4.0 * k, 2.0, f"type{k % 4}") for k in range(7)])
    settings = settings_for(maker)
    plan = check(settings)
    choices = dict(choice_lines(plan, settings))
    others_contrasts = ", ".join(f"type{k}MinusOthers" for k in range(4))
    assert choices["contrasts"] == f"type0, type1, type2, type3, all, {others_contrasts}"
    assert "type1MinusOthers = type1 - mean of type0, type2, type3; type2M" in dry_run_text(
        plan, settings
    )
    assert any("type3MinusOthers" in line for line in make_start_lines(plan, settings))


def test_auto_with_a_pair_chooses_both_methods(maker: BidsMaker) -> None:
    settings = settings_for(maker)
    plan = check(settings)
    assert plan.series == ("acquired", "bspline", "zerofill", "srgan", "sbl")
    text = _describe_method(plan.subjects[0].runs[0], settings)
    assert text == "srgan, sbl by 2×2×1 (factor from the T2*w pair)"


def test_auto_reports_an_ambiguous_pair(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-finest", (2.0, 2.0, 4.0))
    plan = plan_call(maker)
    assert plan.problems == ()
    assert "srgan" not in plan.series
    assert any(
        "pair is not used: several T2*-weighted pairs" in str(notice) for notice in plan.warnings
    )


def test_sbl_processes_a_single_slice(maker: BidsMaker) -> None:
    remove_pair(maker)
    maker.bold(zooms=(6.0, 6.0, 24.0))
    assert plan_call(maker, "--sr-method", "sbl", "--sr-factor", "2").problems == ()


def test_error_of_a_missing_pair_names_all_alternatives(maker: BidsMaker) -> None:
    remove_pair(maker)
    (problem,) = plan_call(maker, "--sr-method", "srgan", "sbl").problems
    assert "(srgan) require a pair" in problem.why
    assert "sbl" not in problem.why
    for option in ("--sr-method auto", "--retrospective", "--sr-method bspline zerofill"):
        assert option in problem.remedy
    assert plan_call(maker, "--retrospective").problems == ()


@pytest.mark.parametrize(
    ("guide", "pair", "is_used"),
    [("auto", True, True), ("auto", False, False), ("none", True, False)],
)
def test_the_guide_depends_on_the_pair_and_can_be_switched_off(
    guide: str, pair: bool, is_used: bool, maker: BidsMaker
) -> None:
    if not pair:
        remove_pair(maker)
    extra = ["--sr-method", "sbl", "--sr-factor", "2", "--set", f"sbl.guide={guide}"]
    plan = plan_call(maker, *extra)
    assert plan.problems == ()
    assert uses_guide(settings_for(maker, *extra), plan.subjects[0].runs[0]) is is_used


def test_a_given_model_is_used_by_its_method(maker: BidsMaker) -> None:
    superres = SuperRes(pretrained=(Path(model(maker, "srgan")), Path(model(maker, "vit"))))
    assert [find_pretrained(superres, name) for name in ("srgan", "vit")] == list(
        superres.pretrained
    )
    assert find_pretrained(superres, "sbl") is None
    assert find_pretrained(SuperRes(), "srgan") is None
    assert find_pretrained(SuperRes(pretrained=(Path("nowhere.safetensors"),)), "srgan") is None


def test_a_given_model_of_an_unknown_method_is_rejected(maker: BidsMaker) -> None:
    file = Path(model(maker, "srgan"))
    card = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | {"method": "guided"}))
    problems = plan_call(maker, "--pretrained", str(file)).problems
    (match,) = [problem for problem in problems if "unknown method" in problem.why]
    assert str(file) in match.what
    assert not any("Add guided" in problem.remedy for problem in problems)


def test_a_given_model_saves_training_time(maker: BidsMaker) -> None:
    def minutes(*extra: str) -> float:
        return stage_minutes(settings_for(maker, *extra))["training"]

    assert minutes() > minutes("--pretrained", model(maker, "srgan")) > 0


def test_the_time_of_negative_controls_depends_on_the_method(maker: BidsMaker) -> None:
    def added(method: str, *options: str) -> float:
        without_options, with_options = (
            stage_minutes(settings_for(maker, "--sr-method", method, *extra))
            for extra in ((), options)
        )
        return (
            with_options["super-resolution and baseline methods"]
            - without_options["super-resolution and baseline methods"]
        )

    assert added("vit", "--null-checks") == 0, "vit has no negative controls"
    assert added("srgan", "--null-checks") > 0


def test_models_are_trained_on_the_first_pair_and_evaluated_on_the_second(
    maker: BidsMaker,
) -> None:
    add_second_pair(maker)
    plan = plan_call(maker)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.holdout is not None
    assert (run.pair.highres.name, run.holdout.highres.name) == tuple(
        f"sub-01_acq-highres_run-{number}_T2starw.nii.gz" for number in (1, 2)
    )
    assert run.holdout.lowres is not None
    assert plan.subjects[0].pairs == (run.pair,)
    assert plan.subjects[0].holdouts == {run.pair: run.holdout}
    assert any("trained on sub-01_acq-highres_run-1" in str(notice) for notice in plan.warnings)


def test_a_third_pair_is_not_used(maker: BidsMaker) -> None:
    add_second_pair(maker)
    for resolution, mm in (("highres", 3.0), ("lowres", 6.0)):
        maker.star(f"sub-01_acq-{resolution}_run-10", (mm, mm, 4.0))
    plan = plan_call(maker)
    (run,) = plan.subjects[0].runs
    assert run.holdout is not None
    assert run.holdout.highres.name == "sub-01_acq-highres_run-2_T2starw.nii.gz"
    assert any("has 3 T2*-weighted pairs" in str(notice) for notice in plan.warnings)


def test_only_the_first_pair_is_used_if_no_method_is_trained_on_pairs(maker: BidsMaker) -> None:
    add_second_pair(maker)
    plan = plan_call(maker, "--sr-method", "sbl")
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.pair.highres.name == "sub-01_acq-highres_run-1_T2starw.nii.gz"
    assert run.holdout is None
    assert any("only sub-01_acq-highres_run-1" in str(notice) for notice in plan.warnings)


def test_a_filter_file_selects_one_of_two_pairs(maker: BidsMaker) -> None:
    add_second_pair(maker)
    (run,) = plan_call(maker, *select_images(maker, {"run": 2})).subjects[0].runs
    assert run.pair is not None
    assert run.pair.highres.name == "sub-01_acq-highres_run-2_T2starw.nii.gz"
    assert run.holdout is None


def test_a_pair_of_another_session_is_not_held_out(maker: BidsMaker) -> None:
    remove_pair(maker)
    for session in ("a", "b"):
        maker.star(f"sub-01_ses-{session}_acq-highres", (3.0, 3.0, 4.0))
        maker.star(f"sub-01_ses-{session}_acq-lowres", (6.0, 6.0, 4.0))
        maker.bold(f"sub-01_ses-{session}_task-tap")
        maker.events(f"sub-01_ses-{session}_task-tap")
    for end in ("bold.nii.gz", "bold.json", "events.tsv"):
        maker.path(f"sub-01_task-tap_{end}", "func").unlink()
    plan = plan_call(maker)
    assert plan.problems == ()
    assert len(plan.subjects[0].pairs) == 2
    assert plan.subjects[0].holdouts == {}


def test_a_retrospective_experiment_uses_both_pairs(maker: BidsMaker) -> None:
    add_second_pair(maker)
    assert plan_call(maker, "--retrospective").problems == ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """Options that do not fit the dataset, and required parts of the message."""

    spoil: Callable[[BidsMaker], list[str]]
    file: str
    reason: str
    fix: str


def _two_high_resolutions(maker: BidsMaker) -> list[str]:
    maker.star("sub-01_acq-finest", (2.0, 2.0, 4.0))
    return ["--sr-method", "srgan"]


def _repeated_high_resolution(maker: BidsMaker) -> list[str]:
    maker.star("sub-01_acq-highres_run-2", (3.0, 3.0, 4.0))
    return ["--sr-method", "srgan"]


def _repeated_low_resolution(maker: BidsMaker) -> list[str]:
    maker.star("sub-01_acq-lowres_run-2", (6.0, 6.0, 4.0))
    return ["--sr-method", "srgan"]


def _two_factors(maker: BidsMaker) -> list[str]:
    add_second_pair(maker)
    maker.star("sub-01_acq-highres_run-2", (2.0, 2.0, 4.0))
    return ["--sr-method", "srgan"]


def _swapped_second_pair(maker: BidsMaker) -> list[str]:
    add_second_pair(maker)
    maker.star("sub-01_acq-highres_run-2", (6.0, 6.0, 4.0))
    maker.star("sub-01_acq-lowres_run-2", (3.0, 3.0, 4.0))
    return ["--sr-method", "srgan"]


def test_training_times_of_networks_and_recipes(
    maker: BidsMaker,
) -> None:
    def minutes(*options: str) -> float:
        return stage_minutes(settings_for(maker, *options))["training"]

    assert minutes("--sr-method", "circle") > 2 * minutes("--sr-method", "ccnn3d")
    fast, fast_and_agnostic = (
        minutes("--sr-method", "resnet3d"),
        minutes("--sr-method", "resnet3d", "li-agnostic"),
    )
    assert 0 < fast < fast_and_agnostic
    assert minutes("--sr-method", "resnet3d", "--recipe", "paper") > 100 * fast


def test_a_loss_that_only_compares_vgg19_features_requires_weights(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [str(maker.root), "out", "participant", "--skip-bids-validation", "--dry-run"]
    options = ["--sr-method", "srgan", "--recipe", "paper", "--set", "srgan.mse=0"]
    assert main([*line, *options]) == 2
    message = capsys.readouterr().err
    assert "--set: srgan.mse=0" in message
    assert "--vgg-weights" in message


def test_the_published_recipe_reports_its_properties(maker: BidsMaker) -> None:
    def warnings(recipe: str, *options: str) -> str:
        options = ("--sr-method", "srgan", "--recipe", recipe, *options)
        return " ".join(map(str, plan_call(maker, *options).warnings))

    assert "Held-out accuracy is therefore not reported" in warnings("paper")
    assert "Held-out accuracy" not in warnings("fast")
    limit = ("--max-train-minutes", "3")
    assert "early before --max-train-minutes is reached" in warnings("paper", *limit)


@pytest.mark.parametrize(
    ("name", "recipe", "level", "message"),
    [
        ("cpce", "paper", "warning", "squared error replaces the features. The training"),
        ("srgan", "paper", "warning", "squared error replaces the features. The training"),
        ("cpce", "fast", "note", "This term is optional with --recipe fast"),
        ("srgan", "fast", None, ""),  # runs by default, with an optional term
        ("tv", "paper", None, ""),  # has no such term
    ],
)
def test_missing_vgg19_features_are_reported_before_training(
    name: str, recipe: str, level: str | None, message: str, maker: BidsMaker
) -> None:
    def reported(*options: str) -> list[Notice]:
        plan = plan_call(maker, "--sr-method", name, "--recipe", recipe, *options)
        return [
            notice for notice in plan.warnings if "will not include VGG-19 features" in notice.why
        ]

    notices = reported()
    assert [notice.level for notice in notices] == ([level] if level else [])
    assert all(message in notice.why for notice in notices)
    assert all(notice.what == f"--sr-method {name} --recipe {recipe}" for notice in notices)
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()
    assert reported("--vgg-weights", str(weights)) == []
    assert reported("--set", "superres.model_source=reuse", "superres.model_dir=models") == []
    if name == "cpce":
        given_model = ("--pretrained", model(maker, "cpce"))
        assert reported(*given_model) == []
    if recipe == "paper" and name == "srgan":
        # the negative control is trained even with a given model
        given_model = ("--pretrained", model(maker, "srgan"))
        assert reported(*given_model) == []
        assert len(reported(*given_model, "--null-checks")) == 1


def test_dry_run_and_start_report_missing_vgg19_features(maker: BidsMaker) -> None:
    settings = settings_for(maker, "--sr-method", "cpce", "--recipe", "paper")
    plan = check(settings)
    message = "warning: --sr-method cpce --recipe paper: the loss will not include VGG-19"
    assert message in dry_run_text(plan, settings)
    first = next(make_start_lines(plan, settings))
    level, text = first.split(maxsplit=1)
    assert f"{level}: {' '.join(text.split())}".startswith(message)


def test_training_times_of_the_recipes_of_the_paper(maker: BidsMaker) -> None:
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()

    def minutes(method: str, recipe: str) -> float:
        options = ("--sr-method", method, "--recipe", recipe, "--vgg-weights", str(weights))
        stages = stage_minutes(settings_for(maker, *options))
        return stages["training"] if method == "srgan" else sum(stages.values())

    assert minutes("srgan", "paper") > 100 * minutes("srgan", "fast")


def _two_models_of_one_method(maker: BidsMaker) -> list[str]:
    first = Path(model(maker, "srgan"))
    second = first.with_name("second.safetensors")
    for suffix in (".safetensors", ".json"):
        shutil.copy(first.with_suffix(suffix), second.with_suffix(suffix))
    return ["--sr-method", "srgan", "--pretrained", str(first), str(second)]


def _model_of_no_method(maker: BidsMaker) -> list[str]:
    return ["--sr-method", "sbl", "--pretrained", model(maker, "srgan")]


CASES = {
    "two high resolutions": Case(
        spoil=_two_high_resolutions,
        file="bold",
        reason="sub-01_acq-finest_T2starw.nii.gz (2×2×4 mm)",
        fix='--bids-filter-file and {"t2starw": {"acquisition": ["LABEL", "LABEL"]}}',
    ),
    "repeated high resolution": Case(
        spoil=_repeated_high_resolution,
        file="bold",
        reason="sub-01_acq-highres_run-2_T2starw.nii.gz (3×3×4 mm)",
        fix='{"t2starw": {"run": 1}}',
    ),
    "repeated low resolution": Case(
        spoil=_repeated_low_resolution,
        file="bold",
        reason="sub-01_acq-lowres_run-2_T2starw.nii.gz (6×6×4 mm)",
        fix='{"t2starw": {"run": 1}}',
    ),
    "two factors": Case(
        spoil=_two_factors,
        file="bold",
        reason="sub-01_acq-highres_run-2_T2starw.nii.gz (2×2×4 mm)",
        fix='{"t2starw": {"run": 1}}',
    ),
    "swapped second pair": Case(
        spoil=_swapped_second_pair,
        file="acq-highres_run-2",
        reason="images are swapped",
        fix="Swap the acq- labels",
    ),
    "two models of one method": Case(
        spoil=_two_models_of_one_method,
        file="second.safetensors",
        reason="already specifies a model for this method",
        fix="run the program twice",
    ),
    "model of no method": Case(
        spoil=_model_of_no_method,
        file="--pretrained",
        reason="the file contains a srgan model",
        fix="Add srgan",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_options_that_do_not_fit_the_dataset_are_rejected(name: str, maker: BidsMaker) -> None:
    case = CASES[name]
    problems = plan_call(maker, *case.spoil(maker)).problems
    matches = [
        p
        for p in problems
        if case.file in p.what and case.reason in p.why and case.fix in p.remedy
    ]
    assert len(matches) == 1, "\n".join(map(str, problems))


class TestBlocks:
    """A run whose blocks cannot be split is processed; skipped analyses are reported."""

    def test_runs_with_enough_blocks_are_split(self, maker: BidsMaker) -> None:
        assert plan_call(maker).unsplit == frozenset()

    def test_a_condition_with_a_single_block_is_excluded(self, maker: BidsMaker) -> None:
        maker.events(rows=((2.0, 4.0, "thumb"), (8.0, 4.0, "little"), (14.0, 4.0, "thumb")))
        plan = plan_call(maker)
        assert plan.unsplit == frozenset()
        (notice,) = [str(notice) for notice in plan.warnings if "split-half" in str(notice)]
        assert "(little: one block)" in notice
        assert notice.endswith("are not tested.")

    def test_contrasts_without_an_excluded_condition_are_named(self, maker: BidsMaker) -> None:
        names = ("thumb", "little", "ring", "thumb", "ring")
        maker.events(rows=tuple((2.0 + 5 * k, 2.0, name) for k, name in enumerate(names)))
        plan = plan_call(maker)
        (notice,) = [str(notice) for notice in plan.warnings if "split-half" in str(notice)]
        assert "(little: one block)" in notice
        assert "allWithoutLittle" in notice

    def test_a_run_without_repeated_blocks_is_not_split(self, maker: BidsMaker) -> None:
        maker.events(rows=((2.0, 4.0, "thumb"), (8.0, 4.0, "little")))
        plan = plan_call(maker)
        assert plan.problems == ()
        assert plan.unsplit == {maker.path("sub-01_task-tap_bold.nii.gz", "func")}
        assert any("Split-half analysis is skipped" in str(notice) for notice in plan.warnings)

    def test_blocks_outside_the_run_are_ignored(self, maker: BidsMaker) -> None:
        maker.events(
            rows=(
                (-20.0, 1.0, "thumb"),
                (2.0, 4.0, "thumb"),
                (8.0, 4.0, "little"),
                (28.0, 1.0, "little"),
            )
        )
        assert len(plan_call(maker).unsplit) == 1


def test_a_dry_run_names_the_reference(maker: BidsMaker) -> None:
    truth = BidsMaker(maker.root.parent / "truth")
    truth.bold(zooms=(3.0, 3.0, 4.0))
    truth.image(
        "sub-01_task-tap_res-hr_contrast-thumb_stat-effect_desc-truth_statmap.nii.gz",
        "func",
        (3.0, 3.0, 4.0),
    )
    settings = settings_for(maker, "--truth", str(truth.root))
    text = dry_run_text(check(settings), settings)
    assert (
        f"high-resolution reference: sub-01_task-tap_bold.nii.gz, effect of thumb in {truth.root}"
        in text
    )


def make_echoes(maker: BidsMaker, times: tuple[float, ...] = (0.012, 0.028, 0.044)) -> None:
    for name in ("sub-01_task-tap_bold.nii.gz", "sub-01_task-tap_bold.json"):
        maker.path(name, "func").unlink()
    for number, te in enumerate(times, 1):
        maker.bold(f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": te})


def test_echoes_are_combined_into_a_single_run(maker: BidsMaker) -> None:
    make_echoes(maker)
    plan = plan_call(maker)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.stem == "sub-01_task-tap"
    assert "echo" not in run.entities
    assert [te for _, te in run.echoes] == [12.0, 28.0, 44.0]
    assert set(plan.subjects[0].images) >= {path for path, _ in run.echoes}
    notes = [
        str(notice)
        for notice in plan.warnings
        if "3 echoes (TE 12, 28, 44 ms) are combined" in str(notice)
    ]
    assert len(notes) == 1
    assert "echo-1" not in notes[0]
    assert next(iter(plan.contrasts.values()))["thumb"] == {"thumb": 1.0}


def test_a_single_echo_can_be_selected(maker: BidsMaker) -> None:
    make_echoes(maker)
    (run,) = plan_call(maker, "--echo-idx", "2").subjects[0].runs
    assert (run.bold.name, run.echoes) == ("sub-01_task-tap_echo-2_bold.nii.gz", ())
    assert run.entities["echo"] == "2"
    (problem,) = plan_call(maker, "--echo-idx", "4").problems
    assert "echo 4 was not found" in problem.why


def test_echoes_are_only_combined_if_tedana_is_installed(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refuse the call rather than skip runs; a single echo does not require tedana."""
    monkeypatch.setitem(sys.modules, "tedana", None)
    output_dir = maker.root.parent / "out"
    line = [str(maker.root), str(output_dir), "participant", "--skip-bids-validation"]
    assert main([*line, "--dry-run"]) == 0
    make_echoes(maker)
    assert main([*line, "--echo-idx", "2", "--dry-run"]) == 0
    maker.subject("02")
    for extra in (["--dry-run"], []):
        capsys.readouterr()
        assert main([*line, *extra]) == 2
        message = capsys.readouterr().err
        assert "sub-01_task-tap_echo-1_bold.nii.gz" in message
        assert 'pip install "bids-sr[multi-echo]"' in message
        assert not output_dir.exists()


def test_a_dry_run_creates_no_database(maker: BidsMaker) -> None:
    database = maker.root.parent / "database"
    plan_call(maker, "--bids-database-dir", str(database), "--dry-run")
    assert not database.exists()
    plan_call(maker, "--bids-database-dir", str(database))
    assert database.exists()


def test_options_without_effect_are_reported(maker: BidsMaker) -> None:
    """Echo of a single-echo run, more processors than available, filter without matches."""
    filters = maker.root.parent / "filters.json"
    filters.write_text('{"t1w": {"acquisition": "none"}}')
    options = ["--echo-idx", "2", "--nprocs", "640", "--bids-filter-file", str(filters)]
    warnings = "\n".join(map(str, plan_call(maker, *options).warnings))
    assert "--echo-idx 2 has no effect because the run has a single echo" in warnings
    assert "--nprocs 640: this machine or job has" in warnings
    assert "No T1w image matches the filters in --bids-filter-file" in warnings
    warnings = "\n".join(map(str, plan_call(maker).warnings))
    assert "--echo-idx" not in warnings
    assert "--nprocs" not in warnings


@pytest.mark.parametrize("times", [(0.012, 12.0), (0.028, 0.012)])
def test_invalid_echo_times_are_rejected(maker: BidsMaker, times: tuple[float, ...]) -> None:
    make_echoes(maker, times)
    (problem,) = plan_call(maker).problems
    assert "must be a time in seconds" in problem.why or "must increase" in problem.why


def test_unused_field_maps_are_reported(maker: BidsMaker) -> None:
    assert not any("field maps" in str(notice) for notice in plan_call(maker).warnings)
    folder = maker.root / "sub-01" / "fmap"
    folder.mkdir()
    for name in ("sub-01_dir-AP_epi.nii.gz", "sub-01_dir-PA_epi.nii.gz"):
        (folder / name).write_bytes(b"")
    (notice,) = (warning for warning in plan_call(maker).warnings if "field maps" in warning.why)
    assert "EPI with opposite phase encoding" in notice.why
    assert "-d fmriprep=DIR" in notice.why
