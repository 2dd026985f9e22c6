"""A person is predicted from the others alone, and the prediction is used only where it holds on
each of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _people_predicted

    return _people_predicted


def run(person: str, tested: float, true: float) -> dict[str, Any]:
    return {"run": person, "person": person, "sbl tested": tested, "sbl true": true}


def test_who_is_left_out_has_no_part_in_the_prediction(predicted: ModuleType) -> None:
    rows = [run("A", 0.2, 0.1), run("B", 0.1, 0.08), run("B", 0.3, 0.24), run("C", 0.2, 0.16)]
    first, *others = predicted.left_out(rows, "sbl")
    assert first["predicted"] == pytest.approx(0.8 * 0.2), (
        "both others reach 0.8 of their tested share"
    )
    assert first["mean of others"] == pytest.approx(0.16)
    assert others[0]["predicted"] == pytest.approx(0.65 * 0.1), (
        "mean over people A (0.5) and C (0.8)"
    )


@pytest.mark.parametrize(
    ("shares", "holds"), [((0.08, 0.16, 0.28), True), ((0.08, 0.16, 0.14), False)]
)
def test_it_is_used_only_where_it_errs_little_on_each(
    predicted: ModuleType, shares: tuple[float, ...], holds: bool
) -> None:
    """First no prediction errs; then C has half of what the others let expect."""
    rows = [
        run(person, tested, true)
        for person, tested, true in zip("ABC", (0.1, 0.2, 0.35), shares, strict=True)
    ]
    assert predicted.judged(predicted.left_out(rows, "sbl"))["holds"] is holds


def test_the_page_tells_what_the_benchmark_found(predicted: ModuleType) -> None:
    kept = json.loads((BENCHMARKS / "results" / "people_tested.json").read_text(encoding="utf-8"))[
        "rows"
    ]
    page = (BENCHMARKS / "FINDINGS.md").read_text(encoding="utf-8")
    found = predicted.left_out(kept, "sbl")
    for row, told in zip(kept, found, strict=True):
        tested, low, high = (
            f"{row[f'sbl {name}']:.3f}"[1:] for name in ("tested", "lower", "upper")
        )
        true, guess = (f"{told[name]:.3f}"[1:] for name in ("true", "predicted"))
        assert f"| {tested} ({low} to {high}) | {true} | {guess} |" in page, row["run"]
    assert not predicted.judged(found)["holds"], (
        "then the program may predict, and the page is to say so"
    )
