"""The response of the settings in the columns of designs, in contrasts and in block models."""

import numpy as np
import pandas as pd
import pytest
from data.events import make_events
from nilearn.glm.first_level import compute_regressor, glover_hrf, spm_hrf
from scipy.signal import fftconvolve
from scipy.stats import gamma

from bids_sr.glm.activation_maps import ActivationSettings
from bids_sr.glm.blocks import block_design
from bids_sr.glm.cross_correlation import filter_of_design
from bids_sr.glm.design import Design, DesignSettings, build_design, contrast_vector, frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.inseparable_types import find_inseparable_types
from bids_sr.glm.map_sidecars import model_text
from bids_sr.glm.regressors import Events
from bids_sr.glm.type_roles import assign_roles

N_VOLUMES, TR, N_DUMMY = 120, 1.5, 3
STEP_ERROR = 0.003  # nilearn delays events by up to two samples, here 10 ms
BLOCKS = [(10.0, 8.0, "a"), (40.0, 8.0, "b"), (75.0, 8.0, "a"), (101.0, 8.0, "b"), (140, 8, "a")]


def settings(hrf_model: str) -> DesignSettings:
    return DesignSettings(hrf=HemodynamicResponse(hrf_model=hrf_model))


def design(hrf_model: str, rows: list[tuple[float, float, str]] = BLOCKS) -> Design:
    confounds = pd.DataFrame({"trans_x": np.sin(np.arange(N_VOLUMES) / 3)})
    return build_design(
        make_events(rows),
        settings(hrf_model),
        n_volumes=N_VOLUMES,
        tr=TR,
        n_dummy=N_DUMMY,
        confounds=confounds,
        confound_names=("trans_x",),
    )


def nilearn_columns(hrf_model: str, condition: str, oversampling: int = 300) -> np.ndarray:
    spans = [(onset, duration, 1.0) for onset, duration, name in BLOCKS if name == condition]
    times = frame_times(N_VOLUMES, TR)
    columns, _ = compute_regressor(
        np.transpose(spans), hrf_model, times, oversampling=oversampling, min_onset=-24
    )
    return np.asarray(columns)[N_DUMMY:]


@pytest.mark.parametrize("hrf_model", ["spm", "glover", "spm + derivative", "glover + derivative"])
def test_columns_are_those_of_nilearn(hrf_model: str) -> None:
    model = design(hrf_model)
    assert model.conditions == ("a", "b")
    expected = [nilearn_columns(hrf_model, name) for name in "ab"]
    np.testing.assert_allclose(
        model.matrix[:, :2], np.stack([c[:, 0] for c in expected], 1), atol=STEP_ERROR
    )
    derivatives = ("a_derivative", "b_derivative") if "+" in hrf_model else ()
    assert model.derivatives == derivatives
    assert model.columns[: 2 + len(derivatives)] == ("a", "b", *derivatives)
    for column, values in zip(derivatives, expected, strict=bool(derivatives)):
        np.testing.assert_allclose(
            model.matrix[:, model.columns.index(column)], values[:, 1], atol=STEP_ERROR
        )


def test_contrasts_and_nuisance_exclude_derivatives() -> None:
    model, plain = design("spm + derivative"), design("spm")
    vector = contrast_vector(model, "a-b", {"a": 1.0, "b": -1.0})
    assert dict(zip(model.columns, vector, strict=True)) == {
        **dict.fromkeys(model.columns, 0.0),
        "a": 1.0,
        "b": -1.0,
    }
    assert model.nuisance_columns == plain.nuisance_columns == ("trans_x",)
    assert model.dof == plain.dof - 2
    trend, _ = filter_of_design(model, 0.1, with_confounds=True)
    np.testing.assert_allclose(trend, filter_of_design(plain, 0.1, with_confounds=True)[0])
    assert model_text("t", model, ActivationSettings())["HRF"] == "spm + derivative"
    assert model_text("cc", model, ActivationSettings())["HRF"] == "spm"
    assert model_text("t", model, ActivationSettings())["Confounds"] == ["trans_x"]


def test_a_type_that_repeats_the_derivative_of_another_is_reported_as_inseparable_from_types():
    """Two early and late copies of a response differ by its derivative."""
    rows = [(onset + shift, 8.0, name) for onset, _, _ in BLOCKS for shift, name in SHIFTS]
    for hrf_model, expected in (("spm", []), ("spm + derivative", ["types"])):
        model = design(hrf_model, rows)
        information = assign_roles(
            ("a", "b"), make_events(rows), model, n_volumes=N_VOLUMES
        ).information
        groups = find_inseparable_types(model, information)
        assert [group.partner for group in groups] == expected


SHIFTS = ((0.0, "a"), (1.5, "b"))


@pytest.mark.parametrize("function", ["spm", "glover"])
def test_block_models_have_the_main_column_of_the_response(function: str) -> None:
    options = {"n_volumes": N_VOLUMES, "tr": TR, "n_dummy": N_DUMMY, "confound_names": ()}
    with_derivative = block_design(
        make_events(BLOCKS), settings(f"{function} + derivative"), **options
    )
    np.testing.assert_array_equal(
        with_derivative.matrix,
        block_design(make_events(BLOCKS), settings(function), **options).matrix,
    )
    blocks_of_a = with_derivative.matrix[:, [0, 2, 4]].sum(axis=1)
    np.testing.assert_allclose(blocks_of_a, nilearn_columns(function, "a")[:, 0], atol=STEP_ERROR)


@pytest.mark.parametrize(("function", "hrf"), [("spm", spm_hrf), ("glover", glover_hrf)])
def test_the_response_to_a_block_without_end_is_the_integral_of_the_function(
    function, hrf
) -> None:
    impulse = hrf(t_r=1.0, oversampling=100, time_length=60.0)
    expected = np.cumsum(impulse) / impulse.sum()
    times = np.arange(len(impulse)) / 100
    main, derivative = HemodynamicResponse(hrf_model=f"{function} + derivative").integrate(times)
    np.testing.assert_allclose(main, expected, atol=0.01)
    # nilearn delays the response by .1 s for its derivative
    np.testing.assert_allclose(derivative[10:], (main[10:] - main[:-10]) / 0.1, atol=1e-9)
    assert not HemodynamicResponse(hrf_model=function).integrate(np.array([-9.0, -1.0])).any()


FINE_STEP_S = 0.005
DENSITIES = {
    "spm": lambda lags: gamma.pdf(lags, 6) - gamma.pdf(lags, 16) / 6,
    "glover": lambda lags: (
        gamma.pdf(lags, 6 / 0.9, scale=0.9) - 0.48 * gamma.pdf(lags, 12 / 0.9, scale=0.9)
    ),
}


def convolve(
    rows: list[tuple[float, float, float]], function: str, times: np.ndarray
) -> np.ndarray:
    """Return the response to onsets, durations and amplitudes, sampled every 5 ms."""
    start = min(onset for onset, _, _ in rows) - 1
    stimulus = np.zeros(round((times[-1] - start) / FINE_STEP_S) + 1)
    for onset, duration, amplitude in rows:
        first = round((onset - start) / FINE_STEP_S)
        n_samples = max(1, round(duration / FINE_STEP_S))
        area = duration or 1.0
        stimulus[first : first + n_samples] += amplitude * area / (n_samples * FINE_STEP_S)
    kernel = DENSITIES[function](np.arange(0, 100, FINE_STEP_S) + FINE_STEP_S / 2)
    response = fftconvolve(stimulus, kernel / kernel.sum())[: len(stimulus)]
    return np.interp(times, start + (np.arange(len(stimulus)) + 1) * FINE_STEP_S, response)


def events_of_kind(kind: str, times: np.ndarray) -> list[tuple[float, float, float]]:
    rng = np.random.default_rng(5)
    end = float(times[-1]) - 5
    if kind == "sounds":  # before volumes, as in sparse sampling
        volumes = rng.choice(times[times < end], 20, replace=False)
        return [(float(volume) - 3, float(rng.choice([1, 1.5, 2])), 1.0) for volume in volumes]
    onsets = np.sort(rng.uniform(-60, end, 25)).round(2).tolist()
    if kind == "impulses":
        return [(onset, 0.0, 1.0) for onset in onsets]
    # long, overlapping and nested events with amplitudes; the first began long before the run
    return [
        (-900.0, 880.0, 1.0),
        *((onset, float(rng.integers(1, 70)), float(rng.normal())) for onset in onsets),
    ]


@pytest.mark.parametrize("kind", ["sounds", "impulses", "blocks"])
@pytest.mark.parametrize("function", ["spm", "glover"])
@pytest.mark.parametrize("tr", [0.1, 0.72, 2.0, 8.0, 14.0, 20.0])
def test_responses_equal_a_fine_convolution_at_any_repetition_time(
    tr: float, function: str, kind: str
) -> None:
    times = np.arange(max(60, round(200 / tr))) * tr + 0.4
    rows = events_of_kind(kind, times)
    table = pd.DataFrame(rows, columns=["onset", "duration", "modulation"])
    found = Events(table.assign(trial_type="a")).responses(
        times, HemodynamicResponse(hrf_model=function)
    )["a"][:, 0]
    expected = convolve(rows, function, times)
    assert np.abs(found - expected).max() < 0.005 * np.abs(expected).max()
    model = np.column_stack([found, np.ones(len(times))])
    assert np.linalg.lstsq(model, expected, rcond=None)[0][0] == pytest.approx(1, abs=0.002)
