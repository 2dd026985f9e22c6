"""Recovery of a known effect from slices acquired during part of the repetition time."""

import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import compute_regressor

from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.regressors import Events
from bids_sr.io.volume_times import middle_of_acquisition, reference_time
from bids_sr.preproc.slice_timing import correct_slice_timing

N_VOLUMES, EFFECT = 120, 3.0


def series_of(onsets: list[float], duration: float, tr: float, moments: np.ndarray) -> np.ndarray:
    """Simulate the response of slices acquired at given times within a volume, (slices, T)."""
    fine = np.arange(0, N_VOLUMES * tr + 30, 0.05)
    timing = np.array([(onset, duration, 1.0) for onset in onsets]).T
    response = compute_regressor(timing, "spm", fine, oversampling=1, min_onset=-24)[0][:, 0]
    starts = np.arange(N_VOLUMES) * tr
    return EFFECT * np.stack([np.interp(starts + moment, fine, response) for moment in moments])


class SlicesInMemory:
    """Series that is read and written in memory."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape = data.copy(), data.shape

    def slab(self, z: int) -> np.ndarray:
        return self.data[:, :, z : z + 1].astype(np.float32)

    def put_slab(self, z0: int, slab: np.ndarray) -> None:
        self.data[:, :, z0 : z0 + slab.shape[2]] = slab


def effect_ratio(
    series: np.ndarray, onsets: list[float], duration: float, tr: float, start_time: float | None
) -> float:
    table = pd.DataFrame({"onset": onsets, "duration": duration, "trial_type": "sound"})
    design = build_design(
        Events(table),
        DesignSettings(high_pass=0.0, start_time=start_time),
        n_volumes=N_VOLUMES,
        tr=tr,
    )
    coefficients = np.linalg.lstsq(design.matrix, series.T, rcond=None)[0]
    return float(np.median(coefficients[design.columns.index("sound")]) / EFFECT)


@pytest.mark.parametrize(
    ("tr", "acquisition", "offset", "duration"), [(10.0, 2.0, 4.0, 4.0), (3.0, 1.0, 0.0, 15.0)]
)
def test_design_times_match_slice_times_of_sparse_acquisitions(
    tr: float, acquisition: float, offset: float, duration: float
) -> None:
    moments = np.arange(10) * acquisition / 10
    rng = np.random.default_rng(1)
    trials = np.sort(rng.choice(np.arange(2, N_VOLUMES - 6), 30, replace=False))
    spaced = trials[:: 1 if duration < tr else 5]
    onsets = [float(trial * tr + offset) for trial in spaced]
    series = series_of(onsets, duration, tr, moments)
    corrected = reference_time(moments, 0.5)
    stored = SlicesInMemory(series[None, None])
    correct_slice_timing(stored, stored, list(moments), tr, corrected)
    shifted = stored.data[0, 0]
    delayed = middle_of_acquisition(tr, tr - acquisition)
    matching = [
        effect_ratio(shifted, onsets, duration, tr, corrected),
        effect_ratio(series, onsets, duration, tr, delayed),
    ]
    assert matching == pytest.approx([1, 1], abs=0.05)
    # the middle of the TR is the slice time only without a gap
    mismatched = effect_ratio(series, onsets, duration, tr, None)
    assert abs(mismatched - 1) > 2 * max(abs(ratio - 1) for ratio in matching)
