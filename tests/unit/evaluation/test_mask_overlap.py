"""Test the Jaccard index of brain masks computed from the means of two series."""

import math
from contextlib import ExitStack
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from bids_sr.evaluation.mask_overlap import jaccard, mask_of_mean, mask_rows, resample_mask
from bids_sr.evaluation.steps.mask_comparison import compare_masks
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.transforms import hr_grid

SHAPE, AFFINE = (40, 40, 24), np.diag([4.0, 4.0, 4.0, 1.0])


def head(shape: tuple[int, ...], affine: np.ndarray, radius: float) -> np.ndarray:
    """Return a bright ball (radius in mm) with noise."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    mm = indices @ affine[:3, :3].T + affine[:3, 3]
    distance_mm = np.linalg.norm(mm - [78.0, 78.0, 46.0], axis=-1)
    ball = ndimage.gaussian_filter((distance_mm < radius).astype(float), 1.0) * 1000
    return ball + np.random.default_rng(0).uniform(0, 20, shape)


def test_jaccard_index_of_known_and_empty_masks():
    first, second = np.zeros((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool)
    first[0], second[:2, :2] = True, True
    assert jaccard(first, second) == pytest.approx(2 / 6)
    assert jaccard(first, first) == 1
    assert math.isnan(jaccard(first & False, first & False))
    # a mean without brain has no mask and no value
    assert mask_of_mean(np.ones(SHAPE), AFFINE) is None
    grid = Volume(np.ones(SHAPE, dtype=bool), AFFINE)
    (row,) = mask_rows({"x": None}, {"acquired": grid})
    assert math.isnan(row.value)


def test_a_mask_on_the_high_resolution_grid_repeats_voxels():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[10:20, 8:24, 5:12] = True
    shape, affine = hr_grid(SHAPE, AFFINE, (2, 2, 1))
    fine = resample_mask(mask, AFFINE, Volume(np.ones(shape, dtype=bool), affine))
    np.testing.assert_array_equal(fine.data, mask.repeat(2, 0).repeat(2, 1))


def test_masks_are_compared_with_the_acquired_and_the_measured_series(tmp_path: Path):
    """The mask is computed from the mean of the series: a smaller head has a smaller overlap."""
    shape, affine = hr_grid(SHAPE, AFFINE, (2, 2, 1))
    acquired = np.repeat(head(SHAPE, AFFINE, 40.0)[..., None], 5, axis=3).astype(np.float32)
    acquired[..., :2] += 5000  # not in the steady state, and therefore ignored
    nib.save(nib.Nifti1Image(acquired, AFFINE), path := tmp_path / "acquired.nii")
    paths, masks = {"acquired": path}, {}
    for name, radius in (("measured", 40.0), ("bspline", 40.0), ("sbl", 32.0)):
        mean = head(shape, affine, radius).astype(np.float32)
        masks[name] = brain_mask(mean, affine)
        paths[name] = tmp_path / f"{name}.nii"
        nib.save(nib.Nifti1Image(np.repeat(mean[..., None], 5, axis=3), affine), paths[name])
    with ExitStack() as stack:
        preproc, *highres = (stack.enter_context(SeriesReader(file)) for file in paths.values())
        rows = compare_masks(
            preproc,
            dict(zip(masks, highres, strict=True)),
            Volume(np.ones(shape, dtype=bool), affine),
            n_dummy=2,
        )
    values = {(row.series, row.reference): row.value for row in rows}
    assert set(values) == {
        *((name, "acquired") for name in masks),
        ("bspline", "measured"),
        ("sbl", "measured"),
    }
    assert {row.statistic for row in rows} == {"mask_jaccard"}
    assert values["bspline", "measured"] == 1
    small, large = masks["sbl"], masks["measured"]
    assert values["sbl", "measured"] == pytest.approx(
        (small & large).sum() / (small | large).sum()
    )
    assert values["sbl", "measured"] < 0.8 < 0.9 < values["bspline", "acquired"]
