"""Run the scripts of the documentation as they are."""

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pages import scripts

DOCS = Path(__file__).parents[2] / "docs"
EXCERPTS = {"changing.md"}
"""Pages with lines of the program, which `benchmarks/tests` applies to a copy."""
OF_OUTPUTS = ["downstream.md"]
"""Pages whose scripts read a finished output; scripts of all other pages read series."""
STEM = "sub-01_task-tap"


OF_SERIES = [
    page.name
    for page in sorted(DOCS.glob("*.md"))
    if scripts(page) and page.name not in {*EXCERPTS, *OF_OUTPUTS}
]


def run(page: str, words: tuple[str, ...] = ("",), **namespace: object) -> dict[str, object]:
    """Run the scripts of a page that contain one of some words, and return their namespace."""
    for text in scripts(DOCS / page):
        if not any(word in text for word in words):
            continue
        exec(compile(text, page, "exec"), namespace)
    return namespace


@pytest.fixture
def two_participants(copied, monkeypatch):
    """Change to the folder with the output of two participants."""
    monkeypatch.chdir(copied)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_participants")
def test_nilearn_and_pybids_read_the_output_as_documented():
    """nilearn runs to the second level, also for a run without dummy volumes; pybids knows the
    entities of maps.
    """
    namespace = run("downstream.md")
    maps = [image.get_fdata() for image in namespace["maps"]]
    assert len(maps) == 2
    mean = nib.load("thumb_percent.nii.gz").get_fdata()
    inside = mean != 0
    np.testing.assert_allclose(mean[inside], np.mean(maps, axis=0)[inside], rtol=1e-4, atol=1e-4)
    assert np.isfinite(nib.load("thumb_z.nii.gz").get_fdata()).all()
    assert (
        len(
            namespace["layout"].get(
                suffix="statmap", contrast="thumb", stat="t", desc="sbl", extension=".nii.gz"
            )
        )
        > 0
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_participants")
def test_nilearn_opens_a_map_its_variance_the_mask_and_the_confounds():
    """Map, variance and mask are on one grid, and the confounds have a row per volume."""
    namespace = run("downstream.md", ("load_img",))
    effect, brain = namespace["effect"], namespace["brain"]
    for image in (namespace["variance"], brain):
        assert image.shape == effect.shape
        np.testing.assert_array_equal(image.affine, effect.affine)
    np.testing.assert_array_equal(effect.get_fdata() != 0, brain.get_fdata() > 0)
    assert len(namespace["confounds"]) == nib.load(namespace["bold"]).shape[3]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_participants")
def test_pybids_accepts_the_stats_model_for_fitlins():
    """Columns of the design and conditions of the contrast are as specified, with the
    non-steady-state volumes of each run.
    """
    from bids.layout import BIDSLayout
    from bids.modeling import BIDSStatsModelsGraph

    [text] = scripts(DOCS / "downstream.md", "json")
    Path("model.json").write_text(text)
    layout = BIDSLayout("RAW", derivatives=[Path("OUT/derivatives/bids-sr-sbl").resolve()])
    graph = BIDSStatsModelsGraph(layout, "model.json")
    graph.load_collections(space="MNI152NLin2009cAsym", desc="preproc")
    outputs = graph.root_node.run(force_dense=False)
    columns = [
        str(regressor).replace("1", "intercept") for regressor in graph.root_node.model["x"][:-1]
    ]
    tables = sorted(Path("OUT/derivatives").rglob("*_desc-confounds_timeseries.tsv"))
    outliers = [
        list(pd.read_csv(table, sep="\t").filter(like="non_steady_state_outlier"))
        for table in tables
    ]
    assert any(outliers)
    assert [list(output.X.columns) for output in outputs] == [
        [*columns, *names] for names in outliers
    ]
    assert [output.contrasts[0].name for output in outputs] == ["thumbVersusLittle"] * 2


def test_fitlins_gets_absolute_paths():
    """fitlins resolves a relative path of a model below RAW."""
    lines = [
        line
        for text in scripts(DOCS / "downstream.md", "")
        for line in text.splitlines()
        if "fitlins" in line
    ]
    assert len(lines) == 1
    assert re.findall(r"-[md] (\S+)", lines[0]) == [
        '"$PWD/model.json"',
        '"$PWD/OUT/derivatives/bids-sr-sbl"',
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", OF_SERIES)
def test_scripts_on_series_run(tiny, tmp_path, monkeypatch, page):
    """Series and events have the names that the pages use."""
    func = tiny / "sub-01" / "func"
    events = next(func.glob("*_events.tsv"))
    image = nib.load(next(func.glob("*_bold.nii.gz")))
    for name in (f"{STEM}_bold", f"{STEM}_run-1_bold", f"{STEM}_run-2_bold"):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    for name in (f"{STEM}_events", "run-1_events", "run-2_events"):
        shutil.copy(events, tmp_path / f"{name}.tsv")
    monkeypatch.chdir(tmp_path)
    motion = [
        f"{kind}_{axis}{end}"
        for end in ("", "_derivative1")
        for kind in ("trans", "rot")
        for axis in "xyz"
    ]
    table = pd.DataFrame(
        np.random.default_rng(0).normal(size=(image.shape[3], len(motion))), columns=motion
    )
    words = ("SuperResolver(", "recovered_detail(")
    namespace = run(page, words, confounds_1=table, confounds_2=table)
    table = namespace["table"]
    assert isinstance(table, pd.DataFrame)
    assert set(table.run) == {1, 2}
