"""What benchmarks/{transfer,training_resolution}.py rest on: nothing tested was trained on, and
pairs stay pairs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import BinaryIO

import nibabel as nib
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def resolution(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import training_resolution

    return training_resolution


def test_the_halves_of_a_head_are_apart_on_the_grids_of_all_levels(
    resolution: ModuleType, tmp_path: Path
) -> None:
    shape = (70, 48, 170)
    i, j, k = np.indices(shape)
    head = ((i - 33) / 30) ** 2 + ((j - 24) / 20) ** 2 + ((k - 84) / 76) ** 2 < 1
    # the value says where a voxel comes from
    image = np.where(head, 100 + i, 0).astype(np.float32)
    folder = tmp_path / "sub-01" / "anat"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "sub-01_T1w.nii.gz")
    halves = resolution.Halves(tmp_path)
    known, held = halves.known, halves.held
    assert known.image[known.mask].max() + 2 * halves.gap < held.image[held.mask].min()
    for volume in (known, held):
        assert all(n % 8 == 0 for n in volume.image.shape)
        assert np.allclose(volume.affine[:3, 3] % 1, 0)
    assert held.image.shape[2] == halves.slabs * halves.thick
    first = (held.affine @ [0, 0, 0, 1])[0]
    assert held.image[0][held.mask[0]].min() == 100 + first


def test_figures_are_averaged_over_seeds_and_kept_in_pairs(resolution: ModuleType) -> None:
    rows = [
        {
            "way": way,
            "case": case,
            "seed": seed,
            "rmse": base + seed,
            "ssim": base,
            "resolution": 1.0,
        }
        for way, shift in (("a", 0.0), ("b", 10.0))
        for seed, case, base in (
            (0, "y", 5.0 + shift),
            (1, "x", 1.0 + shift),
            (0, "x", 1.0 + shift),
            (1, "y", 5.0 + shift),
        )
    ]
    found = resolution.mean_over_seeds(rows, ("way",), "case")
    assert found["a",]["rmse"].tolist() == [1.5, 5.5]  # x before y, whatever order they came in
    assert (found["b",]["rmse"] - found["a",]["rmse"]).tolist() == [10.0, 10.0]


def test_a_gain_is_an_error_that_became_smaller(resolution: ModuleType) -> None:
    assert resolution.gains(np.array([0.9, 1.2]), np.array([1.0, 1.0])) == pytest.approx(
        [10.0, -20.0]
    )


def test_every_way_from_one_contrast_to_another_is_in_the_table_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import transfer
    from _transfer_run import Volume

    def scan(seed: int, contrast: str, *_: object) -> Volume:
        i, j, k = np.indices((24, 24, 8))
        image = 100 + 20 * np.sin(0.9 * i + seed) * np.cos(0.7 * j) + k
        sign = {"T1w": 1, "T2starw": 1, "T2w": -1, "FLAIR": -1}[contrast]
        return Volume(
            image=(300 + sign * image).astype(np.float32),
            mask=image > 0,
            affine=np.diag([2.0, 2, 4, 1]),
        )

    monkeypatch.setattr(transfer, "phantom", scan)
    monkeypatch.setattr(transfer.Phantoms, "targets", ("T2starw", "T2w"))
    given = argparse.Namespace(
        work=tmp_path,
        threads=1,
        method="ccnn3d",
        budget="0-0",
        seeds=1,
        seconds=0.02,
        tuning=0.01,
        heads=1,
        test=2,
    )
    data = transfer.Phantoms(tmp_path, given.heads, given.test)
    rows = transfer.measured(data, given)
    table = transfer.table(data, rows, given)
    ways = {row["way"] for row in table if row["target"] == "T2w"}
    assert ways == {
        "cubic",
        "zero filling",
        "T1w network as it is",
        transfer.TUNED,
        transfer.SCRATCH,
        transfer.LONGER,
    }
    r = {row["target"]: row["contrast r with T1w"] for row in table}
    assert r == {"T2starw": 1.0, "T2w": -1.0, "T1w": 1.0}
    tuned = json.loads(next((tmp_path / "phantoms").glob("T2w-tuned*seed0.json")).read_text())
    assert tuned["parameters_trained"] == tuned["parameters"]  # ccnn3d has three layers
    assert tuned["started_from"]["contrast"] == "T1w"
    monkeypatch.setattr(transfer.School, "_fit", None)  # would fail if anything were trained again
    assert transfer.measured(data, given) == rows
    # figures of two heads are not those of one
    with pytest.raises(SystemExit, match="made from something else"):
        transfer.measured(transfer.Phantoms(tmp_path, given.heads, 1), given)
    source, _ = school(transfer, tmp_path).learn("T1w", "ccnn3d", data.source(), 0.02, 0)
    other = replace(source, card=replace(source.card, weights_sha256="another"))
    with pytest.raises(SystemExit, match="has another started_from"):
        school(transfer, tmp_path).learn(
            "T2w-tuned", "ccnn3d", data.few("T2w"), 0.01, 0, start=other, last=3
        )
    with pytest.raises(SystemExit, match="has another data_sha256"):
        school(transfer, tmp_path).learn("T1w", "ccnn3d", data.few("T2w"), 0.02, 0)
    with pytest.raises(SystemExit, match="holds files made from"):
        replace(school(transfer, tmp_path), batch=4).learn("T1w", "ccnn3d", data.source(), 0.02, 0)


def school(transfer: ModuleType, folder: Path) -> object:
    """Where the benchmark trains on phantoms."""
    return transfer.School(
        folder=folder / "phantoms", factor=transfer.FACTOR, patch=(32, 32, 8), batch=8, threads=1
    )


def test_a_killed_writer_leaves_nothing_that_counts_as_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _kept

    class Killed(Exception):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Killed

    def half(file: BinaryIO, **_: object) -> None:
        file.write(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        for broken in (stop, half):
            patch.setattr(_kept.np, "savez", broken)
            with pytest.raises(Killed):
                _kept.write_arrays(tmp_path / "head.npz", image=np.ones(3))
    with pytest.raises(Killed):
        _kept.kept_rows(tmp_path / "a.scores.json", {}, stop)
    assert not list(tmp_path.iterdir())
    _kept.write_arrays(tmp_path / "head.npz", image=np.ones(3))
    with np.load(tmp_path / "head.npz") as found:
        assert found["image"].tolist() == [1, 1, 1]


def test_figures_at_each_resolution_are_kept_and_tested_in_pairs(
    resolution: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    class Few:
        name = "few"

        def origin(self) -> dict[str, int]:
            return {"heads": 3}

        def training(self, level: int) -> int:
            return level

        def scores(
            self, level: int, school: object, name: str, model: object
        ) -> list[tuple[str, dict[str, float]]]:
            asked.append((name, level))
            off = 0.0 if model is None else abs(model.card.json["level"] - level) - 5.0
            return [
                (f"h{k}", {"rmse": 10.0 + k + off, "ssim": 0.9 - off, "resolution": 1.0})
                for k in range(3)
            ]

    def learn(
        _self: object, _label: str, name: str, level: int, *_: object
    ) -> tuple[object, dict[str, float]]:
        return argparse.Namespace(
            card=SimpleNamespace(json={"level": level, "weights_sha256": f"{name} {level}"})
        ), {}

    monkeypatch.setattr(resolution.School, "learn", learn)
    given = argparse.Namespace(work=tmp_path, seeds=2, seconds=1.0, batch=8, threads=1)
    rows = resolution.measured(Few(), given)
    first = len(asked)
    assert resolution.measured(Few(), given) == rows
    assert len(asked) == first == 2 * 3 + 3 * 2 * 3
    _, said = resolution.table("few", rows)
    # one order in three cases: 12 / (3 * 3 * 4) * (81 + 36 + 9) - 36
    assert "chi2 = 6, p = 0.05" in said[0]
