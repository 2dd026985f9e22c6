"""Test ``--set``: changes are read from command line and settings file, checked, and passed only
to the step of their method.
"""

from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph, stage_minutes

from bids_sr.boilerplate import HERE
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, UsageError
from bids_sr.config.settings import analysis_digest
from bids_sr.preflight import check
from bids_sr.preflight.plan_text import dry_run_text
from bids_sr.sr.models.card import read_card
from bids_sr.sr.recipe_changes import RecipeChange
from bids_sr.steps.training import train_on_volumes

CALL = ["in", "out", "participant", "--sr-method", "tv", "unet"]
TV = RecipeChange(method="tv", field="tv", value=0.02)
UNET = RecipeChange(method="unet", field="filters", value=8)


def test_changes_accumulate_and_are_stored_in_the_settings_file(tmp_path: Path) -> None:
    settings = parse_settings([*CALL, "--set", "tv.tv=0.02", "--set", "unet.filters=8"])
    assert settings.superres.recipe_changes == (TV, UNET)
    in_one_option = parse_settings([*CALL, "--set", "tv.tv=.02", "unet.filters=8"])
    assert in_one_option == settings
    assert 'recipe_changes = ["tv.tv=0.02", "unet.filters=8"]' in settings.to_toml()
    file = tmp_path / "settings.toml"
    file.write_text(settings.to_toml())
    assert Settings.from_toml(file) == settings
    assert settings.resolve(run_uuid="x").superres.recipe_changes == (TV, UNET)
    restored = parse_settings(["in", "out", "participant", "--config-file", str(file)])
    assert restored.superres.recipe_changes == (TV, UNET)
    assert any("recipe_changes=tv.tv=0.02 unet.filters=8*" in line for line in settings.summary())


def test_the_digest_does_not_depend_on_the_order_of_changes() -> None:
    first = parse_settings([*CALL, "--set", "tv.tv=0.02", "unet.filters=8"])
    reordered = parse_settings([*CALL, "--set", "unet.filters=8", "tv.tv=0.02"])
    assert analysis_digest(first) == analysis_digest(reordered)


@pytest.mark.parametrize(
    ("change", "reason", "fix"),
    [
        ("tv.tv", "METHOD.FIELD=VALUE", "Write, for example, tv.tv=0.02."),
        ("tv.tv=-1", "from 0 to 100", "Specify a value in this range."),
        ("tv.tvv=1", "expected one of tv, squared_tv, filters", "Did you mean tv?"),
        ("li.mae=1", "not run by this command (selected methods: tv, unet)", "Add --sr-method li"),
        ("sbl.rounds=8", "not run by this command", "Add --sr-method sbl"),
    ],
)
def test_invalid_changes_are_rejected_with_option_reason_and_fix(
    change: str, reason: str, fix: str
) -> None:
    _check_rejected(CALL, change, reason, fix)


@pytest.mark.parametrize(
    ("change", "reason", "fix"),
    [
        ("sbl.tv=1", "sbl has no setting 'tv'; expected one of noise, rounds", "Choose one"),
        ("sbl.round=1", "expected one of noise, rounds", "Did you mean rounds?"),
        ("sbl.rounds=0", "from 1 to 100", "Specify a value in this range."),
        ("sbl.draws=9.5", "must be a whole number", "Specify a whole number from 8 to 10000"),
        ("sbl.fwhm=3", "sbl has no setting 'fwhm'", "Choose one"),
        ("sbl.least_explained=0", "has no setting 'least_explained'", "Choose one"),
        ("sdmod.rounds=3", "expected one of components", "Choose one"),
    ],
)
def test_invalid_changes_of_prior_sd_maps_are_rejected_like_those_of_networks(
    change: str, reason: str, fix: str
) -> None:
    call = ["in", "out", "participant", "--sr-method", "sbl", "sdmod"]
    _check_rejected(call, change, reason, fix)


def _check_rejected(call: list[str], change: str, reason: str, fix: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_settings([*call, "--set", change])
    text = str(error.value)
    assert text.startswith(f"--set: {change}")
    assert reason in text
    assert fix in text


def test_changes_reach_the_training_step_and_the_methods_text(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    options = ["--sr-method", "tv", "unet", "--set", "tv.tv=0.02", "unet.filters=8"]
    graph = planned_graph(maker, tmp_path, *options)
    (volumes,) = nodes_of(graph, "train_on_volumes")
    (pair,) = nodes_of(graph, "train_on_pair")
    assert graph.settings[volumes]["recipe_changes"] == (TV,)
    assert graph.settings[pair]["recipe_changes"] == (UNET,)
    text = graph.methods_text()
    for change in (
        "weight of the total variation (0.02 instead of 0.01)",
        "number of filters in the first layer of the generator (8 instead of 16)",
    ):
        assert f"settings of the recipe were changed: {change}." in text
    unchanged = planned_graph(maker, tmp_path, "--sr-method", "tv", "unet")
    assert "settings of the recipe were changed" not in unchanged.methods_text()


def test_changes_of_prior_sd_maps_reach_their_estimation_and_the_methods_text(
    tmp_path: Path,
) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    graph = planned_graph(maker, tmp_path, "--sr-method", "sbl", "--set", "sbl.rounds=9")
    nodes = {node.scope.name: node for node in nodes_of(graph, "estimate_variance")}
    change = RecipeChange(method="sbl", field="rounds", value=9)
    assert graph.settings[nodes["sbl"]]["recipe_changes"] == (change,)
    assert graph.settings[nodes["sdmod"]]["recipe_changes"] == ()
    assert "number of updates of the prior SD maps (9 instead of 6)." in graph.methods_text()
    unchanged = planned_graph(maker, tmp_path, "--sr-method", "sbl")
    (before,) = (
        node for node in nodes_of(unchanged, "estimate_variance") if node.scope.name == "sbl"
    )
    assert nodes["sbl"].cost.low == pytest.approx(1.5 * before.cost.low)


def test_the_training_step_is_rerun_only_if_changes_differ() -> None:
    def digest(*changes: RecipeChange) -> str:
        node = train_on_volumes.interface()
        node.inputs.recipe_changes = changes
        return str(node.inputs.get_hashval()[1])

    assert digest(TV) == digest(TV)
    assert len({digest(), digest(TV), digest(RecipeChange(method="tv", field="tv", value=1))}) == 3


def planned(maker: BidsMaker, root: Path, *options: str) -> Settings:
    """Return the settings of a call on a data set."""
    argv = [str(maker.root), str(root / "out"), "participant", "-w", str(root / "work")]
    return parse_settings([*argv, "--skip-bids-validation", *options]).resolve(run_uuid="x")


def problems_text(maker: BidsMaker, root: Path, *options: str) -> str:
    """Return the problems found by preflight, as text."""
    return "\n".join(map(str, check(planned(maker, root, *options)).problems))


def test_the_time_estimate_is_proportional_to_the_number_of_steps(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()

    def minutes(*changes: str) -> float:
        settings = planned(maker, tmp_path, "--sr-method", "tv", *changes)
        return sum(stage_minutes(settings).values())

    default, longer = minutes(), minutes("--set", "tv.iterations=4000")
    shorter = minutes("--set", "tv.iterations=40")
    assert longer - default == pytest.approx(10 * (default - shorter), rel=0.01)
    assert longer > default > shorter


def test_the_dry_run_lists_the_changes(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    settings = planned(maker, tmp_path, "--sr-method", "tv", "--set", "tv.tv=0.02")
    assert "recipe: fast, with tv.tv=0.02" in dry_run_text(check(settings), settings).splitlines()


def test_a_patch_larger_than_the_slices_is_rejected(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    text = problems_text(maker, tmp_path, "--sr-method", "unet", "--set", "unet.patch=256")
    assert "patches of 256 × 256 voxels are larger" in text
    assert "--set unet.patch" in text
    assert problems_text(maker, tmp_path, "--sr-method", "unet") == ""


def test_changes_to_a_pretrained_model_are_rejected(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    model = min((HERE / "models").glob("*.safetensors"))
    name = read_card(model).method
    options = ["--sr-method", name, "--pretrained", str(model)]
    text = problems_text(maker, tmp_path, *options, "--set", f"{name}.batch=3")
    assert f"{name} is not trained because its model is loaded" in text
    assert "is not trained" not in problems_text(maker, tmp_path, *options)
