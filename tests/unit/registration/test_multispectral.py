"""Classes from T1w, T2w and FLAIR together: recovery of known classes."""

import numpy as np
import pytest

from bids_sr.registration.multispectral import CLASSES, CONTRASTS, segment_multispectral

# T1w, T2w, FLAIR as the paper describes the classes
MEANS = {
    "csfSpaces": (0.30, 0.95, 0.20),
    "veins": (0.45, 0.10, 0.40),
    "pial": (0.35, 0.80, 0.85),
    "gray": (0.65, 0.50, 0.60),
    "white": (0.85, 0.40, 0.50),
}
SIZES = {"csfSpaces": 0.15, "veins": 0.03, "pial": 0.08, "gray": 0.40, "white": 0.34}


def known_head(seed=0, shape=(30, 30, 30)):
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
    scans, mask, truth = known_head()
    found = segment_multispectral(scans, mask)
    for name in CLASSES:
        dice = 2 * (found[name] & truth[name]).sum() / (found[name].sum() + truth[name].sum())
        assert dice > 0.95, name
    assert (sum(part.astype(int) for part in found.values()) == mask).all()


def test_the_unit_of_a_scan_does_not_matter():
    scans, mask, _ = known_head(1)
    other = {"T1w": 500 * scans["T1w"] + 20, "T2w": scans["T2w"], "FLAIR": 3 * scans["FLAIR"]}
    one, two = segment_multispectral(scans, mask), segment_multispectral(other, mask)
    assert all((one[name] == two[name]).mean() > 0.999 for name in CLASSES)


def test_what_cannot_be_classified_is_refused():
    scans, mask, _ = known_head()
    with pytest.raises(ValueError, match="FLAIR"):
        segment_multispectral({"T1w": scans["T1w"], "T2w": scans["T2w"]}, mask)
    with pytest.raises(ValueError, match="not on the grid"):
        segment_multispectral(scans, mask[1:])
    with pytest.raises(ValueError, match="T2w scan is constant"):
        segment_multispectral({**scans, "T2w": np.ones(mask.shape)}, mask)
