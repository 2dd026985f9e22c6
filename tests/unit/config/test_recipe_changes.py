"""``--set METHOD.FIELD``: changes are read from the command line and settings files, checked, and
passed only to the step of their method.
"""

from pathlib import Path

import pytest
from data.calls import about, plan_for, settings_for
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph, stage_minutes

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.io.notices import UsageError
from bids_sr.sr.recipe_changes import RecipeChange
from bids_sr.sr.steps.training import train_on_volumes

REQUIRED = ["in", "out", "participant"]
CALL = [*REQUIRED, "--sr-method", "tv", "unet"]
SBL = [*REQUIRED, "--sr-method", "sbl", "sdmod"]
TV = RecipeChange(method="tv", field="tv", value=0.02)
UNET = RecipeChange(method="unet", field="filters", value=8)


def test_changes_accumulate_and_are_stored_in_the_settings_file(tmp_path: Path) -> None:
    settings = parse_settings([*CALL, "--set", "tv.tv=0.02", "--set", "unet.filters=8"])
    assert settings.superres.recipe_changes == (TV, UNET)
    assert parse_settings([*CALL, "--set", "tv.tv=.02", "unet.filters=8"]) == settings
    file = tmp_path / "settings.toml"
    file.write_text(settings.to_toml())
    assert Settings.from_toml(file) == settings
    assert settings.resolve(run_uuid="x").superres.recipe_changes == (TV, UNET)
    restored = parse_settings([*REQUIRED, "--config-file", str(file)])
    assert restored.superres.recipe_changes == (TV, UNET)
    assert any("tv.tv=0.02 unet.filters=8*" in line for line in settings.summary())
    reordered = parse_settings([*CALL, "--set", "unet.filters=8", "tv.tv=0.02"])
    assert analysis_digest(settings) == analysis_digest(reordered)


@pytest.mark.parametrize(
    ("call", "change", "values"),
    [
        (CALL, "tv.tv", ["METHOD.FIELD=VALUE", "tv.tv=0.02"]),
        (CALL, "tv.tv=-1", ["0", "100"]),
        (CALL, "tv.tvv=1", ["tv, squared_tv, filters", "tv?"]),
        (CALL, "li.mae=1", ["tv, unet", "--sr-method li"]),
        (CALL, "sbl.rounds=8", ["--sr-method sbl"]),
        (SBL, "sbl.tv=1", ["'tv'", "noise, rounds"]),
        (SBL, "sbl.round=1", ["rounds?"]),
        (SBL, "sbl.rounds=0", ["1", "100"]),
        (SBL, "sbl.draws=9.5", ["8", "10000"]),
        (SBL, "sbl.fwhm=3", ["'fwhm'"]),
        (SBL, "sbl.least_explained=0", ["'least_explained'"]),
        (SBL, "sdmod.rounds=3", ["components"]),
    ],
)
def test_invalid_changes_are_refused(call: list[str], change: str, values: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_settings([*call, "--set", change])
    notice = refusal.value.notice
    assert notice.what.startswith(f"--set: {change}")
    assert all(value in f"{notice.why} {notice.remedy}" for value in values)


def test_changes_reach_the_training_step_and_the_methods_text(
    maker: BidsMaker, tmp_path: Path
) -> None:
    options = ["--sr-method", "tv", "unet", "--set", "tv.tv=0.02", "unet.filters=8"]
    graph = planned_graph(maker, tmp_path, *options)
    for step, change in (("train_on_volumes", TV), ("train_on_pair", UNET)):
        (node,) = nodes_of(graph, step)
        assert graph.settings[node]["recipe_changes"] == (change,)
    text = graph.methods_text()
    unchanged = planned_graph(maker, tmp_path, "--sr-method", "tv", "unet").methods_text()
    for values in ("0.02 instead of 0.01", "8 instead of 16"):
        assert values in text
        assert values not in unchanged


def test_changes_of_prior_sd_maps_reach_their_estimation_and_the_methods_text(
    maker: BidsMaker, tmp_path: Path
) -> None:
    def nodes(*options: str) -> tuple[dict, str]:
        graph = planned_graph(maker, tmp_path, "--sr-method", "sbl", "sdmod", *options)
        placed = {node.scope.name: node for node in nodes_of(graph, "estimate_variance")}
        changes = {name: graph.settings[placed[name]]["recipe_changes"] for name in placed}
        return changes, graph.methods_text()

    changes, text = nodes("--set", "sbl.rounds=9")
    change = RecipeChange(method="sbl", field="rounds", value=9)
    assert (changes["sbl"], changes["sdmod"]) == ((change,), ())
    assert "9 instead of 6" in text


def test_the_training_step_is_rerun_only_if_changes_differ() -> None:
    def digest(*changes: RecipeChange) -> str:
        node = train_on_volumes.interface()
        node.inputs.recipe_changes = changes
        return str(node.inputs.get_hashval()[1])

    assert digest(TV) == digest(TV)
    assert len({digest(), digest(TV), digest(RecipeChange(method="tv", field="tv", value=1))}) == 3


def test_the_time_estimate_is_proportional_to_the_number_of_steps(maker: BidsMaker) -> None:
    def minutes(*changes: str) -> float:
        settings = settings_for(maker, "--sr-method", "tv", *changes)
        return sum(stage_minutes(settings).values())

    default, longer = minutes(), minutes("--set", "tv.iterations=4000")
    shorter = minutes("--set", "tv.iterations=40")
    assert longer - default == pytest.approx(10 * (default - shorter), rel=0.01)
    assert longer > default > shorter


def test_changes_that_do_not_fit_the_data_are_refused(maker: BidsMaker) -> None:
    unet = ("--sr-method", "unet")
    assert plan_for(maker, *unet).problems == ()
    problems = plan_for(maker, *unet, "--set", "unet.patch=256").problems
    assert about(problems, "--sr-method unet", "256 × 256", "--set unet.patch")
