"""The phantom at rest: time courses of networks, no events, and a truth of where they are."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest

from bids_sr.config import UsageError
from bids_sr.phantom.activity import FOCI
from bids_sr.phantom.bold_run import bold_run
from bids_sr.phantom.physiology import _BAND, Fluctuations
from bids_sr.phantom.presets import PRESETS, TASKS
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.study import Study


@pytest.mark.parametrize("seconds", [40.0, 120.0, 450.0])
def test_courses_are_slow_of_unit_variance_and_share_nothing(seconds: float) -> None:
    names = TASKS["rest"]
    courses = Fluctuations(np.random.default_rng(2), names, seconds)
    times = np.arange(0.0, seconds, 0.5)
    values = np.stack([courses(name, times) for name in names])
    npt.assert_allclose(values.std(axis=1), 1.0, atol=0.08)
    npt.assert_allclose(np.corrcoef(values), np.eye(3), atol=0.06)
    power = np.abs(np.fft.rfft(values - values.mean(axis=1, keepdims=True), axis=1)) ** 2
    frequencies = np.fft.rfftfreq(times.size, 0.5)
    outside = (frequencies > _BAND[1] + 1.5 / seconds) | (frequencies < _BAND[0] - 1.5 / seconds)
    assert power[:, outside].sum() < 0.05 * power.sum()


def test_every_place_belongs_to_the_network_that_a_seed_is_known_by() -> None:
    from bids_sr.config.seeds import DEFAULT_SEEDS

    networks = {name for place in FOCI.values() for name in place.driven_by} - set(TASKS["tap"])
    assert set(DEFAULT_SEEDS) == networks == set(TASKS["rest"])
    assert all(
        len(place.driven_by) == 1 for place in FOCI.values() if networks & set(place.driven_by)
    )


def test_a_voxel_follows_its_network_as_much_as_the_truth_says() -> None:
    """Without noise the course of each network is found in its voxels, and the other's is not."""
    from bids_sr.phantom.ground_truth import effects

    run = bold_run(SimulatedSubject(PRESETS["tiny"], "ribbon", seed=3, task="rest"))
    assert run.events == []
    _, true = effects([run])
    assert set(true) == {"motor", "defaultMode"}  # no visual cortex in the field of view
    times = (np.arange(30)[:, None] * 2.0) + PRESETS["tiny"].slice_times
    rest, changes = run.parts
    courses = {name: run.courses(name, times) for name in changes}
    volumes = np.stack(
        [
            run.scanner.moving(
                rest, np.eye(4), changes, {name: course[t] for name, course in courses.items()}
            )
            for t in range(30)
        ]
    )
    for name, other in (("motor", "defaultMode"), ("defaultMode", "motor")):
        coarse = true[name].reshape(40, 2, 40, 2, 14).mean(axis=(1, 3))
        x, y, z = np.unravel_index(coarse.argmax(), coarse.shape)
        design = np.column_stack([courses[name][:, z], courses[other][:, z], np.ones(30)])
        found = np.linalg.lstsq(design, volumes[:, x, y, z], rcond=None)[0]
        assert found[0] == pytest.approx(coarse.max(), rel=0.35)  # blurred by the readout
        assert abs(found[1]) < 0.1 * found[0]


@pytest.mark.slow
def test_a_data_set_at_rest_has_no_events_and_a_truth_of_networks(tmp_path: Path) -> None:
    make_dataset(tmp_path / "rest", Study(preset="tiny", seed=5, task="rest", volumes=40))
    func = tmp_path / "rest" / "sub-01" / "func"
    assert sorted(path.name for path in func.iterdir()) == [
        "sub-01_task-rest_bold.json",
        "sub-01_task-rest_bold.nii.gz",
    ]
    truth = (
        tmp_path / "rest" / "derivatives" / "ground-truth" / "sub-01" / "func" / "sub-01_task-rest"
    )
    effect = nib.load(f"{truth}_res-hr_contrast-motor_stat-effect_desc-truth_statmap.nii.gz")
    assert effect.shape == (80, 80, 14)
    percent = nib.load(
        f"{truth}_res-hr_contrast-motor_stat-psc_desc-truth_statmap.nii.gz"
    ).get_fdata()
    assert 0.3 < percent.max() < 1.6
    assert not Path(
        f"{truth}_res-hr_contrast-visual_stat-effect_desc-truth_statmap.nii.gz"
    ).exists()
    courses = pd.read_csv(f"{truth}_desc-truth_timeseries.tsv", sep="\t")
    assert list(courses) == list(TASKS["rest"])
    assert len(courses) == 40
    assert nib.load(func / "sub-01_task-rest_bold.nii.gz").shape[3] == 40
    foci = pd.read_csv(f"{truth}_desc-truth_foci.tsv", sep="\t")
    assert set(foci["conditions"]) == {"motor", "defaultMode"}
    with pytest.raises(UsageError, match="one of tap, rest"):
        Study(task="nap")
    with pytest.raises(UsageError, match="a run of the preset tiny must have at least 31 volumes"):
        Study(preset="tiny", task="rest", volumes=20)
