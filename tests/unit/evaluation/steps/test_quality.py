"""Test that edges of the high-resolution image and of the run are compared."""

import numpy as np
import pytest
from data.short_names import measure_of

from bids_sr.evaluation.steps import edge_comparison
from bids_sr.io.volume import Volume
from bids_sr.spatial.transforms import hr_grid

TWO = (2.0, 2.0, 1.0)
LOW_AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


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
    assert "inject and sbl" in caplog.messages[0]
    caplog.clear()
    across = edge_comparison.compare_edges(*images, phase_encoding="i", guided_names=[])
    assert {measure_of(row): row.value for row in across}["edge_mismatch"] < 2
    assert caplog.messages == []
