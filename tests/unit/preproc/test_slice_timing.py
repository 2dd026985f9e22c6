"""Test slice timing: a sinusoid sampled at slice times is recovered at the common time; only time
changes.
"""

import numpy as np
import pytest

from bids_sr.io.volume_times import reference_time
from bids_sr.preproc.slice_timing import correct_slice_timing

TR = 2.0


class _Memory:
    """Series in memory as reader and writer."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape = data, data.shape
        self.out = np.full_like(data, np.nan)

    def slab(self, z: int) -> np.ndarray:
        return self.data[:, :, z : z + 1].copy()

    def put_slab(self, z0: int, slab: np.ndarray) -> None:
        self.out[:, :, z0 : z0 + slab.shape[2]] = slab


def _sampled(times: np.ndarray, frequency: float, volumes: int = 80) -> np.ndarray:
    moments = np.arange(volumes) * TR + times[:, None]
    wave = 100 + np.sin(2 * np.pi * frequency * moments + 0.3)
    return np.broadcast_to(wave, (3, 20, *wave.shape)).astype(np.float32).copy()


@pytest.mark.parametrize(("frequency", "bound"), [(0.01, 1e-3), (0.075, 5e-3), (0.125, 0.03)])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_sinusoid_is_recovered_at_the_common_time(
    frequency: float, bound: float, fraction: float
) -> None:
    """Frequencies are 0.02, 0.15 and 0.25 of the sampling rate, away from the ends; the
    amplitude is 1.
    """
    times = np.array([0.0, 1.0, 0.4, 1.4, 1.9])
    series = _Memory(_sampled(times, frequency))
    moment = reference_time(times, fraction)
    correct_slice_timing(series, series, times, TR, moment)
    expected = _sampled(np.full(5, moment), frequency)
    inner = slice(8, -8)
    np.testing.assert_allclose(series.out[..., inner], expected[..., inner], rtol=0, atol=bound)
    assert np.abs(series.data - expected)[..., inner].max() > 0.02  # A correction was necessary.


def test_dummy_volumes_are_copied_and_have_no_influence() -> None:
    data = _sampled(np.array([0.0, 1.5]), 0.05)
    brighter = data.copy()
    brighter[..., :4] *= 5
    steady, transient = _Memory(data), _Memory(brighter)
    for series in (steady, transient):
        correct_slice_timing(series, series, [0.0, 1.5], TR, 0.75, n_dummy=4)
    np.testing.assert_array_equal(transient.out[..., :4], brighter[..., :4])
    np.testing.assert_array_equal(transient.out[..., 4:], steady.out[..., 4:])


def test_invalid_slice_times_are_rejected() -> None:
    series = _Memory(np.zeros((2, 2, 3, 9), np.float32))
    with pytest.raises(ValueError, match="2 slice times were given for 3 slices"):
        correct_slice_timing(series, series, [0, 1], TR, 1.0)
    with pytest.raises(ValueError, match="repetition time"):
        correct_slice_timing(series, series, [0, 1, 2.5], TR, 1.0)
