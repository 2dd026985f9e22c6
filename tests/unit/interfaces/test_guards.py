"""Guards as interfaces: rows, maps with names that can be made, warnings, and a precision that is chosen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bids_sr.interfaces.derivatives_sink import derivative_path
from bids_sr.interfaces.evaluation import quality_control
from bids_sr.io.nifti import SeriesWriter, load_image, save_image
from bids_sr.metrics.long_tables import EVALUATION, MetricRow, columns_json, read_table
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.method import get_method
from bids_sr.sr.models import model
from bids_sr.sr.models.compatibility import domain_entry
from bids_sr.stats.glm.block_effects import Effects, save_effects
from bids_sr.stats.glm.blocks import Block

LOW, TWO = (16, 16, 6), (2.0, 2.0, 1.0)
LOW_AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
SHAPE, AFFINE = hr_grid(LOW, LOW_AFFINE, TWO)
CONTRASTS = {"a": {"a": 1.0}, "aMinusB": {"a": 1.0, "b": -1.0}}
ALONE = {"c": {"c": 1.0}}


def run(interface: Any, cwd: Path, **inputs: Any) -> Any:
    """Outputs of an interface run in a directory."""
    from nipype.utils.filemanip import indirectory

    cwd.mkdir(exist_ok=True)
    with indirectory(str(cwd)):
        return interface(**inputs).run().outputs


def effects(path: Path, series: str, seed: int, *, signal: float = 30.0) -> str:
    """An effects file: 4 blocks of a, 4 of b and one of c, with an effect in the middle and noise of their own."""
    rng = np.random.default_rng(seed)
    blocks = [Block(condition=name, events=((20.0 * k, 10.0),), half=k // 2 % 2) for k, name in enumerate("ab" * 4)]
    blocks.append(Block(condition="c", events=((170.0, 10.0),)))
    center = np.exp(-sum((x - n / 2) ** 2 for x, n in zip(np.indices(SHAPE), SHAPE, strict=True)) / 20)
    betas = signal * center[..., None] + rng.normal(size=(*SHAPE, 9))
    count = len(blocks)
    static = 500 + 20 * np.random.default_rng(99).normal(size=SHAPE)
    return str(save_effects(Effects(
        series=series, affine=AFFINE, mask=brain(), betas=betas.astype(np.float32), mean=static.astype(np.float32),
        blocks=tuple(blocks), covariance=np.eye(count),
        leak=np.zeros((count, 12)),
    ), path))  # fmt: skip


def brain(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    x, y, _ = np.indices(shape)
    return (x - shape[0] / 2) ** 2 + (y - shape[1] / 2) ** 2 < (0.4 * shape[0]) ** 2


@pytest.fixture
def mask(tmp_path: Path) -> str:
    save_image(brain(), AFFINE, tmp_path / "mask.nii.gz")
    return str(tmp_path / "mask.nii.gz")


def check_maps(found: Any, stat: str, series: str) -> None:
    assert len(found.maps) == len(found.entities) == len(found.sidecars) == len(CONTRASTS)
    for path, own, sidecar in zip(found.maps, found.entities, found.sidecars, strict=True):
        name = derivative_path({"subject": "01", "task": "t", "datatype": "func", "extension": ".nii.gz", **own})
        assert f"res-hr_contrast-{own['contrast']}_stat-{stat}_desc-{series}_statmap" in name
        values, affine = load_image(path)
        np.testing.assert_allclose(affine, AFFINE)
        assert (values[~brain()] == 0).all()
        assert {"Description", "Units", "Resolution", "SourceSeries", "ContrastWeights"} <= set(sidecar)
        json.dumps(sidecar, allow_nan=False)


def by(rows: list[MetricRow], measure: str, **match: str) -> list[MetricRow]:
    return [r for r in rows if r.measure == measure and all(getattr(r, k) == v for k, v in match.items())]


def test_uncertainty_with_measured_and_known_truth(tmp_path: Path, mask: str) -> None:
    members = [effects(tmp_path / f"m{k}.npz", f"srganSeed{k}", k) for k in range(4)]
    truth = tmp_path / "truth.nii.gz"
    center = np.exp(-sum((x - n / 2) ** 2 for x, n in zip(np.indices(SHAPE), SHAPE, strict=True)) / 20)
    save_image((30 * center).astype(np.float32), AFFINE, truth)
    found = run(
        quality_control.EnsembleUncertainty, tmp_path / "run", effects_files=members, method="srgan", mask=mask,
        contrasts=CONTRASTS | ALONE, measured_file=effects(tmp_path / "t.npz", "measured", 77),
        truth_files={"a": str(truth)}, n_boot=50,
    )  # fmt: skip
    check_maps(found, "sd", "srgan")
    rows = read_table(found.out_file)
    # four blocks of unit noise each in both conditions: standard deviation 1/2 for a, 1/sqrt(2) for the difference
    assert by(rows, "ensemble_sd", contrast="a")[0].value == pytest.approx(0.5 * 0.94, abs=0.08)
    assert by(rows, "ensemble_sd", contrast="a")[0].n == 4
    measured = by(rows, "ensemble_coverage", contrast="a", against="measured")[0]
    nominal = by(rows, "ensemble_nominal", contrast="a", against="measured")[0].value
    assert measured.value == pytest.approx(nominal, abs=0.03)
    assert measured.lower <= measured.value <= measured.upper
    known = by(rows, "ensemble_coverage", contrast="a", against="truth")[0]
    assert known.value > measured.value  # the truth has no noise of its own
    assert not by(rows, "ensemble_r", contrast="aMinusB", against="truth")
    assert not by(rows, "ensemble_sd", contrast="c")  # one block
    assert len(found.sidecars[0]["Reliability"]["measured"]) == 10
    assert columns_json(EVALUATION, (row.measure for row in rows))


def test_one_member_is_no_ensemble(tmp_path: Path, mask: str) -> None:
    with pytest.raises(ValueError, match="ensemble of 1"):
        run(
            quality_control.EnsembleUncertainty, tmp_path / "run", effects_files=[effects(tmp_path / "m.npz",
            "srgan", 0)],
            method="srgan", mask=mask, contrasts=CONTRASTS,
        )  # fmt: skip


def test_unsupported_detail_with_and_without_a_pair(tmp_path: Path, mask: str) -> None:
    path = effects(tmp_path / "m.npz", "sbl", 0, signal=1.0)
    guide = tmp_path / "guide.nii.gz"
    save_image((3.0 * (500 + 20 * np.random.default_rng(99).normal(size=SHAPE))).astype(np.float32), AFFINE, guide)
    given = {"effects_file": path, "mask": mask, "contrasts": CONTRASTS | ALONE, "factor": TWO}
    found = run(quality_control.UnrepeatedMap, tmp_path / "pair", guide_hr=str(guide), **given)
    check_maps(found, "unrepeated", "sbl")
    rows = read_table(found.out_file)
    static = by(rows, "unrepeated_share", contrast="n/a")
    assert [row.value for row in static] == [0]  # the mean is the guide in another unit
    dynamic = by(rows, "unrepeated_share", contrast="a")[0]
    # white noise has three quarters of its energy beyond the limit; the effect is smooth, and repeats in the middle
    assert dynamic.value > 0.6
    assert dynamic.n == 4
    assert not by(rows, "unrepeated_share", contrast="c")
    alone = run(quality_control.UnrepeatedMap, tmp_path / "alone", **given)
    assert not by(read_table(alone.out_file), "unrepeated_share", contrast="n/a")
    assert alone.sidecars[0]["ShareAboveThresholdMean"] == "n/a"


def test_effects_on_another_grid_are_refused(tmp_path: Path) -> None:
    save_image(brain(), np.diag([1, 2, 3, 1.0]), tmp_path / "other.nii.gz")
    with pytest.raises(ValueError, match="another grid"):
        run(
            quality_control.UnrepeatedMap, tmp_path / "run", effects_file=effects(tmp_path / "m.npz", "sbl", 0),
            mask=str(tmp_path / "other.nii.gz"), contrasts=CONTRASTS, factor=TWO,
        )  # fmt: skip


@pytest.fixture
def bold(tmp_path: Path) -> dict[str, Any]:
    """A run, its model, and all that the guard of precision wants."""
    torch.manual_seed(0)
    generator = get_method("srgan").recipes["fast"].build_generator(1, TWO)
    nn.init.normal_(generator.tail.weight, std=0.1)
    volumes = 40
    rng = np.random.default_rng(0)
    level = 400 + 300 * brain(LOW) + 40 * rng.random(LOW)
    with SeriesWriter(tmp_path / "bold.nii", (*LOW, volumes), LOW_AFFINE, 2.0) as writer:
        for _ in range(volumes):
            writer.append((level + rng.normal(0, 5, LOW)).astype(np.float32))
    save_image(level.astype(np.float32), LOW_AFFINE, tmp_path / "boldref.nii.gz")
    save_image(brain(LOW), LOW_AFFINE, tmp_path / "bold_mask.nii.gz")
    card = {
        "method": "srgan", "recipe": "fast", "factor": list(TWO), "resolution": {"lowres_mm": [4, 4, 4]},
        "contrast": "T2starw", "orientation": "I-S", "domain": domain_entry(level, brain(LOW)),
    }  # fmt: skip
    weights, _ = model.save_model(tmp_path / "srgan", generator.state_dict(), card)
    events = pd.DataFrame({"onset": [4.0, 30.0, 56.0], "duration": 10.0, "trial_type": ["a", "b", "a"]})
    events.to_csv(tmp_path / "events.tsv", sep="\t", index=False)
    return {
        "in_file": str(tmp_path / "bold.nii"), "model_file": str(weights), "boldref": str(tmp_path / "boldref.nii.gz"),
        "mask": str(tmp_path / "bold_mask.nii.gz"), "events_file": str(tmp_path / "events.tsv"), "factor": TWO,
        "series": "srgan", "tr": 2.0, "n_dummy": 2, "contrasts": CONTRASTS, "device": "cpu", "n_slices": 2,
        "high_pass": 0.0,
    }  # fmt: skip


def test_fp32_and_auto_on_a_processor_try_nothing(tmp_path: Path, bold: dict[str, Any]) -> None:
    for asked in ("auto", "fp32"):
        found = run(quality_control.PrecisionGuard, tmp_path / asked, precision=asked, **bold)
        assert (found.precision, found.passes, found.change) == ("fp32", True, None)
        assert read_table(found.out_file) == []


def test_bf16_is_tried_refused_with_its_figure_and_can_be_forced(tmp_path: Path, bold: dict[str, Any]) -> None:
    with pytest.raises(
        quality_control.PrecisionRefused, match=r"bf16 changes t by 0\.\d+ of its noise.*0\.001 is allowed.*--force"
    ):
        run(quality_control.PrecisionGuard, tmp_path / "a", precision="bf16", threshold=0.001, **bold)
    forced = run(quality_control.PrecisionGuard, tmp_path / "b", precision="bf16", threshold=0.001, force=True, **bold)
    assert (forced.precision, forced.passes) == ("bf16", False)
    assert 0.001 < forced.change < 3
    rows = by(read_table(forced.out_file), "precision_change", series="srgan")
    assert {row.contrast for row in rows} == set(CONTRASTS)
    assert max(row.value for row in rows) == pytest.approx(forced.change, rel=1e-4)
    mild = run(quality_control.PrecisionGuard, tmp_path / "c", precision="bf16", threshold=10.0, **bold)
    assert (mild.precision, mild.passes) == ("bf16", True)


def test_the_domain_gate_passes_its_own_and_warns_of_others(tmp_path: Path, bold: dict[str, Any]) -> None:
    given = {key: bold[key] for key in ("model_file", "boldref", "mask", "series")}
    own = run(quality_control.DomainGate, tmp_path / "own", **given)
    assert own.warnings == []
    assert by(read_table(own.out_file), "flag_domain")[0].value == 0
    noise = 400 + 300 * np.random.default_rng(1).random(LOW)
    save_image(noise.astype(np.float32), LOW_AFFINE, tmp_path / "noise.nii.gz")
    other = run(quality_control.DomainGate, tmp_path / "other", **given | {"boldref": str(tmp_path / "noise.nii.gz")})
    assert any("edges" in text for text in other.warnings)
    assert by(read_table(other.out_file), "flag_domain")[0].value == 1


def test_edges_apart_are_warned_of_by_name(tmp_path: Path) -> None:
    shape, affine = hr_grid((48, 48, 8), LOW_AFFINE, TWO)
    x, y, _ = np.indices(shape)
    rng = np.random.default_rng(0)
    spots = [(rng.uniform(20, 76), rng.uniform(20, 76), rng.uniform(4, 8)) for _ in range(60)]

    def image(shift: float) -> np.ndarray:
        return sum(np.exp(-((x - a) ** 2 + (y - b - shift) ** 2) / (2 * s**2)) for a, b, s in spots)

    low = image(2.5).reshape(48, 2, 48, 2, 8).mean((1, 3))
    save_image(low.astype(np.float32), LOW_AFFINE, tmp_path / "boldref.nii.gz")
    save_image(image(0).astype(np.float32), affine, tmp_path / "guide.nii.gz")
    save_image(np.ones(shape, bool), affine, tmp_path / "mask.nii.gz")
    given = {
        "boldref": str(tmp_path / "boldref.nii.gz"), "guide_hr": str(tmp_path / "guide.nii.gz"),
        "mask_hr": str(tmp_path / "mask.nii.gz"),
    }  # fmt: skip
    found = run(quality_control.EdgeMismatch, tmp_path / "run", phase_encoding="j-", guided=["inject", "sbl"], **given)
    assert found.mismatch == pytest.approx(5.0, abs=0.4)  # 2.5 fine voxels of 2 mm
    assert len(found.warnings) == 1
    assert "inject, sbl lay detail where it does not belong" in found.warnings[0]
    rows = {row.measure: row.value for row in read_table(found.out_file)}
    assert rows["flag_distortion"] == 1
    assert rows["edge_mismatch_p90"] >= rows["edge_mismatch"] == pytest.approx(found.mismatch, rel=1e-4)
    across = run(quality_control.EdgeMismatch, tmp_path / "across", phase_encoding="i", **given)
    assert across.mismatch < 2
    assert across.warnings == []
