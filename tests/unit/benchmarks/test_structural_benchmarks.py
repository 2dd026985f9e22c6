"""What benchmarks/structural.py keeps: nothing of another call, nothing half written, one pace for
all alignments.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The part of the benchmark that trains, as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _structural_run

    return _structural_run


@pytest.fixture
def data(run: ModuleType) -> ModuleType:
    """The part that prepares heads."""
    import _structural_data

    return _structural_data


def test_models_and_heads_of_other_options_are_refused(
    run: ModuleType, data: ModuleType, tmp_path: Path
) -> None:
    heads = data.Heads(preset="tiny", gradient=0.015, mm=6.0, train=(1, 2), test=(500,))
    how = run.How(seconds=16, patch=48, weight=0.1, seed=0)
    # seconds and seed are in names of models
    for test, seconds in (((500,), 16), ((500, 501), 16), ((500,), 8)):
        replace(heads, test=test).check(
            tmp_path, run.training_facts(replace(how, seconds=seconds))
        )
    for other, way, named in (
        (replace(heads, train=(1, 2, 3)), how, "train"),
        (replace(heads, mm=4.0), how, "mm"),
        (heads, replace(how, patch=32), "patch"),
        (heads, replace(how, weight=0.2), "critic weight"),
    ):
        with pytest.raises(
            SystemExit, match=rf"another call \(.*{named}.*\); give another --work"
        ):
            other.check(tmp_path, run.training_facts(way))
    facts = run.training_facts(how)
    facts["recipes"] = {
        name: {**recipe, "learning_rate": 1.0} for name, recipe in facts["recipes"].items()
    }
    with pytest.raises(SystemExit, match="recipes"):
        heads.check(tmp_path, facts)


def test_a_pace_is_measured_once_for_all_alignments_and_outlives_the_run(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def pace_of(*_args: Any) -> Any:
        measured.append(1)
        return run.Pace(once=0.0, step=0.1 * len(measured), look=0.0)

    made = SimpleNamespace(state={}, card={"parameters": 1, "held_out": {"iteration": 1}})
    monkeypatch.setattr(run, "pace_of", pace_of)
    monkeypatch.setattr(run, "fit", lambda *_args, **_how: made)
    monkeypatch.setattr(run, "save_model", lambda *_args: None)
    how = run.How(seconds=10, patch=16, weight=0.1, seed=0)
    images = (SimpleNamespace(shape=(32, 32, 8)),)
    steps = {}
    for cell in (run.Cell(), run.Cell(align="affine"), run.Cell(patches=True)):
        run._train(cell, how, tmp_path / f"{cell.name}.safetensors", images)
        steps[cell.name] = run.notes_of(tmp_path / f"{cell.name}.safetensors")["steps"]
    assert list(steps.values()) == [100, 100, 50]
    kept = {
        path.name: json.loads(path.read_text())["step"] for path in tmp_path.glob("pace_*.json")
    }
    assert kept == {
        "pace_attunet_fused_slices_plain.json": 0.1,
        "pace_attunet_fused_patches_plain.json": 0.2,
    }


def test_a_network_without_tissues_is_named_and_has_no_row(
    data: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import _structural_tables
    import _table

    monkeypatch.setattr(_table, "RESULTS", tmp_path)
    shared = {"dice": 1.0, "tpf": 1.0, "tnf": 1.0, "ppv": 1.0}
    heads = [
        {tissue: {"measured": ml, "found": ml, **shared} for tissue in data.TISSUES}
        for ml in (500.0, 600.0)
    ]
    good = [{"volumes": volumes} for volumes in heads]
    found = {
        ("bspline", "rigid"): good,
        ("empty", "rigid"): [good[0], {"volumes": None, "no tissues": "none"}],
    }
    facts = {
        seed: {what: dict.fromkeys(data.TISSUES, 500.0) for what in ("shares_ml", "retest_ml")}
        for seed in (1, 2)
    }
    _structural_tables.volumes_table(found, facts, SimpleNamespace(test=(1, 2)), "")
    written = (tmp_path / "structural_volumes.md").read_text()
    assert "| bspline | rigid |" in written
    assert "| empty |" not in written
    assert "no tissues in some or all images of: empty, rigid" in written


def test_limits_of_agreement_by_hand(run: ModuleType) -> None:
    from _structural_tables import bland_altman

    # differences 1, 3, 2: mean 2, standard deviation 1
    plain = bland_altman([10, 20, 30], [11, 23, 32], percent=False)
    assert (plain.bias, plain.lower, plain.upper) == pytest.approx((2, 2 - 1.96, 2 + 1.96))
    assert plain.means == (10.5, 21.5, 31)
    share = bland_altman([10, 20], [30, 20])
    assert share.differences == (100, 0)
    assert share.bias == 50
    with pytest.raises(ValueError, match="at least 2"):
        bland_altman([1], [2])
    with pytest.raises(ValueError, match="percent"):
        bland_altman([1, -1], [2, 1])
