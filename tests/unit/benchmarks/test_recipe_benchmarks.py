"""What benchmarks/{recipes,warm_start}.py conclude from curves whose answer is known."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from bids_sr.sr.method import get_method

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
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
    assert (
        rows[1]["PSNR at the full work (dB)"] < falling[-1] < rows[0]["PSNR at the full work (dB)"]
    )


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


def runs_of(
    start: str, steps: int, curves: list[list[tuple[int, float]]]
) -> list[dict[str, object]]:
    """Runs of one setting, a curve for each seed."""
    return [
        {
            "data": "measured",
            "start": start,
            "steps": steps,
            "rate": 2e-3,
            "seed": seed,
            "curve": [list(look) for look in curve],
            "best": max(v for _, v in curve),
            "ssim": 0.9,
        }
        for seed, curve in enumerate(curves)
    ]


def test_a_warm_start_counts_only_where_every_seed_is_there_in_a_quarter(warm: ModuleType) -> None:
    cold = runs_of("cold", FAST.steps, [[(400, 24.0), (800, 25.0)], [(400, 24.0), (800, 25.02)]])
    quarter = FAST.steps // 4
    near = runs_of(
        "warm", quarter, [[(100, 24.5), (quarter, 25.0)], [(100, 24.995), (quarter, 25.1)]]
    )
    (_, row) = warm.summary(cold + near)
    assert (row["seeds within .02 dB"], row["steps until then"], row["in a quarter"]) == (
        2,
        150,
        True,
    )
    one_short = runs_of("warm", quarter, [[(quarter, 25.0)], [(quarter, 24.9)]])
    (_, row) = warm.summary(cold + one_short)
    assert (row["seeds within .02 dB"], row["in a quarter"]) == (1, False)


def test_steps_are_told_at_looks_that_all_runs_have(warm: ModuleType) -> None:
    cold = runs_of("cold", FAST.steps, [[(600, 24.0), (700, 25.0), (800, 25.0)]])
    often = runs_of("warm", 200, [[(10, 25.3), (150, 24.9), (200, 25.1)]])
    (_, row) = warm.summary(cold + often)
    # not the luck of a look in between
    assert (row["steps until then"], row["held-out PSNR (dB)"]) == (200, 25.1)
    assert row["share of the recipe's steps"] == 0.25
    assert row["share of the recipe's steps until then"] == round(200 / 700, 3)


def made(
    warm: ModuleType, folder: Path, pair: SimpleNamespace, given: SimpleNamespace, learned: str
) -> None:
    """All runs of a race on the measured pair, none of them trained."""
    for start, steps, rate in warm.settings_of(given):
        for run in runs_of(start, steps, [[(50, 24.0)]] * given.seeds):
            stem = warm.stem_of("measured", start, steps, rate, run["seed"])
            note = run | {
                "rate": rate,
                "made from": warm.origin(pair, start, learned),
                "learned as it is": 24.0,
            }
            warm.write_note(folder / f"{stem}.json", note)
            (folder / f"{stem}.safetensors").write_bytes(stem.encode())


@pytest.fixture
def over(warm: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A race on the measured pair that is over, and the tables kept."""
    pair = SimpleNamespace(checksums=lambda: {"lowres": "a", "highres": "b", "mask": "c"})
    tables: dict[str, list[dict[str, object]]] = {}
    monkeypatch.setattr(warm, "training_pair", lambda _root: pair)
    monkeypatch.setattr(warm, "keep", lambda name, _title, rows, **_: tables.update({name: rows}))
    given = SimpleNamespace(
        work=tmp_path,
        bids_dir=Path("run"),
        truth_dir=Path("truth"),
        steps=[200, 50],
        rates=[2e-3, 7e-4],
        seeds=2,
        every=8,
        on=["measured"],
        recipe_runs=None,
        tables=tables,
    )
    warm.keep_state(tmp_path / "learned.safetensors", {"a": torch.zeros(2)})
    about = {"heads": 9, "steps": 7, "processor seconds": 1, "parameters": 2, "bytes": 3}
    warm.write_note(tmp_path / "learned.json", about)
    (tmp_path / "race").mkdir()
    made(warm, tmp_path / "race", pair, given, warm.checksum(tmp_path / "learned.safetensors"))
    return given


def test_the_truth_stays_closed_until_the_race_is_over(
    warm: ModuleType, over: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def read(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(scores=lambda name, *_: opened.append(name) or {"PSNR (dB)": 25.0})

    monkeypatch.setattr(warm.Measured, "read", read)
    monkeypatch.setattr(warm, "starting_with", lambda _state: lambda *_: torch.nn.Identity())
    monkeypatch.setattr(warm, "load_file", lambda _path: {})
    last = over.work / "race" / "measured_cold_50_0.002_1.json"
    kept = last.read_text()
    last.unlink()
    with pytest.raises(SystemExit, match=r"not there: measured_cold_50_0\.002_1$"):
        warm.score(over)
    assert not opened
    last.write_text(kept)
    warm.score(over)
    assert len(over.tables["warm_start_truth"]) == len(opened) == 3 + 3 * 2
    warm.score(over)
    assert len(opened) == 9  # found again
    warm.table(over)  # notes of the truth are no runs
    assert sum(row["seeds"] for row in over.tables["warm_start"]) == 2 * len(
        warm.settings_of(over)
    )


def test_another_learned_network_leaves_no_old_result_standing(
    warm: ModuleType, over: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm.keep_state(over.work / "learned.safetensors", {"a": torch.ones(2)})
    with pytest.raises(SystemExit, match="race again"):
        warm.table(over)
    with pytest.raises(SystemExit, match="not there: measured_warm_200"):
        warm.score(over)
    again = []

    def run(_pair: object, recipe: object, _seed: int, _keep: Path) -> dict[str, object]:
        again.append(recipe)
        return {"curve": [[50, 24.5, 1.0]], "best": 24.5, "ssim": 0.9, "seconds": 1.0}

    monkeypatch.setattr(warm, "run", run)
    monkeypatch.setattr(warm, "untrained", lambda *_: 24.0)
    warm.race(over)
    assert len(again) == 2 * 2 * 2  # those that began with it, and no other
    warm.table(over)


def test_a_fall_is_told_with_the_loss_on_what_was_trained_on_and_not_explained(
    comparing: ModuleType,
) -> None:
    work = np.arange(1, 101) / 100
    rows = rows_of(comparing, 27 - work**-0.5 - 4 * np.maximum(0, work - 0.3))
    assert "Why was not measured. The rise" in comparing.extrapolated(rows)[1][1]
    down = [row | {comparing.CONTENT: 0.3 / (k + 1)} for k, row in enumerate(rows)]
    assert "went on falling, from 0.01 to 0.0031" in comparing.extrapolated(down)[1][1]
    up = [row | {comparing.CONTENT: 0.01 * (k + 1)} for k, row in enumerate(rows)]
    said = comparing.extrapolated(up)[1][1]
    assert "went from 0.3 to 0.98" in said
    assert "more closely" not in said


def test_losses_are_means_over_the_looks_that_are_not_told(running: ModuleType) -> None:
    log = [
        {"iteration": 50 * (k + 1), "psnr": 20.0, "content": str(float(k))} for k in range(1000)
    ]
    told = running.curve(log, FAST, {False: 1.0, True: 1.0}, 0)
    before, last = told[-2]["iteration"] // 50, 1000
    assert last - before > 1
    assert told[-1][running.CONTENT] == pytest.approx(np.mean(np.arange(before, last)), rel=0.005)
