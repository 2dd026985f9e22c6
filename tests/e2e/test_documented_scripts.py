"""Run the scripts of the documentation as they are."""

import itertools
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pages import scripts

from .conftest import BIN, call

DOCS = Path(__file__).parents[2] / "docs"
EXCERPTS = {"changing.md"}
"""Pages with lines of the program, which `benchmarks/tests` applies to a copy."""
OF_OUTPUTS = ["covariates.md", "downstream.md", "usage.md"]
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
                suffix="statmap", contrast="thumb", stat="t", desc="bspline", extension=".nii.gz"
            )
        )
        > 0
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_participants")
def test_nilearn_opens_a_map_the_mask_and_the_confounds():
    """Map and mask are on one grid, and the confounds have a row per volume."""
    namespace = run("downstream.md", ("load_img",))
    effect, brain = namespace["effect"], namespace["brain"]
    np.testing.assert_array_equal(brain.affine, effect.affine)
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_covariates_and_groups_are_tested_on_maps_of_the_group_level(
    finished, tmp_path, monkeypatch
):
    """Effects of three phantoms are 1, 2 and 3 times the same map, at 20, 30 and 40 years."""
    shutil.copytree(finished.bids_dir, tmp_path / "DATA")
    shutil.copytree(finished.out, tmp_path / "OUT")
    monkeypatch.chdir(tmp_path)
    for number, root in itertools.product((2, 3), ("DATA", "OUT")):
        for path in sorted(Path(root, "sub-01").rglob("*.*")):
            copy = Path(str(path).replace("sub-01", f"sub-0{number}"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.match("*_stat-effect_*.nii.gz"):
                image = nib.load(path)
                nib.save(nib.Nifti1Image(number * image.get_fdata(), image.affine), copy)
            elif "_desc-noise_" not in path.name:  # equal noise is refused
                shutil.copy(path, copy)
    people = {"age": [20, 30, 40], "group": ["control", "control", "patient"]}
    names = pd.Index(["sub-01", "sub-02", "sub-03"], name="participant_id")
    pd.DataFrame(people, index=names).to_csv("DATA/participants.tsv", sep="\t")
    code, text, _ = call([str(BIN / "bids-sr"), "DATA", "OUT", "group"])
    assert code == 0, text
    run("covariates.md", ("SecondLevelModel",))
    first = next(
        Path("OUT/sub-01/func").glob("*res-2_contrast-thumb_*effect_desc-sblFwhm50*.nii.gz")
    )
    effect = nib.load(first).get_fdata()
    for name, factor in (("age", 0.1), ("patient", 1.5)):
        found = nib.load(f"{name}_effect_size.nii.gz").get_fdata()
        inside = found != 0
        assert inside.sum() > 1000
        np.testing.assert_allclose(found[inside], factor * effect[inside], rtol=1e-3, atol=1e-4)
        assert np.isfinite(nib.load(f"{name}_z_score.nii.gz").get_fdata()).all()


def test_events_with_reaction_times_get_a_centered_modulator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = {
        "onset": [10, 30, 50],
        "duration": 2,
        "trial_type": "tap",
        "response_time": [0.4, None, 0.8],
    }
    pd.DataFrame(answers).to_csv("original_events.tsv", sep="\t", na_rep="n/a")
    run("usage.md", ("response_time",))
    table = pd.read_csv(f"{STEM}_events.tsv", sep="\t")
    assert table.trial_type.tolist() == ["tap", "tapXtime", "tap", "tap", "tapXtime"]
    np.testing.assert_allclose(table.modulation, [1, -0.2, 1, 1, 0.2])


def test_means_of_a_region_are_tested_across_participants(tmp_path, monkeypatch):
    """Other regions, contrasts, widths, series and runs do not count."""
    monkeypatch.chdir(tmp_path)
    for number, effect in ((1, 0.1), (2, 0.2), (3, 0.6)):
        func = Path("OUT", f"sub-{number}", "func")
        func.mkdir(parents=True)
        row = {"region": "a", "origin": "roi", "contrast": "thumbSesPostMinusThumbSesPre"}
        row |= {"series": "sbl", "fwhm_mm": 0, "effect": effect}
        others = (
            {"origin": "atlas"},
            {"contrast": "thumb"},
            {"fwhm_mm": 5},
            {"series": "acquired"},
        )
        rows = [row, *(row | other | {"effect": 9} for other in others)]
        table = func / f"sub-{number}_task-tap_desc-regions_metrics.tsv"
        pd.DataFrame(rows).to_csv(table, sep="\t", index=False)
        session = func.parent / "ses-a" / "func"
        session.mkdir(parents=True)
        shutil.copy(table, session)
    means = run("covariates.md", ("ttest_1samp",))["means"]
    # SD .2646, t of 2 degrees of freedom 4.3027
    np.testing.assert_allclose(means["a"], [0.3, -0.3572, 0.9572, 0.1885], atol=1e-4)


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
