"""Combine runs of one participant: known effects, sessions, a run without a contrast, and a second
call.
"""

import json

import nibabel as nib
import numpy as np
import pytest
from manyruns import write_runs
from simulatedrun import Scene, blocks

from .conftest import BIN, call

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
RUNS = [f"ses-a_task-tap_run-{run}" for run in (1, 2, 3)] + ["ses-b_task-tap_run-1"]


@pytest.fixture(scope="module")
def combined(tmp_path_factory):
    """Combine two runs with different head positions, a run with only one trial type, and two
    sessions.
    """
    base = tmp_path_factory.mktemp("combined")
    moved = Scene(base).affine.copy()
    moved[:3, 3] += [2.4, -1.7, 1.1]
    thumb = [event for event in blocks(48, 2.0) if event[2] == "thumb"]
    scenes = {RUNS[1]: {"affine": moved}, RUNS[2]: {"events": thumb}}
    scene = write_runs(base, RUNS, scenes=scenes)
    command = [str(BIN / "bids-sr"), str(base / "bids"), str(base / "out"), "participant"]
    command += ["--sr-method", "sbl", "--sr-factor", "2", "--sloppy", "--skip-bids-validation"]
    command += ["--contrasts", "thumb", "little", "-w", str(base / "work")]
    code, text, _ = call(command)
    assert code == 0, text
    return base / "out" / "sub-01", scene, command, text


def maps_of(folder, stem, contrast, label):
    """Return effect, variance and sidecar of combined maps."""
    resolution = "" if label == "raw" else "_res-hr"
    names = [
        folder / f"{stem}_space-boldref{resolution}_contrast-{contrast}_stat-{stat}_desc-{label}"
        "_statmap.nii.gz"
        for stat in ("effect", "variance")
    ]
    effect, variance = (nib.load(name).get_fdata() for name in names)
    sidecar = names[0].with_name(names[0].name.replace(".nii.gz", ".json"))
    return effect, variance, json.loads(sidecar.read_text())


@pytest.mark.parametrize("contrast", ["thumb", "little"])
def test_the_effect_is_within_noise_of_the_truth(combined, contrast):
    folder, scene, *_ = combined
    effect, variance, _ = maps_of(
        folder / "ses-a" / "func", "sub-01_ses-a_task-tap", contrast, "raw"
    )
    truth, inside_mask = scene.truth(contrast), variance > 0
    error = (effect - truth)[inside_mask] / np.sqrt(variance[inside_mask])
    assert 0.85 < error.std() < 1.15
    inside = inside_mask & (truth != 0)
    standard_error = np.sqrt(variance[inside].sum()) / inside.sum()
    assert abs((effect - truth)[inside].mean()) < 3.3 * standard_error


def test_a_run_without_the_contrast_is_listed_as_left_out(combined):
    folder, _, _, text = combined
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
    assert not list(func.glob("*space-boldref*stat-sd*"))


def test_sessions_are_combined_in_percent(combined):
    folder, scene, *_ = combined
    effect, variance, about = maps_of(folder / "func", "sub-01_task-tap", "little", "raw")
    assert list(about["RunWeights"]) == ["ses-a_run-1", "ses-a_run-2", "ses-b_run-1"]
    assert about["Units"] == "percent"
    reference = "bids::sub-01/ses-a/func/sub-01_ses-a_task-tap_run-1_desc-hmc_boldref.nii.gz"
    assert about["SpatialReference"] == reference
    truth = 100 * scene.truth("little") / scene.mean[scene.head].mean()
    inside = (variance > 0) & (truth != 0)
    assert effect[inside].mean() == pytest.approx(truth[inside].mean(), rel=0.05)


def test_every_source_exists(combined):
    folder, *_ = combined
    for path in folder.rglob("*space-boldref*_statmap.json"):
        for uri in json.loads(path.read_text())["Sources"]:
            assert (folder.parent / uri.removeprefix("bids::")).exists(), uri


def test_a_second_call_recomputes_nothing(combined):
    folder, _, command, _ = combined
    maps = sorted(folder.rglob("*space-boldref*_statmap.nii.gz"))
    before = {path: path.stat().st_mtime_ns for path in maps}
    code, text, _ = call(command)
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in maps} == before
    assert "combination of runs" not in text
