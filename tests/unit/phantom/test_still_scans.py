"""Structural pairs of the phantom: contrast, geometry, poses and known tissues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_sr.phantom.sequences import TISSUES, PulseSequence
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.still_scans import (
    PROTOCOLS,
    StillScan,
    sample_tissue_fractions,
    simulate_structural_scans,
)
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert


@pytest.fixture(scope="module")
def scans(subject: SimulatedSubject) -> dict[tuple[str, str], StillScan]:
    return {(scan.acquisition, scan.contrast): scan for scan in simulate_structural_scans(subject)}


def test_signals_of_a_spin_echo_by_hand() -> None:
    tissue = replace(TISSUES["wm"], pd=0.5, t1=1.0, t2s=1e-6, t2=0.1)
    spin_echo = PulseSequence(te=0.1, tr=2.0, refocused=True)
    expected = 0.5 * (1 - np.exp(-2)) * np.exp(-1)
    assert float(spin_echo.signal(tissue)) == pytest.approx(expected, rel=1e-6)
    inverted = PulseSequence(te=0.1, tr=2.0, ti=0.5, refocused=True)
    expected = 0.5 * abs(1 - 2 * np.exp(-0.5) + np.exp(-2)) * np.exp(-1)
    assert float(inverted.signal(tissue)) == pytest.approx(expected, rel=1e-6)
    fluid = replace(TISSUES["csf"], pd=1.0, t1=4.0, t2=1.8)
    assert float(PROTOCOLS["FLAIR"].signal(fluid)) < 1e-6


def test_veins_reduce_the_surrounding_signal_only_in_gradient_echoes(
    subject: SimulatedSubject,
) -> None:
    surroundings = (
        (subject.head.veins > 0.02)
        & (subject.head.veins < 0.05)
        & (subject.head.fractions["gm"] > 0.5)
    )
    without_veins = replace(subject.head, veins=np.zeros_like(subject.head.veins))
    losses = []
    for refocused in (False, True):
        sequence = PulseSequence(te=0.03, tr=2.0, refocused=refocused)
        shares = sequence.scene(subject.head) / np.maximum(sequence.scene(without_veins), 1e-9)
        losses.append(1 - float(shares[surroundings].mean()))
    assert losses[0] > losses[1] + 0.02


def test_all_scans_except_the_high_resolution_t1w_are_on_their_grids(
    scans: dict[tuple[str, str], StillScan], subject: SimulatedSubject
) -> None:
    assert set(scans) == {
        ("highres", "T2w"),
        ("highres", "FLAIR"),
        ("lowres", "T1w"),
        ("lowres", "T2w"),
        ("lowres", "FLAIR"),
    }
    preset = subject.preset
    scan = scans["lowres", "T1w"]
    shape, affine = scan.image.shape, scan.affine
    assert shape == (46, 56, 48)
    np.testing.assert_allclose(np.diag(affine)[:3], [4, 4, 4])
    for end in (-0.5, 0.5):  # outer corners of the field of view
        fine = preset.t1w_affine @ [*(np.array(preset.t1w_shape) * (end + 0.5) - 0.5), 1]
        coarse = affine @ [*(np.array(shape) * (end + 0.5) - 0.5), 1]
        np.testing.assert_allclose(fine, coarse, atol=1e-9)
    for (kind, _), scan in scans.items():
        assert scan.image.shape == (preset.t1w_shape if kind == "highres" else shape)


@pytest.mark.parametrize("kind", ["highres", "lowres"])
def test_fluid_is_bright_in_t2w_and_dark_in_flair(
    kind: str, scans: dict[tuple[str, str], StillScan], subject: SimulatedSubject
) -> None:
    def mean(contrast: str, tissue: str) -> float:
        scan = scans[kind, contrast]
        pose = subject.bold_pose @ invert(scan.pose)
        share, brain = (
            sample_volume(values, subject.head.affine, scan.image.shape, scan.affine, pose)
            for values in (
                subject.head.fractions[tissue],
                subject.head.brain.astype(np.float32),
            )
        )
        return float(scan.image[(share > 0.85) & (brain > 0.5)].mean())

    assert mean("T2w", "csf") > 1.5 * mean("T2w", "gm") > 1.5 * mean("T2w", "wm")
    assert mean("FLAIR", "csf") < 0.5 * mean("FLAIR", "wm") < 0.5 * mean("FLAIR", "gm")


def test_the_known_pose_aligns_the_low_resolution_scan(
    scans: dict[tuple[str, str], StillScan], subject: SimulatedSubject
) -> None:
    fine, coarse = scans["highres", "T2w"], scans["lowres", "T2w"]

    def similarity(xfm: np.ndarray) -> float:
        resampled = sample_volume(coarse.image, coarse.affine, fine.image.shape, fine.affine, xfm)
        inside = fine.image > 0.3 * fine.image.max()
        return float(np.corrcoef(resampled[inside], fine.image[inside])[0, 1])

    truth = coarse.pose @ invert(fine.pose)
    offset = np.eye(4)
    offset[:3, 3] = [0, 2.0, 0]
    assert similarity(truth) > 0.6
    assert similarity(truth) > similarity(truth @ offset) + 0.05
    assert similarity(truth) > similarity(np.eye(4)) + 0.05


def test_known_tissue_shares_sum_to_1_in_the_brain(subject: SimulatedSubject) -> None:
    shares = sample_tissue_fractions(subject)
    total = sum(shares.values())
    pose = subject.bold_pose @ invert(subject.t1w_pose)
    grid = (subject.preset.t1w_shape, subject.preset.t1w_affine)
    brain = sample_volume(subject.head.brain.astype(np.float32), subject.head.affine, *grid, pose)
    assert set(shares) == {"GM", "WM", "CSF"}
    np.testing.assert_allclose(np.median(total[brain > 0.99]), 1.0, atol=0.02)
