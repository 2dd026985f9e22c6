"""Sources of stored files as derived from the graph."""

from pathlib import Path

import pytest

from bids_sr.engine.artifacts import File, Image, Map, Series, Table
from bids_sr.engine.flow import Flow
from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Scope
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Stage, step
from bids_sr.engine.store import store
from bids_sr.glm.regressors import Regressors
from bids_sr.glm.steps.task_events import select_events
from bids_sr.io.template_files import template_file
from bids_sr.io.uris import file_uri, template_uri

RUN = "bids::sub-01/func/sub-01_task-tap"
MODEL = {"datatype": "models", "desc": "sbl", "suffix": "model", "extension": ".safetensors"}


@step(Stage.EVALUATION, makes=("bold", "n_dummy"))
def copy_series(bold_file: File) -> tuple[Series, int]:
    """Return a series and a number that are not stored."""
    raise NotImplementedError


@step(Stage.EVALUATION, makes="boldref")
def average(bold: Series, *, n_dummy: int) -> Image:
    """Return an image that is stored."""
    raise NotImplementedError


@step(Stage.EVALUATION, makes=("mask", "mask_hr"))
def find_brain(boldref: Image) -> tuple[Image, Image]:
    """Return two masks; only the first is stored."""
    raise NotImplementedError


@step(Stage.EVALUATION, makes="model_file")
def train(mask: Image, weights_file: File) -> File:
    """Return a file without metadata."""
    raise NotImplementedError


@step(Stage.EVALUATION, makes="series")
def resolve(bold: Series, boldref: Image, model_file: File, *, n_dummy: int) -> Series:
    """Return a series that is stored."""
    raise NotImplementedError


@step(Stage.EVALUATION, makes=("maps", "measured"))
def map_series(
    series: Series, mask_hr: Image, regressors: Regressors, *, n_dummy: int
) -> tuple[list[Map], Table]:
    """Return maps and a table that are stored."""
    raise NotImplementedError


def _files_of_template(atlas: Path) -> list[Path]:
    return [atlas, Path("/mine/T1w.nii")]


@step(Stage.EVALUATION, makes="std_maps", reads=_files_of_template)
def to_template(maps: list[Map], *, atlas: Path) -> list[Map]:
    """Return maps derived from maps, with a file that is a setting."""
    raise NotImplementedError


@pytest.fixture
def store_settings() -> dict[str, dict[str, object]]:
    """Return the settings of the store nodes by name."""
    entities = {"subject": "01", "task": "tap", "datatype": "func"}
    roots = {"raw": Path("/data/raw"), "": Path("/data/out")}
    func = Path("/data/raw/sub-01/func")
    outputs = Outputs(output_dir=Path("/data/out"), entities=entities)
    root = Scope("all", store=store, uri=lambda path: file_uri(path, roots))
    with Flow(root):
        bold, n_dummy = copy_series(func / "sub-01_task-tap_bold.nii.gz")
        boldref = average(bold, n_dummy=n_dummy)
        outputs = outputs.with_references(boldref=boldref)
        outputs.store(boldref, {"desc": "hmc", "suffix": "boldref"})
        mask, mask_hr = find_brain(boldref)
        outputs.store(mask, {"desc": "brain", "suffix": "mask"})
        model_file = train(mask, Path("/data/out/sourcedata/weights.bin"))
        outputs.store(model_file, MODEL)
        series = resolve(bold, boldref, model_file, n_dummy=n_dummy)
        outputs.store(series, {"space": "boldref", "res": "hr", "desc": "sbl", "suffix": "bold"})
        events = select_events(func / "sub-01_task-tap_events.tsv", levels=())
        maps, measured = map_series(series, mask_hr, events, n_dummy=n_dummy)
        outputs.store(maps)
        outputs.store(measured, {"desc": "x", "suffix": "metrics"})
        outputs.store(to_template(maps, atlas=Path("/mine/atlas.nii")))
    graph = Graph(root)
    return {node.name: dict(graph.settings[node]) for node in graph.nodes if node.step is store}


def test_sources_of_a_series_include_raw_data_model_and_training_data(store_settings):
    assert store_settings["store_boldref"]["sources"] == [
        "bids:raw:sub-01/func/sub-01_task-tap_bold.nii.gz"
    ]
    assert store_settings["store_series"]["sources"] == [
        "bids:raw:sub-01/func/sub-01_task-tap_bold.nii.gz",
        f"{RUN}_desc-hmc_boldref.nii.gz",
        "bids::sourcedata/models/sub-01/sub-01_task-tap_desc-sbl_model.safetensors",
        f"{RUN}_desc-brain_mask.nii.gz",
        "bids::sourcedata/weights.bin",
    ]


def test_images_have_the_reference_of_their_scope_and_tables_have_none(store_settings):
    assert store_settings["store_series"]["references"] == {
        "boldref": f"{RUN}_desc-hmc_boldref.nii.gz"
    }
    assert (
        store_settings["store_boldref"]["references"]
        == store_settings["store_measured"]["references"]
        == {}
    )


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/sub-01/a.nii.gz", "bids:raw:sub-01/a.nii.gz"),
        ("/data/derivatives/out/sub-01/a.nii.gz", "bids::sub-01/a.nii.gz"),
        ("/elsewhere/a b.nii.gz", "file:///elsewhere/a%20b.nii.gz"),
        (
            "/flow/tpl-X/tpl-X_T1w.nii.gz",
            "https://templateflow.s3.amazonaws.com/tpl-X/tpl-X_T1w.nii.gz",
        ),
    ],
)
def test_the_uri_of_a_file_refers_to_the_innermost_dataset(path, uri, monkeypatch):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", "/flow")
    assert file_uri(Path(path), {"raw": Path("/data"), "": Path("/data/derivatives/out")}) == uri


def test_the_packaged_template_has_the_uri_of_its_original():
    packaged_file = template_file("MNI152NLin2009cAsym", "T1w.nii.gz")
    assert file_uri(packaged_file, {}) == template_uri("MNI152NLin2009cAsym", "2")
    assert "templateflow" not in file_uri(packaged_file.parents[1] / "columns.json", {})


def test_uris_of_templates_are_those_of_images_on_this_computer(tmp_path, monkeypatch):
    """The default template is packaged; nilearn's image is not the image of TemplateFlow."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    home = "https://templateflow.s3.amazonaws.com"
    default = f"{home}/tpl-MNI152NLin2009cAsym/tpl-MNI152NLin2009cAsym"
    assert template_uri("MNI152NLin2009cAsym") == f"{default}_res-01_T1w.nii.gz"
    assert template_uri("MNI152NLin2009cAsym", "2") == f"{default}_res-02_T1w.nii.gz"
    assert template_uri("MNI152NLin2009cAsym", "7") == f"{default}_res-01_T1w.nii.gz"
    assert template_uri("MNI152NLin2009aSym").startswith("pkg:pypi/nilearn@")
    assert template_uri("MNIInfant+2") == template_uri("Nowhere") == template_uri("") == ""
    folder = "tpl-MNIInfant/cohort-2/tpl-MNIInfant_cohort-2"
    (tmp_path / folder).parent.mkdir(parents=True)
    for resolution in "12":
        (tmp_path / f"{folder}_res-{resolution}_T1w.nii.gz").write_bytes(bytes(400))
    assert template_uri("MNIInfant+2") == f"{home}/{folder}_res-1_T1w.nii.gz"
    assert template_uri("MNIInfant+2", "2") == f"{home}/{folder}_res-2_T1w.nii.gz"
    assert template_uri("MNIInfant+2", "7") == f"{home}/{folder}_res-1_T1w.nii.gz"
