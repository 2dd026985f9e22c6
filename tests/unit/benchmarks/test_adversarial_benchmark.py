"""What benchmarks/adversarial.py counts, and that the words on srgan still follow its table."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from bids_sr.sr.method import get_method
from bids_sr.sr.resolution.matrices import apply_along, matrix_for

ROOT = Path(__file__).parents[3]
FACTOR = (2.0, 2.0, 1.0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import adversarial

    return adversarial


def test_arms_differ_in_the_adversarial_weight_alone(bench: ModuleType) -> None:
    fast = get_method("srgan").recipes["fast"]
    assert bench.weighted(fast, 1.0) == fast
    for times in (0.0, 30.0):
        other = bench.weighted(fast, times)
        weights = [{t.kind: t.weight for t in recipe.losses} for recipe in (fast, other)]
        assert weights[1] == weights[0] | {"adversarial": times * weights[0]["adversarial"]}
        assert bench.replace(other, losses=fast.losses) == fast
        assert other.build_critic is fast.build_critic  # it draws what it draws in the other arms


def test_detail_beyond_nyquist_is_one_for_the_truth_and_none_for_what_was_interpolated(
    bench: ModuleType,
) -> None:
    truth = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    inside = np.ones(truth.shape, bool)
    assert bench.beyond(truth, truth, inside, FACTOR) == pytest.approx((1, 1), abs=1e-6)
    assert bench.beyond(2 * truth, truth, inside, FACTOR) == pytest.approx((4, 1), abs=1e-6)
    wave = np.cos(2 * np.pi * np.arange(8) / 8) + np.cos(2 * np.pi * 3 * np.arange(8) / 8)
    coarse = np.broadcast_to(wave[:, None], (3, 8, 8))
    for axis in (1, 2):
        coarse = apply_along(matrix_for("zerofill", 8, 16), coarse, axis)
    assert coarse.std() > 0.5
    assert bench.beyond(coarse, truth, inside, FACTOR)[0] < 1e-6
    noise = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    energy, r = bench.beyond(truth + noise, truth, inside, FACTOR)
    assert energy > 1.5
    assert r < 0.9


def test_the_interval_is_that_of_pairs(bench: ModuleType) -> None:
    rng = np.random.default_rng(2)
    level = rng.normal(size=5)
    one, other = level + 0.1 + 0.01 * rng.normal(size=5), level
    found = bench.compared("x", one, other)
    wanted = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found["lower"], found["upper"]) == pytest.approx((wanted.low, wanted.high))
    assert found["difference"] == pytest.approx(np.mean(one) - np.mean(other))
    assert found["upper"] - found["lower"] < 0.2 < found["SD over seeds"]


def test_what_is_said_of_srgan_is_what_the_table_has() -> None:
    """No detail gained, a cost in PSNR below the spread of seeds, and a control that shows."""
    rows = json.loads((ROOT / "benchmarks/results/adversarial.json").read_text())["rows"]
    table = {(row["adversarial term"], row["measure"]): row for row in rows}
    gained, cost = table["with", "energy beyond Nyquist"], table["with", "PSNR (dB)"]
    assert gained["lower"] < 0 < gained["upper"]
    assert table["with", "r beyond Nyquist"]["upper"] < 0
    assert -0.015 < cost["difference"] < -0.005
    assert abs(cost["difference"]) < cost["SD over seeds"] / 3
    assert table["with", "moved (%)"]["this arm"] < table["with", "moved (%)"]["without"] / 2
    assert table["30 times", "PSNR (dB)"]["upper"] < cost["lower"]
    assert "difference -.010 dB" in " ".join((ROOT / "benchmarks/FINDINGS.md").read_text().split())
