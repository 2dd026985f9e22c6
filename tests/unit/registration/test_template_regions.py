"""Test regions of interest on the grid of the T1w image."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.volume import Volume
from bids_sr.registration import template_regions
from bids_sr.registration.ants import apply
from bids_sr.registration.template_regions import resample_to_t1w


def test_a_region_on_the_grid_of_the_t1w_image_is_not_resampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    affine = np.diag([-1.0, 1.2, 2.0, 1.0])
    affine[:3, 3] = 12.5, -3.25, 40.0
    affine[0, 1] = 0.25
    region = Volume(np.random.default_rng(0).random((9, 8, 7)) > 0.5, affine)
    t1w = Volume(np.zeros((9, 8, 7), np.float32), affine)
    resampled = apply(region.like(region.data.astype(np.float32)), t1w, [], seed=0)
    np.testing.assert_array_equal(resampled > 0.5, region.data)

    calls = list[Path]()
    monkeypatch.setattr(template_regions, "apply", lambda *args, **_: calls.append(args[2]))
    copy = resample_to_t1w(region, t1w, [], seed=0)
    assert copy.dtype == np.float32
    np.testing.assert_array_equal(copy, region.data)
    assert not calls
    shifted = affine.copy()
    shifted[2, 3] += 1.0
    resample_to_t1w(region, Volume(t1w.data, shifted), [], seed=0)
    resample_to_t1w(region, t1w, [Path("to_template.h5")], seed=0)
    assert len(calls) == 2
