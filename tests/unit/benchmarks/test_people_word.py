"""What a run tells without its reference: no word where nothing separates, and the range that the
tables hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from bids_sr.stats.evaluation.tested_share import EARLIER, UNCALIBRATED

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def word(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _people_word

    return _people_word


def kept(name: str) -> list[dict[str, object]]:
    return list(
        json.loads((BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    )


def ends(values: Iterable[object]) -> str:
    known = [float(str(value).split()[0]) for value in values if value not in (None, "n/a")]
    return f"{100 * min(known):.0f} to {100 * max(known):.0f} %".replace("-", "−")


def test_who_is_left_out_has_no_part_in_the_prediction(word: ModuleType) -> None:
    pairs = (("A", 1.0, 0.5), ("B", 1.0, 0.2), ("B", 1.0, 0.4), ("C", 2.0, 0.2))
    rows = [{"person": person, "tSNR": feature, "true": true} for person, feature, true in pairs]
    error, of_mean = word.errors(rows, "tSNR", "true")["A"]
    assert error == pytest.approx(0.5 - 0.2), "ratios of B (0.3) and C (0.1), mean over people"
    assert of_mean == pytest.approx(0.5 - 0.25)


def test_no_word_is_given_as_no_feature_separates(word: ModuleType) -> None:
    rows = [
        {k: float("nan") if v is None else v for k, v in row.items()}
        for row in kept("people_word")
    ]
    for feature in word.FEATURES:
        found = [word.errors(rows, feature, outcome).values() for outcome in word.OUTCOMES]
        assert any(error > word.OF_MEAN * mean for people in found for error, mean in people), (
            feature
        )
    assert [[row[k] for k in ("run", *word.FEATURES)] for row in kept("people_word")] == [
        [row[k] for k in ("run", *word.FEATURES)] for row in kept("people_features")
    ], "the features are those that were stored before the references were opened"


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_first_screen_gives_the_range_of_the_tables(calibrated: bool) -> None:
    series = f"`sbl`, {'calibrated' if calibrated else 'blind'}"
    rows = [row for row in kept("people_runs") if row["series"] == series]
    contrasts = [] if calibrated else kept("people_contrasts")
    found = {
        where: ends(
            [*(r[f"explained variance, {where}"] for r in rows), *(r[where] for r in contrasts)]
        )
        for where in ("active", "brain")
    }
    told = EARLIER[calibrated]
    assert (told.active, told.brain) == (found["active"], found["brain"])
    assert told.where.startswith(
        f"{len(rows)} runs of {len({r['person'] for r in kept('people_word')})} people"
    )
    if not calibrated:
        assert ends(row["explained variance, active"] for row in rows) == UNCALIBRATED
