"""The response to events as a setting: its values, and the steps that it reaches."""

from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph

from bids_sr.cli.main import main

MODELS = ("spm", "glover", "spm + derivative", "glover + derivative")


@pytest.mark.parametrize("hrf_model", MODELS)
def test_every_model_of_a_run_has_the_response(
    hrf_model: str, maker: BidsMaker, tmp_path: Path
) -> None:
    maker.subject()
    settings_file = tmp_path / "settings.toml"
    settings_file.write_text(f'[activation]\nhrf_model = "{hrf_model}"\n')
    for options in (
        ("--set", f"activation.hrf_model={hrf_model}"),
        ("--config-file", str(settings_file)),
    ):
        graph = planned_graph(maker, tmp_path, *options)
        for step in ("map_series", "measure_effects", "check_intervals", "draw_design"):
            nodes = nodes_of(graph, step)
            assert nodes, step
            assert {graph.settings[node]["hrf_model"] for node in nodes} == {hrf_model}, step


@pytest.mark.parametrize("value", ["fir", "spm+derivative", "Glover", "", "none"])
def test_other_values_are_refused_with_the_names_of_all_models(
    value: str, maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker.subject()
    call = [str(maker.root), str(tmp_path / "out"), "participant", "--dry-run"]
    assert main([*call, "--set", f"activation.hrf_model={value}"]) == 2
    assert ", ".join(MODELS) in capsys.readouterr().err
