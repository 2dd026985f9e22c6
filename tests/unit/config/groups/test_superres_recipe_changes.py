"""``--set``: read from the command line and the settings file, checked, and handed to the step of
its method alone.
"""

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from graphmaker import nodes_of, planned_graph, stage_minutes

from bids_sr.boilerplate import HERE
from bids_sr.cli.parser import build_parser, parse_settings
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


def test_changes_are_read_repeatedly_and_survive_the_settings_file(tmp_path: Path) -> None:
    settings = parse_settings([*CALL, "--set", "tv.tv=0.02", "--set", "unet.filters=8"])
    assert settings.superres.recipe_changes == (TV, UNET)
    together = parse_settings([*CALL, "--set", "tv.tv=.02", "unet.filters=8"])
    assert together == settings
    assert 'recipe_changes = ["tv.tv=0.02", "unet.filters=8"]' in settings.to_toml()
    file = tmp_path / "settings.toml"
    file.write_text(settings.to_toml())
    assert Settings.from_toml(file) == settings
    assert settings.resolved(run_uuid="x").superres.recipe_changes == (TV, UNET)
    again = parse_settings(["in", "out", "participant", "--config-file", str(file)])
    assert again.superres.recipe_changes == (TV, UNET)
    assert any("recipe_changes=tv.tv=0.02 unet.filters=8*" in line for line in settings.summary())


def test_the_order_of_changes_decides_nothing() -> None:
    one = parse_settings([*CALL, "--set", "tv.tv=0.02", "unet.filters=8"])
    other = parse_settings([*CALL, "--set", "unet.filters=8", "tv.tv=0.02"])
    assert analysis_digest(one) == analysis_digest(other)


@pytest.mark.parametrize(
    ("change", "why", "fix"),
    [
        ("tv.tv", "METHOD.FIELD=VALUE", "Write, for example, tv.tv=0.02."),
        ("tv.tv=-1", "from 0 to 100", "Specify a value in this range."),
        ("tv.tvv=1", "expected one of tv, filters", "Did you mean tv?"),
        ("untt.filters=8", "unknown method 'untt'", "Did you mean unet?"),
        ("li.mae=1", "not run by this command (selected methods: tv, unet)", "Add --sr-method li"),
        ("sbl.tv=1", "instead of training a network", "Remove the change."),
    ],
)
def test_a_change_that_cannot_be_made_names_option_reason_and_fix(
    change: str, why: str, fix: str
) -> None:
    with pytest.raises(UsageError) as error:
        parse_settings([*CALL, "--set", change])
    text = str(error.value)
    assert text.startswith(f"--set: {change}")
    assert why in text
    assert fix in text


def test_the_whole_help_lists_every_setting_with_range_and_default() -> None:
    text = " ".join(build_parser(everything=True).format_help().split())
    assert "tv, paper: tv 0 to 100 (0.01), filters 4 to 256 (32)" in text
    assert "adversarial 0 to 1 (0)" in text
    assert "settings of the training recipes" not in build_parser().format_help()


def test_a_change_reaches_the_training_of_its_method_and_its_text(tmp_path: Path) -> None:
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
    plain = planned_graph(maker, tmp_path, "--sr-method", "tv", "unet")
    assert "settings of the recipe were changed" not in plain.methods_text()


def test_another_change_runs_the_training_again_and_the_same_does_not() -> None:
    def digest(*changes: RecipeChange) -> str:
        node = train_on_volumes.interface()
        node.inputs.recipe_changes = changes
        return str(node.inputs.get_hashval()[1])

    assert digest(TV) == digest(TV)
    assert len({digest(), digest(TV), digest(RecipeChange(method="tv", field="tv", value=1))}) == 3


def planned(maker: BidsMaker, root: Path, *options: str) -> Settings:
    """The settings of a call on a data set."""
    argv = [str(maker.root), str(root / "out"), "participant", "-w", str(root / "work")]
    return parse_settings([*argv, "--skip-bids-validation", *options]).resolved(run_uuid="x")


def refusals(maker: BidsMaker, root: Path, *options: str) -> str:
    """What preflight refuses, as text."""
    return "\n".join(map(str, check(planned(maker, root, *options)).problems))


def test_the_estimate_of_time_follows_the_steps(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()

    def minutes(*changes: str) -> float:
        settings = planned(maker, tmp_path, "--sr-method", "tv", *changes)
        return sum(stage_minutes(settings).values())

    plain, longer = minutes(), minutes("--set", "tv.iterations=4000")
    shorter = minutes("--set", "tv.iterations=40")
    assert longer - plain == pytest.approx(10 * (plain - shorter), rel=0.01)
    assert longer > plain > shorter


def test_the_plan_names_the_changes(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    settings = planned(maker, tmp_path, "--sr-method", "tv", "--set", "tv.tv=0.02")
    assert "recipe: fast, with tv.tv=0.02" in dry_run_text(check(settings), settings).splitlines()


def test_a_patch_larger_than_the_slices_is_refused(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    text = refusals(maker, tmp_path, "--sr-method", "unet", "--set", "unet.patch=256")
    assert "patches of 256 × 256 voxels are larger" in text
    assert "--set unet.patch" in text
    assert refusals(maker, tmp_path, "--sr-method", "unet") == ""


def test_settings_of_a_model_that_is_given_cannot_be_changed(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "data")
    maker.subject()
    model = min((HERE / "models").glob("*.safetensors"))
    name = read_card(model).method
    given = ["--sr-method", name, "--pretrained", str(model)]
    text = refusals(maker, tmp_path, *given, "--set", f"{name}.batch=3")
    assert f"{name} is not trained because its model is loaded" in text
    assert "is not trained" not in refusals(maker, tmp_path, *given)
