"""What benchmarks/{recipes,warm_start}.py conclude from curves whose answer is known."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bids_sr.sr.method import get_method

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FAST = get_method("srgan").recipes["fast"]


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The comparison of recipes as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _recipes_compare

    monkeypatch.setattr(_recipes_compare, "DRAWS", 40)
    return _recipes_compare


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What recipes are run with."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _recipes_run

    return _recipes_run


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The race of warm starts as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import warm_start

    return warm_start


def rows_of(comparing: ModuleType, psnr: np.ndarray) -> list[dict[str, float]]:
    """A training of 100 looks, 50 iterations and 5e12 operations apart."""
    return [
        {"iteration": 50 * (k + 1), comparing.WORK: 5.0 * (k + 1), comparing.PSNR: float(value)}
        for k, value in enumerate(psnr)
    ]


def test_a_curve_that_flattens_is_carried_on_to_where_it_goes(comparing: ModuleType) -> None:
    work = np.arange(1, 101) / 100
    noise = np.random.default_rng(3).normal(0, 0.005, 100)
    rows, said = comparing.extrapolated(rows_of(comparing, 27 - work**-0.5 + noise))
    full = comparing.full_work(rows_of(comparing, work)) / 500
    assert full == pytest.approx(20)  # 100,000 iterations against 5,000
    assert rows[0]["PSNR at the full work (dB)"] == pytest.approx(27 - full**-0.5, abs=0.05)
    assert rows[0]["2.5 %"] <= 27 - full**-0.5 <= rows[0]["97.5 %"]
    assert "may be read with its interval" in said[1]


def test_a_curve_past_its_best_is_told_from_one_that_rises(comparing: ModuleType) -> None:
    work = np.arange(1, 101) / 100
    falling = 27 - work**-0.5 - 4 * np.maximum(0, work - 0.3)
    rows, said = comparing.extrapolated(rows_of(comparing, falling))
    assert "has fallen since its best look" in said[1]
    assert rows[1]["PSNR at the full work (dB)"] < falling[-1] < rows[0]["PSNR at the full work (dB)"]


def test_work_counts_the_critic_from_where_it_plays(running: ModuleType) -> None:
    cost = {False: 1.0, True: 3.0}
    begins = FAST.adversarial_from
    assert running.work_after(begins, FAST, cost) == begins
    assert running.work_after(begins + 10, FAST, cost) == begins + 30


def test_a_long_log_keeps_its_first_best_and_last_look(running: ModuleType) -> None:
    log = [{"iteration": 50 * (k + 1), "psnr": 20 + (k == 777)} for k in range(1000)]
    kept = running.curve(log, FAST, {False: 1.0, True: 1.0}, 0)
    assert {50, 50 * 778, 50_000} <= {row["iteration"] for row in kept}
    assert len(kept) < 100


def runs_of(start: str, steps: int, curves: list[list[tuple[int, float]]]) -> list[dict[str, object]]:
    """Runs of one setting, a curve for each seed."""
    return [
        {
            "data": "measured", "start": start, "steps": steps, "rate": 2e-3, "seed": seed,
            "curve": [list(look) for look in curve], "best": max(v for _, v in curve), "ssim": 0.9,
        }
        for seed, curve in enumerate(curves)
    ]  # fmt: skip


def test_a_warm_start_counts_only_where_every_seed_is_there_in_a_quarter(warm: ModuleType) -> None:
    cold = runs_of("cold", FAST.steps, [[(400, 24.0), (800, 25.0)], [(400, 24.0), (800, 25.02)]])
    quarter = FAST.steps // 4
    near = runs_of("warm", quarter, [[(100, 24.5), (quarter, 25.0)], [(100, 24.995), (quarter, 25.1)]])
    (_, row) = warm.summary(cold + near)
    assert (row["seeds within .02 dB"], row["steps until then"], row["in a quarter"]) == (2, 150, True)
    one_short = runs_of("warm", quarter, [[(quarter, 25.0)], [(quarter, 24.9)]])
    (_, row) = warm.summary(cold + one_short)
    assert (row["seeds within .02 dB"], row["in a quarter"]) == (1, False)
