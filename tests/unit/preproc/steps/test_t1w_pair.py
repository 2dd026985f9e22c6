"""Test a training pair of another contrast, and the methods text of negative controls."""

import numpy as np

from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.t1w_pair import another_contrast
from bids_sr.report.series_description import describe_negative_controls
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.transforms import hr_grid

FACTOR = (2.0, 2.0, 1.0)
GRID = np.diag([4.0, 4.0, 4.0, 1.0])


def test_another_contrast_is_resampled_to_the_grids_of_the_run():
    shape, high_affine = hr_grid((12, 10, 3), GRID, FACTOR)
    centers = np.stack(np.meshgrid(*(np.arange(n) for n in (60, 52, 20)), indexing="ij"), -1) - 4.0
    blob = 100 * np.exp(-((centers - [20, 18, 4]) ** 2).sum(-1) / 128)
    t1w_affine, to_boldref = np.eye(4), np.eye(4)
    t1w_affine[:3, 3] = [-4, -4, -4]
    to_boldref[0, 3] = -2.0  # maps a T1w point to its boldref point
    boldref = Volume(np.zeros((12, 10, 3), np.float32), GRID)
    high_res, low_res = another_contrast(
        Volume(blob.astype(np.float32), t1w_affine), boldref, to_boldref[None], factor=FACTOR
    )
    assert high_res.data.shape == shape
    np.testing.assert_allclose(high_res.affine, high_affine)
    np.testing.assert_allclose(low_res.affine, GRID, atol=1e-6)
    np.testing.assert_allclose(
        low_res.data,
        np.maximum(kspace_crop(high_res.data, high_affine, factor=FACTOR)[0], 0),
        atol=1e-4,
    )
    middle = (
        np.einsum("xyz,xyzc->c", high_res.data, np.moveaxis(np.indices(shape), 0, -1))
        / high_res.data.sum()
    )
    np.testing.assert_allclose((high_affine @ [*middle, 1])[:2], [18, 18], atol=0.5)  # x: 20 - 2


def test_negative_controls_are_described_by_method_and_kind():
    assert describe_negative_controls(["sbl", "bspline"]) == ""
    text = describe_negative_controls(["srganPhantom", "srganT1w", "sblMirror", "sblShift"])
    networks, _, maps = text.partition("sbl")
    for words, part in (("T2*", networks), ("mirrored", maps), ("shifted", maps)):
        assert words in part
