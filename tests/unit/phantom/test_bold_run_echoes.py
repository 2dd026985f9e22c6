"""Echoes of the phantom: the BOLD effect grows with echo time, other fluctuations do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.validator import validation_errors

from bids_sr.config import Paths, Settings
from bids_sr.phantom.bold_run import SimulatedRun, simulate_echo
from bids_sr.phantom.ground_truth import simulate_effects
from bids_sr.phantom.sequences import TISSUES
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.study import Study
from bids_sr.preproc.multi_echo import fit_t2star
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.resampling import sample_volume
from bids_sr.survey.bids.collect import survey

TES = (0.013, 0.029, 0.045)
STILL = np.eye(4)


@pytest.fixture(scope="module")
def echoes(run: SimulatedRun) -> list[SimulatedRun]:
    return [simulate_echo(run, number, te) for number, te in enumerate(TES, 1)]


def resting(echoes: Sequence[SimulatedRun]) -> list[np.ndarray]:
    return [echo.simulate_still_volume() for echo in echoes]


def test_the_signal_decays_with_the_t2star_of_the_tissue(
    subject: SimulatedSubject, echoes: list[SimulatedRun]
) -> None:
    means = resting(echoes)
    white = sample_volume(
        subject.head.fractions["wm"], subject.head.affine, *subject.bold_grid, subject.bold_pose
    )
    veins = sample_volume(
        subject.head.veins, subject.head.affine, *subject.bold_grid, subject.bold_pose
    )
    pure = (white > 0.97) & (veins < 0.01)
    assert pure.sum() > 50
    estimate = fit_t2star([mean[pure] for mean in means], [1000 * te for te in TES])
    assert float(np.median(estimate)) == pytest.approx(1000 * TISSUES["wm"].t2s, rel=0.05)


def test_an_echo_at_the_preset_echo_time_equals_the_single_echo_run(
    run: SimulatedRun,
) -> None:
    echo = simulate_echo(run, 1, run.preset.te)
    np.testing.assert_array_equal(resting([echo])[0], run.simulate_still_volume())
    np.testing.assert_array_equal(echo.changes["thumb"], run.changes["thumb"])


def test_effects_equal_the_amplitude_of_the_foci(run: SimulatedRun) -> None:
    """Amplitudes are shares of the signal at the echo time of the preset."""
    (thumb,) = (focus for focus in run.subject.foci if focus.label == "thumb")
    expected = run.scanner.resample_scene(thumb.amplitude * run.scene)
    np.testing.assert_allclose(run.maps["thumb"], expected, atol=1e-4 * float(expected.max()))


def test_relative_non_bold_fluctuations_are_equal_at_all_echoes(null_run: SimulatedRun) -> None:
    """Simulate drift, breathing and pulse without motion and thermal noise."""
    still_run = replace(null_run, motion=np.tile(STILL, (60, 1, 1)))
    series = [
        np.stack(list(islice(simulate_echo(still_run, 1, te).volumes(2, noise=False), 30)), -1)
        for te in (TES[0], TES[2])
    ]
    brain = series[0].mean(-1) > 400
    first_echo, last_echo = (
        echo_series[brain][:, 8:] / echo_series[brain][:, 8:].mean(1, keepdims=True) - 1
        for echo_series in series
    )
    assert float((first_echo * last_echo).sum() / (first_echo**2).sum()) == pytest.approx(
        1.0, abs=0.03
    )
    assert np.corrcoef(first_echo.ravel(), last_echo.ravel())[0, 1] > 0.99


def test_thermal_noise_is_equal_and_independent_at_all_echoes(
    run: SimulatedRun, echoes: list[SimulatedRun]
) -> None:
    noise = []
    for echo in echoes[:2]:
        quiet, noisy = (next(echo.volumes(noise=noise)) for noise in (False, True))
        noise.append((noisy - quiet)[quiet > 400])
    sigma = run.sigma
    assert [float(values.std()) for values in noise] == pytest.approx([sigma, sigma], rel=0.08)
    first, second = (next(echo.volumes()) - next(echo.volumes(noise=False)) for echo in echoes[:2])
    inside = next(echoes[1].volumes(noise=False)) > 400
    assert abs(np.corrcoef(first[inside], second[inside])[0, 1]) < 0.1


def test_known_effects_are_those_of_the_optimal_combination(
    run: SimulatedRun, echoes: list[SimulatedRun]
) -> None:
    """Weights are TE exp(-TE / T2*), scaled to a sum of 1 (Posse et al. 1999)."""
    means = resting(echoes)
    t2star = fit_t2star([mean.ravel() for mean in means], [1000 * te for te in TES])
    weights = [te * np.exp(-1000 * te / t2star).reshape(means[0].shape) for te in TES]
    active = [echo.simulate_still_volume(thumb=1.0) for echo in echoes]
    change = sum(
        weight * (image - mean) for weight, image, mean in zip(weights, active, means, strict=True)
    ) / sum(weights)
    quiet, true = simulate_effects(echoes)
    low = kspace_crop(true["thumb"], STILL, factor=(2, 2, 1))[0]
    strong = low > 0.3 * low.max()
    assert float((change[strong] * low[strong]).sum() / (low[strong] ** 2).sum()) == pytest.approx(
        1.0, abs=0.15
    )
    single = simulate_effects([run])[1]["thumb"]
    assert float(np.abs(true["thumb"] - single).max()) > 0.05 * float(single.max())
    assert set(true) == {"thumb", "little"}
    assert quiet.shape == single.shape


@pytest.mark.slow
def test_files_of_a_multi_echo_run_are_valid_and_found(tmp_path: Path) -> None:
    make_dataset(tmp_path, Study(preset="tiny", seed=5, echoes=(13.0, 29.0, 45.0)))
    assert validation_errors(tmp_path) == []
    func = tmp_path / "sub-01" / "func"
    stems = [f"sub-01_task-tap_echo-{k}_bold" for k in (1, 2, 3)]
    files = {f"{stem}.{extension}" for stem in stems for extension in ("json", "nii.gz")}
    assert {path.name for path in func.iterdir()} == files | {"sub-01_task-tap_events.tsv"}
    sidecars = [json.loads((func / f"{stem}.json").read_text()) for stem in stems]
    assert [sidecar["EchoTime"] for sidecar in sidecars] == [0.013, 0.029, 0.045]
    means = [float(np.asarray(nib.load(func / f"{stem}.nii.gz").dataobj).mean()) for stem in stems]
    assert means == sorted(means, reverse=True)
    plan = survey(Settings(paths=Paths(bids_dir=tmp_path, output_dir=tmp_path / "out")))
    assert plan.problems == []
    (run,) = plan.subjects[0].runs
    assert [te for _, te in run.echoes] == pytest.approx([13.0, 29.0, 45.0])
