"""Segmentation from T1w, T2w and FLAIR: recovery of known classes."""

import numpy as np
import pytest

from bids_sr.registration.multispectral import CLASSES, CONTRASTS, segment_multispectral

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


def test_classes_do_not_depend_on_intensity_units():
    scans, mask, _ = simulate_head(1)
    rescaled = {"T1w": 500 * scans["T1w"] + 20, "T2w": scans["T2w"], "FLAIR": 3 * scans["FLAIR"]}
    classes, classes_of_rescaled = (
        segment_multispectral(scans, mask),
        segment_multispectral(rescaled, mask),
    )
    assert all((classes[name] == classes_of_rescaled[name]).mean() > 0.999 for name in CLASSES)


def test_missing_mismatched_and_constant_scans_are_rejected():
    scans, mask, _ = simulate_head()
    with pytest.raises(ValueError, match="FLAIR"):
        segment_multispectral({"T1w": scans["T1w"], "T2w": scans["T2w"]}, mask)
    with pytest.raises(ValueError, match="not on the grid"):
        segment_multispectral(scans, mask[1:])
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
