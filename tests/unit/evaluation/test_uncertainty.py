"""Test the uncertainty of an ensemble, the SD over its members."""

import numpy as np
import pytest

from bids_sr.evaluation import uncertainty


def test_the_spread_equals_the_sample_sd_at_a_high_mean() -> None:
    members = 1e4 + np.random.default_rng(0).normal(size=(4, 6, 5, 3))
    sd = uncertainty.spread(member for member in members)
    np.testing.assert_allclose(sd, members.std(0, ddof=1))


def test_fewer_than_two_members_and_different_shapes_are_rejected() -> None:
    for members in ([], [np.zeros((3, 3, 3))]):
        with pytest.raises(ValueError, match=rf"ensemble .* {len(members)} member"):
            uncertainty.spread(members)
    with pytest.raises(ValueError, match="must have the same shape"):
        uncertainty.spread([np.zeros((3, 3, 3)), np.zeros((2, 2, 2))])
