"""Lesions of the simulated head: location, contrast, ground truth, and detection in FLAIR."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.phantom.ground_truth import write_structural_truth
from bids_sr.phantom.head import Head
from bids_sr.phantom.lesions import add_lesions, map_lesion_locations
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.still_scans import PROTOCOLS, StillScan, sample_tissue_fractions
from bids_sr.spatial.resampling import sample_volume
from bids_sr.structural.lesions import segment_hyperintensities
from bids_sr.structural.tissue_overlap import overlap


@pytest.fixture(scope="module")
def head(subject: SimulatedSubject) -> Head:
    return add_lesions(np.random.default_rng(3), subject.head, 20)


@pytest.fixture(scope="module")
def likely(head: Head) -> np.ndarray:
    """Return the locations of the template in a head, without its deformation."""
    locations = map_lesion_locations()
    sampled = sample_volume(
        locations.data.astype(np.float32),
        locations.affine,
        head.brain.shape,
        head.affine,
        np.eye(4),
        order=0,
        zero_outside=True,
    )
    return sampled > 0


def test_lesions_replace_white_matter_only(subject: SimulatedSubject, head: Head) -> None:
    before, after = subject.head.fractions, dict(head.fractions)
    lesion = after.pop("lesion")
    np.testing.assert_allclose(after.pop("wm") + lesion, before["wm"], atol=1e-6)
    for name in after:
        np.testing.assert_array_equal(after[name], before[name])
    volume = (lesion > 0.5).sum() * np.prod(np.diag(head.affine)[:3]) / 1000
    assert 3 < volume < 30  # ml, 20 lesions with a median radius of 3.5 mm
    np.testing.assert_array_equal(head.veins, subject.head.veins)


def test_the_published_rule_finds_the_lesions(head: Head, likely: np.ndarray) -> None:
    """Lesions are bright in FLAIR and T2w and dark in T1w."""
    random = np.random.default_rng(0)
    scenes = {name: protocol.scale_scene(head, 1.0) for name, protocol in PROTOCOLS.items()}
    lesion = head.fractions["lesion"] > 0.5
    white = head.fractions["wm"] > 0.9
    for name, is_bright in (("T1w", False), ("T2w", True), ("FLAIR", True)):
        assert (np.median(scenes[name][lesion]) > np.median(scenes[name][white])) == is_bright
    flair = scenes["FLAIR"] + random.normal(0, 0.02, lesion.shape)
    for locations in (None, likely):
        mask = segment_hyperintensities(flair, head.brain, (2, 2, 2), locations)
        assert overlap(lesion, mask, head.brain)["dice"] > 0.75


def test_lesions_depend_on_the_seed_only_and_change_nothing_else(
    subject: SimulatedSubject,
) -> None:
    changed = SimulatedSubject(subject.preset, "ribbon", seed=3, lesions=5)
    expected = add_lesions(changed.draw("lesions"), subject.head, 5)
    np.testing.assert_array_equal(changed.head.fractions["lesion"], expected.fractions["lesion"])
    np.testing.assert_array_equal(changed.t1w_pose, subject.t1w_pose)
    for one, other in zip(changed.foci, subject.foci, strict=True):
        np.testing.assert_array_equal(one.amplitude, other.amplitude)


def test_fraction_and_mask_of_lesions_are_stored_on_the_grid_of_the_t1w_image(
    tmp_path: Path, subject: SimulatedSubject, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "head", head)
    preset = subject.preset
    scan = StillScan(
        contrast="FLAIR",
        acquisition="highres",
        image=np.zeros((2, 2, 2)),
        affine=np.eye(4),
        pose=subject.t1w_pose,
        sidecar={},
    )
    write_structural_truth(subject, scan, "sub-01", tmp_path)
    stem = tmp_path / "sub-01" / "anat" / "sub-01_space-T1w_label-WMH_desc-truth"
    mask = nib.load(f"{stem}_mask.nii.gz")
    fraction = nib.load(f"{stem}_probseg.nii.gz").get_fdata()
    np.testing.assert_allclose(mask.affine, preset.t1w_affine)
    assert mask.shape == preset.t1w_shape
    np.testing.assert_array_equal(mask.get_fdata() > 0, fraction >= 0.5)
    np.testing.assert_allclose(fraction, sample_tissue_fractions(subject)["WMH"], atol=1e-3)
    expected = (head.fractions["lesion"] > 0.5).sum() * 8
    assert mask.get_fdata().sum() * 8 == pytest.approx(expected, rel=0.2)  # mm3
