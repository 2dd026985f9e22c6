"""Combine runs of one participant: known effects, sessions, a run without a contrast, and runs
that should not be combined as they are.
"""

import json
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from data.many_runs import write_runs
from data.simulated_run import Scene, blocks
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.spatial.transform import Rotation

from bids_sr.io.map_metadata import select_map_metadata

from .conftest import run_participants

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
OPTIONS = ["--sr-factor", "2", "--contrasts", "thumb", "little", "--skip-bids-validation"]
OPTIONS += ["--set", "run.sloppy=true", "--level", "full"]  # variance maps of the acquired series
RUNS = [f"ses-a_task-tap_run-{run}" for run in (1, 2, 3)] + ["ses-b_task-tap_run-1"]


@pytest.fixture(scope="module")
def combined(tmp_path_factory):
    """Combine two runs with different head positions, a run with only one trial type, and two
    sessions.
    """
    base = tmp_path_factory.mktemp("combined")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (1.5, -1.0, 2.0), degrees=True).as_matrix()
    pose[:3, 3] = [2.4, -1.7, 1.1]
    moved = pose @ Scene(base).affine
    thumb = [event for event in blocks(48, 2.0) if event[2] == "thumb"]
    scenes = {RUNS[1]: {"affine": moved}, RUNS[2]: {"events": thumb}}
    scene = write_runs(base, RUNS, scenes=scenes)
    finished = run_participants(base / "bids", base, "--sr-method", "sbl", *OPTIONS)
    return finished.out / "sub-01", scene, finished.text


def maps_of(folder, stem, contrast, label):
    """Return effect, variance and sidecar of combined maps."""
    space = "space-firstBoldref" if label == "acquired" else "space-firstBoldref_res-hr"
    effect, variance = (
        nib.load(
            folder / f"{stem}_{space}_contrast-{contrast}_stat-{stat}_desc-{label}_statmap.nii.gz"
        ).get_fdata()
        for stat in ("effect", "variance")
    )
    shared = json.loads((folder / f"{stem}_{space}_desc-{label}_statmap.json").read_text())
    return effect, variance, select_map_metadata(shared, contrast, "effect")


@pytest.mark.parametrize("contrast", ["thumb", "little"])
def test_the_effect_is_within_noise_of_the_truth(combined, contrast):
    folder, scene, _ = combined
    effect, variance, about = maps_of(
        folder / "ses-a" / "func", "sub-01_ses-a_task-tap", contrast, "acquired"
    )
    truth, known = 100 * scene.truth(contrast) / about["MeanSignal"], variance > 0
    regions = np.logical_or.reduce(list(scene.regions.values()))
    # an effect ends at a sharp edge, which no interpolation preserves
    edges = binary_dilation(regions, iterations=2) & ~binary_erosion(regions)
    error = (effect - truth)[known & ~edges] / np.sqrt(variance[known & ~edges])
    assert 0.85 < error.std() < 1.15
    # the sum over a region and its surroundings does not change by interpolation
    around = known & binary_dilation(scene.regions[contrast], iterations=2)
    error = effect[around].sum() - truth[around].sum()
    assert abs(error) < 3.3 * np.sqrt(variance[around].sum())


def test_a_run_without_the_contrast_is_listed_as_left_out(combined):
    folder, _, text = combined
    func = folder / "ses-a" / "func"
    *_, of_both = maps_of(func, "sub-01_ses-a_task-tap", "thumb", "sbl")
    assert list(of_both["RunWeights"]) == ["run-1", "run-2", "run-3"]
    *_, of_two = maps_of(func, "sub-01_ses-a_task-tap", "little", "sbl")
    assert of_two["RunWeights"] == {"run-1": 0.5, "run-2": 0.5}
    table = func / "sub-01_ses-a_task-tap_run-1_desc-evaluation_metrics.json"
    assert of_two["SettingsDigest"] == json.loads(table.read_text())["SettingsDigest"]
    assert of_two["RunsLeftOut"] == {"run-3": "the run has no such contrast"}
    assert "only in part" in " ".join(text.split())
    # the method is not applied to this kind of noise
    assert of_two["NotAppliedIn"] == ["run-1", "run-2"]
    assert not list(func.glob("*space-firstBoldref*stat-sd*"))


def test_sessions_are_combined_in_percent(combined):
    folder, scene, _ = combined
    effect, variance, about = maps_of(folder / "func", "sub-01_task-tap", "little", "acquired")
    assert list(about["RunWeights"]) == ["ses-a_run-1", "ses-a_run-2", "ses-b_run-1"]
    assert about["Units"] == "percent"
    reference = "bids::sub-01/ses-a/func/sub-01_ses-a_task-tap_run-1_desc-hmc_boldref.nii.gz"
    assert about["SpatialReference"] == reference
    truth = 100 * scene.truth("little") / scene.mean[scene.head].mean()
    inside = (variance > 0) & (truth != 0)
    assert effect[inside].mean() == pytest.approx(truth[inside].mean(), rel=0.05)


def late(scene, seconds):
    """Move the events in the table, so that the log is wrong."""
    scene.rows = [[f"{float(onset) + seconds:g}", *rest] for onset, *rest in scene.rows]


def scaled(series, factor):
    return factor * series


def noisier(series, sd):
    return series + np.random.default_rng(9).normal(0, sd, series.shape)


def mirrored(series):
    return series[::-1]


def another_head(series):
    """Shuffle the texture of the head along an axis, and keep the changes over time."""
    mean = series.mean(-1, keepdims=True)
    return series - mean + np.roll(mean, 5, axis=2)[:, ::-1]


ALTERED = {
    "scale": {"series": [partial(scaled, factor=3.0)]},
    "wrong log": {"tables": [partial(late, seconds=12.0)]},
    "mirrored": {"series": [mirrored]},
    "other head": {"series": [another_head]},
    "noisy": {"series": [partial(noisier, sd=6.0)]},
}


def combine_altered(base, kind, *options, names=("run-1", "run-2", "run-3")):
    """Combine runs of which the second is altered; return the scene, maps and notices."""
    runs = [f"task-tap_{name}" for name in names]
    scene = write_runs(base, runs, scenes={runs[1]: {"dtype": "float32", **ALTERED[kind]}})
    maps = ("--sr-method", "bspline", "--smoothing", "0", "--set", "activation.kinds=glm")
    finished = run_participants(base / "bids", base, *OPTIONS, *maps, *options)
    folder = base / "out" / "sub-01" / "func"
    effect, variance, about = maps_of(folder, "sub-01_task-tap", "thumb", "acquired")
    inside = (variance > 0) & (scene.truth("thumb") != 0)
    truth = 100 * scene.truth("thumb")[inside] / about["MeanSignal"]
    ratio = np.median(effect[inside] / truth)
    return ratio, about, " ".join(finished.text.split()), base / "out" / "sub-01.html"


def test_runs_of_different_scales_are_combined_at_the_scale_of_the_first(tmp_path):
    ratio, about, text, _ = combine_altered(tmp_path, "scale", names=("run-1", "run-2"))
    assert ratio == pytest.approx(1, abs=0.05)
    assert about["RunScales"]["run-2"] == pytest.approx(3, rel=0.01)
    assert about["RunWeights"] == {"run-1": 0.5, "run-2": 0.5}
    assert "run-2: the signal is 3 times the signal of run-1" in text


@pytest.mark.parametrize("kind", ["wrong log", "mirrored", "other head"])
def test_a_run_that_disagrees_is_left_out_and_named(tmp_path, kind):
    ratio, about, text, page = combine_altered(tmp_path, kind)
    assert ratio == pytest.approx(1, abs=0.05)
    assert list(about["RunWeights"]) == ["run-1", "run-3"]
    assert list(about["RunsLeftOut"]) == ["run-2"]
    assert "run-2: this run disagrees with other runs" in text
    assert "Left out: run-2 (" in page.read_text()


def test_a_noisy_run_is_not_left_out_and_can_be_weighted(tmp_path):
    ratio, about, *_ = combine_altered(tmp_path / "equal", "noisy")
    assert ratio == pytest.approx(1, abs=0.05)
    assert about["RunsLeftOut"] == {}
    _, weighted, *_ = combine_altered(
        tmp_path / "precision", "noisy", "--set", "activation.combine_weights=precision"
    )
    weights = weighted["RunWeights"]
    # thermal noise alone has a variance of 4, and of 40 in the second run, in which residual head
    # motion adds to it
    assert weights["run-1"] / weights["run-2"] > 8
