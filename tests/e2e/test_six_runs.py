"""Six runs of one participant with known effects, and motion of the head between the runs."""

import json

import nibabel as nib
import numpy as np
import pytest
from data.many_runs import write_runs
from data.simulated_run import EFFECTS, SHAPE, ZOOMS, centered
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_sr.io.map_metadata import select_map_metadata

from .conftest import run_participants

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
NAMES = [f"task-tap_run-{run}" for run in range(1, 7)]
POSES = {
    NAMES[1]: ((2.4, -1.7, 1.1), (0.0, 0.0, 2.0)),
    NAMES[2]: ((-1.2, 2.9, -2.2), (1.5, -1.0, 0.5)),
    NAMES[3]: ((0.6, 0.4, 3.3), (-2.5, 0.0, 1.0)),
}
"""Translation (mm) and rotation (degrees) of the field of view, by name of the run."""
SHIFTS_MM = {NAMES[4]: (1.5, -2.0, 0.0), NAMES[5]: (-3.0, 1.0, 2.0)}
"""Shift of the head in the field of view (mm), by name of the run."""


def moved_affine(translation, degrees):
    """Return the affine of a field of view with another pose."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    pose[:3, 3] = translation
    return pose @ centered(SHAPE, ZOOMS)


@pytest.fixture(scope="module")
def six_runs(tmp_path_factory):
    """Return the folder of the maps, and the scene of the first run."""
    base = tmp_path_factory.mktemp("six")
    scenes = {name: {"affine": moved_affine(*pose)} for name, pose in POSES.items()}
    scene = write_runs(base, NAMES, scenes=scenes, shifts_mm=SHIFTS_MM)
    options = "--sr-method bspline --sr-factor 2 --set run.sloppy=true --skip-bids-validation"
    options += " --level full"  # variance maps of the acquired series
    finished = run_participants(base / "bids", base, *options.split(), "--contrasts", *EFFECTS)
    return finished.out / "sub-01" / "func", scene


def load(folder, contrast, stat):
    stem = "sub-01_task-tap_space-firstBoldref"
    shared = json.loads((folder / f"{stem}_desc-acquired_statmap.json").read_text())
    image = folder / f"{stem}_contrast-{contrast}_stat-{stat}_desc-acquired_statmap.nii.gz"
    return nib.load(image).get_fdata(), select_map_metadata(shared, contrast, stat)


@pytest.mark.parametrize("contrast", list(EFFECTS))
def test_the_effect_of_six_runs_is_within_noise_of_the_truth(six_runs, contrast):
    folder, scene = six_runs
    (effect, about), (variance, _) = (load(folder, contrast, s) for s in ("effect", "variance"))
    assert about["RunWeights"] == dict.fromkeys((name.split("_")[1] for name in NAMES), 0.166667)
    known, truth = variance > 0, scene.truth(contrast)
    regions = np.logical_or.reduce(list(scene.regions.values()))
    # an effect ends at a sharp edge, which no interpolation preserves
    edges = ndimage.binary_dilation(regions, iterations=2) & ~ndimage.binary_erosion(regions)
    error = (effect - truth)[known & ~edges] / np.sqrt(variance[known & ~edges])
    assert 0.85 < error.std() < 1.15
    # the sum over a region and its surroundings does not change by interpolation
    around = known & ndimage.binary_dilation(scene.regions[contrast], iterations=2)
    total, true_total = effect[around].sum(), truth[around].sum()
    standard_error = np.sqrt(variance[around].sum())
    assert abs(total - true_total) < 3.3 * standard_error


def test_noise_decreases_as_the_number_of_runs_increases(six_runs):
    folder, _ = six_runs
    variance, about = load(folder, "thumb", "variance")
    maps = [
        nib.load(
            folder / f"sub-01_{name}_space-boldref_contrast-thumb_stat-variance"
            "_desc-acquired_statmap.nii.gz"
        )
        for name in NAMES
    ]
    of_runs = [np.median(values[values > 0]) for values in (run.get_fdata() for run in maps)]
    ratio = np.median(variance[variance > 0]) / np.mean(of_runs)
    # interpolation averages noise, so that the variance can be smaller, but not by half
    assert 0.5 / 6 < ratio < 1.1 / 6
    inside = variance > 0
    personal, _ = load(folder, "thumb", "personsd")
    ratio = np.median(personal[inside] ** 2 / variance[inside])
    assert 0.6 < ratio < 1.6
    assert about["RunsLeftOut"] == {}
