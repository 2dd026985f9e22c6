"""Uncertainty of an ensemble: its spread."""

import numpy as np
import pytest

from bids_sr.evaluation import uncertainty


def test_sd_is_that_of_numpy_whatever_the_level() -> None:
    members = 1e4 + np.random.default_rng(0).normal(size=(4, 6, 5, 3))
    found = uncertainty.spread(member for member in members)
    np.testing.assert_allclose(found, members.std(0, ddof=1))


def test_what_is_no_ensemble_is_refused() -> None:
    for members in ([], [np.zeros((3, 3, 3))]):
        with pytest.raises(ValueError, match=rf"ensemble .* {len(members)} member"):
            uncertainty.spread(members)
    with pytest.raises(ValueError, match="must have the same shape"):
        uncertainty.spread([np.zeros((3, 3, 3)), np.zeros((2, 2, 2))])
