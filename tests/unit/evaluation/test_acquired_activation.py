"""Test whether a series keeps the activation of the acquired run, with known signal and noise."""

import numpy as np
import pytest

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.acquired_activation import (
    active_voxels,
    compare_with_acquired,
    find_lost_activation,
    kept_rows,
)
from bids_sr.evaluation.qc_flags import lost_activation_flags

SHAPE = (24, 24, 12)
MASK = np.ones(SHAPE, bool)
SD = 1.5


def scene(seed: int, height: float = 9.0) -> tuple[np.ndarray, ...]:
    """Return signal, noise and noise variance of an acquired effect map."""
    rng = np.random.default_rng(seed)
    signal = np.zeros(SHAPE)
    signal[4:12, 5:11, 3:8] = height * rng.uniform(0.7, 1.3, (8, 6, 5))
    return signal, SD * rng.standard_normal(SHAPE), np.full(SHAPE, SD**2)


def kept(effect: np.ndarray, signal: np.ndarray, noise: np.ndarray, variance: np.ndarray):
    acquired = signal + noise
    active = active_voxels(acquired / np.sqrt(variance), MASK)
    assert active is not None
    return compare_with_acquired(effect, acquired, variance, active)


@pytest.mark.parametrize(("gain", "lost"), [(1.0, False), (0.6, False), (0.4, True), (0.0, True)])
@pytest.mark.parametrize("noise_gain", [0.0, 1.0])
def test_the_slope_is_the_gain_of_signal_and_noise(
    gain: float, noise_gain: float, lost: bool
) -> None:
    """Removed noise is not lost activation, and noise that is kept does not replace a signal."""
    signal, noise, variance = scene(0)
    result = kept(gain * signal + noise_gain * noise, signal, noise, variance)
    reliability = result.reliability
    assert reliability == pytest.approx(
        float((signal**2).sum() / (signal**2 + SD**2)[signal > 0].sum()), abs=0.02
    )
    expected = reliability * gain + (1 - reliability) * noise_gain
    assert result.slope == pytest.approx(expected, abs=0.03)
    assert result.is_lost is lost
    if gain == 1.0 and not noise_gain:
        assert result.r == pytest.approx(reliability**0.5, abs=0.01)


def test_a_map_with_more_other_energy_than_activation_is_lost() -> None:
    signal, noise, variance = scene(1)
    other = np.random.default_rng(2).standard_normal(SHAPE) * np.sqrt(
        (signal**2)[signal > 0].mean()
    )
    for amount, lost in ((0.7, False), (1.4, True)):
        result = kept(signal + noise + amount * other, signal, noise, variance)
        assert result.slope == pytest.approx(1.0, abs=0.15)
        assert result.r == pytest.approx((1 + amount**2) ** -0.5, abs=0.05)
        assert result.is_lost is lost


def test_voxels_that_may_be_noise_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    t = rng.standard_normal(SHAPE)
    assert active_voxels(t, MASK) is None
    t[:4, 0, 0] = 9
    assert active_voxels(t, MASK) is None
    t[:6, 0, 0] = 9
    active = active_voxels(t, MASK)
    assert active is not None
    assert active.sum() == 6
    large = np.zeros((60, 60, 60))  # noise alone makes 14 of these voxels active
    large[:40, 0, 0] = 9
    assert active_voxels(large, np.ones(large.shape, bool)) is None
    few = np.zeros(SHAPE, bool)
    few[:4, 0, 0] = True
    assert active_voxels(np.full(SHAPE, 9.0), few) is None


def test_flags_name_contrasts_lost_at_every_smoothing_and_sentences_the_worst() -> None:
    signal, noise, variance = scene(3)
    by_contrast = {
        "thumb": {width: kept(0.1 * signal, signal, noise, variance) for width in (0.0, 5.0)},
        "little": {0.0: kept(0.3 * signal, signal, noise, variance)},
        "wrist": {
            0.0: kept(0.4 * signal, signal, noise, variance),
            5.0: kept(signal, signal, noise, variance),
        },
    }
    good = {"thumb": by_contrast["wrist"]}
    flags = lost_activation_flags({"srgan": by_contrast, "sbl": good, "bspline": {}})
    assert [(flag.series, flag.raised) for flag in flags] == [
        ("srgan", True),
        ("sbl", False),
        ("bspline", None),
    ]
    named = [name for name in by_contrast if name in flags[0].text]
    assert named == ["thumb", "little"], "wrist is kept after smoothing"
    rows: list[MetricRow] = [flag.row() for flag in flags]
    for name, results in (("srgan", by_contrast), ("sbl", good)):
        rows += kept_rows(name, results)
    values = {(row.series, row.statistic, row.contrast, row.fwhm_mm): row for row in rows}
    thumb = by_contrast["thumb"][5.0]
    assert values["srgan", "acquired_slope", "thumb", 5.0].value == thumb.slope
    assert values["srgan", "acquired_r", "thumb", 5.0].n == thumb.voxels
    lost = find_lost_activation(rows, ["sbl", "srgan"])
    assert list(lost) == ["srgan"]
    assert lost["srgan"].contrast == "thumb"
