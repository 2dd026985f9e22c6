"""Rows of the table of structural scans compared with values computed by hand."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.structural.image_quality import fwhm, quality_rows, similarity_rows
from bids_sr.structural.lesions import segment_hyperintensities
from bids_sr.structural.tissue_overlap import segmentation_rows

ZOOMS = (1.0, 1.0, 2.0)


def images():
    rng = np.random.default_rng(0)
    truth = rng.random((12, 12, 4))
    mask = np.ones(truth.shape, bool)
    mask[:2] = False
    return truth, mask


def values(rows):
    return {(row.series, row.statistic, row.region): row.value for row in rows}


def test_similarity_is_computed_in_held_out_slices():
    truth, mask = images()
    shifted = truth + 0.1
    shifted[..., 0] += 5  # a slice used in training
    shifted[:2] += 5  # outside the brain
    scores = values(similarity_rows("T1w", {"a": shifted, "same": truth}, truth, mask, [1, 2]))
    assert scores["a", "mae", "brain"] == pytest.approx(0.1)
    assert scores["a", "psnr", "brain"] == pytest.approx(20.0)
    assert scores["a", "nmse", "brain"] == pytest.approx(
        0.01 * mask[..., 1:3].sum() / (truth[..., 1:3][mask[..., 1:3]] ** 2).sum()
    )
    assert scores["same", "ssim", "brain"] == pytest.approx(1.0)
    # all voxels of both slices, as in the paper: includes the error of 5 outside the brain
    share = 2 / 12
    assert scores["a", "mae", "scan"] == pytest.approx((1 - share) * 0.1 + share * 5.1)
    assert scores["a", "psnr", "scan"] == pytest.approx(
        -10 * np.log10((1 - share) * 0.1**2 + share * 5.1**2)
    )
    assert scores["a", "ssim", "scan"] < scores["a", "ssim", "brain"]
    assert scores["same", "ssim", "scan"] == pytest.approx(1.0)
    assert scores["a", "ssim", "brain"] < 1
    assert list(similarity_rows("T1w", {"a": shifted}, truth, np.zeros_like(mask), [1])) == []


def test_quality_uses_the_same_segmentation_for_all_series():
    image = np.zeros((4, 4, 3))
    image[0], image[1], image[2:] = 0.2, 0.5, 0.9
    image[0, 0] += 0.02
    mask = np.ones(image.shape, bool)
    tissues = {"csf": np.zeros_like(mask), "gm": np.zeros_like(mask), "wm": np.zeros_like(mask)}
    tissues["csf"][0], tissues["gm"][1], tissues["wm"][2:] = True, True, True
    scores = values(quality_rows("T1w", {"one": image, "two": 2 * image}, mask, tissues, ZOOMS))
    assert scores["one", "ratio_mean", "gm/wm"] == pytest.approx(0.5 / 0.9)
    for key in (("cjv", "brain"), ("efc", "brain"), ("wm2max", "brain"), ("ratio_mean", "csf/gm")):
        assert scores["two", *key] == pytest.approx(scores["one", *key], abs=1e-6), (
            "these metrics do not depend on the intensity unit"
        )
    # white matter is brighter here; with gray matter brighter only the sign changes
    assert scores["one", "cjv_signed", "brain"] == pytest.approx(scores["one", "cjv", "brain"])
    inverted = values(quality_rows("T2w", {"one": 1 - image}, mask, tissues, ZOOMS))
    assert inverted["one", "cjv_signed", "brain"] == pytest.approx(-scores["one", "cjv", "brain"])
    assert inverted["one", "cjv", "brain"] == pytest.approx(scores["one", "cjv", "brain"])
    assert scores["one", "fwhm", "brain"] == pytest.approx(
        np.mean([w for w in fwhm(image, ZOOMS, mask) if w is not None])
    )
    without = values(
        quality_rows("T1w", {"one": image}, mask, tissues | {"wm": np.zeros_like(mask)}, ZOOMS)
    )
    assert set(without) == {
        ("one", name, "brain") for name in ("efc", "efc_sum", "fwhm", "half_maximum")
    }


def test_volumes_in_ml_and_overlap_with_the_measured_segmentation():
    mask = np.ones((10, 10, 5), bool)
    first, second = np.zeros_like(mask), np.zeros_like(mask)
    first[:4] = True
    second[:6] = True
    rows = list(
        segmentation_rows("all", {"measured": {"gm": first}, "x": {"gm": second}}, mask, ZOOMS)
    )
    scores = values(rows)
    assert scores["measured", "tissue_volume", "gm"] == pytest.approx(4 * 50 * 2 / 1000)
    assert scores["x", "tissue_dice", "gm"] == pytest.approx(2 * 4 / 10)
    assert scores["x", "tpf", "gm"] == 1
    assert scores["x", "ppv", "gm"] == pytest.approx(4 / 6)
    assert scores["x", "tnf", "gm"] == pytest.approx(4 / 6)
    assert ("measured", "tissue_dice", "gm") not in scores
    assert {row.unit for row in rows if row.statistic == "tissue_volume"} == {"ml"}


def ball(shape, center, radius):
    offsets = np.indices(shape) - np.reshape(center, (3, 1, 1, 1))
    return (offsets**2).sum(axis=0) <= radius**2


def test_lesions_grow_to_the_z_limit_within_the_likely_region():
    shape = (24, 24, 24)
    flair = np.random.default_rng(0).normal(0.5, 0.05, shape)
    core, rim = ball(shape, (8, 8, 8), 3), ball(shape, (8, 8, 8), 4)
    unlikely = ball(shape, (17, 17, 17), 3)
    flair[rim] = 0.6
    flair[core | unlikely] = 0.9
    brain = np.ones(shape, bool)
    z = (flair - flair.mean()) / flair.std()
    assert 0.95 < z[rim & ~core].mean() < 1.3, "between both limits"
    lesion = segment_hyperintensities(flair, brain, (1, 1, 1))
    assert lesion[core | unlikely].all()
    assert lesion[rim & ~core].mean() > 0.9, "the rim is joined by smoothing"
    assert not lesion[z < 0.95].any()
    near = ndimage.binary_dilation(z > 1.3, iterations=3)
    assert not lesion[~near].any()
    likely = ball(shape, (8, 8, 8), 6)
    limited = segment_hyperintensities(flair, brain, (1, 1, 1), likely)
    assert limited[core].all()
    assert not limited[unlikely].any()
