"""What options ask of methods, guides, models and second pairs, held against the data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from graphmaker import stage_minutes

from bids_sr.bids import entities_of, guide_of, pretrained_for
from bids_sr.cli.console import start_lines
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, SuperRes
from bids_sr.notices import Notice
from bids_sr.preflight import Plan, check, dry_run_text
from bids_sr.preflight.plan_text import _choice_text, choice_lines

PAIR = [f"sub-01_acq-{kind}_T2starw.nii.gz" for kind in ("highres", "lowres")]


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    line = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *extra,
    ]
    return parse_settings(line).resolved(run_uuid="x")


def planned(maker: BidsMaker, *extra: str) -> Plan:
    return check(settings_for(maker, *extra))


def no_pair(maker: BidsMaker) -> None:
    for name in PAIR:
        maker.path(name, "anat").unlink()


def second_pair(maker: BidsMaker, *, session: str = "", run: str = "_run-2") -> None:
    """Name the pair that there is run-1, and add another."""
    for name in PAIR:
        path = maker.path(name, "anat")
        if not session:
            path.rename(path.with_name(name.replace("_T2starw", "_run-1_T2starw")))
    maker.star(f"sub-01{session}_acq-highres{run}", (3.0, 3.0, 4.0))
    maker.star(f"sub-01{session}_acq-lowres{run}", (6.0, 6.0, 4.0))


def model(maker: BidsMaker, method: str, **card: object) -> str:
    """An untrained model of a method, whose card fits the data set."""
    from bids_sr.sr.method import get_method
    from bids_sr.sr.models.model import save_model
    from bids_sr.sr.variance.prior import VarianceMaps

    facts = get_method(method)
    if facts.variance is not None:
        state = VarianceMaps(None).state_dict()
    else:
        state = facts.recipes["fast"].build_generator(1, (2.0, 2.0, 1.0)).state_dict()
    fits = {
        "method": method,
        "recipe": "fast",
        "factor": [2.0, 2.0, 1.0],
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
        "trained_on": facts.trained_on,
    }
    return str(save_model(maker.root.parent / method, state, {**fits, **card})[0])


def test_sbl_needs_no_pair(maker: BidsMaker) -> None:
    no_pair(maker)
    plan = planned(maker, "--sr-method", "sbl", "--sr-factor", "2")
    assert plan.problems == ()
    assert plan.series == ("raw", "bspline", "zerofill", "sbl")


def test_without_a_pair_auto_takes_the_series_alone(maker: BidsMaker) -> None:
    no_pair(maker)
    settings = settings_for(maker)
    plan = check(settings)
    assert plan.problems == ()
    assert plan.series == ("raw", "bspline", "zerofill", "sbl")
    text = _choice_text(plan.subjects[0].runs[0], settings)
    assert text == (
        "sbl by 2×2×1 (srgan requires a T2*w pair, but no pair was found; default in-plane"
        " factor 2 because no pair or calibration run was found, slice thickness 4 mm; use"
        " --sr-factor to choose another factor)"
    )


def test_contrasts_of_many_conditions_are_told_beforehand(maker: BidsMaker) -> None:
    maker.events(rows=[(4.0 * k, 2.0, f"type{k % 4}") for k in range(7)])
    settings = settings_for(maker)
    plan = check(settings)
    told = dict(choice_lines(plan, settings))
    others = ", ".join(f"type{k}MinusOthers" for k in range(4))
    assert told["contrasts"] == f"type0, type1, type2, type3, all, {others}"
    assert "type1MinusOthers = type1 - mean of type0, type2, type3; type2M" in dry_run_text(
        plan, settings
    )
    assert any("type3MinusOthers" in each.why for each in start_lines(plan, settings))


def test_with_a_pair_auto_takes_both(maker: BidsMaker) -> None:
    settings = settings_for(maker)
    plan = check(settings)
    assert plan.series == ("raw", "bspline", "zerofill", "srgan", "sbl")
    text = _choice_text(plan.subjects[0].runs[0], settings)
    assert text == "srgan, sbl by 2×2×1 (factor from the T2*w pair)"


def test_a_pair_that_does_not_fit_is_told_with_auto(maker: BidsMaker) -> None:
    second_pair(maker)
    plan = planned(maker)
    assert plan.problems == ()
    assert "srgan" not in plan.series
    assert any(
        "pair is not used: several T2*-weighted pairs" in str(notice) for notice in plan.warnings
    )


def test_variance_maps_serve_a_single_slice(maker: BidsMaker) -> None:
    no_pair(maker)
    maker.bold(zooms=(6.0, 6.0, 24.0))
    assert planned(maker, "--sr-method", "sbl", "--sr-factor", "2").problems == ()


def test_without_a_pair_every_way_out_is_named(maker: BidsMaker) -> None:
    no_pair(maker)
    (problem,) = planned(maker, "--sr-method", "srgan", "sbl").problems
    assert "(srgan) require a pair" in problem.why
    assert "sbl" not in problem.why
    for way in ("--sr-method auto", "--retrospective", "--sr-method bspline zerofill"):
        assert way in problem.remedy
    assert planned(maker, "--retrospective").problems == ()


@pytest.mark.parametrize(
    ("asked", "pair", "kind"),
    [
        ("auto", True, "highres"),
        ("auto", False, "none"),
        ("highres", True, "highres"),
        ("none", True, "none"),
    ],
)
def test_whose_static_detail_is_added(asked: str, pair: bool, kind: str, maker: BidsMaker) -> None:
    if not pair:
        no_pair(maker)
    extra = ["--sr-method", "sbl", "--sr-factor", "2", "--guide", asked]
    plan = planned(maker, *extra)
    assert plan.problems == ()
    assert guide_of(settings_for(maker, *extra).superres, plan.subjects[0].runs[0]) == kind


def test_a_given_model_serves_its_own_method(maker: BidsMaker) -> None:
    superres = SuperRes(pretrained=(Path(model(maker, "srgan")), Path(model(maker, "vit"))))
    assert [pretrained_for(superres, name) for name in ("srgan", "vit")] == list(
        superres.pretrained
    )
    assert pretrained_for(superres, "sbl") is None
    assert pretrained_for(SuperRes(), "srgan") is None
    assert pretrained_for(SuperRes(pretrained=(Path("nowhere.safetensors"),)), "srgan") is None


def test_a_given_model_of_a_method_that_is_not_there_is_refused(maker: BidsMaker) -> None:
    file = Path(model(maker, "srgan"))
    card = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | {"method": "guided"}))
    problems = planned(maker, "--pretrained", str(file)).problems
    (told,) = [problem for problem in problems if "unknown method" in problem.why]
    assert str(file) in told.what
    assert not any("Add guided" in problem.remedy for problem in problems)


def test_a_given_model_saves_its_training(maker: BidsMaker) -> None:
    def minutes(*extra: str) -> float:
        return stage_minutes(settings_for(maker, *extra))["training"]

    assert minutes() > minutes("--pretrained", model(maker, "srgan")) > 0
    assert minutes("--n-ensemble", "3") == pytest.approx(3 * minutes(), rel=0.05)


def test_members_and_placebos_cost_what_their_method_does(maker: BidsMaker) -> None:
    def added(method: str, *options: str) -> float:
        alone, more = (
            stage_minutes(settings_for(maker, "--sr-method", method, *given))
            for given in ((), options)
        )
        return (
            more["super-resolution and baseline methods"]
            - alone["super-resolution and baseline methods"]
        )

    assert 0 < added("vit", "--n-ensemble", "3") < added("cpce", "--n-ensemble", "3")
    assert added("vit", "--null-checks") == 0, "it has no placebos"
    assert added("vit", "--n-ensemble", "3") == pytest.approx(
        2 * added("vit", "--n-ensemble", "2")
    )
    assert added("srgan", "--null-checks") > 2.9 * added("srgan", "--n-ensemble", "2") > 0


def test_the_first_pair_is_trained_on_and_the_second_scored(maker: BidsMaker) -> None:
    second_pair(maker)
    plan = planned(maker, "--pair-holdout")
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


def test_the_pair_of_the_own_session_is_trained_on(maker: BidsMaker) -> None:
    no_pair(maker)
    for session in ("a", "b"):
        maker.star(f"sub-01_ses-{session}_acq-highres", (3.0, 3.0, 4.0))
        maker.star(f"sub-01_ses-{session}_acq-lowres", (6.0, 6.0, 4.0))
        maker.bold(f"sub-01_ses-{session}_task-tap")
        maker.events(f"sub-01_ses-{session}_task-tap")
    for end in ("bold.nii.gz", "bold.json", "events.tsv"):
        maker.path(f"sub-01_task-tap_{end}", "func").unlink()
    plan = planned(maker, "--pair-holdout")
    assert plan.problems == ()
    found = [
        tuple(entities_of(each.highres)["session"] for each in (run.pair, run.holdout))
        for run in plan.subjects[0].runs
        if run.pair and run.holdout
    ]
    assert found == [("a", "b"), ("b", "a")]
    assert len(plan.subjects[0].holdouts) == 2


def test_repeats_stay_ambiguous_otherwise(maker: BidsMaker) -> None:
    second_pair(maker)
    (problem,) = planned(maker, "--sr-method", "srgan").problems
    assert "add --pair-holdout to train on the first" in problem.remedy
    assert planned(maker, "--pair-holdout").subjects[0].runs[0].holdout is not None


@dataclass(frozen=True, kw_only=True)
class Case:
    """Options that the data set cannot serve, and what the message has to hold."""

    spoil: Callable[[BidsMaker], list[str]]
    file: str
    reason: str
    fix: str


def _no_highres(maker: BidsMaker) -> list[str]:
    no_pair(maker)
    return ["--sr-method", "sbl", "--sr-factor", "2", "--guide", "highres"]


def _one_pair(maker: BidsMaker) -> list[str]:
    return ["--pair-holdout"]


def _no_pair_to_hold_out(maker: BidsMaker) -> list[str]:
    no_pair(maker)
    return ["--pair-holdout"]


def _filtered(maker: BidsMaker) -> list[str]:
    second_pair(maker)
    (maker.root.parent / "f.json").write_text('{"t2starw": {"run": 1}}')
    return ["--pair-holdout", "--bids-filter-file", "f.json"]


def _two_factors(maker: BidsMaker) -> list[str]:
    second_pair(maker)
    maker.star("sub-01_acq-highres_run-2", (2.0, 2.0, 4.0))
    return ["--pair-holdout"]


def _nothing_learned_from_a_pair(maker: BidsMaker) -> list[str]:
    second_pair(maker)
    return ["--pair-holdout", "--sr-method", "sbl"]


def _no_models_to_vary(maker: BidsMaker) -> list[str]:
    return ["--n-ensemble", "3", "--sr-method", "bspline"]


def test_other_networks_cost_more_than_srgan_and_those_of_the_papers_much_more(
    maker: BidsMaker,
) -> None:
    def minutes(*options: str) -> float:
        return stage_minutes(settings_for(maker, *options))["training"]

    assert minutes("--sr-method", "circle") > 2 * minutes("--sr-method", "ccnn3d")
    fast, both = (
        minutes("--sr-method", "resnet3d"),
        minutes("--sr-method", "resnet3d", "li-agnostic"),
    )
    assert 0 < fast < both
    assert minutes("--sr-method", "resnet3d", "--recipe", "paper") > 100 * fast


def _one_given_model(maker: BidsMaker) -> list[str]:
    return ["--n-ensemble", "3", "--sr-method", "srgan", "--pretrained", model(maker, "srgan")]


def test_the_published_run_without_features_ends_with_2_and_names_both_ways_out(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [
        str(maker.root),
        "out",
        "participant",
        "--skip-bids-validation",
        "--dry-run",
        "--sr-method",
        "srgan",
    ]
    assert main([*line, "--recipe", "paper"]) == 2
    told = capsys.readouterr().err
    for way_out in ("bids-sr-models vgg19", "--vgg-weights", "--recipe paper-mse"):
        assert way_out in told


def test_the_published_run_asks_for_features_only_where_it_trains_srgan(maker: BidsMaker) -> None:
    def refused(*options: str) -> bool:
        plan = planned(maker, "--recipe", "paper", *options)
        return any("requires VGG-19 features" in problem.why for problem in plan.problems)

    assert refused("--sr-method", "srgan", "sbl")
    assert not refused("--sr-method", "sbl", "cpce")
    assert not refused("--sr-method", "srgan", "--pretrained", model(maker, "srgan"))
    assert not refused("--sr-method", "srgan", "--model-source", "reuse", "--model-dir", "models")
    # its placebo is trained whatever the model is
    assert refused("--sr-method", "srgan", "--pretrained", model(maker, "srgan"), "--null-checks")
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()
    assert not refused("--sr-method", "srgan", "--vgg-weights", str(weights))


def test_the_published_run_says_what_it_is_and_how_the_variant_of_before_is_called(
    maker: BidsMaker,
) -> None:
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()
    given = ("--sr-method", "srgan", "--vgg-weights", str(weights))
    told = {
        kind: " ".join(map(str, planned(maker, "--recipe", kind, *given).warnings))
        for kind in ("paper", "fast")
    }
    assert "is now named --recipe paper-mse" in told["paper"]
    assert "Held-out accuracy is therefore not reported" in told["paper"]
    assert "paper-mse" not in told["fast"]


def test_the_published_run_with_a_time_limit_is_not_announced_without_it(maker: BidsMaker) -> None:
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()
    given = ("--sr-method", "srgan", "--recipe", "paper", "--vgg-weights", str(weights))
    told = " ".join(map(str, planned(maker, *given, "--max-train-minutes", "3").warnings))
    assert "trained as published until --max-train-minutes is reached" in told


@pytest.mark.parametrize(
    ("name", "recipe", "level", "words"),
    [
        ("cpce", "paper", "warning", "squared error replaces the features. The training"),
        ("srgan", "paper-mse", "warning", "will therefore differ from the paper."),
        ("cpce", "fast", "note", "This term is optional with --recipe fast"),
        ("srgan", "fast", None, ""),  # runs by default, with an optional term
        ("tv", "paper", None, ""),  # has no such term
    ],
)
def test_features_that_will_be_missing_are_reported_before_training(
    name: str, recipe: str, level: str | None, words: str, maker: BidsMaker
) -> None:
    def reported(*options: str) -> list[Notice]:
        plan = planned(maker, "--sr-method", name, "--recipe", recipe, *options)
        return [one for one in plan.warnings if "will not include VGG-19 features" in one.why]

    found = reported()
    assert [one.level for one in found] == ([level] if level else [])
    assert all(words in one.why for one in found)
    assert all(one.what == f"--sr-method {name} --recipe {recipe}" for one in found)
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()
    assert reported("--vgg-weights", str(weights)) == []
    assert reported("--model-source", "reuse", "--model-dir", "models") == []
    if name == "cpce":
        assert reported("--pretrained", model(maker, "cpce")) == []


def test_dry_run_and_start_print_that_features_will_be_missing(maker: BidsMaker) -> None:
    settings = settings_for(maker, "--sr-method", "cpce", "--recipe", "paper")
    plan = check(settings)
    words = "warning: --sr-method cpce --recipe paper: the loss will not include VGG-19"
    assert words in dry_run_text(plan, settings)
    first = next(start_lines(plan, settings))
    assert f"{first.level}: {first}".startswith(words)


def test_estimates_of_both_recipes_of_the_paper(maker: BidsMaker) -> None:
    weights = maker.root.parent / "vgg19.safetensors"
    weights.touch()

    def minutes(method: str, recipe: str) -> float:
        given = ("--sr-method", method, "--recipe", recipe, "--vgg-weights", str(weights))
        found = stage_minutes(settings_for(maker, *given))
        return found["training"] if method == "srgan" else sum(found.values())

    assert (
        minutes("srgan", "paper")
        > 1.2 * minutes("srgan", "paper-mse")
        > 100 * minutes("srgan", "fast")
    )
    for name in ("sbl", "cpce"):
        assert minutes(name, "paper-mse") == minutes(name, "paper")


def _two_models_of_one_method(maker: BidsMaker) -> list[str]:
    first = Path(model(maker, "srgan"))
    second = first.with_name("second.safetensors")
    for suffix in (".safetensors", ".json"):
        shutil.copy(first.with_suffix(suffix), second.with_suffix(suffix))
    return ["--sr-method", "srgan", "--pretrained", str(first), str(second)]


def _all_given_models(maker: BidsMaker) -> list[str]:
    given = [model(maker, name) for name in ("srgan", "sbl")]
    return ["--n-ensemble", "3", "--sr-method", "srgan", "sbl", "--pretrained", *given]


def _model_of_no_method(maker: BidsMaker) -> list[str]:
    return ["--sr-method", "sbl", "--pretrained", model(maker, "srgan")]


CASES = {
    "no pair to guide": Case(
        spoil=_no_highres, file="bold", reason="requires a T2*-weighted pair", fix="Omit --guide"
    ),
    "one pair": Case(spoil=_one_pair, file="bold", reason="found: 1)", fix="add a second pair"),
    "no pair": Case(
        spoil=_no_pair_to_hold_out,
        file="sub-01",
        reason="(--pair-holdout) require a pair",
        fix="Add the pair",
    ),
    "filtered": Case(spoil=_filtered, file="bold", reason="found: 1)", fix="does not exclude it"),
    "two factors": Case(
        spoil=_two_factors,
        file="bold",
        reason="have different super-resolution factors",
        fix="Omit --pair-holdout",
    ),
    "nothing learned from a pair": Case(
        spoil=_nothing_learned_from_a_pair,
        file="--pair-holdout",
        reason="this option evaluates methods that are trained on a T2*-weighted pair",
        fix="srgan",
    ),
    "no models": Case(
        spoil=_no_models_to_vary,
        file="--n-ensemble 3",
        reason="no method in --sr-method is trained",
        fix="add a trained method",
    ),
    "one given model": Case(
        spoil=_one_given_model,
        file="--n-ensemble 3",
        reason="no ensemble can be trained",
        fix="Omit one",
    ),
    "all given models": Case(
        spoil=_all_given_models,
        file="--n-ensemble 3",
        reason="no ensemble can be trained",
        fix="Omit one",
    ),
    "two models of one method": Case(
        spoil=_two_models_of_one_method,
        file="second.safetensors",
        reason="already specifies a model for this method",
        fix="run the program twice",
    ),
    "published without features": Case(
        spoil=lambda _: ["--recipe", "paper"],
        file="--sr-method srgan --recipe paper",
        reason="the VGG-19 weights were not found",
        fix=(
            "Run bids-sr-models vgg19 once to install the weights on this machine, or specify"
            " the weights with --vgg-weights. To train without VGG-19, use --recipe fast, or"
            " --recipe paper-mse"
        ),
    ),
    "model of no method": Case(
        spoil=_model_of_no_method,
        file="--pretrained",
        reason="the file contains a srgan model",
        fix="Add srgan",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_options_that_cannot_be_served_are_refused(name: str, maker: BidsMaker) -> None:
    case = CASES[name]
    problems = planned(maker, *case.spoil(maker)).problems
    fitting = [
        p
        for p in problems
        if case.file in p.what and case.reason in p.why and case.fix in p.remedy
    ]
    assert len(fitting) == 1, "\n".join(map(str, problems))


class TestBlocks:
    """A run whose blocks cannot be split is worked on, and what is left out is said."""

    def test_enough(self, maker: BidsMaker) -> None:
        assert planned(maker).unsplit == frozenset()

    def test_one_condition_has_one_block(self, maker: BidsMaker) -> None:
        maker.events(rows=((2.0, 4.0, "thumb"), (8.0, 4.0, "little"), (14.0, 4.0, "thumb")))
        plan = planned(maker)
        assert plan.unsplit == frozenset()
        assert any(
            "within the run and excludes these conditions: little (1 block)." in str(notice)
            for notice in plan.warnings
        )

    def test_none_has_two(self, maker: BidsMaker) -> None:
        maker.events(rows=((2.0, 4.0, "thumb"), (8.0, 4.0, "little")))
        plan = planned(maker)
        assert plan.problems == ()
        assert plan.unsplit == {maker.path("sub-01_task-tap_bold.nii.gz", "func")}
        assert any("Split-half analysis is skipped" in str(notice) for notice in plan.warnings)

    def test_blocks_outside_the_run_do_not_count(self, maker: BidsMaker) -> None:
        maker.events(
            rows=(
                (-20.0, 1.0, "thumb"),
                (2.0, 4.0, "thumb"),
                (8.0, 4.0, "little"),
                (28.0, 1.0, "little"),
            )
        )
        assert len(planned(maker).unsplit) == 1


def test_a_dry_run_names_the_truth(maker: BidsMaker) -> None:
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


def echoes(maker: BidsMaker, times: tuple[float, ...] = (0.012, 0.028, 0.044)) -> None:
    for name in ("sub-01_task-tap_bold.nii.gz", "sub-01_task-tap_bold.json"):
        maker.path(name, "func").unlink()
    for number, te in enumerate(times, 1):
        maker.bold(f"sub-01_task-tap_echo-{number}", sidecar={"EchoTime": te})


def test_echoes_are_one_run_that_is_combined(maker: BidsMaker) -> None:
    echoes(maker)
    plan = planned(maker)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.stem == "sub-01_task-tap"
    assert "echo" not in run.entities
    assert [te for _, te in run.echoes] == [12.0, 28.0, 44.0]
    assert set(plan.subjects[0].images) >= {path for path, _ in run.echoes}
    told = [
        str(notice)
        for notice in plan.warnings
        if "3 echoes (TE 12, 28, 44 ms) are combined" in str(notice)
    ]
    assert len(told) == 1
    assert "echo-1" not in told[0]
    assert next(iter(plan.contrasts.values()))["thumb"] == {"thumb": 1.0}


def test_one_echo_alone(maker: BidsMaker) -> None:
    echoes(maker)
    (run,) = planned(maker, "--echo-idx", "2").subjects[0].runs
    assert (run.bold.name, run.echoes) == ("sub-01_task-tap_echo-2_bold.nii.gz", ())
    assert run.entities["echo"] == "2"
    (problem,) = planned(maker, "--echo-idx", "4").problems
    assert "echo 4 was not found" in problem.why


def test_a_dry_run_makes_no_database(maker: BidsMaker) -> None:
    there = maker.root.parent / "database"
    planned(maker, "--bids-database-dir", str(there), "--dry-run")
    assert not there.exists()
    planned(maker, "--bids-database-dir", str(there))
    assert there.exists()


def test_options_without_effect_are_told(maker: BidsMaker) -> None:
    """An echo of a run that has one, processors that the machine lacks, a filter of the T1w."""
    filters = maker.root.parent / "filters.json"
    filters.write_text('{"t1w": {"acquisition": "none"}}')
    options = ["--echo-idx", "2", "--nprocs", "640", "--bids-filter-file", str(filters)]
    told = "\n".join(map(str, planned(maker, *options).warnings))
    assert "--echo-idx 2 has no effect because the run has a single echo" in told
    assert "--nprocs 640: this machine or job has" in told
    assert "No T1w image matches the filters in --bids-filter-file" in told
    told = "\n".join(map(str, planned(maker).warnings))
    assert "--echo-idx" not in told
    assert "--nprocs" not in told


@pytest.mark.parametrize("times", [(0.012, 12.0), (0.028, 0.012)])
def test_echo_times_that_cannot_be(maker: BidsMaker, times: tuple[float, ...]) -> None:
    echoes(maker, times)
    (problem,) = planned(maker).problems
    assert "must be a time in seconds" in problem.why or "must increase" in problem.why


def test_field_maps_are_named(maker: BidsMaker) -> None:
    assert not any("field maps" in str(notice) for notice in planned(maker).warnings)
    folder = maker.root / "sub-01" / "fmap"
    folder.mkdir()
    for name in ("sub-01_dir-AP_epi.nii.gz", "sub-01_dir-PA_epi.nii.gz"):
        (folder / name).write_bytes(b"")
    (notice,) = (each for each in planned(maker).warnings if "field maps" in each.why)
    assert "EPI with opposite phase encoding" in notice.why
    assert "-d fmriprep=DIR" in notice.why
