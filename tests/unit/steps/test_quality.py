"""Test quality checks: rows, maps with valid names, warnings, and the choice of precision."""

import numpy as np
import pytest
from data.short_names import measure_of

from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import TaskBlock
from bids_sr.io.volume import Volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.steps.quality import (
    edge_comparison,
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
