"""Segmentation from T1w, T2w and FLAIR: recovery of known classes."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.still_scans import simulate_structural_scans, simulate_t1w
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert
from bids_sr.structural.multispectral import (
    CLASSES,
    CONTRASTS,
    fit_classes,
    segment_multispectral,
)

# intensities in T1w, T2w and FLAIR as described in the paper
MEANS = {
    "csfSpaces": (0.30, 0.95, 0.20),
    "veins": (0.45, 0.10, 0.40),
    "pial": (0.35, 0.80, 0.85),
    "gray": (0.65, 0.50, 0.60),
    "white": (0.85, 0.40, 0.50),
}
SIZES = {"csfSpaces": 0.15, "veins": 0.03, "pial": 0.08, "gray": 0.40, "white": 0.34}


def simulate_head(seed=0, shape=(30, 30, 30)):
    random = np.random.default_rng(seed)
    mask = np.ones(shape, bool)
    mask[0] = False
    labels = random.choice(len(MEANS), shape, p=list(SIZES.values()))
    scans = {
        name: (np.array([mean[k] for mean in MEANS.values()])[labels])
        + random.normal(0, 0.04, shape)
        for k, name in enumerate(CONTRASTS)
    }
    names = np.array([n if n in CLASSES else "brainTissue" for n in MEANS])
    return scans, mask, {name: mask & (names[labels] == name) for name in CLASSES}


def test_known_classes_are_recovered():
    scans, mask, truth = simulate_head()
    segmentation = segment_multispectral(scans, mask)
    for name in CLASSES:
        dice = (
            2
            * (segmentation[name] & truth[name]).sum()
            / (segmentation[name].sum() + truth[name].sum())
        )
        assert dice > 0.95, name
    assert (sum(part.astype(int) for part in segmentation.values()) == mask).all()


def test_a_fitted_model_gives_equal_voxels_of_all_series_the_same_class():
    """Blur one half of a series: without the model, classes change in the other half as well."""
    scans, mask, _ = simulate_head(2)
    model = fit_classes(scans, mask)
    series = {name: image.copy() for name, image in scans.items()}
    for image in series.values():
        image[:15] = ndimage.gaussian_filter(image[:15], 1.5)
    measured = segment_multispectral(scans, mask)
    with_model = segment_multispectral(series, mask, model=model)
    without = segment_multispectral(series, mask)
    for name in CLASSES:
        np.testing.assert_array_equal(with_model[name][15:], measured[name][15:])
    assert any((without[name][15:] != measured[name][15:]).any() for name in CLASSES)


def resampled_scans():
    """Resample the scans of the tiny phantom by their known poses.

    Return the brain, voxels up to 6 mm from it, and the scans by series and contrast with a mean
    of 1 in the brain.
    """
    subject = SimulatedSubject(PRESETS["tiny"], "ribbon", seed=0)
    scans = {
        (scan.acquisition or "highres", scan.contrast): scan
        for scan in (simulate_t1w(subject), *simulate_structural_scans(subject))
    }
    frame = scans["highres", "T1w"]
    grid = (frame.image.shape, frame.affine)
    head = subject.head
    pose = subject.bold_pose @ invert(frame.pose)
    brain = sample_volume(head.brain.astype(np.float32), head.affine, *grid, pose) > 0.5
    series = {"measured": ("highres", 3), "bspline": ("lowres", 3), "linear": ("lowres", 1)}

    def resample(resolution, contrast, order):
        scan = scans[resolution, contrast]
        xfm = scan.pose @ invert(frame.pose)
        values = np.maximum(sample_volume(scan.image, scan.affine, *grid, xfm, order=order), 0)
        return values / values[brain].mean()

    images = {
        name: {contrast: resample(resolution, contrast, order) for contrast in CONTRASTS}
        for name, (resolution, order) in series.items()
    }
    return brain, ndimage.binary_dilation(brain, iterations=3), images


@pytest.mark.slow
def test_veins_of_interpolated_scans_do_not_vanish():
    """Without the model of the measured scans, both interpolations have less than 1 ml."""
    brain, intracranial, series = resampled_scans()
    model = fit_classes(series["measured"], brain, intracranial)
    ml = {
        name: segment_multispectral(scans, brain, intracranial, model=model)["veins"].sum() * 0.008
        for name, scans in series.items()
    }
    assert 150 < ml["measured"] < 250
    for name in ("bspline", "linear"):
        assert ml[name] == pytest.approx(ml["measured"], rel=0.4)


def test_constant_scans_are_rejected():
    scans, mask, _ = simulate_head()
    with pytest.raises(ValueError, match="T2w scan has the same value"):
        segment_multispectral({**scans, "T2w": np.ones(mask.shape)}, mask)


def head_with_a_sinus(seed=3, shape=(56, 56, 40)):
    """Simulate brain in CSF, a sinus in the dura outside the brain mask, skull and scalp.

    Return scans, brain mask, intracranial mask and the sinus.
    """
    random = np.random.default_rng(seed)
    x, y, z = (np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2) * 2
    radius = np.sqrt((x / 44) ** 2 + (y / 44) ** 2 + (z / 30) ** 2)
    labels = np.full(shape, "air", dtype=object)
    labels[radius < 1.25] = "marrow"
    labels[radius < 1.14] = "skull"
    labels[radius < 1.06] = "csfSpaces"
    brain = radius < 1
    inside = random.choice(
        ["gray", "white", "csfSpaces", "pial", "veins"], shape, p=[0.42, 0.40, 0.1, 0.06, 0.02]
    )
    labels[brain] = inside[brain]
    sinus = (np.hypot(x, y - 46) < 6) & ~brain & (radius < 1.25)
    labels[sinus] = "veins"
    means = MEANS | {
        "air": (0.02, 0.02, 0.02),
        "skull": (0.06, 0.04, 0.05),
        "marrow": (0.95, 0.6, 0.65),
    }
    noise = {name: random.normal(0, 0.03, shape) for name in CONTRASTS}
    scans = {
        name: np.abs(np.vectorize({key: mean[k] for key, mean in means.items()}.get)(labels))
        + noise[name]
        for k, name in enumerate(CONTRASTS)
    }
    intracranial = radius < 1.16
    return scans, brain, intracranial, sinus & intracranial


def test_a_sinus_outside_the_brain_is_found_with_an_intracranial_mask():
    scans, brain, intracranial, sinus = head_with_a_sinus()
    brain_only, with_intracranial = (
        segment_multispectral(scans, brain, mask) for mask in (None, intracranial)
    )
    assert not brain_only["veins"][sinus].any()
    veins = with_intracranial["veins"] & ~brain
    dice = 2 * (veins & sinus).sum() / (veins.sum() + sinus.sum())
    assert dice > 0.9
    for name in CLASSES:
        np.testing.assert_array_equal(with_intracranial[name][brain], brain_only[name][brain])
        assert name == "veins" or not with_intracranial[name][~brain].any()
