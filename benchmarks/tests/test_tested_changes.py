"""Test stored effects of measured runs: recoded events, blocks left out, and counts of changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
import tested_changes as changes
from _people_effects import StoredEffects, recode_events

from bids_sr.engine.metric_rows import MetricRow, metric_rows, table_text
from bids_sr.evaluation.detail_support import SMOOTHNESS, RegionResult
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import TaskBlock
from bids_sr.glm.regressors import Events

SHAPE = (16, 16, 12)
CONDITIONS = "ababababba"


def make_effects(series: str, noise: float, seed: int) -> Effects:
    """Return effects of ten blocks with the same detail in each block, and noise."""
    detail = np.random.default_rng(0).normal(size=SHAPE)
    rng = np.random.default_rng(seed)
    betas = np.stack([detail + noise * rng.normal(size=SHAPE) for _ in CONDITIONS], axis=-1)
    blocks = tuple(
        TaskBlock(condition=name, events=((30.0 * index, 10.0),))
        for index, name in enumerate(CONDITIONS)
    )
    effects = Effects(
        series=series,
        affine=np.diag([3.0, 3.0, 3.0, 1.0]),
        mask=np.ones(SHAPE, dtype=bool),
        betas=betas.astype(np.float32),
        mean=np.ones(SHAPE, dtype=np.float32),
        blocks=blocks,
        covariance=np.eye(len(blocks)),
        leak=np.zeros((len(blocks), len(blocks))),
        smooth_variance=np.ones(SHAPE, dtype=np.float32),
    )
    return changes.leave_out(effects, -1)


def store(folder: Path, spoiled: int | None = None) -> StoredEffects:
    """Store effects of a run, with wrong detail in one reconstructed block if requested."""
    folder.mkdir()
    for name, noise, seed in (
        ("half_reconstructed", 0.1, 1),
        ("half_acquired", 0.3, 2),
        ("sbl", 0.1, 3),
        ("measured", 0.3, 4),
    ):
        series = "sbl" if name in ("half_reconstructed", "sbl") else "measured"
        effects = make_effects(series, noise, seed)
        if name == "half_reconstructed" and spoiled is not None:
            effects.betas[..., spoiled] *= -20
        if name == "half_reconstructed":
            np.save(folder / "half_task_free.npy", effects.betas)
        effects.save(folder / name)
    t = np.full(SHAPE, 9.0, dtype=np.float32)
    np.savez(
        folder / "t_maps.npz",
        **{f"{kind}/{name}": t for kind in ("half/0", "acquired") for name in ("a", "aMinusB")},
    )
    rows = metric_rows("sbl", {SMOOTHNESS: 0.5}, region="brain")
    (folder / "half_rows.tsv").write_text(table_text(rows))
    contrasts = {"a": {"a": 1.0}, "aMinusB": {"a": 1.0, "b": -1.0}}
    (folder / "about.json").write_text(
        json.dumps({"contrasts": contrasts, "factor": [2.0, 2.0, 1.0]})
    )
    return StoredEffects(folder)


def test_stored_effects_are_tested_and_measured_as_by_the_program(tmp_path: Path) -> None:
    stored = store(tmp_path / "run")
    results = changes.classify(stored.test(), list(stored.contrasts))
    assert results["a", "active"].state == "recovered"
    assert results["a", "brain"].state == "recovered"
    # the same detail in all blocks: no difference between conditions
    assert results["aMinusB", "brain"].state != "recovered"
    values = {
        (row.series, row.contrast): row.value
        for row in stored.measure()
        if (row.statistic, row.band, row.region) == ("ev", "beyond", ACQUIRED_ACTIVE)
    }
    assert values["sbl", "a"] == pytest.approx(1, abs=0.05)


def test_a_wrong_block_only_counts_unless_it_is_left_out(tmp_path: Path) -> None:
    spoiled = store(tmp_path / "spoiled", spoiled=4)
    before = changes.classify(spoiled.test(), list(spoiled.contrasts))
    assert before["a", "brain"].state == "not testable"
    left_out = list(changes.iterate_left_out(spoiled, "S", before))
    after = [change for change in left_out if (change.contrast, change.region) == ("a", "brain")]
    # only blocks of the condition of the contrast are left out
    assert [change.after.state == "recovered" for change in after] == [
        index == 4 for index, name in enumerate(CONDITIONS) if name == "a"
    ]
    # one wrong block widens the interval and does not contradict the detail
    assert not any(change.is_flip for change in after)


def test_other_blocks_alternate_again_without_a_block() -> None:
    effects = changes.leave_out(make_effects("sbl", 0.1, 1), 2)
    assert [block.half for block in effects.blocks if block.condition == "a" and block.used] == [
        0,
        1,
        0,
        1,
    ]
    assert [index for index, block in enumerate(effects.blocks) if not block.used] == [2]


def test_only_changes_between_recovered_and_not_supported_are_flips() -> None:
    def make_result(state: str, value: float) -> RegionResult:
        row = MetricRow(series="sbl", statistic="ev", value=value)
        return RegionResult(state=state, row=row)  # type: ignore[arg-type]

    def make_change(before: RegionResult, after: RegionResult) -> changes.Change:
        return changes.Change("seconds", "S", "a", "brain", before=before, after=after)

    recovered, moved = make_result("recovered", 0.5), make_result("recovered", 0.42)
    rejected, untested = make_result("not supported", 0.1), make_result("not testable", 0.3)
    made = [
        make_change(recovered, moved),
        make_change(recovered, rejected),
        make_change(rejected, recovered),
        make_change(recovered, untested),
    ]
    assert [change.is_flip for change in made] == [False, True, True, False]
    counts = changes.count_changes(made)
    assert counts["compared"] == 4
    assert counts["recovered to not supported or back"] == 2
    assert (counts["recovered before"], counts["recovered after"]) == (3, 1)
    assert counts["largest difference"] == pytest.approx(0.08)
    assert counts["differences above .05"] == 1


def make_events(rows: list[tuple[float, float, str]]) -> Events:
    """Return events with onset, duration and type."""
    return Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type"]))


def test_blocks_are_recoded() -> None:
    tables = recode_events(make_events([(10.6, 4.2, "a"), (40.3, 3.1, "b")]), tr=2.0)
    npt.assert_allclose(tables["trials"]["onset"][:4], 10.6 + 1.05 * np.arange(4))
    npt.assert_allclose(tables["trials"]["duration"][:4], 0.945)
    assert list(tables["trials"]["trial_type"]) == ["a"] * 4 + ["b"] * 3
    assert list(tables["seconds"]["onset"]) == [11, 40]
    assert list(tables["seconds"]["duration"]) == [4.2, 3.1]
    assert list(tables["volumes"]["onset"]) == [10, 40]
    assert list(tables["volumes"]["duration"]) == [4, 4]
    assert len(tables["impulses"]) == 7
    assert list(tables["onsets"]["onset"]) == [10.6, 40.3]
    assert not tables["impulses"]["duration"].any()
    assert not tables["onsets"]["duration"].any()


def test_trials_of_a_block_are_joined() -> None:
    rows = [(10.0 + index, 0.9, "a") for index in range(4)] + [(40.0, 0.9, "a")]
    tables = recode_events(make_events(rows), tr=2.0)
    npt.assert_allclose(tables["trials"][["onset", "duration"]], [[10, 3.9], [40, 0.9]])
    assert tables["events"] is not tables["trials"]
    assert len(tables["events"]) == 5


def test_repeated_events_keep_their_types(tmp_path: Path) -> None:
    """Events that a recoding wrote are read by the steps of the program."""
    tables = recode_events(make_events([(10.6, 4.2, "a"), (40.3, 3.1, "b")]), tr=2.0)
    file = replace(make_events([]), table=tables["impulses"], source="x_events.tsv").write(
        tmp_path
    )
    assert Events.read(file).conditions == ["a", "b"]
