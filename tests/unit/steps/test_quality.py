"""Test quality checks: rows, maps with valid names, warnings, and the choice of precision."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from shortnames import measure_of
from torch import nn

from bids_sr.glm.block_effects import Effects, save_effects
from bids_sr.glm.blocks import TaskBlock
from bids_sr.glm.design import Design, DesignSettings
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow, columns_json
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.pipeline.store import derivative_path
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.method import get_method
from bids_sr.sr.models import model
from bids_sr.sr.models.domain import _make_domain_entry
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.quality import (
    edge_comparison,
    ensemble_uncertainty,
    network_precision,
    training_domain,
)

LOW, TWO = (16, 16, 6), (2.0, 2.0, 1.0)
LOW_AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
SHAPE, AFFINE = hr_grid(LOW, LOW_AFFINE, TWO)
CONTRASTS = {"a": {"a": 1.0}, "aMinusB": {"a": 1.0, "b": -1.0}}
WITHOUT_BLOCK = {"c": {"c": 1.0}}
OPTIONS = {"contrasts": CONTRASTS | WITHOUT_BLOCK, "axis_order": (0, 1, 2)}


def effects(series: str, seed: int, *, signal: float = 30.0) -> Effects:
    """Return effects of four blocks of a, four of b and an unused one of c, with an effect in the
    center and independent noise.
    """
    rng = np.random.default_rng(seed)
    blocks = [
        TaskBlock(condition=name, events=((20.0 * k, 10.0),), half=k // 2 % 2)
        for k, name in enumerate("ab" * 4)
    ]
    blocks.append(TaskBlock(condition="c", events=((170.0, 10.0),), used=False))
    betas = signal * center()[..., None] + rng.normal(size=(*SHAPE, 9))
    count = len(blocks)
    static = 500 + 20 * np.random.default_rng(99).normal(size=SHAPE)
    return Effects(
        series=series,
        affine=AFFINE,
        mask=brain(),
        betas=betas.astype(np.float32),
        mean=static.astype(np.float32),
        blocks=tuple(blocks),
        covariance=np.eye(count),
        leak=np.zeros((count, 12)),
    )


def center() -> np.ndarray:
    return np.exp(
        -sum((index - size / 2) ** 2 for index, size in zip(np.indices(SHAPE), SHAPE, strict=True))
        / 20
    )


def brain(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    x, y, _ = np.indices(shape)
    return (x - shape[0] / 2) ** 2 + (y - shape[1] / 2) ** 2 < (0.4 * shape[0]) ** 2


MASK = Volume(brain(), AFFINE)


def check_maps(maps: list[Derivative], stat: str, series: str) -> None:
    assert len(maps) == len(CONTRASTS)
    for map_ in maps:
        entities = map_.entities
        name = derivative_path(
            {"subject": "01", "task": "t", "datatype": "func", "extension": ".nii.gz", **entities}
        )
        assert f"res-hr_contrast-{entities['contrast']}_stat-{stat}_desc-{series}_statmap" in name
        np.testing.assert_allclose(map_.volume.affine, AFFINE)
        assert (map_.volume.data[~brain()] == 0).all()
        assert {"Description", "Units", "Resolution", "SourceSeries", "ContrastWeights"} <= set(
            map_.sidecar
        )
        json.dumps(map_.sidecar, allow_nan=False)


def rows_with(rows: list[MetricRow], measure: str, **fields: str) -> list[MetricRow]:
    return [
        row
        for row in rows
        if measure_of(row) == measure and all(getattr(row, k) == v for k, v in fields.items())
    ]


def test_uncertainty_is_the_sd_between_models(tmp_path: Path) -> None:
    names = [f"srganSeed{k}" for k in (1, 2, 3)]
    members = {
        name: save_effects(effects(name, k), tmp_path / f"{name}.npz")
        for k, name in enumerate(names, 1)
    }
    reference = save_effects(effects("srgan", 0), tmp_path / "srgan.npz")
    rows, maps = ensemble_uncertainty.measure_uncertainty(
        reference, MASK, members, series_name="srgan", **OPTIONS
    )
    check_maps(maps, "ensemblesd", "srgan")
    # Four blocks with unit noise per condition: the standard deviation is 1/2 for a, 1/sqrt(2) for
    # the difference.
    assert rows_with(rows, "ensemble_sd", contrast="a")[0].value == pytest.approx(
        0.5 * 0.94, abs=0.08
    )
    assert rows_with(rows, "ensemble_sd", contrast="a")[0].n == 4
    assert not rows_with(rows, "ensemble_sd", contrast="c")  # one block only
    assert maps[0].sidecar["EnsembleMembers"] == 4
    assert columns_json(row.statistic for row in rows)


def test_effects_on_another_grid_are_rejected(tmp_path: Path) -> None:
    other_mask = Volume(brain(), np.diag([1, 2, 3, 1.0]))
    members = {"sblSeed1": save_effects(effects("sblSeed1", 1), tmp_path / "1.npz")}
    reference = save_effects(effects("sbl", 0), tmp_path / "sbl.npz")
    with pytest.raises(ValueError, match=r"effects of sbl .*are not on the grid of the mask"):
        ensemble_uncertainty.measure_uncertainty(
            reference, other_mask, members, series_name="sbl", **OPTIONS
        )


@pytest.fixture
def bold(tmp_path: Path) -> dict[str, Any]:
    """Return the inputs of the precision check: a run, its model and options."""
    torch.manual_seed(0)
    generator = get_method("srgan").recipes["fast"].build_generator(1, TWO)
    nn.init.normal_(generator.tail.weight, std=0.1)
    volumes = 40
    rng = np.random.default_rng(0)
    level = (400 + 300 * brain(LOW) + 40 * rng.random(LOW)).astype(np.float32)
    with SeriesWriter(tmp_path / "bold.nii", (*LOW, volumes), LOW_AFFINE, 2.0) as writer:
        for _ in range(volumes):
            writer.append((level + rng.normal(0, 5, LOW)).astype(np.float32))
    card = {
        "method": "srgan",
        "recipe": "fast",
        "factor": list(TWO),
        "resolution": {"lowres_mm": [4, 4, 4]},
        "contrast": "T2starw",
        "orientation": "I-S",
        "domain": _make_domain_entry(level, brain(LOW)),
    }
    weights, _ = model.save_model(tmp_path / "srgan", generator.state_dict(), card)
    events = pd.DataFrame(
        {"onset": [4.0, 30.0, 56.0], "duration": 10.0, "trial_type": ["a", "b", "a"]}
    )
    return {
        "stc": SeriesReader(tmp_path / "bold.nii"),
        "boldref": Volume(level, LOW_AFFINE),
        "bold_mask": Volume(brain(LOW), LOW_AFFINE),
        "model_file": weights,
        "linear_model": LinearModel(
            inputs=DesignInputs(
                regressors=Events(events), n_dummy=2, design=DesignSettings(high_pass=0.0)
            ),
            contrasts=CONTRASTS,
        ),
        "factor": TWO,
        "series_name": "srgan",
        "device": "cpu",
        "omp_nthreads": 1,
    }


def test_fp32_and_auto_on_a_cpu_are_not_tested(bold: dict[str, Any]) -> None:
    for precision in ("auto", "fp32"):
        assert network_precision.guard_precision(**bold, precision=precision, force=False) == (
            "fp32",
            [],
        )


def test_bf16_is_tested_rejected_with_its_t_change_and_can_be_forced(
    bold: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_precision, "_N_TESTED_SLICES", 2)
    monkeypatch.setattr(network_precision, "_MAX_CHANGE", 0.001)
    with pytest.raises(
        ValueError,
        match=r"bf16 precision changes the t values by 0\.\d+ standard.*at most 0\.001.*force=true",
    ):
        network_precision.guard_precision(**bold, precision="bf16", force=False)
    precision, rows = network_precision.guard_precision(**bold, precision="bf16", force=True)
    assert precision == "bf16"
    rows = rows_with(rows, "precision_change", series="srgan", region="brain")
    assert {row.contrast for row in rows} == set(CONTRASTS)
    assert 0.001 < max(row.value for row in rows) < 3
    monkeypatch.setattr(network_precision, "_MAX_CHANGE", 10.0)
    assert network_precision.guard_precision(**bold, precision="bf16", force=False)[0] == "bf16"


def test_bf16_is_tested_with_the_confounds_of_the_maps(
    bold: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame(np.random.default_rng(1).random((40, 13)), columns=[*MOTION, "csf"])
    designs: list[Design] = []
    monkeypatch.setattr(
        network_precision,
        "_measure_t_change",
        lambda *arguments, **_settings: designs.append(arguments[3]) or {"a": 0.0},
    )
    for nuisance, n in ((None, 12), (["csf"], 1)):
        inputs = replace(bold["linear_model"].inputs, confounds=table)
        model = replace(bold["linear_model"], inputs=inputs, nuisance=nuisance)
        network_precision.guard_precision(
            **bold | {"linear_model": model}, precision="bf16", force=False
        )
        assert len({*designs[-1].columns} & {*table}) == n


def test_the_domain_check_accepts_the_training_data_and_warns_about_other_images(
    bold: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def gate(boldref: Volume) -> list[MetricRow]:
        return training_domain.check_domain(
            bold["model_file"], boldref, bold["bold_mask"], series_name="srgan"
        )

    assert rows_with(gate(bold["boldref"]), "flag_domain")[0].value == 0
    assert not caplog.records
    noise = 400 + 300 * np.random.default_rng(1).random(LOW)
    assert rows_with(gate(Volume(noise, LOW_AFFINE)), "flag_domain", region="brain")[0].value == 1
    assert any(text.startswith("srgan: ") and "edges" in text for text in caplog.messages)


def test_an_edge_mismatch_is_a_warning_that_names_the_series(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shape, affine = hr_grid((48, 48, 8), LOW_AFFINE, TWO)
    x, y, _ = np.indices(shape)
    rng = np.random.default_rng(0)
    spots = [(rng.uniform(20, 76), rng.uniform(20, 76), rng.uniform(4, 8)) for _ in range(60)]

    def spots_image(shift: float) -> np.ndarray:
        return sum(
            np.exp(-((x - a) ** 2 + (y - b - shift) ** 2) / (2 * s**2)) for a, b, s in spots
        )

    low_res = spots_image(2.5).reshape(48, 2, 48, 2, 8).mean((1, 3)).astype(np.float32)
    guide = Volume(spots_image(0).astype(np.float32), affine)
    images = (Volume(low_res, LOW_AFFINE), guide, guide.like(np.ones(shape, bool)))
    edge_rows = edge_comparison.compare_edges(
        *images, phase_encoding="j-", guided_names=["inject", "sbl"]
    )
    rows = {measure_of(row): row.value for row in edge_rows}
    # mm: 2.5 high-resolution voxels of 2 mm
    assert rows["edge_mismatch"] == pytest.approx(5.0, abs=0.4)
    assert rows["flag_distortion"] == 1
    assert rows["edge_mismatch_p90"] >= rows["edge_mismatch"]
    assert len(caplog.messages) == 1
    assert "inject and sbl place detail at wrong positions" in caplog.messages[0]
    caplog.clear()
    across = edge_comparison.compare_edges(*images, phase_encoding="i", guided_names=[])
    assert {measure_of(row): row.value for row in across}["edge_mismatch"] < 2
    assert caplog.messages == []


def test_the_methods_text_names_the_ensembles() -> None:
    text = ensemble_uncertainty.describe_uncertainty(["srgan", "sbl"], 3)
    assert text.startswith(
        "The uncertainty of srgan and sbl was estimated as the standard deviation of the effect"
        " between 3 models"
    )
