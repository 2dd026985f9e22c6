"""The median of values that are read in pieces equals numpy's."""

import numpy as np
import pytest

from bids_sr.preproc.streamed_median import streamed_median

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(700, 100, (4, 251)),
        RNG.normal(0, 1, (2, 500)),
        np.repeat([[-3.0, 5.0]], 4, axis=0),
        np.array([[7.0]]),
        RNG.integers(0, 9, (3, 40)),
    ],
    ids=["signal", "both signs", "two values far apart", "one value", "ties"],
)
def test_median_equals_numpy(values: np.ndarray) -> None:
    values = values.astype(np.float32)
    expected = float(np.median(values))
    assert streamed_median(lambda: iter(values)) == pytest.approx(expected, rel=1e-6)
