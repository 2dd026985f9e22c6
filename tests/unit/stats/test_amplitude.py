"""Amplitude of slow fluctuations: a known amplitude put in and found, what is left out, halves; and known networks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.stats.evaluation.reference_maps import sorting
from bids_sr.stats.glm.regressors import Seeds
from bids_sr.stats.glm.statmaps import ActivationSettings, amplitude_model, cosines_within, map_activation

T, TR, BAND = 200, 2.0, (0.01, 0.1)


def nuisance(n: int = T) -> np.ndarray:
    return np.column_stack([np.ones(n), np.linspace(-1, 1, n)])


def sine(hz: float, amplitude: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * TR * np.arange(T) + 0.4)


def test_the_amplitude_of_a_slow_sine_is_found_and_that_of_a_fast_one_is_not() -> None:
    model = amplitude_model(nuisance(), TR, BAND)
    block = np.stack([1000 + sine(0.05, 7), 1000 + sine(0.2, 7), 1000 + sine(0.05, 7) + sine(0.2, 7)], axis=1)
    alff, falff, first, second = model.fit((block + 50 * nuisance()[:, 1:]).astype(np.float32))
    assert alff[[0, 2]] == pytest.approx(7 / np.sqrt(2), rel=0.03)
    assert alff[1] < 0.3
    assert falff == pytest.approx([1.0, 0.0, np.sqrt(0.5)], abs=0.05)
    assert first[0] == pytest.approx(alff[0], rel=0.06)
    assert second[0] == pytest.approx(alff[0], rel=0.06)


def test_white_noise_has_its_share_of_the_band() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (T, 4000)).astype(np.float32)
    alff, falff, *_ = amplitude_model(nuisance(), TR, BAND).fit(noise)
    share = (BAND[1] - BAND[0]) / (0.5 / TR)
    assert np.mean(alff**2) == pytest.approx(25 * share, rel=0.05)
    assert np.mean(falff**2) == pytest.approx(share, rel=0.05)


def test_what_does_not_vary_has_no_amplitude_and_short_runs_are_refused() -> None:
    found = amplitude_model(nuisance(), TR, BAND).fit(np.full((T, 2), 1000, dtype=np.float32))
    assert found == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="hold nothing between"):
        cosines_within(3, 0.5, (0.01, 0.1))


def test_two_networks_are_found_again_with_their_amplitude(tmp_path: Path) -> None:
    """Two networks of .01 to .1 Hz, of known size and place, with noise: correlation, effect and amplitude."""
    rng = np.random.default_rng(1)
    courses = rng.normal(size=(T, 2))
    band = cosines_within(T, TR, BAND)
    courses, _ = np.linalg.qr(band @ (band.T @ courses))
    courses *= np.sqrt(T)
    where = np.zeros((12, 8, 4), dtype=int)  # 0 none, 1 and 2 the networks
    where[:4], where[8:] = 1, 2
    size = np.array([0.0, 12.0, 12.0])[where]
    data = 1000 + rng.normal(0, 8, (*where.shape, T)).astype(np.float32)
    for network in (1, 2):
        data += (size * (where == network))[..., None] * courses[:, network - 1]
    save_image(data.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]), tmp_path / "bold.nii", tr=TR)
    table = pd.DataFrame(courses, columns=["one", "two"])
    settings = ActivationSettings(tr=TR, confound_names=(), band=BAND)
    with SeriesReader(tmp_path / "bold.nii") as reader:
        found = map_activation(
            reader, np.ones(where.shape, dtype=bool), Seeds(table), {"one": {"one": 1.0}, "two": {"two": 1.0}},
            settings, scratch=tmp_path / "scratch.raw",
        )  # fmt: skip
    for number, name in enumerate(("one", "two"), 1):
        effect = found.maps[name, "effect"]
        assert effect[where == number].mean() == pytest.approx(12, rel=0.05)
        assert np.abs(effect[where != number].mean()) < 0.3
        told = sorting((found.maps[name, "cc"] >= 0.5).ravel(), (where == number).ravel())
        assert told["acc"] > 0.98
        assert told["fdr"] < 0.02
        assert told["jaccard"] > 0.95
    assert found.amplitudes is not None
    alff = found.amplitudes.alff
    white = 8**2 * (BAND[1] - BAND[0]) * 2 * TR
    assert alff[where > 0].mean() == pytest.approx(np.sqrt(12**2 + white), rel=0.05)
    assert alff[where == 0].mean() == pytest.approx(np.sqrt(white), rel=0.05)
    assert found.amplitudes.falff[where > 0].mean() > 0.85 > found.amplitudes.falff[where == 0].max()
    assert found.amplitudes.half_r > 0.9


def test_nothing_found_has_no_false_discovery_rate() -> None:
    none = np.zeros(4, dtype=bool)
    some = np.array([True, False, False, False])
    found = sorting(none, some)
    assert found["acc"] == 0.75
    assert np.isnan(found["fdr"])
    assert found["jaccard"] == 0.0
    assert np.isnan(sorting(none, none)["jaccard"])
