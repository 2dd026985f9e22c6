"""The scripts of the documentation, copied as they stand, do what the pages say."""

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pages import scripts

from bids_sr.spatial.transforms import hr_grid

DOCS = Path(__file__).parents[2] / "docs"
# of the code; `tests/contracts` adds what they say to it
EXCERPTS = {"architecture.md", "extending.md"}
OF_OUTPUTS = ["downstream.md"]
"""Pages whose scripts read a finished output; those of all others read series."""
STEM = "sub-01_task-tap"


OF_SERIES = [
    page.name
    for page in sorted(DOCS.glob("*.md"))
    if scripts(page) and page.name not in {*EXCERPTS, *OF_OUTPUTS}
]


def run(page: str, **given: object) -> dict[str, object]:
    """Run the scripts of a page one after the other in one namespace, which is returned."""
    for text in scripts(DOCS / page):
        exec(compile(text, page, "exec"), given)
    return given


@pytest.fixture
def two_participants(copied, monkeypatch):
    """Stand in the folder of both."""
    monkeypatch.chdir(copied)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_participants")
def test_other_programs_read_an_output_as_the_page_says():
    """nilearn to the second level, also of a run without dummy volumes; pybids, with the entities
    of maps.
    """
    made = run("downstream.md")
    assert len(made["maps"]) == 2
    assert np.isfinite(nib.load("thumb_z.nii.gz").get_fdata()).all()
    assert (
        len(
            made["layout"].get(
                suffix="statmap", contrast="thumb", stat="t", desc="sbl", extension=".nii.gz"
            )
        )
        > 0
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_participants")
def test_the_model_for_fitlins_is_one():
    """As pybids, on which fitlins stands, reads it: the design has its columns, and the contrast
    its conditions.
    """
    from bids.layout import BIDSLayout
    from bids.modeling import BIDSStatsModelsGraph

    [text] = scripts(DOCS / "downstream.md", "json")
    Path("model.json").write_text(text)
    layout = BIDSLayout("RAW", derivatives=[Path("OUT/derivatives/bids-sr-sbl").resolve()])
    graph = BIDSStatsModelsGraph(layout, "model.json")
    graph.load_collections(space="MNI152NLin2009cAsym", desc="preproc")
    found = graph.root_node.run(force_dense=False)
    columns = [str(each).replace("1", "intercept") for each in graph.root_node.model["x"]]
    assert [list(one.X.columns) for one in found] == [columns] * 2
    assert [one.contrasts[0].name for one in found] == ["thumbVersusLittle"] * 2


def test_programs_that_look_below_the_raw_data_are_given_whole_paths():
    """fitlins takes a relative path of a model for one below RAW."""
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
def test_scripts_of_series_run(tiny, tmp_path, monkeypatch, page):
    """Under the names that the pages give to series, events and a measured series."""
    func = tiny / "sub-01" / "func"
    events = next(func.glob("*_events.tsv"))
    image = nib.load(next(func.glob("*_bold.nii.gz")))
    for name in (f"{STEM}_bold", f"{STEM}_run-1_bold", f"{STEM}_run-2_bold", "bold", "denoised"):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    for name in (f"{STEM}_events", "run-1_events", "run-2_events", "events"):
        shutil.copy(events, tmp_path / f"{name}.tsv")
    shape, affine = hr_grid(image.shape[:3], image.affine, (2, 2, 1))
    fine = np.asarray(image.dataobj).repeat(2, 0).repeat(2, 1)
    assert fine.shape[:3] == shape
    nib.save(nib.Nifti1Image(fine, affine, image.header), tmp_path / "fine.nii.gz")
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
    made = run(page, confounds_1=table, confounds_2=table)
    assert len(made["evaluator"].table_)
