"""Test gain_steps: steps of the scale are found; motion, activation, drift and ramps are not."""

import numpy as np
import pytest
from data.noisy_run import make_run

from bids_sr.preproc.gain_steps import GainStep, GainStepSearch

VOLUMES, TR = 60, 2.0
STEP = 30


def find(series: np.ndarray, tr: float = TR, **scaling: float) -> tuple[GainStep, ...]:
    search = GainStepSearch(series.shape[:3], tr=tr, **scaling)
    for t in range(series.shape[3]):
        search.add(series[..., t].ravel(order="F"))
    return search.find()


def after(volume: int, factor: float) -> np.ndarray:
    """Return the scale of each volume of a run with a step."""
    return np.where(np.arange(VOLUMES) >= volume, factor, 1.0)


def gray_matter(series: np.ndarray) -> np.ndarray:
    """Return half of the voxels of the head: those of medium brightness (X, Y, Z)."""
    mean = series.mean(-1)
    low, high = np.quantile(mean[mean > 200], [0.25, 0.75])
    return np.asarray((mean > low) & (mean < high))


@pytest.mark.parametrize("factor", [1.04, 1.3, 0.96, 0.92])
@pytest.mark.parametrize("volume", [20, 30, 36])
def test_volume_and_factor_of_a_step_are_found(factor: float, volume: int) -> None:
    (step,) = find(np.rint(10 * make_run() * after(volume, factor)))
    assert step.volume == volume
    assert step.factor == pytest.approx(factor, rel=0.003)


@pytest.mark.parametrize("factor", [1.04, 1.3, 0.92])
def test_a_step_is_found_without_a_background(factor: float) -> None:
    series = make_run()
    series *= (series.mean(-1) > 200)[..., None]
    (step,) = find(np.rint(series * after(STEP, factor)))
    assert step.volume == STEP
    assert step.factor == pytest.approx(factor, rel=0.005)


@pytest.mark.parametrize("size", [0.05, 0.1, 0.3])
def test_ramps_over_ten_volumes_are_not_steps(size: float) -> None:
    ramp = 1 + size * np.clip((np.arange(VOLUMES) - 25) / 10, 0, 1)
    assert find(10 * make_run() * ramp) == ()


@pytest.mark.parametrize("has_background", [True, False])
@pytest.mark.parametrize("size", [0.05, 0.1])
def test_changes_of_gray_matter_are_not_steps(size: float, has_background: bool) -> None:
    series = make_run()
    gray = gray_matter(series)
    if not has_background:
        series *= (series.mean(-1) > 200)[..., None]
    changes = np.where(gray[..., None], after(STEP, 1 + size), 1.0)
    assert find(10 * series * changes) == ()
    changes[..., STEP + 15 :] = 1.0
    assert find(10 * series * changes) == ()


def test_motion_drift_spikes_and_unsteady_volumes_are_not_steps() -> None:
    moved = make_run(offsets=np.where(np.arange(VOLUMES)[:, None] >= STEP, 0.2, 0.0) * np.ones(3))
    assert find(10 * moved) == ()
    time = np.arange(VOLUMES) * TR
    for change in (
        1 + 0.05 * time / 600,
        np.where(np.arange(VOLUMES) == STEP, 1.5, 1.0),
        np.where(np.arange(VOLUMES) % 9 == 4, 1.3, 1.0),
        1 + 2 * np.exp(-time / 1.5),
        after(STEP, 1.02),
    ):
        assert find(10 * make_run() * change) == ()


def test_short_parts_are_left_to_the_search_for_outlier_volumes() -> None:
    """A part up to 10 s, or up to a quarter of the run with a change above 10 %, is an outlier."""
    last = np.where(np.arange(VOLUMES) >= 55, 0.92, 1.0)
    assert find(10 * make_run() * last) == ()
    box = np.where((np.arange(VOLUMES) >= 20) & (np.arange(VOLUMES) < 32), 1.3, 1.0)
    assert find(10 * make_run() * box) == ()
    assert len(find(10 * make_run() * np.where(box > 1, 1.06, 1.0))) == 2
    assert find(10 * make_run() * np.where(box > 1, 1.06, 1.0), tr=0.5) == ()
