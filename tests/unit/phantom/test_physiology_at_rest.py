"""The phantom at rest: time series of networks, no events, and known network maps."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest

from bids_sr.phantom.bold_run import simulate_bold_run
from bids_sr.phantom.physiology import Fluctuations
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.simulated_subject import TASKS, SimulatedSubject
from bids_sr.phantom.study import Study


@pytest.mark.parametrize("seconds", [40.0, 120.0, 450.0])
def test_network_signals_are_slow_uncorrelated_and_of_unit_variance(seconds: float) -> None:
    names = TASKS["rest"]
    fluctuations = Fluctuations(np.random.default_rng(2), names, seconds)
    times = np.arange(0.0, seconds, 0.5)
    values = np.stack([fluctuations(name, times) for name in names])
    npt.assert_allclose(values.std(axis=1), 1.0, atol=0.08)
    npt.assert_allclose(np.corrcoef(values), np.eye(3), atol=0.06)
    power = np.abs(np.fft.rfft(values - values.mean(axis=1, keepdims=True), axis=1)) ** 2
    frequencies = np.fft.rfftfreq(times.size, 0.5)
    # the band of connectivity at rest is .01 to .1 Hz
    outside = (frequencies > 0.1 + 1.5 / seconds) | (frequencies < 0.01 - 1.5 / seconds)
    assert power[:, outside].sum() < 0.05 * power.sum()


def test_voxels_follow_their_network_with_the_known_amplitude() -> None:
    """Without noise, voxels contain the signal of their own network only."""
    from bids_sr.phantom.ground_truth import simulate_effects

    run = simulate_bold_run(SimulatedSubject(PRESETS["tiny"], "ribbon", seed=3, task="rest"))
    assert run.events == []
    _, true = simulate_effects([run])
    assert set(true) == {"motor", "defaultMode"}  # no visual cortex in the field of view
    times = (np.arange(30)[:, None] * 2.0) + PRESETS["tiny"].slice_times
    rest, changes = run.prepared_scenes
    signals = {name: run.responses(name, times) for name in changes}
    volumes = np.stack(
        [
            run.scanner.acquire_moving(
                rest, np.eye(4), [(change, signals[name][t]) for name, change in changes.items()]
            )
            for t in range(30)
        ]
    )
    for name, other_name in (("motor", "defaultMode"), ("defaultMode", "motor")):
        low_resolution = true[name].reshape(40, 2, 40, 2, 14).mean(axis=(1, 3))
        x, y, z = np.unravel_index(low_resolution.argmax(), low_resolution.shape)
        design = np.column_stack([signals[name][:, z], signals[other_name][:, z], np.ones(30)])
        coefficients = np.linalg.lstsq(design, volumes[:, x, y, z], rcond=None)[0]
        assert coefficients[0] == pytest.approx(
            low_resolution.max(), rel=0.35
        )  # blurred by the readout
        assert abs(coefficients[1]) < 0.1 * coefficients[0]


@pytest.mark.slow
def test_a_dataset_at_rest_has_no_events_and_known_network_maps(tmp_path: Path) -> None:
    make_dataset(tmp_path, Study(preset="tiny", seed=5, task="rest", volumes=40))
    func = tmp_path / "sub-01" / "func"
    assert {path.name for path in func.iterdir()} == {
        "sub-01_task-rest_bold.json",
        "sub-01_task-rest_bold.nii.gz",
    }
    assert nib.load(func / "sub-01_task-rest_bold.nii.gz").shape[3] == 40
    truth = tmp_path / "derivatives" / "ground-truth" / "sub-01" / "func"
    maps = {
        tuple(path.name.split("_")[3:5]): nib.load(path)
        for path in truth.glob("*res-hr_contrast-*_statmap.nii.gz")
    }
    assert {contrast for contrast, _ in maps} == {"contrast-motor", "contrast-defaultMode"}
    assert maps["contrast-motor", "stat-effect"].shape == (80, 80, 14)
    assert 0.3 < maps["contrast-motor", "stat-effect"].get_fdata().max() < 1.6
    signals = pd.read_csv(truth / "sub-01_task-rest_desc-truth_timeseries.tsv", sep="\t")
    assert list(signals) == list(TASKS["rest"])
    assert len(signals) == 40
    foci = pd.read_csv(truth / "sub-01_task-rest_desc-truth_foci.tsv", sep="\t")
    assert set(foci["conditions"]) == {"motor", "defaultMode"}
