"""Steps that a plan contains: figures by options and conditions, and the response to events."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from data.calls import about, settings_for
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph, steps_of

from bids_sr.io.notices import UsageError
from bids_sr.survey.bids.inputs import HighresReference
from bids_sr.survey.preflight.unfit_references import note_unused_reference

PAIR = ["little", "thumb"]
OTA = "--config-file ota2022 --recipe fast --dummy-scans 2"
KNOWN = HighresReference(root=Path("truth"), activations={"thumb": Path("thumb.nii.gz")})
MEASURED: Any = SimpleNamespace(root=Path("truth"), activations=KNOWN.activations, series=True)
MODELS = ("spm", "glover", "spm + derivative", "glover + derivative")


@pytest.mark.parametrize(
    ("options", "has_correlation", "overlap"),
    [
        ("", False, [PAIR]),
        ("--set activation.kinds=[cc,glm]", True, [PAIR]),
        ("--set activation.kinds=glm", False, []),
        ("--set activation.thresholds=fdr", False, []),
        ("--contrasts thumb thumb-little", False, []),
        ("--recipe paper --sr-method sbl", True, [PAIR]),
        (OTA, True, [PAIR]),
        (f"{OTA} --set activation.kinds=glm", False, []),
        ("--set activation.kinds=[cc,glm] --ignore events", False, []),
    ],
)
def test_figures_depend_on_options(
    maker: BidsMaker, tmp_path: Path, options: str, has_correlation: bool, overlap: object
) -> None:
    graph = planned_graph(maker, tmp_path, *options.split())
    assert ("draw_correlation" in steps_of(graph)) == has_correlation
    nodes = nodes_of(graph, "draw_overlap")
    assert [graph.settings[node]["overlap_pair"] for node in nodes] == overlap


def test_three_conditions_have_no_figure_of_two(maker: BidsMaker, tmp_path: Path) -> None:
    names = ("thumb", "little", "left foot")
    maker.events(rows=[(4.0 * k, 2.0, names[k % 3]) for k in range(7)])
    graph = planned_graph(maker, tmp_path)
    assert "draw_overlap" not in steps_of(graph)


@pytest.mark.parametrize("hrf_model", MODELS)
def test_every_model_of_a_run_has_the_response_of_the_settings(
    hrf_model: str, maker: BidsMaker, tmp_path: Path
) -> None:
    graph = planned_graph(maker, tmp_path, "--set", f"activation.hrf_model={hrf_model}")
    for step in ("map_series", "check_intervals", "draw_design"):
        nodes = nodes_of(graph, step)
        assert {graph.settings[node]["hrf_model"] for node in nodes} == {hrf_model}, step


@pytest.mark.parametrize("value", ["fir", "spm+derivative", "Glover", "", "none"])
def test_other_responses_are_refused_with_the_names_of_all(value: str, maker: BidsMaker) -> None:
    with pytest.raises(UsageError) as refusal:
        settings_for(maker, "--set", f"activation.hrf_model={value}")
    assert ", ".join(MODELS) in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "truths", "is_noted"),
    [
        ("--set activation.kinds=cc", (KNOWN, KNOWN), True),
        ("--config-file ota2022", (KNOWN,), True),
        ("--set activation.kinds=[cc,glm]", (KNOWN,), False),
        ("", (KNOWN,), False),
        ("--set activation.kinds=cc", (MEASURED,), False),
        ("--set activation.kinds=cc", (None,), False),
    ],
)
def test_known_activation_without_a_linear_model_is_noted_once(
    maker: BidsMaker, options: str, truths: tuple[Any, ...], is_noted: bool
) -> None:
    settings = settings_for(maker, *options.split())
    subject: Any = SimpleNamespace(runs=[SimpleNamespace(truth=truth) for truth in truths])
    notices = set(note_unused_reference(settings, [subject]))
    assert len(about(notices, "truth", "activation.kinds=[cc, glm]")) == is_noted
    assert {notice.code for notice in notices} <= {"reference"}
