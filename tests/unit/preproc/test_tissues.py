"""Tissue segmentation of a simulated head from any subset of contrasts."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.preproc.tissues import segment_tissues, tissue_masks
from bids_sr.structural.tissue_overlap import overlap

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
LEVELS = {
    "T1w": {"csf": 30, "gm": 65, "wm": 100},
    "T2w": {"csf": 150, "gm": 80, "wm": 50},
    "FLAIR": {"csf": 15, "gm": 90, "wm": 70},
}


@pytest.fixture(scope="module")
def head():
    """Return images, tissues and mask: shells with a rough border, WM inside GM inside CSF."""
    rng = np.random.default_rng(3)
    shape = (36, 40, 34)
    radius = np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)))
    radius = radius + 12 * ndimage.gaussian_filter(rng.normal(size=shape), 2)
    truth = {
        "wm": radius < 9,
        "gm": (radius >= 9) & (radius < 13),
        "csf": (radius >= 13) & (radius < 15.5),
    }
    images = {
        name: sum(level[t] * truth[t] for t in truth) + rng.normal(scale=4, size=shape)
        for name, level in LEVELS.items()
    }
    return images, truth, radius < 15.5


@pytest.mark.parametrize("contrasts", [("T2w",), ("FLAIR", "T2w", "T1w")])
def test_known_tissues_are_recovered_from_any_contrast(head, contrasts):
    images, truth, mask = head
    probabilities = segment_tissues({name: images[name] for name in contrasts}, mask, AFFINE)
    masks = tissue_masks(probabilities)
    for name in truth:
        assert overlap(truth[name], masks[name], mask)["dice"] > 0.95
    np.testing.assert_allclose(sum(probabilities.values())[mask], 1, atol=1e-5)
    assert not sum(probabilities.values())[~mask].any()
    for name in truth:
        assert masks[name].sum() == pytest.approx(truth[name].sum(), rel=0.05)
