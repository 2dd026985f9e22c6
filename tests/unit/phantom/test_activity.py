"""Locations, time courses and amplitudes of simulated activation."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import numpy.testing as npt
import pytest
from scipy import ndimage

from bids_sr.io.region_names import find_atlas
from bids_sr.phantom.activity import FOCI, make_foci
from bids_sr.phantom.block_design import make_block_design, predict_response
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject

AAL_LABELS = {"thumb": (2001,), "little": (2001,), "sma": (2401, 2402)}


def share(values: np.ndarray, tissue: np.ndarray) -> float:
    """Return the share of `values` within a tissue."""
    return float((values * tissue).sum() / values.sum())


def find_center(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the center of mass (mm) of values of at least half of the maximum."""
    mass = np.where(values >= values.max() / 2, values, 0)
    return (affine @ [*ndimage.center_of_mass(mass), 1.0])[:3]


@pytest.mark.parametrize("scene", ["ribbon", "veins", "free"])
def test_peak_amplitudes_are_1_to_4_percent(subject: SimulatedSubject, scene: str) -> None:
    for label in FOCI:
        (focus,) = make_foci(np.random.default_rng(1), subject.head, [label], scene)
        assert FOCI[label].peak[0] <= 100 * focus.amplitude.max() <= FOCI[label].peak[1]
        assert 1.0 <= focus.peak_percent <= 4.0
        assert focus.amplitude.min() >= 0
        assert 2.0 <= focus.spread_mm <= 3.5


def test_foci_are_in_gray_matter_of_their_aal_region(subject: SimulatedSubject) -> None:
    atlas = nib.load(find_atlas().image)
    labels = np.asarray(atlas.dataobj).astype(int)
    head, gm = subject.head, subject.head.fractions["gm"]
    inverse = np.linalg.inv(head.affine)
    for focus in subject.foci:
        index = tuple(np.rint((inverse @ [*focus.origin, 1.0])[:3]).astype(int))
        assert gm[index] > 0.8
        # compared with a ball at the same location
        peak = (focus.amplitude == focus.amplitude.max()).astype(float)
        assert share(focus.amplitude, gm) > share(ndimage.gaussian_filter(peak, 3.0), gm) + 0.1
        template_point = focus.origin + head.deformation[(slice(None), *index)]
        region = np.argwhere(np.isin(labels, AAL_LABELS[focus.label]))
        region_mm = region @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]
        assert np.linalg.norm(region_mm - template_point, axis=1).min() < 4.0, focus.label


def test_foci_of_thumb_and_little_finger_are_separated(subject: SimulatedSubject) -> None:
    centers = {
        focus.label: find_center(focus.amplitude, subject.head.affine) for focus in subject.foci
    }
    assert 8.0 < np.linalg.norm(centers["thumb"] - centers["little"]) < 20.0
    assert centers["thumb"][0] < centers["little"][0] < centers["sma"][0]  # from lateral to medial
    assert centers["thumb"][2] < centers["little"][2]


def test_scenes_differ_in_location_of_activation_and_reference(subject: SimulatedSubject) -> None:
    head = subject.head
    foci = {
        scene: [
            focus
            for label in ("thumb", "little")
            for focus in make_foci(np.random.default_rng(5), head, [label], scene)
        ]
        for scene in ("ribbon", "veins", "free")
    }
    for ribbon, veins, free in zip(foci["ribbon"], foci["veins"], foci["free"], strict=True):
        assert share(veins.amplitude, head.veins) > 1.3 * share(ribbon.amplitude, head.veins)
        displacement = find_center(veins.amplitude, head.affine) - find_center(
            ribbon.amplitude, head.affine
        )
        assert 2.0 < np.linalg.norm(displacement) < 20.0
        npt.assert_array_equal(ribbon.origin, veins.origin)
        assert (
            share(free.amplitude, head.fractions["gm"])
            < share(ribbon.amplitude, head.fractions["gm"]) - 0.1
        )
        assert (ribbon.reference, veins.reference, free.reference) == ("local", "local", "brain")


def test_the_response_to_a_long_block_reaches_1_with_a_delay() -> None:
    times = np.arange(0.0, 100.0, 0.5)
    signal = predict_response([(10.0, 50.0, "thumb"), (10.0, 50.0, "rest")], "thumb", times)
    npt.assert_array_equal(signal[times <= 10], 0)
    assert signal[times == 55][0] == pytest.approx(1.0, abs=1e-3)
    assert 4 < times[np.argmax(signal > 0.5)] - 10 < 7
    npt.assert_array_equal(predict_response([(10.0, 50.0, "rest")], "thumb", times), 0)


def test_slice_times_shift_the_sampling_of_the_response() -> None:
    events = [(4.0, 16.0, "thumb")]
    late = predict_response(events, "thumb", np.arange(0, 40, 2.0) + 0.75)
    dense = predict_response(events, "thumb", np.arange(0, 41, 0.25))
    npt.assert_allclose(late, dense[3::8][: late.size], atol=1e-12)


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_design_fills_the_run_with_alternating_blocks(name: str) -> None:
    preset = PRESETS[name]
    events = make_block_design(preset)
    ends = [onset + duration for onset, duration, _ in events]
    npt.assert_allclose(ends[:-1], [onset for onset, _, _ in events[1:]])
    assert ends[-1] == pytest.approx(preset.duration)
    kinds = [kind for _, _, kind in events]
    assert kinds.count("thumb") == kinds.count("little") >= 2
    assert all("rest" in pair for pair in itertools.pairwise(kinds) if set(pair) != {"rest"})
