"""What changed in a contrast over runs: regions that were named before, and a search of labels."""

import math

import numpy as np
import pytest
from scipy import stats

from bids_sr.evaluation.changes import Change, find_change, write_change
from bids_sr.glm.region_means import MeanEffect

DOF = 40.0


def find(origin: str, effects: dict[str, float], sd: float = 0.1) -> tuple[Change, list[float]]:
    means = {
        (origin, name): MeanEffect(effect=value, noise_sd=sd, noise_dof=DOF)
        for name, value in effects.items()
    }
    return find_change("change", "a@run-2 − a@run-1", means)


def half_width(level: float) -> float:
    return float(stats.t.ppf((1 + level) / 2, DOF))


def test_named_regions_have_ordinary_intervals_and_q_among_them() -> None:
    """Effects are 2.1 and 0 SD: significant alone, and not among two regions."""
    (alone,), both = find("roi", {"v1": 0.21})[0].regions, find("roi", {"v1": 0.21, "a1": 0.0})
    assert alone.is_found
    change, q = both
    assert not change.is_found
    assert q[0] == pytest.approx(2 * 2 * stats.t.sf(2.1, DOF))
    assert (alone.upper - alone.lower) / 2 == pytest.approx(0.1 * half_width(0.95))
    assert {region.region for region in change.regions} == {"v1", "a1"}
    text = write_change(change)
    assert "v1: +0.21 %" in text
    assert f"{change.named:.2f} %" in text


def test_found_labels_have_intervals_that_are_widened_for_the_selection() -> None:
    effects = {f"label {k}": 0.0 for k in range(98)} | {"up": 1.0, "down": -1.0}
    change, q = find("atlas", effects)
    assert {region.region for region in change.regions} == {"up", "down"}
    for region in change.regions:
        width = (region.upper - region.lower) / 2
        assert width == pytest.approx(0.1 * half_width(1 - 0.05 * 2 / 100))
    assert min(q) == change.smallest_q < 0.05
    assert change.n_labels == 100


def test_without_a_found_label_the_smallest_changes_are_stated() -> None:
    change, _ = find("atlas", {f"label {k}": 0.01 * k for k in range(10)})
    assert change.regions == ()
    t_80 = stats.t.ppf(0.8, DOF)
    assert change.named == pytest.approx(0.1 * (half_width(0.95) + t_80))
    assert change.searched == pytest.approx(0.1 * (half_width(1 - 0.05 / 10) + t_80))
    text = write_change(change)
    for value in (change.named, change.searched):
        assert f"{value:.2f} %" in text
    assert "of 10 labels" in text


def test_named_regions_come_before_labels_and_nothing_is_also_an_answer() -> None:
    means = {
        (origin, name): MeanEffect(effect=5.0, noise_sd=0.1, noise_dof=DOF)
        for origin, name in (("atlas", "label"), ("auto", "motor"))
    }
    change, _ = find_change("change", "change", means)
    assert [region.region for region in change.regions] == ["motor"]
    nothing, q = find("roi", {})
    assert (nothing.regions, q) == ((), [])
    assert all(math.isnan(value) for value in (nothing.named, nothing.searched))
    assert "--roi" in write_change(nothing)


def test_several_regions_are_found_as_often_as_stated() -> None:
    """In null data, q of five regions finds one in at most 5 % of the studies."""
    rng = np.random.default_rng(0)
    found = [
        find("roi", {f"r{k}": value for k, value in enumerate(0.1 * rng.standard_t(DOF, 5))})[0]
        for _ in range(400)
    ]
    assert np.mean([change.is_found for change in found]) < 0.08
